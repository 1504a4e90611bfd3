"""What a table is made of, built and read message by message: chains with their rules, sets and maps, counters.

For tables that change in structure all the time, where libnftables would first list what is there. Every function that makes
something returns messages for ``transact``; within one transaction what is referred to comes before what refers to it, and
goes after it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fairlead.kernel.netlink import APPEND, CREATE, Message, Netlink, attr, be32, nest, parse, string, text
from fairlead.kernel.nft.element import Element, messages
from fairlead.kernel.nft.rule import Rule, decode, encode
from fairlead.kernel.nft.table import SetInfo, sets
from fairlead.kernel.nft.wire import header, kind

_NEW_TABLE, _DEL_TABLE, _NEW_CHAIN, _GET_CHAIN, _DEL_CHAIN = 0, 2, 3, 4, 5
_NEW_RULE, _GET_RULE, _DEL_RULE, _NEW_SET, _DEL_SET, _NEW_OBJECT, _GET_OBJECT, _DEL_OBJECT = 6, 7, 8, 9, 11, 18, 19, 20
_DEL_ELEMENTS, _ELEMENTS_SET = 14, 2
_TABLE = 1
_CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE = 3, 4, 5, 7
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_RULE_CHAIN, _RULE_EXPRESSIONS = 2, 4
_SET_NAME, _SET_FLAGS, _SET_KEY_TYPE, _SET_KEY_LENGTH, _SET_DATA_TYPE, _SET_DATA_LENGTH = 2, 3, 4, 5, 6, 7
_SET_DESCRIPTION, _SET_ID, _SET_TIMEOUT, _SET_NOTE = 9, 10, 11, 13
_DESCRIBED_SIZE, _DESCRIBED_FIELDS, _FIELD_LENGTH, _LIST_ELEMENT = 1, 2, 1, 1
_OBJECT_NAME, _OBJECT_TYPE, _OBJECT_DATA, _COUNTER = 2, 3, 4, 1
_COUNTER_BYTES, _COUNTER_PACKETS = 1, 2
_INTERVAL, _MAP, _TIMEOUT, _DYNAMIC, _CONCATENATION = 0x4, 0x8, 0x10, 0x20, 0x80
_VERDICTS = 0xFFFFFF00
_VERDICT_LENGTH = 16
_TYPE_BITS = 6
_ACCEPT = 1


class Hook(NamedTuple):
    """Where a chain hangs: the hook's number in its family, and its place among the chains there."""

    number: int
    priority: int


class Chain(NamedTuple):
    """A chain with its rules. One on a hook lets pass what no rule decides about."""

    name: str
    rules: tuple[Rule, ...] = ()
    hook: Hook | None = None


class Part(NamedTuple):
    """One field of a key: the number that nft knows its type by, for people who list it, and its size."""

    type: int
    size: int


IPV4, IPV6, PROTOCOL, SERVICE, IFNAME = Part(7, 4), Part(8, 16), Part(12, 1), Part(13, 2), Part(41, 16)
_NAMES = struct.pack("=BBI", 0, 4, 1)
"""nft's own note on a set whose keys are in the machine's order: without it nft lists names of interfaces as empty ones."""


class Collection(NamedTuple):
    """A set, or with ``verdicts`` a map from keys to what becomes of the packet. ``timeout``: milliseconds an element stays.

    One with a timeout is filled by rules and by nobody else, up to ``size`` elements.
    """

    name: str
    key: tuple[Part, ...]
    verdicts: bool = False
    interval: bool = False
    timeout: int = 0
    size: int = 0

    @property
    def flags(self) -> int:
        """As the kernel has them."""
        found = _MAP if self.verdicts else 0
        found |= _INTERVAL if self.interval else 0
        found |= _CONCATENATION if self.interval and len(self.key) > 1 else 0
        return found | (_TIMEOUT | _DYNAMIC if self.timeout else 0)

    @property
    def key_length(self) -> int:
        """Bytes of a key."""
        if len(self.key) == 1:
            return self.key[0].size
        return sum(one.size + 3 & ~3 for one in self.key)

    def is_(self, found: SetInfo) -> bool:
        """Whether what is there under the name is this."""
        return (found.flags, found.key_length) == (self.flags, self.key_length)


