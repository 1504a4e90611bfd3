"""Rules as the kernel has them: expressions that load into registers, look up, compare, and decide.

A rule is a tuple of expressions, each a name with the attributes that say what it does. ``encode`` makes bytes of them and
``decode`` reads them back; what a newer kernel adds to an expression is passed over, so that ``same`` compares what was meant.

The functions below build the parts of a rule, as nft does it, so that ``nft list`` shows what it would have made itself::

    (*equal(L4PROTO, TCP), *choose("ports", CT_PROTOCOL, CT_PORT))    meta l4proto tcp ct protocol . ct ... vmap @ports

Several fields side by side are a concatenation: each begins at a register of its own, four bytes wide.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from fairlead.kernel.netlink import attr, be32, each, nest, parse, string, text

JUMP, GOTO, RETURN, BREAK, CONTINUE = -3, -4, -5, -2, -1
DROP, ACCEPT = 0, 1

_LIST_ELEMENT = 1
_NAME, _DATA = 1, 2
_VALUE, _VERDICT = 1, 2
_CODE, _CHAIN = 1, 2
_COUNTER = 1
_ADD = 0
_CMP_EQUAL, _CMP_DIFFERENT, _CMP_AT_MOST, _CMP_AT_LEAST = 0, 1, 3, 5
_INVERT = 1
_MANY = 1 << 12
"""Of what rules repeat so much is remembered: most of ten thousand rules is the same few expressions."""
_be16 = struct.Struct(">H")
_s32 = struct.Struct(">i")


class Verdict(NamedTuple):
    """What becomes of a packet; ``chain`` is where a jump or goto leads."""

    code: int
    chain: str = ""


Value = int | str | bytes | Verdict


class Expression(NamedTuple):
    """One step of a rule: its name, and what it is told, by our names, sorted."""

    name: str
    told: tuple[tuple[str, Value], ...] = ()

    @classmethod
    def of(cls, name: str, **told: Value) -> Expression:
        """With what it is told."""
        return cls(name, tuple(sorted(told.items())))


Rule = tuple[Expression, ...]


class Field(NamedTuple):
    """Something to load: by which expression, and how many bytes it is."""

    name: str
    told: tuple[tuple[str, Value], ...]
    size: int

    def into(self, register: int) -> Expression:
        """The expression that loads it."""
        return Expression(self.name, tuple(sorted((*self.told, ("dreg", register)))))


_KINDS = {
    "ct": {1: ("dreg", "number"), 2: ("key", "number"), 3: ("direction", "byte")},
    "meta": {1: ("dreg", "number"), 2: ("key", "number")},
    "payload": {1: ("dreg", "number"), 2: ("base", "number"), 3: ("offset", "number"), 4: ("len", "number")},
    "cmp": {1: ("sreg", "number"), 2: ("op", "number"), 3: ("data", "data")},
    "bitwise": {
        1: ("sreg", "number"),
        2: ("dreg", "number"),
        3: ("len", "number"),
        4: ("mask", "data"),
        5: ("xor", "data"),
    },
    "lookup": {1: ("set", "text"), 2: ("sreg", "number"), 3: ("dreg", "number"), 5: ("flags", "number")},
    "immediate": {1: ("dreg", "number"), 2: ("data", "data")},
    "objref": {1: ("type", "number"), 2: ("object", "text")},
    "log": {1: ("group", "short"), 2: ("prefix", "text"), 3: ("snaplen", "number")},
    "dynset": {1: ("set", "text"), 3: ("op", "number"), 4: ("sreg", "number")},
    "counter": {},
}
"""Expressions by name: their attributes, as we call them, and how each is laid out."""


def ct(key: int, size: int, direction: int | None = None) -> Field:
    """Something of the packet's connection; ``direction``: of the tuple of its original or reply packets."""
    told = (("key", key),) if direction is None else (("direction", direction), ("key", key))
    return Field("ct", told, size)


def meta(key: int, size: int) -> Field:
    """Something about the packet."""
    return Field("meta", (("key", key),), size)


def payload(base: int, offset: int, size: int) -> Field:
    """Bytes of the packet, from one of its headers on."""
    return Field("payload", (("base", base), ("len", size), ("offset", offset)), size)


@lru_cache(maxsize=_MANY)
def equal(field: Field, value: bytes) -> Rule:
    """Go on if ``field`` is ``value``."""
    return field.into(register(0)), Expression.of("cmp", sreg=register(0), op=_CMP_EQUAL, data=value)


def differs(field: Field, value: bytes) -> Rule:
    """Go on if ``field`` is there and is not ``value``."""
    return field.into(register(0)), Expression.of("cmp", sreg=register(0), op=_CMP_DIFFERENT, data=value)


@lru_cache(maxsize=_MANY)
def between(field: Field, first: bytes, last: bytes) -> Rule:
    """Go on if ``field`` is one of a run of numbers in network order, both ends included."""
    return (
        field.into(register(0)),
        Expression.of("cmp", sreg=register(0), op=_CMP_AT_LEAST, data=first),
        Expression.of("cmp", sreg=register(0), op=_CMP_AT_MOST, data=last),
    )


