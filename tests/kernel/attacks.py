"""What a container may try on its neighbours, as frames, by the kind under which anti-spoofing counts them.

``me`` sends, ``victim`` is to believe it. ``other`` is a neighbour of both and ``gate`` their gateway: whom ``me`` plays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scapy.fields import ByteField
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dhcp6 import DHCP6_Advertise
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLQuery,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    PadN,
    RouterAlert,
)
from scapy.layers.l2 import ARP, LLC, SNAP, STP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.packet import Packet, Raw

from fairlead.model.address import Mac

BROADCAST = "ff:ff:ff:ff:ff:ff"
NOBODY4, EVERYBODY4, EVERYBODY6 = "0.0.0.0", "224.0.0.1", "ff02::1"  # noqa: S104  # a sender, nothing is bound
TO_EVERYBODY6 = "33:33:00:00:00:01"
DATA = Raw(b"not what it seems")
ICMPV6 = 58


@dataclass(frozen=True)
class Party:
    """One who is on the bridge."""

    mac: str
    v4: str
    v6: str

    @property
    def local(self) -> str:
        """The link-local address."""
        return str(Mac(self.mac).link_local)


@dataclass(frozen=True)
class Cast:
    """Who is who."""

    me: Party
    victim: Party
    other: Party
    gate: Party


def _ether(cast: Cast, **fields: object) -> Packet:
    return Ether(**{"src": cast.me.mac, "dst": cast.victim.mac, **fields})


def _four(cast: Cast, rest: Packet, **fields: object) -> Packet:
    return _ether(cast) / IP(**{"src": cast.me.v4, "dst": cast.victim.v4, **fields}) / rest


def _six(cast: Cast, rest: Packet, **fields: object) -> Packet:
    return _ether(cast) / IPv6(**{"src": cast.me.v6, "dst": cast.victim.v6, "hlim": 255, **fields}) / rest


def _arp(cast: Cast, op: int = 2, dst: str = "", **fields: object) -> Packet:
    told = {"hwsrc": cast.me.mac, "psrc": cast.me.v4, "hwdst": cast.victim.mac, "pdst": cast.victim.v4, **fields}
    return _ether(cast, dst=dst or cast.victim.mac) / ARP(op=op, **told)


def _advert(target: str, mac: str) -> Packet:
    return ICMPv6ND_NA(R=0, S=0, O=1, tgt=target) / ICMPv6NDOptDstLLAddr(lladdr=mac)


def _router() -> Packet:
    return ICMPv6ND_RA(routerlifetime=1800) / ICMPv6NDOptPrefixInfo(prefix="2001:db8:bad::", prefixlen=64)


def _behind(header: Packet, packet: Packet) -> Packet:
    """An ICMPv6 packet behind an extension header, its checksum as without."""
    whole = packet.copy()
    ip = whole[IPv6]
    message = ip.payload.copy()
    message.cksum = _checksum(ip.src, ip.dst, message)
    ip.remove_payload()
    return whole / header / Raw(bytes(message))


def _checksum(src: str, dst: str, message: Packet) -> int:
    built = IPv6(bytes(IPv6(src=src, dst=dst) / message))
    return int.from_bytes(bytes(built.payload)[2:4], "big")


def _options(kind: int = ICMPV6) -> Packet:
    return IPv6ExtHdrDestOpt(nh=kind, options=[PadN(optdata=bytes(4))])


def _hop_by_hop(*options: Packet) -> Packet:
    return IPv6ExtHdrHopByHop(nh=ICMPV6, options=[*(options or (PadN(optdata=bytes(4)),))])


def _first_fragment(cast: Cast, nh: int, data: bytes, **fields: object) -> Packet:
    return _six(cast, IPv6ExtHdrFragment(nh=nh, offset=0, m=1, id=7) / Raw(data), **fields)


def _na_bytes(cast: Cast) -> bytes:
    packet = _six(cast, _advert(cast.gate.v6, cast.me.mac))
    return bytes(IPv6(bytes(packet[IPv6])).payload)


def _hidden(cast: Cast, nh: int) -> Packet:
    """A first fragment that ends with an extension header; what comes behind it, ``nh``, is in the next one."""
    return _first_fragment(cast, 60, bytes([nh, 0, 1, 4]) + bytes(4))


def _mld_report(cast: Cast, src: str) -> Packet:
    packet = _six(cast, ICMPv6MLReport2(records_number=0), src=src, dst="ff02::16", hlim=1)
    packet[Ether].dst = "33:33:00:00:00:16"
    return _behind(_hop_by_hop(RouterAlert()), packet)


def _igmp(cast: Cast, kind: int, dst: str) -> Packet:
    return _four(
        cast, Raw(bytes([kind, 0, 0xFF - kind, 0xFF]) + bytes(4)), dst=dst, proto=2, ttl=1, options=[IPOption_NOP()] * 4
    )


def _offer(cast: Cast, sport: int, dport: int) -> Packet:
    told = BOOTP(op=2, yiaddr="10.50.0.66", siaddr=cast.me.v4, chaddr=bytes.fromhex(cast.victim.mac.replace(":", "")))
    options = DHCP(options=[("message-type", "offer"), ("router", cast.me.v4), "end"])
    return _four(cast, UDP(sport=sport, dport=dport) / told / options)


def _advertise(cast: Cast, sport: int, dport: int) -> Packet:
    return _six(cast, UDP(sport=sport, dport=dport) / DHCP6_Advertise(trid=1), src=cast.me.local)


def _redirect4(cast: Cast, kind: int) -> Packet:
    inner = IP(src=cast.victim.v4, dst="8.8.8.8") / UDP(sport=1, dport=2)
    return _four(cast, ICMP(type=kind, code=1, gw=cast.me.v4) / inner)


def _redirect6(cast: Cast) -> Packet:
    return _six(cast, ICMPv6ND_Redirect(tgt=cast.me.local, dst="2001:db8::8"), src=cast.me.local)


def _gratuitous(cast: Cast) -> Packet:
    return _arp(cast, 1, BROADCAST, psrc=cast.gate.v4, pdst=cast.gate.v4, hwdst="00:00:00:00:00:00")


class _Nonce(Packet):
    """An option of neighbour discovery that says nothing, to put another one behind."""

    fields_desc = [ByteField("type", 14), ByteField("len", 1), *(ByteField(f"n{at}", at) for at in range(6))]


Attack = Callable[[Cast], Packet]

ATTACKS: dict[str, dict[str, Attack]] = {
    "foreign_mac": {
        "IPv4 with a neighbour's MAC": lambda c: _ether(c, src=c.other.mac) / IP(src=c.me.v4, dst=c.victim.v4) / UDP() / DATA,
        "IPv6 with a neighbour's MAC": lambda c: _ether(c, src=c.other.mac) / IPv6(src=c.me.v6, dst=c.victim.v6) / UDP() / DATA,
        "ARP with a neighbour's MAC": lambda c: _ether(c, src=c.other.mac) / ARP(op=2, psrc=c.other.v4, hwsrc=c.other.mac),
        "a MAC of nobody": lambda c: _ether(c, src="02:00:00:00:00:99") / IP(src=c.me.v4, dst=c.victim.v4) / UDP() / DATA,
    },
    "foreign_address": {
        "IPv4 from a neighbour": lambda c: _four(c, UDP() / DATA, src=c.other.v4),
        "IPv4 from the gateway": lambda c: _four(c, UDP() / DATA, src=c.gate.v4),
        "IPv4 from the victim itself": lambda c: _four(c, UDP() / DATA, src=c.victim.v4),
        "IPv4 from outside": lambda c: _four(c, UDP() / DATA, src="8.8.8.8"),
        "IPv4 from 0.0.0.0": lambda c: _four(c, UDP(sport=68, dport=67) / DATA, src=NOBODY4),
        "IPv4 from loopback": lambda c: _four(c, UDP() / DATA, src="127.0.0.1"),
        "a TCP reset from a neighbour": lambda c: _four(c, TCP(flags="R"), src=c.other.v4),
        "an echo request from a neighbour": lambda c: _four(c, ICMP() / DATA, src=c.other.v4),
        "an IPv4 fragment from a neighbour": lambda c: _four(c, DATA, src=c.other.v4, frag=5, proto=17),
        "an SCTP packet from a neighbour": lambda c: _four(c, DATA, src=c.other.v4, proto=132),
        "IPv6 from a neighbour": lambda c: _six(c, UDP() / DATA, src=c.other.v6),
        "IPv6 from the gateway": lambda c: _six(c, UDP() / DATA, src=c.gate.v6),
        "IPv6 from outside": lambda c: _six(c, UDP() / DATA, src="2001:db8::8"),
        "IPv6 from a neighbour's link-local address": lambda c: _six(c, UDP() / DATA, src=c.other.local),
        "IPv6 from a link-local address of nobody": lambda c: _six(c, UDP() / DATA, src="fe80::1"),
        "IPv6 from no address": lambda c: _six(c, UDP() / DATA, src="::"),
        "an ICMPv6 echo request from a neighbour": lambda c: _six(c, ICMPv6EchoRequest(), src=c.other.v6),
        "an IPv6 TCP reset from a neighbour": lambda c: _six(c, TCP(flags="R"), src=c.other.v6),
        "an IPv6 fragment from a neighbour": lambda c: _six(c, IPv6ExtHdrFragment(nh=17, offset=5) / DATA, src=c.other.v6),
        "IPv6 behind options from a neighbour": lambda c: _six(c, _options(17) / UDP() / DATA, src=c.other.v6),
        "a neighbour advertisement from the gateway": lambda c: _six(c, _advert(c.gate.v6, c.me.mac), src=c.gate.v6),
        "a router advertisement from the gateway": lambda c: _six(c, _router(), src=c.gate.local),
        "a router solicitation from no address": lambda c: _six(c, ICMPv6ND_RS(), src="::"),
    },
    "foreign_arp": {
        "an ARP reply for the gateway": lambda c: _arp(c, psrc=c.gate.v4),
        "an ARP reply for a neighbour": lambda c: _arp(c, psrc=c.other.v4),
        "an ARP request as the gateway": lambda c: _arp(c, 1, psrc=c.gate.v4),
        "a gratuitous ARP request of the gateway": _gratuitous,
        "a gratuitous ARP reply of the gateway": lambda c: _arp(c, 2, BROADCAST, psrc=c.gate.v4, pdst=c.gate.v4),
        "a gratuitous ARP of the victim's own address": lambda c: _arp(c, 1, BROADCAST, psrc=c.victim.v4, pdst=c.victim.v4),
        "ARP with a neighbour's MAC inside": lambda c: _arp(c, hwsrc=c.other.mac),
        "an ARP reply that gives an address of its own to a neighbour": lambda c: _arp(c, hwsrc=c.other.mac, psrc=c.me.v4),
        "an ARP probe for a neighbour's address": lambda c: _arp(c, 1, BROADCAST, psrc=NOBODY4, pdst=c.other.v4),
        "an ARP reply from 0.0.0.0": lambda c: _arp(c, 2, psrc=NOBODY4, pdst=c.me.v4),
        "an inverse ARP reply": lambda c: _arp(c, 9),
        "ARP of another hardware": lambda c: _arp(c, hwtype=6),
        "ARP with longer addresses": lambda c: _ether(c, type=0x0806) / Raw(bytes.fromhex("0001080008060002") + bytes(28)),
        "an ARP message that ends early": lambda c: _ether(c, type=0x0806) / Raw(bytes.fromhex("0001080006040002")),
    },
    "foreign_neighbour": {
        "an advertisement for the gateway": lambda c: _six(c, _advert(c.gate.v6, c.me.mac)),
        "an advertisement for the gateway's link-local address": lambda c: _six(c, _advert(c.gate.local, c.me.mac)),
        "an advertisement for a neighbour": lambda c: _six(c, _advert(c.other.v6, c.me.mac), src=c.me.local),
        "an advertisement without option for the gateway": lambda c: _six(c, ICMPv6ND_NA(R=0, O=1, tgt=c.gate.v6)),
        "an advertisement with a neighbour's MAC": lambda c: _six(c, _advert(c.me.v6, c.other.mac)),
        "an advertisement with a second option": lambda c: _six(
            c, _advert(c.me.v6, c.me.mac) / ICMPv6NDOptDstLLAddr(lladdr=c.other.mac)
        ),
        "an advertisement with an option behind a nonce": lambda c: _six(
            c, ICMPv6ND_NA(R=0, O=1, tgt=c.me.v6) / _Nonce() / ICMPv6NDOptDstLLAddr(lladdr=c.other.mac)
        ),
        "an advertisement to everybody for the gateway": lambda c: (
            _ether(c, dst=TO_EVERYBODY6) / IPv6(src=c.me.v6, dst=EVERYBODY6, hlim=255) / _advert(c.gate.v6, c.me.mac)
        ),
        "an advertisement behind destination options": lambda c: _behind(_options(), _six(c, _advert(c.gate.v6, c.me.mac))),
        "an advertisement behind hop-by-hop options": lambda c: _behind(_hop_by_hop(), _six(c, _advert(c.gate.v6, c.me.mac))),
        "an advertisement in a fragment": lambda c: _first_fragment(c, ICMPV6, _na_bytes(c)),
        "an advertisement in a fragment of its own": lambda c: _six(
            c, IPv6ExtHdrFragment(nh=ICMPV6, offset=0, m=0, id=9) / Raw(_na_bytes(c))
        ),
        "a fragment that hides what message it is": lambda c: _hidden(c, ICMPV6),
        "a solicitation with a neighbour's MAC": lambda c: _six(
            c, ICMPv6ND_NS(tgt=c.victim.v6) / ICMPv6NDOptSrcLLAddr(lladdr=c.other.mac)
        ),
        "a solicitation with a MAC behind a nonce": lambda c: _six(
            c, ICMPv6ND_NS(tgt=c.victim.v6) / _Nonce() / ICMPv6NDOptSrcLLAddr(lladdr=c.other.mac)
        ),
        "duplicate address detection for a neighbour's address": lambda c: _six(c, ICMPv6ND_NS(tgt=c.other.v6), src="::"),
        "the same with a nonce": lambda c: _six(c, ICMPv6ND_NS(tgt=c.victim.v6) / _Nonce(), src="::"),
    },
    "router": {
        "a router advertisement": lambda c: _six(c, _router(), src=c.me.local),
        "a router advertisement to everybody": lambda c: (
            _ether(c, dst=TO_EVERYBODY6) / IPv6(src=c.me.local, dst=EVERYBODY6, hlim=255) / _router()
        ),
        "a router advertisement behind options": lambda c: _behind(_options(), _six(c, _router(), src=c.me.local)),
        "a router solicitation with a neighbour's MAC": lambda c: _six(
            c, ICMPv6ND_RS() / ICMPv6NDOptSrcLLAddr(lladdr=c.other.mac)
        ),
        "a redirect": _redirect6,
        "an IPv4 redirect": lambda c: _redirect4(c, 5),
        "an IPv4 router advertisement": lambda c: _four(c, ICMP(type=9) / Raw(bytes(8)), dst=EVERYBODY4),
    },
    "dhcp_server": {
        "an offer": lambda c: _offer(c, 67, 68),
        "an offer from another port": lambda c: _offer(c, 1067, 68),
        "a relay's answer": lambda c: _offer(c, 67, 1068),
        "the first fragment of an offer": lambda c: _four(c, UDP(sport=67, dport=68, len=99, chksum=0) / DATA, flags="MF"),
        "an offer behind IP options": lambda c: _four(c, UDP(sport=67, dport=68) / DATA, options=[IPOption_NOP()] * 8),
        "an IPv6 advertise": lambda c: _advertise(c, 547, 546),
        "an IPv6 advertise from another port": lambda c: _advertise(c, 1547, 546),
        "an IPv6 relay's answer": lambda c: _advertise(c, 547, 1546),
        "an IPv6 advertise behind options": lambda c: _six(c, _options(17) / UDP(sport=547, dport=546) / DATA),
        "the first fragment of an IPv6 advertise": lambda c: _first_fragment(
            c, 17, bytes(UDP(sport=547, dport=546, len=99, chksum=1)) + bytes(8)
        ),
        "a UDP header that ends early": lambda c: _four(c, Raw(b"\0\x43"), proto=17),
    },
    "membership": {
        "an IGMP report": lambda c: _igmp(c, 0x22, "224.0.0.22"),
        "an IGMP query": lambda c: _igmp(c, 0x11, "224.0.0.1"),
        "an MLD report": lambda c: _mld_report(c, c.me.local),
        "an MLD report from no address": lambda c: _mld_report(c, "::"),
        "an MLD query": lambda c: _behind(_hop_by_hop(RouterAlert()), _six(c, ICMPv6MLQuery(), src=c.me.local)),
    },
    "other_protocol": {
        "a tagged frame": lambda c: _ether(c) / Dot1Q(vlan=5) / IP(src=c.me.v4, dst=c.victim.v4) / UDP() / DATA,
        "a gratuitous ARP under a priority tag": lambda c: (
            _ether(c, dst=BROADCAST) / Dot1Q(vlan=0) / ARP(op=1, hwsrc=c.me.mac, psrc=c.gate.v4, pdst=c.gate.v4)
        ),
        "a router advertisement under a priority tag": lambda c: (
            _ether(c) / Dot1Q(vlan=0) / IPv6(src=c.me.local, dst=EVERYBODY6, hlim=255) / _router()
        ),
        "two tags": lambda c: _ether(c) / Dot1Q(vlan=0) / Dot1Q(vlan=0) / IP(src=c.gate.v4, dst=c.victim.v4) / UDP() / DATA,
        "a provider's tag": lambda c: _ether(c) / Dot1AD(vlan=0) / IP(src=c.gate.v4, dst=c.victim.v4) / UDP() / DATA,
        "a spanning tree message": lambda c: (
            Dot3(src=c.me.mac, dst="01:80:c2:00:00:00") / LLC(dsap=0x42, ssap=0x42, ctrl=3) / STP()
        ),
        "IPv4 in a SNAP frame": lambda c: (
            Dot3(src=c.me.mac, dst=c.victim.mac) / LLC() / SNAP(code=0x0800) / IP(src=c.gate.v4, dst=c.victim.v4) / UDP()
        ),
        "a reverse ARP reply": lambda c: _ether(c, type=0x8035) / Raw(bytes(ARP(op=4, hwsrc=c.me.mac, psrc=c.me.v4))),
        "a PPPoE offer": lambda c: _ether(c, type=0x8863) / Raw(bytes.fromhex("110700000000")),
        "an 802.1X message": lambda c: _ether(c, type=0x888E) / Raw(bytes.fromhex("01000000")),
        "a protocol of nobody": lambda c: _ether(c, type=0x88B5) / DATA,
    },
    "malformed": {
        "a fragment that hides a header": lambda c: _hidden(c, 60),
        "an extension header that ends early": lambda c: _six(c, Raw(b"\x3a"), nh=60),
        "an IPv4 header longer than its packet": lambda c: _ether(c) / IP(src=c.me.v4, dst=c.victim.v4, ihl=15, proto=17),
    },
}
"""By kind and name."""
