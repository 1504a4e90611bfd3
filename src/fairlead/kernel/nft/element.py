"""Elements of sets and maps, as bytes, many in one transaction, at a cost that does not grow with the set.

Keys and data are laid out as the kernel's registers: each field of a concatenation in network order, padded to four bytes.
``10.0.0.1 . 80`` is ``field(10.0.0.1) + field(80)``, eight bytes; a key or datum of one field alone is not padded. Sizes before
padding: ipv4_addr 4, ipv6_addr 16, inet_service 2, inet_proto 1, mark 4 (in the machine's order), ifname 16, ether_addr 6.

An interval of a concatenation is one element with an ``end``; a field that is no range has the same value in both. An interval
of a set with a single field is two elements, made by ``interval``: the first key, and the first one behind.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from fairlead.kernel.errors import Gone, KernelError
from fairlead.kernel.netlink import CREATE, Message, Netlink, attr, be32, each, nest, parse, text
from fairlead.kernel.nft.rule import Verdict, decode_data, encode_verdict
from fairlead.kernel.nft.wire import header, kind, transact

_NEW, _GET, _DEL = 12, 13, 14
_TABLE, _SET, _ELEMENTS = 1, 2, 3
_LIST_ELEMENT = 1
_KEY, _DATA, _FLAGS, _KEY_END = 1, 2, 3, 10
_VALUE = 1
_INTERVAL_END = 1
_CHUNK = 400
"""Elements a message: an attribute ends at 64 KiB, and an element with three IPv6 concatenations has 150 bytes."""

_READINGS = 16
"""How often a set is read until its hash table stood still meanwhile; a resize takes one or two readings."""


class Element(NamedTuple):
    """One element. ``end`` (inclusive): the key is an interval. ``stop``: not a member but the first key behind an interval."""

    key: bytes
    end: bytes | None = None
    data: bytes | Verdict | None = None
    stop: bool = False


class Change(NamedTuple):
    """What to add to one set and what to remove from it."""

    family: str
    table: str
    set: str
    add: Iterable[Element] = ()
    remove: Iterable[Element] = ()


def field(value: bytes) -> bytes:
    """One field of a concatenation: padded to four bytes."""
    return value + bytes(-len(value) & 3)


def ifname(name: str) -> bytes:
    """An interface's name as a field."""
    return name.encode().ljust(16, b"\0")


def interval(first: bytes, last: bytes, data: bytes | Verdict | None = None) -> tuple[Element, ...]:
    """The elements of the interval ``first`` to ``last`` (inclusive) of a set with a single field."""
    size = len(first)
    behind = int.from_bytes(last, "big") + 1
    start = Element(first, None, data)
    if behind >> size * 8:
        return (start,)  # it ends where the numbers end
    return start, Element(behind.to_bytes(size, "big"), None, None, stop=True)


def change(nl: Netlink, changes: Iterable[Change], *more: Message) -> None:
    """Remove and add elements of several sets, of several tables too, all in one transaction, removals first; then ``more``.

    To add what is there already with the same data is nothing; with other data it is ``Exists``. To remove what is not there is
    ``Gone``. Either way nothing was changed. To give a key other data, remove it and add it.
    """
    listed = list(changes)
    wanted = [
        *(m for one in listed for m in messages(one.family, one.table, one.set, remove=one.remove)),
        *(m for one in listed for m in messages(one.family, one.table, one.set, add=one.add)),
        *more,
    ]
    if wanted:
        transact(nl, wanted)


def messages(
    family: str, table: str, name: str, *, add: Iterable[Element] = (), remove: Iterable[Element] = ()
) -> Iterator[Message]:
    """What removes elements of one set and then adds others."""
    start = header(family) + text(_TABLE, table) + text(_SET, name)
    yield from _messages(_DEL, start, remove, f"remove {{}} elements from {table} {name}")
    yield from _messages(_NEW, start, add, f"add {{}} elements to {table} {name}")


def element(nl: Netlink, family: str, table: str, name: str, key: bytes) -> Element | None:
    """The element of one key of a set without intervals; None if it is not there."""
    wanted = nest(_ELEMENTS, nest(_LIST_ELEMENT, nest(_KEY, attr(_VALUE, key))))
    body = header(family) + text(_TABLE, table) + text(_SET, name) + wanted
    try:
        answers = nl.ask(Message(kind(_GET), 0, body, f"look an element up in {table} {name}"))
    except Gone:
        return None
    return next((_element(data) for row in answers for _, data in each(parse(row, 4).get(_ELEMENTS, b""))), None)


def elements(nl: Netlink, family: str, table: str, name: str) -> set[Element]:
    """Every element of a set.

    The kernel lists a large set in several parts and finds its place again by counting. A hash table that grows or shrinks
    between two parts (it does so some time after a change) puts elements in another order: some then come twice, and as many
    never. So a listing that names one twice is read again.
    """
    body = header(family) + text(_TABLE, table) + text(_SET, name)
    message = Message(kind(_GET), 0, body, f"list the elements of {table} {name}")
    for _ in range(_READINGS):
        listed = [_element(data) for row in nl.dump(message) for _, data in each(parse(row, 4).get(_ELEMENTS, b""))]
        found = set(listed)
        if len(found) == len(listed):
            return found
    raise KernelError.of(errno.EINTR, message.doing, f"its order changed during each of {_READINGS} readings")


def _messages(what: int, start: bytes, rows: Iterable[Element], doing: str) -> Iterator[Message]:
    left = iter(rows)
    while chunk := tuple(islice(left, _CHUNK)):
        body = nest(_ELEMENTS, *(_encoded(row, with_data=what == _NEW) for row in chunk))
        yield Message(kind(what), CREATE if what == _NEW else 0, start + body, doing.format(len(chunk)))


def _encoded(row: Element, *, with_data: bool) -> bytes:
    key, end, data, stop = row
    parts = [nest(_KEY, attr(_VALUE, key))]
    if end is not None:
        parts.append(nest(_KEY_END, attr(_VALUE, end)))
    if data is not None and with_data:
        parts.append(nest(_DATA, encode_verdict(data) if isinstance(data, Verdict) else attr(_VALUE, data)))
    if stop:
        parts.append(be32(_FLAGS, _INTERVAL_END))
    return nest(_LIST_ELEMENT, *parts)


def _element(data: bytes) -> Element:
    found = parse(data)
    flags = int.from_bytes(found.get(_FLAGS, b""), "big")
    said = decode_data(found[_DATA]) if _DATA in found else None
    return Element(_value(found, _KEY) or b"", _value(found, _KEY_END), said, bool(flags & _INTERVAL_END))


def _value(found: dict[int, bytes], what: int) -> bytes | None:
    return parse(found[what]).get(_VALUE) if what in found else None
