"""Gates: what changes for who asks a service, beside what changes for who asks those behind it. A part of a preview.

A connection to a service begins with the service's address; whoever forwards leads it to somebody behind the service, and
there it is judged as if he had been asked himself. Where no rule allows or denies him, egress may mean the service's address::

    web ── svc:shop/db, tcp 5432 ──┬── egress, ingress ──► 10.0.0.2:5432    reached
                                   └── egress, ingress ──► 10.0.0.7:5432    not any more: 1 of 2 behind it

Who is no longer behind a service is no loss as long as others are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fairlead.model.address import FAMILIES, Address, Family

from . import reach
from .preview import Into, Preview, Unit

SERVICE = "svc:"
"""Before a service's namespace and name, as it is asked about."""


class Gate(NamedTuple):
    """A port of a service in one family: the service's own address, if it has one, and who takes connections to it."""

    service: str
    family: Family
    protocol: str
    port: int
    front: Address | None
    behind: tuple[tuple[Address, int], ...]


class Behind(NamedTuple):
    """So many behind a gate who are alike, and their port, old and new; 0 where they are not behind it."""

    unit: Unit
    ports: tuple[int, int]
    many: int


class Passage(NamedTuple):
    """A gate, old and new: what its own address is, and who is behind it. ``touched``: whether anything of it is otherwise."""

    family: Family
    protocol: str
    port: int
    fronts: tuple[Unit | None, Unit | None]
    behind: tuple[Behind, ...]
    touched: bool


class Change(NamedTuple):
    """So many of all behind it are reached newly, or not any more."""

    allowed: bool
    some: int
    all: int


def changes(preview: Preview, old: Iterable[Gate], new: Iterable[Gate]) -> Iterator[tuple[Unit, Into]]:
    """By service: who can reach somebody through it newly or not any more, and at which ports of the service."""
    sides = [{one[:4]: one for one in gates} for gates in (old, new)]
    found: defaultdict[str, list[Passage]] = defaultdict(list)
    for key in sorted({*sides[0], *sides[1]}):
        found[key[0]].append(_passage(preview, sides[0].get(key), sides[1].get(key)))
    leaving = [one for one in preview.units if one.leaves]
    for service, passages in found.items():
        sources = preview.units if any(one.touched for one in passages) else leaving
        yield Unit(SERVICE + service, 1, ()), _into(preview, sources, passages)


def shut(preview: Preview, source: Address, old: Gate, new: Gate | None) -> bool:
    """Whether a connection through a gate that could be opened cannot be any more, or not to each to whom it could be led."""
    before, after = (_led(preview, at, source, gate) if gate else set() for at, gate in ((0, old), (1, new)))
    return bool(before) and (not after or bool((before - after) & set(new.behind if new else ())))


def _led(preview: Preview, at: int, source: Address, gate: Gate) -> set[tuple[Address, int]]:
    front = (gate.front, gate.port) if gate.front else None
    return {one for one in gate.behind if preview.allows(at, source, (one[0], gate.protocol, one[1]), front)}


def _passage(preview: Preview, old: Gate | None, new: Gate | None) -> Passage:
    gate = new or old
    assert gate
    before, after = (dict.fromkeys(side.behind) if side else {} for side in (old, new))
    units: dict[object, Unit] = {}
    alike: Counter[tuple[object, int, int]] = Counter()
    for one in {**before, **after}:
        address, port = one
        unit = preview.face(address)
        like = (unit.alone, unit.classes, *(id(each) for each in unit.ingress))
        units[like] = unit
        alike[like, port * (one in before), port * (one in after)] += 1
    behind = tuple(Behind(units[like], (was, now), count) for (like, was, now), count in alike.items())
    return Passage(
        gate.family,
        gate.protocol,
        gate.port,
        (_front(preview, old), _front(preview, new)),
        behind,
        touched=old != new or any(one.unit.enters for one in behind),
    )


def _front(preview: Preview, gate: Gate | None) -> Unit | None:
    return preview.face(gate.front) if gate and gate.front else None


def _into(preview: Preview, sources: Iterable[Unit], passages: Iterable[Passage]) -> Into:
    for source in sources:
        words: defaultdict[bool, dict[Family, str]] = defaultdict(dict)
        for family in FAMILIES:
            if source.classes[FAMILIES.index(family)]:
                for allowed, text in _said(preview, source, [one for one in passages if one.family == family]):
                    words[allowed][family] = text
        for allowed, texts in words.items():
            same = len(set(texts.values())) == 1
            for family, text in list(texts.items())[: 1 if same else None]:
                if text:
                    yield source, (allowed, text if same else f"{text} (IPv{family})")


def _said(preview: Preview, source: Unit, passages: Iterable[Passage]) -> Iterator[tuple[bool, str]]:
    """What changes in one family, in words, empty if nothing does; of a service that has no such passage nothing at all."""
    whole: defaultdict[bool, list[tuple[str, int]]] = defaultdict(list)
    parts: defaultdict[bool, list[str]] = defaultdict(list)
    for one in (passages := list(passages)):
        for change in _compared(preview, source, one):
            if change.some == change.all:
                whole[change.allowed].append((one.protocol, one.port))
            else:
                parts[change.allowed].append(f"{one.protocol} {one.port} ({change.some} of {change.all} behind it)")
    for allowed in (True, False) if passages else ():
        ports = [str(reach.ports(whole[allowed]))] if whole[allowed] else []
        yield allowed, "; ".join(ports + parts[allowed])


def _compared(preview: Preview, source: Unit, passage: Passage) -> Iterator[Change]:
    """Whoever is behind a service himself reaches himself, which is news to nobody."""
    if not (source.leaves or passage.touched):
        return
    every, reached, turned, himself = [0, 0], [0, 0], [0, 0], [0, 0]
    for one in passage.behind:
        unit, ports, many = one
        itself = bool(unit.alone) and unit.alone == source.alone
        answers = [bool(ports[at]) and (itself or _reaches(preview, at, source, one, passage)) for at in (0, 1)]
        for at in (0, 1):
            every[at] += many if ports[at] else 0
            reached[at] += many if answers[at] else 0
            turned[at] += many if all(ports) and answers[at] and not answers[1 - at] else 0
            himself[at] += many if itself and answers[at] else 0
    for at, allowed in ((0, False), (1, True)):
        some = turned[at] if reached[1 - at] else reached[at]
        if some > (0 if reached[1 - at] else himself[at]):
            yield Change(allowed, some, every[at])


def _reaches(preview: Preview, at: int, source: Unit, behind: Behind, passage: Passage) -> bool:
    """Whether the one is let through to the other's port when the service leads there."""
    family, protocol, unit, port = passage.family, passage.protocol, behind.unit, behind.ports[at]
    if not preview.entering(at, source, unit, family).holds(protocol, port):
        return False
    if preview.leaving(at, source, unit, family).holds(protocol, port):
        return True
    front = passage.fronts[at]
    if front is None or preview.refused(at, source, unit, family).holds(protocol, port):
        return False
    return preview.leaving(at, source, front, family).holds(protocol, passage.port)