class Tally(NamedTuple):
    """What a counter counted."""

    packets: int
    bytes: int


class Maker:
    """The messages that change one table."""

    def __init__(self, family: str, table: str) -> None:
        self._family, self._table = family, table
        self._start = header(family) + text(_TABLE, table)
        self._ids = 0

    def table(self) -> Iterator[Message]:
        """The table itself, if it is not there."""
        yield self._message(_NEW_TABLE, b"", CREATE, "make the table")

    def no_table(self) -> Iterator[Message]:
        """The table goes with all that it holds."""
        yield self._message(_DEL_TABLE, b"", 0, "remove the table")

    def chain(self, name: str, hook: Hook | None = None) -> Iterator[Message]:
        """A chain without rules."""
        body = text(_CHAIN_NAME, name)
        if hook:
            place = be32(_HOOK_NUMBER, hook.number) + be32(_HOOK_PRIORITY, hook.priority & 0xFFFFFFFF)
            body += nest(_CHAIN_HOOK, place) + be32(_CHAIN_POLICY, _ACCEPT) + text(_CHAIN_TYPE, "filter")
        yield self._message(_NEW_CHAIN, body, CREATE, f"make chain {name} of")

    def no_chain(self, name: str) -> Iterator[Message]:
        """A chain that is empty and that nothing leads to."""
        yield self._message(_DEL_CHAIN, text(_CHAIN_NAME, name), 0, f"remove chain {name} of")

    def rules(self, chain: str, wanted: Iterable[Rule]) -> Iterator[Message]:
        """Rules at the end of a chain."""
        for one in wanted:
            body = text(_RULE_CHAIN, chain) + nest(_RULE_EXPRESSIONS, encode(one))
            yield self._message(_NEW_RULE, body, CREATE | APPEND, f"add a rule to chain {chain} of")

    def no_rules(self, chain: str) -> Iterator[Message]:
        """A chain becomes empty."""
        yield self._message(_DEL_RULE, text(_RULE_CHAIN, chain), 0, f"empty chain {chain} of")

    def collection(self, one: Collection) -> Iterator[Message]:
        """A set or map without elements."""
        self._ids += 1
        body = [
            text(_SET_NAME, one.name),
            be32(_SET_FLAGS, one.flags),
            be32(_SET_KEY_TYPE, _type(one.key)),
            be32(_SET_KEY_LENGTH, one.key_length),
            be32(_SET_ID, self._ids),
        ]
        if one.verdicts:
            body += be32(_SET_DATA_TYPE, _VERDICTS), be32(_SET_DATA_LENGTH, _VERDICT_LENGTH)
        if one.timeout:
            body.append(attr(_SET_TIMEOUT, one.timeout.to_bytes(8, "big")))
        if one.key == (IFNAME,):
            body.append(attr(_SET_NOTE, _NAMES))
        described = be32(_DESCRIBED_SIZE, one.size) if one.size else b""
        if one.flags & _CONCATENATION:
            fields = (nest(_LIST_ELEMENT, be32(_FIELD_LENGTH, part.size)) for part in one.key)
            described += nest(_DESCRIBED_FIELDS, *fields)
        body.append(nest(_SET_DESCRIPTION, described) if described else b"")
        yield self._message(_NEW_SET, b"".join(body), CREATE, f"make set {one.name} of")

    def no_collection(self, name: str) -> Iterator[Message]:
        """A set or map that no rule uses, with its elements."""
        yield self._message(_DEL_SET, text(_SET_NAME, name), 0, f"remove set {name} of")

    def no_elements(self, name: str) -> Iterator[Message]:
        """A set or map becomes empty."""
        yield self._message(_DEL_ELEMENTS, text(_ELEMENTS_SET, name), 0, f"empty set {name} of")

    def elements(self, name: str, add: Iterable[Element] = (), remove: Iterable[Element] = ()) -> Iterator[Message]:
        """Elements go, then others come."""
        yield from messages(self._family, self._table, name, add=add, remove=remove)

    def counter(self, name: str) -> Iterator[Message]:
        """A counter that stands at zero, or goes on if it is there."""
        yield self._message(_NEW_OBJECT, _object(name) + nest(_OBJECT_DATA), CREATE, f"make counter {name} of")

    def no_counter(self, name: str) -> Iterator[Message]:
        """A counter that no rule uses."""
        yield self._message(_DEL_OBJECT, _object(name), 0, f"remove counter {name} of")

    def _message(self, number: int, body: bytes, flags: int, doing: str) -> Message:
        return Message(kind(number), flags, self._start + body, f"{doing} {self._family} {self._table}")