@lru_cache(maxsize=_MANY)
def has(field: Field, mask: bytes, *, any_of: bool = True) -> Rule:
    """Go on if any of the bits is set; not ``any_of``: if none is."""
    zero = bytes(len(mask))
    return (
        field.into(register(0)),
        Expression.of("bitwise", sreg=register(0), dreg=register(0), len=len(mask), mask=mask, xor=zero),
        Expression.of("cmp", sreg=register(0), op=_CMP_DIFFERENT if any_of else _CMP_EQUAL, data=zero),
    )


def choose(name: str, *fields: Field) -> Rule:
    """Do as the map ``name`` says of the fields; go on with the next rule if it says nothing."""
    return *_load(fields), Expression.of("lookup", set=name, sreg=register(0), dreg=0, flags=0)


def member(name: str, *fields: Field) -> Rule:
    """Go on if the fields are in the set ``name``."""
    return *_load(fields), Expression.of("lookup", set=name, sreg=register(0), flags=0)


def stranger(name: str, *fields: Field) -> Rule:
    """Go on if the fields are there and not in the set ``name``."""
    return *_load(fields), Expression.of("lookup", set=name, sreg=register(0), flags=_INVERT)


def remember(name: str, *fields: Field) -> Rule:
    """Put the fields into the set ``name``; go on if there was room."""
    return *_load(fields), Expression.of("dynset", set=name, op=_ADD, sreg=register(0))


def count(counter: str) -> Rule:
    """Count in a counter that has a name."""
    return (Expression.of("objref", type=_COUNTER, object=counter),)


def log(group: int, prefix: str, snaplen: int) -> Rule:
    """Tell whoever listens to the group."""
    return (Expression.of("log", group=group, prefix=prefix, snaplen=snaplen),)


def verdict(code: int, chain: str = "") -> Rule:
    """Decide."""
    return (Expression.of("immediate", dreg=0, data=Verdict(code, chain)),)


@lru_cache(maxsize=_MANY)
def goto(chain: str) -> Rule:
    """Go on in another chain, and not come back here."""
    return verdict(GOTO, chain)


def jump(chain: str) -> Rule:
    """Go on in another chain, and come back."""
    return verdict(JUMP, chain)


def register(word: int) -> int:
    """The register that begins at a word of four bytes, as the kernel itself names it."""
    return 1 + word // 4 if word % 4 == 0 else 8 + word


def same(wanted: Iterable[Rule], found: Iterable[Rule]) -> bool:
    """Whether rules read from the kernel are the wanted ones; what else the kernel says of them does not count."""
    wanted, found = tuple(wanted), tuple(found)
    return [len(one) for one in wanted] == [len(one) for one in found] and all(
        want.name == have.name and set(want.told) <= set(have.told)
        for ours, theirs in zip(wanted, found, strict=True)
        for want, have in zip(ours, theirs, strict=True)
    )


def encode(rule: Rule) -> bytes:
    """The expressions as a list of netlink's."""
    return b"".join(map(_encoded, rule))


def decode(data: bytes) -> Rule:
    """The expressions of a list; of one that is not known here the name alone."""
    return tuple(_expression(parse(one)) for _, one in each(data))


@lru_cache(maxsize=_MANY)
def encode_verdict(one: Verdict) -> bytes:
    """A verdict as data of a map or an expression."""
    chain = text(_CHAIN, one.chain) if one.chain else b""
    return nest(_VERDICT, attr(_CODE, _s32.pack(one.code)), chain)


def decode_data(data: bytes) -> bytes | Verdict:
    """A value or a verdict."""
    found = parse(data)
    if _VERDICT not in found:
        return found.get(_VALUE, b"")
    said = parse(found[_VERDICT])
    return Verdict(_s32.unpack(said[_CODE])[0], string(said.get(_CHAIN, b"")))


@lru_cache(maxsize=_MANY)
def _encoded(one: Expression) -> bytes:
    return nest(_LIST_ELEMENT, text(_NAME, one.name), nest(_DATA, *_attributes(one)))


def _load(fields: Iterable[Field]) -> Iterator[Expression]:
    word = 0
    for field in fields:
        yield field.into(register(word))
        word += -(-field.size // 4)


def _attributes(one: Expression) -> Iterator[bytes]:
    told = dict(one.told)
    for number, (name, kind) in _KINDS[one.name].items():
        if name in told:
            yield _attribute(number, kind, told[name])


def _attribute(number: int, kind: str, value: Value) -> bytes:
    match kind, value:
        case "number", int():
            return be32(number, value)
        case "short", int():
            return attr(number, _be16.pack(value))
        case "byte", int():
            return attr(number, bytes([value]))
        case "text", str():
            return text(number, value)
        case "data", Verdict():
            return nest(number, encode_verdict(value))
        case "data", bytes():
            return nest(number, attr(_VALUE, value))
        case _:
            raise TypeError(f"{value!r} is no {kind}")


def _expression(found: dict[int, bytes]) -> Expression:
    name = string(found[_NAME])
    known = _KINDS.get(name, {})
    told = {known[kind][0]: _value(known[kind][1], data) for kind, data in each(found.get(_DATA, b"")) if kind in known}
    return Expression(name, tuple(sorted(told.items())))


def _value(kind: str, data: bytes) -> Value:
    if kind in {"number", "short", "byte"}:
        return int.from_bytes(data, "big")
    return string(data) if kind == "text" else decode_data(data)
