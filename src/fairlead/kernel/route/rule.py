"""Rules of policy routing: what comes from a prefix looks into another table first."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from fairlead.kernel.netlink import CREATE, EXCL, Message, Netlink, attr, parse, u8, u32
from fairlead.kernel.route.text import AF, FAMILY, from_address, to_prefix

_NEW, _DEL, _GET = 32, 33, 34
_SRC, _PRIORITY, _TABLE, _PROTOCOL = 2, 6, 15, 21
_TO_TABLE = 1
_header = struct.Struct("=BBBBBBBBI")
_u32 = struct.Struct("=I")


@dataclass(frozen=True, slots=True)
class RuleInfo:
    """One rule; ``src`` is ``0.0.0.0/0`` or ``::/0`` where it is for everything."""

    src: str
    family: int
    table: int
    priority: int
    protocol: int


def rules(nl: Netlink) -> list[RuleInfo]:
    """Every rule of both families."""
    return [row for family in (4, 6) for row in _rules(nl, family)]


def _rules(nl: Netlink, family: int) -> list[RuleInfo]:
    body = _header.pack(AF[family], 0, 0, 0, 0, 0, 0, 0, 0)
    rows = (_parsed(row) for row in nl.dump(Message(_GET, 0, body, f"list the IPv{family} rules")))
    return [row for row in rows if row.family == family]


def new_rule(src: str, table: int, *, priority: int, protocol: int = 0) -> Message:
    """Look into ``table`` for what comes from ``src``."""
    return Message(_NEW, CREATE | EXCL, _body(src, table, priority, protocol), f"lead what comes from {src} into table {table}")


def del_rule(src: str, table: int, *, priority: int, protocol: int = 0) -> Message:
    """Remove the rule that ``new_rule`` made."""
    return Message(_DEL, 0, _body(src, table, priority, protocol), f"lead what comes from {src} no more into table {table}")


def _body(src: str, table: int, priority: int, protocol: int) -> bytes:
    family, value, length = to_prefix(src)
    return b"".join(
        (
            _header.pack(family, 0, length, 0, table if table < 256 else 0, 0, 0, _TO_TABLE, 0),
            attr(_SRC, value),
            u32(_PRIORITY, priority),
            u32(_TABLE, table),
            u8(_PROTOCOL, protocol),
        )
    )


def _parsed(data: bytes) -> RuleInfo:
    family, _, length, _, table, *_ = _header.unpack_from(data)
    found = parse(data, 12)
    src = found.get(_SRC) or bytes(4 if FAMILY.get(family) == 4 else 16)
    return RuleInfo(
        f"{from_address(src)}/{length}",
        FAMILY.get(family, family),
        _u32.unpack(found[_TABLE])[0] if _TABLE in found else table,
        _u32.unpack(found[_PRIORITY])[0] if _PRIORITY in found else 0,
        found.get(_PROTOCOL, b"\0")[0],
    )
