"""Bandwidth limits, in the shape of the CNI bandwidth plugin's.

A token bucket on the host's interface limits what the container receives. One on an ifb limits what it sends: everything that
comes in from the container is led through that ifb.
"""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.api.schema import Drift
from fairlead.desired.state import Limit
from fairlead.kernel import route
from fairlead.kernel.errors import Exists
from fairlead.kernel.netlink import Netlink
from fairlead.kernel.route import LinkInfo, Tbf
from fairlead.model.errors import Missing

from .mark import GROUP

TABLE = "limits"
_BURST_SECONDS = 0.1
"""A bucket's depth where nobody gave one: what the rate sends in this time, at least one large frame."""
_LEAST_BURST = 8 * 65536


def ensure(nl: Netlink, row: Limit) -> None:
    """Put both buckets in place; replace those that differ."""
    host = route.link(nl, row.host)
    if host is None:
        raise Missing(f"interface {row.host} is gone", field="bandwidth")
    limit = row.bandwidth
    if limit.ingress_rate:
        nl.do(route.new_tbf(host.index, bucket(limit.ingress_rate, limit.ingress_burst)))
    if limit.egress_rate:
        try:
            nl.do(*route.new_ifb(row.ifb, mtu=host.mtu, group=GROUP))
        except Exists:
            nl.do(route.set_link(row.ifb, up=True))
        ifb = route.link(nl, row.ifb)
        if ifb is None:
            raise Missing(f"interface {row.ifb} vanished", field="bandwidth.egressRate")
        nl.do(route.new_tbf(ifb.index, bucket(limit.egress_rate, limit.egress_burst)))
        if not any(one.kind in {"ingress", "clsact"} for one in route.qdiscs(nl) if one.index == host.index):
            nl.do(route.new_ingress(host.index))
        if not route.filters(nl, host.index):
            nl.do(route.new_redirect(host.index, ifb.index))


def release(nl: Netlink, row: Limit) -> list[str]:
    """Take the buckets off an interface that stays, as one that goes takes its own along; return the interfaces to delete."""
    host = route.link(nl, row.host)
    if host is not None and host.group != GROUP:
        found = {one.kind for one in route.qdiscs(nl) if one.index == host.index}
        nl.do(*(route.del_qdisc(host.index, ingress=kind == "ingress") for kind in found if kind in {"tbf", "ingress"}))
    return [row.ifb] if row.bandwidth.egress_rate else []


def check(nl: Netlink, rows: Iterable[Limit], links: dict[str, LinkInfo]) -> list[Drift]:
    """Compare every limit with the kernel's queueing disciplines."""
    rows = list(rows)
    if not rows:
        return []
    buckets = {one.index: one.tbf for one in route.qdiscs(nl) if one.tbf}
    drift = []
    for row in rows:
        for interface, rate, way in (
            (row.host, row.bandwidth.ingress_rate, "ingress"),
            (row.ifb, row.bandwidth.egress_rate, "egress"),
        ):
            found = links.get(interface)
            have = buckets.get(found.index) if found else None
            if rate and (have is None or have.rate != rate // 8):
                shown = f"{way} {have.rate * 8} bit/s" if have else "none"
                drift.append(Drift(table=TABLE, key=row.host, kind="different", want=f"{way} {rate} bit/s", have=shown))
    return drift


def bucket(rate: int, burst: int) -> Tbf:
    """The bucket for a rate, as deep as asked, else enough for a tenth of a second and for one large segment."""
    return route.tbf(rate, burst or max(int(rate * _BURST_SECONDS), _LEAST_BURST))
