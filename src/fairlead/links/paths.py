"""Paths: routes of the host to other nodes' containers, told from other people's by who made them (``mark.PROTOCOL``)."""

from __future__ import annotations

from collections.abc import Iterable
from errno import ENOENT, ESRCH

from fairlead.api.schema import Drift
from fairlead.desired.state import Path
from fairlead.kernel import route
from fairlead.kernel.netlink import Message, Netlink
from fairlead.kernel.route import LinkInfo, RouteInfo
from fairlead.model.errors import Missing

from .mark import PROTOCOL

TABLE = "routes"
_GONE = (ENOENT, ESRCH)


def ensure(nl: Netlink, row: Path) -> None:
    """Put the route in place of whatever route of ours there is to the same destination."""
    nl.do(_message(nl, row))


def remove(nl: Netlink, row: Path) -> None:
    """Remove the route."""
    nl.do(route.del_route(row.dst, protocol=PROTOCOL).accepting(*_GONE))


def check(nl: Netlink, rows: Iterable[Path], links: dict[str, LinkInfo], hosts: Iterable[str]) -> list[Drift]:
    """Compare the routes with the kernel; ``hosts`` are the near ends of routed links, whose routes are looked at elsewhere."""
    wanted = {row.dst: row for row in rows}
    theirs = {links[name].index for name in hosts if name in links}
    have = {str(one.dst): one for one in route.routes(nl) if one.protocol == PROTOCOL and one.index not in theirs}
    names = {one.index: one.name for one in links.values()}
    drift = []
    for dst, row in wanted.items():
        found = have.get(dst)
        if found is None:
            drift.append(Drift(table=TABLE, key=dst, kind="missing", want=_shown(row)))
        elif not _same(row, found, names):
            drift.append(Drift(table=TABLE, key=dst, kind="different", want=_shown(row), have=_listed(found, names)))
    return drift + [
        Drift(table=TABLE, key=dst, kind="unexpected", have=_listed(one, names))
        for dst, one in have.items()
        if dst not in wanted
    ]


def prune(nl: Netlink, rows: Iterable[Path], hosts: Iterable[str]) -> int:
    """Remove routes of ours that nobody wants; return how many."""
    wanted = {str(row.dst) for row in rows}
    links = {one.name: one.index for one in route.links(nl)}
    theirs = {links[name] for name in hosts if name in links}
    stale = [one for one in route.routes(nl) if one.protocol == PROTOCOL and one.index not in theirs and one.dst not in wanted]
    nl.do(*(route.del_route(one.dst, protocol=PROTOCOL).accepting(*_GONE) for one in stale))
    return len(stale)


def _message(nl: Netlink, row: Path) -> Message:
    index = 0
    if row.device:
        device = route.link(nl, row.device)
        if device is None:
            raise Missing(f"interface {row.device} is gone; it comes back by itself", field="network")
        index = device.index
    return route.new_route(
        row.dst,
        row.via,
        index,
        protocol=PROTOCOL,
        onlink=bool(row.via and row.device),
        source=row.source,
        mtu=row.mtu,
        unreachable=not row.via and not row.device,
        replace=True,
    )


def _same(row: Path, found: RouteInfo, names: dict[int, str]) -> bool:
    if not row.via and not row.device:
        return found.unreachable
    device = names.get(found.index)
    return (
        not found.unreachable
        and found.via == row.via
        and row.device in {None, device}
        and found.source == row.source
        and found.mtu == row.mtu
    )


def _shown(row: Path) -> str:
    words = [row.via and f"via {row.via}", row.device and f"on {row.device}", row.source and f"from {row.source}"]
    return " ".join(word for word in words if word) or "unreachable"


def _listed(found: RouteInfo, names: dict[int, str]) -> str:
    if found.unreachable:
        return "unreachable"
    words = [
        found.via and f"via {found.via}",
        f"on {names.get(found.index, found.index)}",
        found.source and f"from {found.source}",
    ]
    return " ".join(word for word in words if word)
