"""The table that decides who reaches whom, and how.

It never changes while an agent runs: networks and ports come and go as set elements.
The path of a packet, hook by hook::

    prerouting  raw      nobody but the host itself addresses its loopback; a bridge's port is no interface of the host
    prerouting  dstnat   to an address of this host?  -> publish: published port -> container
    output      dstnat   the same for the host's own processes, 127.0.0.1 included
    forward     filter   from or to one of our bridges? -> who may talk to whom
    postrouting srcnat   container -> outside, and the ways back that would not come through here

Chains keep the policy ``accept`` and other tables are never touched: an accept here overrides nobody's drop, a drop here
is final only for our own containers' packets.
"""

from __future__ import annotations

from fairlead.desired.names import VETH

from .layout import Layout
from .table import Table

_FAMILY = {
    4: {"l3": "ip", "addr": "ipv4_addr", "loopback": "127.0.0.0/8"},
    6: {"l3": "ip6", "addr": "ipv6_addr", "loopback": "::1"},
}

_SETS = """
    # Bridges by what their network allows. same: (bridge, bridge), whose packets turn round on this host.
    set bridges {{ typeof iifname; }}
    set internal {{ typeof iifname; }}
    set open {{ typeof iifname; }}
    set routed {{ typeof iifname; }}
    set same {{ typeof iifname . oifname; }}
    set talk {{ typeof iifname . oifname; }}
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
"""

_PUBLISH = """
        dnat {l3} to {l3} daddr . meta l4proto . th dport map @bound{n}
        dnat {l3} to meta l4proto . th dport map @port{n}
        dnat {l3} to {l3} daddr . meta l4proto . th dport map @run{n}
"""

_CHAINS = """
    chain guard {{
        type filter hook prerouting priority raw; policy accept;
        ip daddr 127.0.0.0/8 iifname != "lo" counter drop
        iifname "{veth}*" counter drop
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

    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        # A published port reached from the same network: the answer must come back through here.
        ct status dnat iifname . oifname @same masquerade
{back}
{out}
    }}
"""

_BACK = """\
        ct status dnat {l3} saddr . {l3} daddr @reflect{n} masquerade
        ct status dnat {l3} saddr {loopback} masquerade"""

_OUT = """\
        iifname . {l3} saddr @masquerade{n} oifname != @bridges masquerade"""


def _body() -> str:
    families = [{"n": n, **words} for n, words in _FAMILY.items()]
    return (
        _SETS.format()
        + "".join(_FAMILY_SETS.format(**one) for one in families)
        + _CHAINS.format(
            veth=VETH,
            publish="".join(_PUBLISH.format(**one) for one in families),
            back="\n".join(_BACK.format(**one) for one in families),
            out="\n".join(_OUT.format(**one) for one in families),
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
    }


_LAYOUTS = {
    "bridges": Layout(("ifname",)),
    "internal": Layout(("ifname",)),
    "open": Layout(("ifname",)),
    "routed": Layout(("ifname",)),
    "same": Layout(("ifname", "ifname")),
    "talk": Layout(("ifname", "ifname")),
    **_layouts(4),
    **_layouts(6),
}

FILTER = Table("inet", _LAYOUTS, _body())
"""Who reaches whom: isolation, published ports, NAT."""
