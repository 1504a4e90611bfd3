"""The table that keeps containers from speaking for others: what each port of a bridge sends is held against what it owns.

Every frame of a container passes here first, before the bridge learns its MAC and before br_netfilter::

    prerouting   from a container's port?  -> check
    check        its MAC?   IPv4 -> from4   IPv6 -> from6   ARP -> resolve   a VLAN tag or another protocol: dropped
    from4        its address?   no DHCP server, router, multicast listener
    from6        its address?   the same; ICMPv6 -> control -> solicit, advertise: neighbour discovery
    detect       no address yet: is the one that is to be its own taken?
    resolve      ARP that names its own MAC and address as the sender's

Whatever a rule does not accept is dropped, and counted by its kind. So a port of which nothing is known here can send nothing:
a container's elements may come before its link or after it, and go in either order.

A header is looked at only where the kernel found it (``meta l4proto``): behind extension headers too, never in a fragment that
does not hold it. What cannot be read is dropped as malformed. Fragments behind the first pass, as they are nothing without it.

nft 1.0.6 has no names for the fields of neighbour discovery. They are loaded as numbers, in pieces that no version of nft takes
for a field it knows, so that ``nft list ruleset`` can be read back: target (@th,64,128), and length and MAC of the option
(@th,200,56). Messages with more options than one are dropped, as no rule can look through them; Linux sends none. And nft 1.0.6
makes one comparison of two ``!=`` of fields side by side, which then means another thing: no rule has two.
"""

from __future__ import annotations

from fairlead.desired.names import VETH

from .layout import Layout
from .table import Table

_SETS = {
    "spoofing": Layout(("ifname",)),
    "mac": Layout(("ifname", "mac")),
    "own4": Layout(("ifname", "addr4")),
    "own6": Layout(("ifname", "addr6")),
    "target6": Layout(("ifname", "raw8", "raw8")),
    "option6": Layout(("ifname", "raw7")),
}

_BODY = f"""
    # Ports whose containers may send what they like.
    set spoofing {{ typeof iifname; }}
    # (port, what its container owns)
    set mac {{ typeof iifname . ether saddr; }}
    set own4 {{ typeof iifname . ip saddr; }}
    set own6 {{ typeof iifname . ip6 saddr; }}
    # The same for neighbour discovery: the target in halves; an option's length, which is 1, and MAC.
    set target6 {{ typeof iifname . @th,64,64 . @th,128,64; }}
    set option6 {{ typeof iifname . @th,200,56; }}

    counter foreign_mac {{ comment "a MAC address that is not its own"; }}
    counter foreign_address {{ comment "an IP address that is not its own"; }}
    counter foreign_arp {{ comment "ARP for another"; }}
    counter foreign_neighbour {{ comment "neighbour discovery for another"; }}
    counter router {{ comment "router advertisement or solicitation, redirect"; }}
    counter dhcp_server {{ comment "DHCP server"; }}
    counter membership {{ comment "multicast membership, which nobody here asks for"; }}
    counter other_protocol {{ comment "neither IP nor ARP, or a VLAN tag"; }}
    counter malformed {{ comment "headers that cannot be read"; }}

    chain prerouting {{
        type filter hook prerouting priority -350; policy accept;
        iifname "{VETH}*" iifname != @spoofing goto check
    }}

    chain check {{
        iifname . ether saddr != @mac counter name foreign_mac drop
        ether type vmap {{ ip : goto from4, ip6 : goto from6, arp : goto resolve }}
        counter name other_protocol drop
    }}

    chain from4 {{
        iifname . ip saddr != @own4 counter name foreign_address drop
        meta l4proto tcp accept
        udp sport 67 counter name dhcp_server drop
        udp dport != 68 accept
        ip frag-off & 0x1fff != 0 accept
        meta l4proto udp counter name dhcp_server drop
        icmp type != {{ redirect, router-advertisement }} accept
        meta l4proto icmp counter name router drop
        meta l4proto igmp counter name membership drop
        meta l4proto != igmp accept
        counter name malformed drop
    }}

    chain from6 {{
        ip6 saddr :: goto detect
        iifname . ip6 saddr != @own6 counter name foreign_address drop
        meta l4proto tcp accept
        udp sport 547 counter name dhcp_server drop
        udp dport != 546 accept
        frag frag-off != 0 accept
        meta l4proto udp counter name dhcp_server drop
        meta l4proto icmpv6 goto control
        meta l4proto != icmpv6 accept
        counter name malformed drop
    }}

    chain control {{
        # Errors and echoes, then what is only for those who route or listen.
        icmpv6 type < 130 accept
        icmpv6 type {{ 130, 131, 132, 143 }} counter name membership drop
        icmpv6 type {{ 133, 134, 137, 138, 151, 152, 153 }} counter name router drop
        # Neighbour discovery stands right behind the IPv6 header or is not believed.
        ip6 nexthdr icmpv6 icmpv6 type vmap {{ nd-neighbor-solicit : goto solicit, nd-neighbor-advert : goto advertise }}
        counter name foreign_neighbour drop
    }}

    chain solicit {{
        ip6 length 24 accept
        ip6 length 32 @th,192,8 1 iifname . @th,200,56 @option6 accept
        counter name foreign_neighbour drop
    }}

    chain advertise {{
        iifname . @th,64,64 . @th,128,64 @target6 goto answer
        counter name foreign_neighbour drop
    }}

    chain answer {{
        ip6 length 24 accept
        ip6 length 32 @th,192,8 2 iifname . @th,200,56 @option6 accept
        counter name foreign_neighbour drop
    }}

    # From the unspecified address: is anybody using what is to be mine? An option of type 14 is RFC 7527's nonce.
    chain detect {{
        icmpv6 type {{ 130, 131, 132, 143 }} counter name membership drop
        ip6 nexthdr icmpv6 icmpv6 type nd-neighbor-solicit goto claim
        counter name foreign_address drop
    }}

    chain claim {{
        ip6 length 24 iifname . @th,64,64 . @th,128,64 @target6 accept
        ip6 length 32 @th,192,16 0x0e01 iifname . @th,64,64 . @th,128,64 @target6 accept
        counter name foreign_neighbour drop
    }}

    chain resolve {{
        arp htype 1 arp ptype ip arp hlen 6 arp plen 4 iifname . arp saddr ether @mac goto speak
        counter name foreign_arp drop
    }}

    chain speak {{
        arp operation {{ request, reply }} iifname . arp saddr ip @own4 accept
        arp operation request arp saddr ip 0.0.0.0 iifname . arp daddr ip @own4 accept
        counter name foreign_arp drop
    }}
"""

SPOOFING = Table("bridge", _SETS, _BODY)
"""Who may say what on our bridges."""
