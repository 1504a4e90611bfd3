"""The table that decides who reaches whom, and how.

It never changes while an agent runs: networks and ports come and go as set elements.
The path of a packet, hook by hook::

    prerouting  raw      nobody but the host itself addresses its loopback; a bridge's port is no interface of the host
    prerouting  dstnat   to an address of this host?  -> publish: published port -> container
    output      dstnat   the same for the host's own processes, 127.0.0.1 included
    forward     filter   from or to one of our bridges, or a routed link? -> who may talk to whom
    postrouting srcnat   container -> outside, and the ways back that would not come through here

Chains keep the policy ``accept`` and other tables are never touched: an accept here overrides nobody's drop, a drop here
is final only for our own containers' packets.
"""

from __future__ import annotations

from fairlead.desired.names import CRYPT, VETH

from .layout import Layout
from .table import Table

_FAMILY = {
    4: {"l3": "ip", "addr": "ipv4_addr", "loopback": "127.0.0.0/8", "protocol": "ip protocol"},
    6: {"l3": "ip6", "addr": "ipv6_addr", "loopback": "::1", "protocol": "ip6 nexthdr"},
}
"""``protocol``: as the header has it. What nft 1.0 makes of ``meta l4proto`` in a map of intervals, a change of the byte order
of one byte, newer kernels refuse."""

_SETS = """
    # Bridges by what their network allows. same: (bridge, bridge), whose packets turn round on this host.
    set bridges {{ typeof iifname; }}
    set internal {{ typeof iifname; }}
    set open {{ typeof iifname; }}
    set routed {{ typeof iifname; }}
    set same {{ typeof iifname . oifname; }}
    set talk {{ typeof iifname . oifname; }}
    # Routed links whose containers may send what they like.
    set any {{ typeof iifname; }}
"""

_FAMILY_SETS = """
    # Published ports: any host address, one host address, and runs of ports as intervals (same number on both sides).
    map port{n} {{ type inet_proto . inet_service : {addr} . inet_service; }}
    map bound{n} {{ type {addr} . inet_proto . inet_service : {addr} . inet_service; }}
    map run{n} {{ type {addr} . inet_proto . inet_service : {addr}; flags interval; }}
    # (container, container): its own published port reached from inside.
    set reflect{n} {{ type {addr} . {addr}; }}
    # (bridge, source) that leaves with the host's address.
    set masquerade{n} {{ type ifname . {addr}; flags interval; }}
    # (routed link, what its container may send as)
    set source{n} {{ typeof iifname . {l3} saddr; }}
    # Other nodes, which reach containers as this one does.
    set nodes{n} {{ type {addr}; }}
    # (prefix of a routed network, anything), by what the network allows: all, those that are internal, not isolated, or reached
    # from outside as they are, and those that leave with the host's address. kin: (prefix, prefix) of one network; talk: may.
    set net{n} {{ type {addr} . {addr}; flags interval; }}
    set inner{n} {{ type {addr} . {addr}; flags interval; }}
    set joined{n} {{ type {addr} . {addr}; flags interval; }}
    set reached{n} {{ type {addr} . {addr}; flags interval; }}
    set masked{n} {{ type {addr} . {addr}; flags interval; }}
    set kin{n} {{ type {addr} . {addr}; flags interval; }}
    set talk{n} {{ type {addr} . {addr}; flags interval; }}
"""

_PUBLISH = """
        dnat {l3} to {l3} daddr . meta l4proto . th dport map @bound{n}
        dnat {l3} to meta l4proto . th dport map @port{n}
        dnat {l3} to {l3} daddr . {protocol} . th dport map @run{n}
"""

