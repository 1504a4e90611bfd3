"""Tables as a whole: is it there, which sets has it, and is it still what was programmed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fairlead.kernel.errors import Gone
from fairlead.kernel.netlink import Message, Netlink, attr, be32, each, parse, string, text
from fairlead.kernel.nft.wire import header, kind, transact

_NEW_TABLE, _GET_TABLE, _DEL_TABLE, _GET_CHAIN, _GET_RULE, _GET_SET, _GET_OBJECT = 0, 1, 2, 4, 7, 10, 19
_TABLE = 1
_NAME = 2
_TABLE_FLAGS = 2
_DORMANT = 0x1
_CHAIN_NAME, _CHAIN_VOLATILE = 3, {2, 6, 8, 9}  # handle, use, counters
_RULE_CHAIN, _RULE_EXPRESSIONS, _RULE_VOLATILE = 2, 4, {3, 6}  # handle, position
_SET_FLAGS, _SET_KEY_LENGTH, _SET_DATA_LENGTH = 3, 5, 7
_SET_STABLE = {2, 3, 4, 5, 6, 7, 9, 11, 12, 13, 15}
_OBJECT_STABLE = {2, 3}
_EXPRESSION_NAME, _EXPRESSION_DATA = 1, 2
_COUNTING = {b"counter\0", b"quota\0", b"last\0"}

ANONYMOUS, CONSTANT, INTERVAL, MAP = 0x1, 0x2, 0x4, 0x8
"""Bits of ``SetInfo.flags``."""


@dataclass(frozen=True, slots=True)
class SetInfo:
    """The declaration of one set or map."""

    name: str
    flags: int
    key_length: int
    data_length: int


def table_exists(nl: Netlink, family: str, table: str) -> bool:
    """Whether there is such a table."""
    return _table(nl, family, table) is not None


def sleeps(nl: Netlink, family: str, table: str) -> bool:
    """Whether a table is dormant: it is there, and no packet meets it."""
    found = _table(nl, family, table)
    return found is not None and bool(_number(found, _TABLE_FLAGS) & _DORMANT)


def lull(family: str, table: str, *, asleep: bool) -> Message:
    """What makes a table dormant, or wakes it; nothing if it is so already."""
    body = header(family) + text(_TABLE, table) + be32(_TABLE_FLAGS, _DORMANT if asleep else 0)
    return Message(kind(_NEW_TABLE), 0, body, f"{'lull' if asleep else 'wake'} table {family} {table}")


def delete_table(nl: Netlink, family: str, table: str) -> None:
    """Remove a table with all that it holds; ``Gone`` if there is none."""
    transact(nl, (Message(kind(_DEL_TABLE), 0, header(family) + text(_TABLE, table), f"remove table {family} {table}"),))


def sets(nl: Netlink, family: str, table: str) -> list[SetInfo]:
    """The sets and maps that have a name, by name."""
    rows = (parse(row, 4) for row in _rows(nl, _GET_SET, family, table))
    found = [
        SetInfo(string(row[_NAME]), _number(row, _SET_FLAGS), _number(row, _SET_KEY_LENGTH), _number(row, _SET_DATA_LENGTH))
        for row in rows
    ]
    return sorted((row for row in found if not row.flags & ANONYMOUS), key=lambda row: row.name)


def fingerprint(nl: Netlink, family: str, table: str, *, flags: bool = True) -> str | None:
    """What a table consists of, as a short text: its flags, chains, rules, sets and objects, but no element and no counter.

    Without ``flags`` whether it is dormant makes no difference. It stays the same as long as nobody removes, adds or alters any
    of these. None if there is no such table.
    """
    found = _table(nl, family, table)
    if found is None:
        return None
    digest = hashlib.blake2b(digest_size=16)
    if flags:
        digest.update(found.get(_TABLE_FLAGS, b""))
    for part in (_chains(nl, family, table), _rules(nl, family, table), _declarations(nl, family, table)):
        for line in part:
            digest.update(len(line).to_bytes(4, "big"))
            digest.update(line)
    return digest.hexdigest()


def _chains(nl: Netlink, family: str, table: str) -> list[bytes]:
    # Older kernels list the chains of every table of the family.
    rows = (row for row in _rows(nl, _GET_CHAIN, family, table) if string(parse(row, 4)[_TABLE]) == table)
    return sorted(_flat(each(row, 4), without=_CHAIN_VOLATILE) for row in rows)


def _rules(nl: Netlink, family: str, table: str) -> list[bytes]:
    rows = (tuple(each(row, 4)) for row in _rows(nl, _GET_RULE, family, table))
    # Sorting keeps the order in which the rules of one chain came.
    return [_rule(row) for row in sorted(rows, key=lambda row: dict(row)[_RULE_CHAIN])]


def _declarations(nl: Netlink, family: str, table: str) -> list[bytes]:
    named = (dict(each(row, 4)) for row in _rows(nl, _GET_SET, family, table))
    found = [_flat((k, v) for k, v in row.items() if k in _SET_STABLE) for row in named]
    objects = _rows(nl, _GET_OBJECT, family, table)
    found.extend(_flat((k, v) for k, v in each(row, 4) if k in _OBJECT_STABLE) for row in objects)
    return sorted(found)


def _rule(row: Iterable[tuple[int, bytes]]) -> bytes:
    parts: list[bytes] = []
    for what, value in row:
        if what == _RULE_EXPRESSIONS:
            parts.extend(_expression(data) for _, data in each(value))
        elif what not in _RULE_VOLATILE:
            parts.append(attr(what, value))
    return b"".join(parts)


def _expression(data: bytes) -> bytes:
    found = parse(data)
    name = found[_EXPRESSION_NAME]
    return name if name in _COUNTING else name + found.get(_EXPRESSION_DATA, b"")


def _flat(attributes: Iterable[tuple[int, bytes]], without: set[int] | frozenset[int] = frozenset()) -> bytes:
    return b"".join(attr(what, value) for what, value in attributes if what not in without)


def _table(nl: Netlink, family: str, table: str) -> dict[int, bytes] | None:
    asked = Message(kind(_GET_TABLE), 0, header(family) + text(_TABLE, table), f"look up table {family} {table}")
    try:
        return parse(nl.ask(asked)[0], 4)
    except Gone:
        return None


def _rows(nl: Netlink, what: int, family: str, table: str) -> Iterator[bytes]:
    yield from nl.dump(Message(kind(what), 0, header(family) + text(_TABLE, table), f"list table {family} {table}"))


def _number(found: dict[int, bytes], what: int) -> int:
    return int.from_bytes(found.get(what, b""), "big")
