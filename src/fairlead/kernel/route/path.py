"""Routes of the main table."""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass

from fairlead.kernel.netlink import CREATE, EXCL, REPLACE, Message, Netlink, attr, each, nest, parse, u32
from fairlead.kernel.route.text import AF, AF_INET, FAMILY, from_address, named, to_address, to_prefix

_NEW, _DEL, _GET = 24, 25, 26
_DST, _OIF, _GATEWAY, _PRIORITY, _PREFSRC, _MULTIPATH, _TABLE, _VIA = 1, 4, 5, 6, 7, 9, 15, 18
_MAIN = 254
_UNICAST, _UNREACHABLE = 1, 7
_METRICS, _MTU = 8, 2
_UNIVERSE, _LINK, _NOWHERE = 0, 253, 255
_ONLINK = 4
_CLONED = 0x200
_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL)
_header = struct.Struct("=BBBBBBBBI")
_hop = struct.Struct("=HBBi")
_u32 = struct.Struct("=I")

STATIC = 4
"""The default ``protocol``: a route that an administrator made. The kernel's own are 2, 1 is a redirect's."""


@dataclass(frozen=True, slots=True)
class RouteInfo:
    """One route. A default route's ``dst`` is ``0.0.0.0/0`` or ``::/0``; of several next hops the first is given."""

    dst: str
    via: str | None
    index: int
    family: int
    protocol: int
    table: int
    metric: int
    source: str | None
    type: int
    scope: int
    onlink: bool
    mtu: int

    @property
    def unreachable(self) -> bool:
        """Whether it says that nobody is there."""
        return self.type == _UNREACHABLE


def routes(nl: Netlink, family: int = 0, table: int = _MAIN) -> list[RouteInfo]:
    """The routes of one table, without the kernel's caches."""
    # Asked family by family: the kernel's check of a dump's filter is the families' own.
    families = (family,) if family else (4, 6)
    return [row for each_family in families for row in _routes(nl, each_family, table)]


def way(nl: Netlink, address: str) -> int:
    """The index of the interface by which a packet to an address leaves now; 0 if by none."""
    family, value = to_address(address)
    body = _header.pack(family, len(value) * 8, 0, 0, 0, 0, 0, 0, 0) + attr(_DST, value)
    asked = Message(_GET, 0, body, f"look up the way to {address}").accepting(*_NO_WAY)
    return next((parse_route(row).index for row in nl.ask(asked)), 0)


def _routes(nl: Netlink, family: int, table: int) -> list[RouteInfo]:
    body = _header.pack(AF[family], 0, 0, 0, min(table, 255), 0, 0, 0, 0) + u32(_TABLE, table)
    asked = Message(_GET, 0, body, f"list the IPv{family} routes").accepting(2)  # ENOENT: no such table yet, so no routes
    rows = (parse_route(row) for row in nl.dump(asked) if not _u32.unpack_from(row, 8)[0] & _CLONED)
    # A kernel without a family answers with all the others.
    return [row for row in rows if row.table == table and row.family == family]


def parse_route(data: bytes) -> RouteInfo:
    """The row of one route message, as dumps and events carry it."""
    family, length, _, _, table, protocol, scope, kind, flags = _header.unpack_from(data)
    found = parse(data, 12)
    if hops := found.get(_MULTIPATH):
        found = _first(hops) | found
    dst = found.get(_DST) or bytes(4 if family == AF_INET else 16)
    return RouteInfo(
        f"{from_address(dst)}/{length}",
        _gateway(found),
        _number(found.get(_OIF)),
        FAMILY.get(family, family),
        protocol,
        _number(found.get(_TABLE)) or table,
        _number(found.get(_PRIORITY)),
        from_address(found[_PREFSRC]) if _PREFSRC in found else None,
        kind,
        scope,
        bool(flags & _ONLINK),
        _number(parse(found[_METRICS]).get(_MTU)) if _METRICS in found else 0,
    )


def new_route(
    dst: str,
    via: str | None = None,
    index: int = 0,
    *,
    protocol: int = STATIC,
    metric: int = 0,
    onlink: bool = False,
    source: str | None = None,
    table: int = _MAIN,
    mtu: int = 0,
    unreachable: bool = False,
    replace: bool = False,
) -> Message:
    """Add a route. ``onlink``: the gateway is reached through ``index`` though no route says so. ``unreachable``: nobody is."""
    scope = _UNIVERSE if via or unreachable or ":" in dst else _LINK
    kind = _UNREACHABLE if unreachable else _UNICAST
    body = _body(dst, via, index, (table, protocol, scope, kind, _ONLINK if onlink else 0), metric)
    if source:
        body += attr(_PREFSRC, to_address(source)[1])
    if mtu:
        body += nest(_METRICS, u32(_MTU, mtu))
    return Message(_NEW, CREATE | (REPLACE if replace else EXCL), body, f"add a route to {_named(dst, via, index)}")


def del_route(
    dst: str, via: str | None = None, index: int = 0, *, metric: int = 0, table: int = _MAIN, protocol: int = 0
) -> Message:
    """Remove the route that fits what is given."""
    body = _body(dst, via, index, (table, protocol, _NOWHERE, 0, 0), metric)
    return Message(_DEL, 0, body, f"remove the route to {_named(dst, via, index)}")


def _body(dst: str, via: str | None, index: int, fixed: tuple[int, int, int, int, int], metric: int) -> bytes:
    family, value, length = to_prefix(dst)
    table, protocol, scope, kind, flags = fixed
    parts = [_header.pack(family, length, 0, 0, min(table, 255), protocol, scope, kind, flags)]
    if length:
        parts.append(attr(_DST, value))
    if via:
        hop_family, hop = to_address(via)
        parts.append(attr(_GATEWAY, hop) if hop_family == family else attr(_VIA, struct.pack("=H", hop_family) + hop))
    if index:
        parts.append(u32(_OIF, index))
    if metric:
        parts.append(u32(_PRIORITY, metric))
    if table > 255:
        parts.append(u32(_TABLE, table))
    return b"".join(parts)


def _first(hops: bytes) -> dict[int, bytes]:
    length, _, _, index = _hop.unpack_from(hops)
    return {_OIF: _u32.pack(index)} | dict(each(hops[8:length]))


def _gateway(found: dict[int, bytes]) -> str | None:
    if _GATEWAY in found:
        return from_address(found[_GATEWAY])
    return from_address(found[_VIA][2:]) if _VIA in found else None


def _named(dst: str, via: str | None, index: int) -> str:
    return dst + (f" via {via}" if via else "") + (f" on {named(index)}" if index else "")


def _number(value: bytes | None) -> int:
    number: int = _u32.unpack(value)[0] if value else 0
    return number