_CHAINS = """
    chain guard {{
        type filter hook prerouting priority raw; policy accept;
        ip daddr 127.0.0.0/8 iifname != "lo" counter drop
        iifname "{veth}*" goto speak
    }}

    # A near end that is a bridge's port receives nothing here; one that is a routed link, what its container sends as itself.
    chain speak {{
        iifname @any return
{speak}
        counter drop
    }}

    chain publish {{{publish}    }}

    chain prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
        fib daddr type local meta l4proto {{ tcp, udp, sctp }} jump publish
    }}

    chain output {{
        type nat hook output priority -100; policy accept;
        fib daddr type local meta l4proto {{ tcp, udp, sctp }} jump publish
    }}

    chain forward {{
        type filter hook forward priority filter; policy accept;
        iifname "{veth}*" jump route
        oifname "{veth}*" jump route
        iifname @bridges jump decide
        oifname @bridges jump decide
    }}

    chain decide {{
        tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
        ct state established,related accept
        ct state invalid counter drop
        iifname . oifname @talk accept
        iifname @internal counter drop
        oifname @internal counter drop
        ct status dnat accept
        iifname . oifname @same counter drop
        iifname @open oifname @open accept
        iifname @bridges oifname @bridges counter drop
        oifname @routed accept
        oifname @bridges counter drop
    }}

    chain route {{
        tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
        ct state established,related accept
{kin}
        ct state invalid counter drop
{inner}
        ct status dnat accept
{apart}
        iifname @bridges counter drop
        oifname @bridges counter drop
{reached}
        oifname "{veth}*" counter drop
    }}

    # A container that is led back out by the link it came in is not told of a shorter way.
    chain redirects {{
        type filter hook output priority filter; policy accept;
        icmp type redirect oifname "{veth}*" drop
        icmpv6 type nd-redirect oifname "{veth}*" drop
    }}

    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        # A published port reached from the same network: the answer must come back through here.
        ct status dnat iifname . oifname @same masquerade
{back}
        oifname != @bridges jump leave
    }}

    chain leave {{
        oifname "{crypt}*" return
{stay}
{leave}
    }}
"""

_BACK = """\
        ct status dnat {l3} saddr . {l3} daddr @reflect{n} masquerade
        ct status dnat {l3} saddr {loopback} masquerade"""

_STAY = """\
        {l3} daddr . {l3} saddr @net{n} return"""

_LEAVE = """\
        iifname . {l3} saddr @masquerade{n} masquerade
        iifname "{veth}*" {l3} saddr . {l3} daddr @masked{n} masquerade"""

_SPEAK = """\
        iifname . {l3} saddr @source{n} return"""

_KIN = """\
        {l3} saddr . {l3} daddr @talk{n} accept"""

_INNER = """\
        {l3} saddr . {l3} daddr @inner{n} counter drop
        {l3} daddr . {l3} saddr @inner{n} counter drop"""

_APART = """\
        {l3} saddr . {l3} daddr @kin{n} counter drop
        {l3} saddr . {l3} daddr @joined{n} {l3} daddr . {l3} saddr @joined{n} accept
        iifname @open {l3} daddr . {l3} saddr @joined{n} accept
        {l3} saddr . {l3} daddr @joined{n} oifname @open accept
        {l3} saddr . {l3} daddr @net{n} {l3} daddr . {l3} saddr @net{n} counter drop"""

_REACHED = """\
        {l3} daddr . {l3} saddr @reached{n} accept
        {l3} saddr @nodes{n} accept"""


def _body() -> str:
    families = [{"n": n, "veth": VETH, **words} for n, words in _FAMILY.items()]
    return (
        _SETS.format()
        + "".join(_FAMILY_SETS.format(**one) for one in families)
        + _CHAINS.format(
            veth=VETH,
            crypt=CRYPT,
            publish="".join(_PUBLISH.format(**one) for one in families),
            speak="\n".join(_SPEAK.format(**one) for one in families),
            kin="\n".join(_KIN.format(**one) for one in families),
            inner="\n".join(_INNER.format(**one) for one in families),
            apart="\n".join(_APART.format(**one) for one in families),
            reached="\n".join(_REACHED.format(**one) for one in families),
            back="\n".join(_BACK.format(**one) for one in families),
            stay="\n".join(_STAY.format(**one) for one in families),
            leave="\n".join(_LEAVE.format(**one) for one in families),
        )
    )


def _layouts(n: int) -> dict[str, Layout]:
    address = f"addr{n}"
    return {
        f"port{n}": Layout(("proto", "port"), (address, "port")),
        f"bound{n}": Layout((address, "proto", "port"), (address, "port")),
        f"run{n}": Layout((address, "proto", "port"), (address,)),
        f"reflect{n}": Layout((address, address)),
        f"masquerade{n}": Layout(("ifname", address)),
        f"source{n}": Layout(("ifname", address)),
        f"nodes{n}": Layout((address,)),
        **{f"{name}{n}": Layout((address, address)) for name in ("net", "inner", "joined", "reached", "masked", "kin", "talk")},
    }


_LAYOUTS = {
    "bridges": Layout(("ifname",)),
    "internal": Layout(("ifname",)),
    "open": Layout(("ifname",)),
    "routed": Layout(("ifname",)),
    "same": Layout(("ifname", "ifname")),
    "talk": Layout(("ifname", "ifname")),
    "any": Layout(("ifname",)),
    **_layouts(4),
    **_layouts(6),
}

FILTER = Table("inet", _LAYOUTS, _body())
"""Who reaches whom: isolation, published ports, NAT."""