def chains(nl: Netlink, family: str, table: str) -> dict[str, Chain]:
    """Every chain with its rules, by name."""
    found: dict[str, list[Rule]] = {}
    hooks: dict[str, Hook | None] = {}
    for data in _rows(nl, _GET_CHAIN, family, table):
        row = parse(data, 4)
        if string(row[_TABLE]) == table:  # older kernels list the chains of every table
            hooks[string(row[_CHAIN_NAME])] = _hook(row)
    for data in _rows(nl, _GET_RULE, family, table):
        row = parse(data, 4)
        found.setdefault(string(row[_RULE_CHAIN]), []).append(decode(row.get(_RULE_EXPRESSIONS, b"")))
    return {name: Chain(name, tuple(found.get(name, ())), hook) for name, hook in hooks.items()}


def rules(nl: Netlink, family: str, table: str, chain: str) -> list[Rule]:
    """The rules of one chain."""
    body = header(family) + text(_TABLE, table) + text(_RULE_CHAIN, chain)
    rows = (parse(row, 4) for row in nl.dump(Message(kind(_GET_RULE), 0, body, f"list chain {chain} of {family} {table}")))
    # Older kernels list the rules of every chain.
    return [decode(row.get(_RULE_EXPRESSIONS, b"")) for row in rows if string(row[_RULE_CHAIN]) == chain]


def collections(nl: Netlink, family: str, table: str) -> dict[str, SetInfo]:
    """Every set and map that has a name, by name."""
    return {one.name: one for one in sets(nl, family, table)}


def counters(nl: Netlink, family: str, table: str) -> dict[str, Tally]:
    """Every counter that has a name, by name."""
    found = {}
    for data in _rows(nl, _GET_OBJECT, family, table):
        row = parse(data, 4)
        if int.from_bytes(row[_OBJECT_TYPE], "big") == _COUNTER:
            said = parse(row.get(_OBJECT_DATA, b""))
            numbers = (int.from_bytes(said.get(one, b""), "big") for one in (_COUNTER_PACKETS, _COUNTER_BYTES))
            found[string(row[_OBJECT_NAME])] = Tally(*numbers)
    return found


def _rows(nl: Netlink, what: int, family: str, table: str) -> list[bytes]:
    return nl.dump(Message(kind(what), 0, header(family) + text(_TABLE, table), f"list table {family} {table}"))


def _hook(row: dict[int, bytes]) -> Hook | None:
    if _CHAIN_HOOK not in row:
        return None
    said = parse(row[_CHAIN_HOOK])
    number, priority = (int.from_bytes(said[one], "big", signed=True) for one in (_HOOK_NUMBER, _HOOK_PRIORITY))
    return Hook(number, priority)


def _object(name: str) -> bytes:
    return text(_OBJECT_NAME, name) + be32(_OBJECT_TYPE, _COUNTER)


def _type(key: Iterable[Part]) -> int:
    found = 0
    for part in key:
        found = found << _TYPE_BITS | part.type
    return found
