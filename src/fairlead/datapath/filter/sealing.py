"""The table that keeps encrypted networks encrypted: what is between them and other nodes takes a WireGuard device or none.

It looks at every packet that comes in or goes out, and looks its addresses up in sets of prefixes, which costs as much as all
else that is ours. So while no network is encrypted it is dormant: there, and on no packet's way.
::

    prerouting  raw      nothing for or from an encrypted network comes from another node in the clear
    postrouting filter   nothing between an encrypted network and another node leaves in the clear
"""

from __future__ import annotations

from fairlead.desired.names import CRYPT, VETH

from .layout import Layout
from .table import Table

_FAMILY = {4: ("ip", "ipv4_addr"), 6: ("ip6", "ipv6_addr")}

_FAMILY_SETS = """
    set nodes{n} {{ type {addr}; }}
    set net{n} {{ type {addr} . {addr}; flags interval; }}
    # Of net, those that are encrypted between nodes.
    set sealed{n} {{ type {addr} . {addr}; flags interval; }}
"""

_CHAINS = """
    chain arriving {{
        type filter hook prerouting priority raw; policy accept;
        iifname "{veth}*" return
        iifname "{crypt}*" return
{arriving}
    }}

    # Of what comes in the clear to an encrypted network, that which another node sent.
    chain open_in {{
{open_in}
    }}

    # Whatever the routes say.
    chain leaving {{
        type filter hook postrouting priority filter; policy accept;
        oifname "{veth}*" return
        oifname "{crypt}*" return
{leaving}
    }}

    chain open_out {{
{open_out}
    }}
"""

_ARRIVING = """\
        {l3} saddr . {l3} daddr @sealed{n} counter drop
        {l3} daddr . {l3} saddr @sealed{n} jump open_in"""

_OPEN_IN = """\
        {l3} saddr @nodes{n} counter drop
        {l3} saddr . {l3} daddr @net{n} counter drop"""

_LEAVING = """\
        {l3} daddr . {l3} saddr @sealed{n} counter drop
        {l3} saddr . {l3} daddr @sealed{n} jump open_out"""

_OPEN_OUT = """\
        {l3} daddr @nodes{n} counter drop
        {l3} daddr . {l3} saddr @net{n} counter drop"""


def _body() -> str:
    families = [{"n": n, "l3": l3, "addr": addr} for n, (l3, addr) in _FAMILY.items()]
    return "".join(_FAMILY_SETS.format(**one) for one in families) + _CHAINS.format(
        veth=VETH,
        crypt=CRYPT,
        arriving="\n".join(_ARRIVING.format(**one) for one in families),
        open_in="\n".join(_OPEN_IN.format(**one) for one in families),
        leaving="\n".join(_LEAVING.format(**one) for one in families),
        open_out="\n".join(_OPEN_OUT.format(**one) for one in families),
    )


def _layouts(n: int) -> dict[str, Layout]:
    address = f"addr{n}"
    pair = Layout((address, address))
    return {f"nodes{n}": Layout((address,)), f"net{n}": pair, f"sealed{n}": pair}


SEALING = Table(
    "inet",
    {**_layouts(4), **_layouts(6)},
    _body(),
    name="fairlead-sealing",
    wakes=frozenset(f"sealed{n}" for n in _FAMILY),
)
