"""Words of the command line as values of the model: labels, rates, variables, addresses. Pure; errors name the option."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from fairlead.model.address import NamedPort, PortName, Text
from fairlead.model.errors import Invalid
from fairlead.model.meta import Value, check_label

T = TypeVar("T", bound=Text)
V = TypeVar("V", bound=Value)

_FIELD = re.compile(r"[A-Za-z]+(\[\d+\])?")

_RATE = re.compile(r"(?P<number>\d{1,15}(\.\d{1,6})?)(?P<unit>[kmgt]?)(bit|bps|bit/s)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def value(kind: type[T], text: str, field: str) -> T:
    """``text`` as ``kind``; raise ``Invalid`` that names the option."""
    try:
        return kind(text)
    except ValueError as problem:
        raise Invalid(str(problem), field=field) from None


def values(kind: type[T], texts: Iterable[str], field: str) -> tuple[T, ...]:
    """Each of ``texts`` as ``kind``."""
    return tuple(value(kind, text, field) for text in texts)


def made(kind: type[V], *, field: str = "", **fields: Any) -> V:
    """``kind`` made of values that are right one by one; what is wrong with them together names its field."""
    try:
        return kind(**fields)
    except ValueError as problem:
        inner, colon, message = str(problem).partition(": ")
        named = colon and _FIELD.fullmatch(inner)
        raise Invalid(
            message if named else str(problem), field=".".join(filter(None, (field, inner if named else "")))
        ) from None


def labels(texts: Iterable[str], field: str = "label") -> dict[str, str]:
    """``k=v`` words as a mapping, checked as Kubernetes checks labels."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, word = text.partition("=")
        if not equals:
            raise Invalid(f"{text[:80]!r} has no value; write it like tier=web", field=field)
        try:
            check_label(key, word)
        except ValueError as problem:
            raise Invalid(str(problem), field=field) from None
        found[key] = word
    return found


def label_changes(texts: Iterable[str], field: str = "label") -> dict[str, str | None]:
    """``k=v`` and ``k-`` words, as kubectl takes them: None for a label that is to go."""
    found: dict[str, str | None] = {}
    for text in texts:
        if "=" in text:
            changed: Mapping[str, str | None] = labels((text,), field)
        elif text.endswith("-"):
            changed = dict.fromkeys(labels((f"{text[:-1]}=",), field))
        else:
            raise Invalid(f"{text[:80]!r} is neither KEY=VALUE nor KEY-", field=field)
        if twice := found.keys() & changed.keys():
            raise Invalid(f"{', '.join(twice)} is there twice", field=field)
        found |= changed
    return found


def port_names(texts: Iterable[str], field: str = "port-name") -> dict[str, NamedPort]:
    """``http=80`` and ``dns=53/udp`` words as a mapping."""
    found: dict[str, NamedPort] = {}
    for text in texts:
        name, equals, port = text.partition("=")
        if not equals:
            raise Invalid(f"{text[:80]!r} has no port; write it like http=80 or dns=53/udp", field=field)
        found[value(PortName, name, field)] = value(NamedPort, port, field)
    return found


def pairs(texts: Iterable[str], field: str) -> dict[str, str]:
    """``k=v`` words as a mapping, nothing else asked of them."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, word = text.partition("=")
        if not equals or not key:
            raise Invalid(f"{text[:80]!r} is not KEY=VALUE", field=field)
        found[key] = word
    return found


def environment(texts: Iterable[str], own: Mapping[str, str]) -> dict[str, str]:
    """``own`` with each ``K=V`` set; a bare ``K`` keeps the value it has."""
    found = dict(own)
    for text in texts:
        key, equals, word = text.partition("=")
        if not key or "\0" in text:
            raise Invalid(f"{text[:80]!r} is not a variable; write it like DEBUG=1", field="env")
        if equals:
            found[key] = word
    return found


def rate(text: str, field: str) -> int:
    """Bits a second: ``10M``, ``1.5G``, ``800kbit`` or a number; 0 if ``text`` is empty, which is no limit."""
    if not text:
        return 0
    found = _RATE.fullmatch(text.strip())
    if found is None:
        raise Invalid(f"{text[:40]!r} is not a rate; write bits a second like 10M, 1.5G or 800k", field=field)
    bits = round(float(found["number"]) * _UNITS[found["unit"].lower()])
    if bits < 8:
        raise Invalid(f"{text} is below the kernel's smallest rate, 8 bit/s; leave the option out for no limit", field=field)
    return bits
