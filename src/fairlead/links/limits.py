"""Bandwidth limits, in the shape of the CNI bandwidth plugin's.

A token bucket on the host's interface limits what the container receives. One on an ifb limits what it sends: everything that
comes in from the container is led through that ifb. Both carry our mark, so that they are found again on an interface that is
not ours, and nothing of anybody else's is taken for them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from fairlead.api.schema import Drift
from fairlead.desired.state import Limit
from fairlead.kernel import route
from fairlead.kernel.errors import Exists
from fairlead.kernel.netlink import Netlink
from fairlead.kernel.route import LinkInfo, Tbf
from fairlead.kit import fault
from fairlead.model.errors import Missing

from .mark import DOOMED, GROUP, LIMIT

TABLE = "limits"
_BURST_SECONDS = 0.1
"""A bucket's depth where nobody gave one: what the rate sends in this time, at least one large frame."""
_PLACES = {"ingress", "clsact"}
"""Queueing disciplines with a place for filters on what an interface receives."""
_LEAST_BURST = 8 * 65536


def ensure(nl: Netlink, row: Limit) -> None:
    """Put both buckets in place; replace those that differ."""
    host = route.link(nl, row.host)
    if host is None:
        raise Missing(f"interface {row.host} is gone", field="bandwidth")
    limit = row.bandwidth
    if limit.ingress_rate:
        nl.do(route.new_tbf(host.index, bucket(limit.ingress_rate, limit.ingress_burst), LIMIT))
    fault.point("limit.ingress")
    if limit.egress_rate:
        try:
            nl.do(*route.new_ifb(row.ifb, mtu=host.mtu, group=GROUP))
        except Exists:
            nl.do(route.set_link(row.ifb, up=True, group=GROUP))
        fault.point("limit.ifb")
        ifb = route.link(nl, row.ifb)
        if ifb is None:
            raise Missing(f"interface {row.ifb} vanished", field="bandwidth.egressRate")
        nl.do(route.new_tbf(ifb.index, bucket(limit.egress_rate, limit.egress_burst), LIMIT))
        fault.point("limit.egress")
        if not _led(nl, host.index, ifb.index):
            _take_off(nl, host.index, _marks(nl, host.index).get(host.index, set()) & _PLACES)
        if not any(one.kind in _PLACES for one in route.qdiscs(nl) if one.index == host.index):
            nl.do(route.new_ingress(host.index))
        fault.point("limit.hooked")
        if not route.filters(nl, host.index):
            nl.do(route.new_redirect(host.index, ifb.index, LIMIT))
        fault.point("limit.redirected")


def release(nl: Netlink, row: Limit) -> list[str]:
    """Take the buckets off an interface that stays, as one that goes takes its own along; return the interfaces to delete."""
    host = route.link(nl, row.host)
    if host is not None and host.group != GROUP:
        _take_off(nl, host.index, _marks(nl, host.index).get(host.index, set()))
    fault.point("limit.released")
    return [row.ifb] if row.bandwidth.egress_rate else []


def check(nl: Netlink, rows: Iterable[Limit], links: dict[str, LinkInfo]) -> list[Drift]:
    """Compare every limit with the kernel's queueing disciplines."""
    rows = list(rows)
    wanted = {row.host for row in rows}
    drift = [
        Drift(table=TABLE, key=one.name, kind="unexpected", have=f"limits on {one.name}")
        for one, _ in _strays(nl, wanted, links.values())
    ]
    if not rows:
        return drift
    buckets = {one.index: one.tbf for one in route.qdiscs(nl) if one.tbf}
    for row in rows:
        for interface, rate, way in (
            (row.host, row.bandwidth.ingress_rate, "ingress"),
            (row.ifb, row.bandwidth.egress_rate, "egress"),
        ):
            found = links.get(interface)
            have = buckets.get(found.index) if found and found.group != DOOMED else None
            if rate and (have is None or have.rate != rate // 8):
                shown = f"{way} {have.rate * 8} bit/s" if have else "none"
                drift.append(Drift(table=TABLE, key=row.host, kind="different", want=f"{way} {rate} bit/s", have=shown))
        host, ifb = links.get(row.host), links.get(row.ifb)
        if row.bandwidth.egress_rate and host and ifb and not _led(nl, host.index, ifb.index):
            drift.append(Drift(table=TABLE, key=row.host, kind="missing", want=f"what {row.host} receives led to {row.ifb}"))
    return drift


def prune(nl: Netlink, wanted: Iterable[str], links: Iterable[LinkInfo]) -> int:
    """Take our limits off other people's interfaces on which none are wanted; return how many such interfaces there were."""
    found = list(_strays(nl, set(wanted), links))
    for one, kinds in found:
        _take_off(nl, one.index, kinds)
    return len(found)


def _strays(nl: Netlink, wanted: Collection[str], links: Iterable[LinkInfo]) -> Iterator[tuple[LinkInfo, set[str]]]:
    """Interfaces that are not ours, with limits of ours that nobody wants: which."""
    marks = _marks(nl)
    for one in links:
        if one.index in marks and one.group not in {GROUP, DOOMED} and one.name not in wanted:
            yield one, marks[one.index]


def _marks(nl: Netlink, index: int = 0) -> dict[int, set[str]]:
    """Which of our queueing disciplines each interface has, or that of ``index`` alone."""
    found: dict[int, set[str]] = {}
    for one in route.qdiscs(nl):
        if index not in {0, one.index}:
            continue
        if one.handle == LIMIT or (one.kind in _PLACES and route.redirects(nl, one.index, LIMIT)):
            found.setdefault(one.index, set()).add(one.kind)
    return found


def _led(nl: Netlink, index: int, target: int) -> bool:
    """Whether what ``index`` receives is led to ``target``; to one that is gone it would never arrive."""
    return any(one.target == target for one in route.filters(nl, index))


def _take_off(nl: Netlink, index: int, kinds: Iterable[str]) -> None:
    """Of a clsact only our redirect goes: programs may stand on it."""
    nl.do(
        *(
            route.del_redirects(index, LIMIT) if kind == "clsact" else route.del_qdisc(index, ingress=kind == "ingress")
            for kind in kinds
        )
    )


def bucket(rate: int, burst: int) -> Tbf:
    """The bucket for a rate, as deep as asked, else enough for a tenth of a second and for one large segment."""
    return route.tbf(rate, burst or max(int(rate * _BURST_SECONDS), _LEAST_BURST))
