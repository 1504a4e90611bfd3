"""Paths: routes of the host to other nodes' containers, told from other people's by who made them (``mark.PROTOCOL``).

Those that are apart stand in a table of our own, to which a rule leads what comes from the prefix of a ``Detour``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from errno import ENOENT, ESRCH

from fairlead.api.schema import Drift
from fairlead.desired.ways import Detour, Path
from fairlead.kernel import route
from fairlead.kernel.netlink import Message, Netlink
from fairlead.kernel.route import LinkInfo, RouteInfo
from fairlead.model.address import Interface, Prefix
from fairlead.model.errors import Missing

from .mark import APART, PROTOCOL

TABLE, DETOURS = "routes", "detours"
_GONE = (ENOENT, ESRCH)
_MAIN = 254
_DEFAULT = 1024
"""The metric of an IPv6 route that names none."""

Key = tuple[int, str, int]
"""Table, destination, metric."""


def ensure(nl: Netlink, row: Path) -> None:
    """Put the route in place of whatever route of ours there is to the same destination."""
    nl.do(_message(nl, row))


def remove(nl: Netlink, row: Path) -> None:
    """Remove the route."""
    nl.do(_removal(_key(row)))


def lead(nl: Netlink, row: Detour) -> None:
    """Make the rule."""
    if row.prefix not in _detours(nl):
        nl.do(route.new_rule(row.prefix, APART, priority=APART, protocol=PROTOCOL))


def unlead(nl: Netlink, prefix: str) -> None:
    """Remove the rule."""
    nl.do(route.del_rule(prefix, APART, priority=APART, protocol=PROTOCOL).accepting(*_GONE))


def check(
    nl: Netlink, rows: Iterable[Path], detours: Iterable[Detour], links: dict[str, LinkInfo], hosts: Iterable[str]
) -> list[Drift]:
    """Compare routes and rules with the kernel; ``hosts``: near ends of routed links, whose routes are seen to elsewhere."""
    wanted = {_key(row): row for row in rows}
    have = _routes(nl, {links[name].index for name in hosts if name in links})
    names = {one.index: one.name for one in links.values()}
    subnets = _subnets(nl) if any(row.via and not row.device for row in wanted.values()) else {}
    drift = []
    for key, row in wanted.items():
        found = have.get(key)
        if found is None:
            drift.append(Drift(table=TABLE, key=row.key, kind="missing", want=_shown(row)))
        elif not _same(row, found, names) or _is_astray(nl, row, found, subnets):
            drift.append(Drift(table=TABLE, key=row.key, kind="different", want=_shown(row), have=_listed(found, names)))
    drift += [
        Drift(table=TABLE, key=key[1], kind="unexpected", have=_listed(one, names))
        for key, one in have.items()
        if key not in wanted
    ]
    led, lead_in = _detours(nl), {str(row.prefix) for row in detours}
    drift += [Drift(table=DETOURS, key=one, kind="missing", want=f"from {one} lookup {APART}") for one in sorted(lead_in - led)]
    return drift + [Drift(table=DETOURS, key=one, kind="unexpected", have=f"from {one}") for one in sorted(led - lead_in)]


def prune(nl: Netlink, rows: Iterable[Path], detours: Iterable[Detour], hosts: Iterable[str]) -> int:
    """Remove routes and rules of ours that nobody wants; return how many."""
    wanted, kept = {_key(row) for row in rows}, {str(row.prefix) for row in detours}
    links = {one.name: one.index for one in route.links(nl)}
    stale = [key for key in _routes(nl, {links[name] for name in hosts if name in links}) if key not in wanted]
    nl.do(*(_removal(key) for key in stale))
    idle = _detours(nl) - kept
    for one in idle:
        unlead(nl, one)
    return len(stale) + len(idle)


def _routes(nl: Netlink, theirs: set[int]) -> Mapping[Key, RouteInfo]:
    return {
        (one.table, one.dst, one.metric): one
        for table in (_MAIN, APART)
        for one in route.routes(nl, table=table)
        if one.protocol == PROTOCOL and one.index not in theirs
    }


def _detours(nl: Netlink) -> set[str]:
    return {one.src for one in route.rules(nl) if one.table == APART and one.protocol == PROTOCOL}


def _key(row: Path) -> Key:
    return (APART if row.apart else _MAIN, str(row.dst), row.metric or (_DEFAULT if row.dst.family == 6 else 0))


def _removal(key: Key) -> Message:
    table, dst, metric = key
    return route.del_route(dst, metric=metric, table=table, protocol=PROTOCOL).accepting(*_GONE)


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
        metric=row.metric,
        table=APART if row.apart else _MAIN,
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


def _is_astray(nl: Netlink, row: Path, found: RouteInfo, subnets: Mapping[int, Iterable[Prefix]]) -> bool:
    """Whether a route that names no device goes by another than its gateway is at: a subnet may move, and its routes do not."""
    if row.device or not row.via or any(one.holds(row.via) for one in subnets.get(found.index, ())):
        return False
    return route.way(nl, row.via) not in {0, found.index}


def _subnets(nl: Netlink) -> Mapping[int, Iterable[Prefix]]:
    """By the index of an interface, what it is on."""
    found: dict[int, list[Prefix]] = {}
    for one in route.addresses(nl):
        found.setdefault(one.index, []).append(Interface(one.interface).prefix)
    return found


def _shown(row: Path) -> str:
    words = [
        row.via and f"via {row.via}",
        row.device and f"on {row.device}",
        row.source and f"from {row.source}",
        row.mtu and f"mtu {row.mtu}",
    ]
    return " ".join(word for word in words if word) or "unreachable"


def _listed(found: RouteInfo, names: dict[int, str]) -> str:
    if found.unreachable:
        return "unreachable"
    words = [
        found.via and f"via {found.via}",
        f"on {names.get(found.index, found.index)}",
        found.source and f"from {found.source}",
        found.mtu and f"mtu {found.mtu}",
    ]
    return " ".join(word for word in words if word)
