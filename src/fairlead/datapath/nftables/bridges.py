"""Bridges of ours hand what goes over them to netfilter (``nf_call_iptables``), where connections are known.

Each bridge has a switch of its own, so that nobody else's bridges do what they did not before. One whose ports are kept apart
(``Link.alone``) needs none: there nothing goes from one port to another.
"""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.api.schema import Drift
from fairlead.datapath.base import PLANE
from fairlead.desired.state import Bridge, Link
from fairlead.kernel import route, sysctl
from fairlead.kernel.errors import Gone, KernelError
from fairlead.kernel.netlink import Netlink
from fairlead.model.errors import Unsupported

_MODULE = "net.bridge.bridge-nf-call-iptables"


def ensure(nl: Netlink, links: Iterable[Link]) -> None:
    """The bridges of ``links`` hand everything over. ``Unsupported`` where the kernel has no such thing."""
    for name in _bridges(links):
        found = route.link(nl, name)
        if found is None:
            raise Gone(0, f"have {name} hand frames to netfilter", "the bridge is gone")
        if not found.netfilter:
            _refuse_without()
            nl.do(route.set_bridge(found.index, netfilter=True))


def check(nl: Netlink, links: Iterable[Link]) -> list[Drift]:
    """Bridges that do not; one that is missing is for others to name."""
    wanted = _bridges(links)
    have = {one.name: one for one in route.links(nl)} if wanted else {}
    return [
        Drift(table=f"{PLANE} bridges", key=name, kind="different", want="hands frames to netfilter", have="does not")
        for name in wanted
        if name in have and not have[name].netfilter
    ]


def release(nl: Netlink, rows: Iterable[Bridge]) -> None:
    """None of them hands anything over."""
    for row in rows:
        found = route.link(nl, row.name)
        if found and found.netfilter:
            nl.do(route.set_bridge(found.index, netfilter=False))


def _bridges(links: Iterable[Link]) -> list[str]:
    return list(dict.fromkeys(row.bridge for row in links if row.bridge and not row.alone))


def _refuse_without() -> None:
    try:
        sysctl.read(_MODULE)
    except KernelError:
        raise Unsupported(
            "the kernel does not hand bridged frames to netfilter, where policies are enforced: modprobe br_netfilter"
        ) from None
