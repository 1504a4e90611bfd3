"""Tables as parts by name: what a table has, what it should have, and the transaction that makes the one the other.

The same difference serves a change, where both sides are the few parts that it touches, and a comparison, where they are all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from fairlead.api.schema import Drift
from fairlead.datapath.base import PLANE
from fairlead.kernel import nft
from fairlead.kernel.netlink import Message, Netlink
from fairlead.kernel.nft import Element, Maker
from fairlead.kernel.nft.rule import same

from . import ruleset
from .ruleset import BESIDE, NAME, TABLES
from .sets import Part, Parts
from .subjects import Manner

PATHS = frozenset((*(f"{family} {NAME}" for family in TABLES), f"inet {BESIDE}"))
"""All tables, as the kernel's events name them."""


class Have(NamedTuple):
    """What the kernel has. ``foreign``: parts under names of ours that are made otherwise, so that only a new table helps."""

    parts: Parts
    foreign: frozenset[tuple[str, str]]


def fixed(family: str, manner: Manner, *, node_access: bool) -> Parts:
    """The parts of a table that are always there, without the elements of containers."""
    if manner.beside:
        chains = ruleset.beside()
    elif family == "inet":
        chains = ruleset.inet(node_access=node_access, fronted=manner.fronted)
    else:
        chains = ruleset.bridge()
    found = [Part(counter=name) for name in dict.fromkeys(_counters(chains.values()))]
    found += [Part(chain=one) for one in chains.values()]
    for one in ruleset.collections(family).values():
        found.append(Part(collection=one, elements=ruleset.UPKEEP if one.name == "upkeep" else frozenset()))
    return {one.key: one for one in found}


def read(nl: Netlink, family: str, want: Parts, name: str = NAME) -> Have | None:
    """The table as it is; what is as it should be is the very part that is wanted. None if there is no table."""
    return _read(nl, family, want, name) if nft.table_exists(nl, family, name) else None


def _read(nl: Netlink, family: str, want: Parts, table: str) -> Have:
    parts: Parts = {}
    foreign = set()
    for name, chain in nft.chains(nl, family, table).items():
        wanted = want.get(("chain", name))
        if wanted and wanted.chain and wanted.chain.hook != chain.hook:
            foreign.add(("chain", name))
        right = wanted and wanted.chain and same(wanted.chain.rules, chain.rules)
        parts["chain", name] = wanted if wanted and right else Part(chain=chain)
    for name, info in nft.collections(nl, family, table).items():
        wanted = want.get(("map", name))
        if wanted and wanted.collection and not wanted.collection.is_(info):
            foreign.add(("map", name))
        made = wanted.collection if wanted and wanted.collection else nft.Collection(name, ())
        filled = frozenset() if made.timeout else frozenset(nft.elements(nl, family, table, name))
        parts["map", name] = wanted if wanted and wanted.elements == filled else Part(collection=made, elements=filled)
    for name in nft.counters(nl, family, table):
        parts["counter", name] = Part(counter=name)
    return Have(parts, frozenset(foreign))


def anew(family: str, want: Parts, name: str = NAME, *, there: bool) -> Iterator[Message]:
    """A whole table, in place of one that is there."""
    make = Maker(family, name)
    if there:
        yield from make.no_table()
    yield from make.table()
    yield from difference(family, {}, want, name)


def difference(family: str, have: Parts, want: Parts, name: str = NAME) -> Iterator[Message]:
    """What makes ``want`` of ``have``: what is referred to comes first and goes last."""
    make = Maker(family, name)
    new = [part for key, part in want.items() if key not in have]
    old = [part for key, part in have.items() if key not in want]
    both = [(have[key], part) for key, part in want.items() if key in have and have[key] != part]
    maps = [(part.collection, before, part) for before, part in both if part.collection]
    for one, before, after in maps:
        if _is_of_runs(one):
            yield from make.no_elements(one.name)
        else:
            yield from make.elements(one.name, remove=before.elements - after.elements)
    yield from _created(make, new)
    for one, before, after in maps:
        # Runs lie side by side and share their ends: where one changes all are put in anew.
        come = _ordered(after.elements) if _is_of_runs(one) else after.elements - before.elements
        yield from make.elements(one.name, add=come)
    for _, after in both:
        if after.chain:
            yield from make.no_rules(after.chain.name)
            yield from make.rules(after.chain.name, after.chain.rules)
    yield from _removed(make, old)


def drifts(family: str, have: Have | None, want: Parts, name: str = NAME) -> Iterator[Drift]:
    """What differs, for people."""
    if have is None:
        yield Drift(table=f"{PLANE} tables", key=f"{family} {name}", kind="missing", want=f"table {family} {name}")
        return
    for key, part in want.items():
        found = have.parts.get(key)
        if found is None:
            yield _drift(family, key, "missing")
        elif part.collection and key not in have.foreign:
            yield from (element_drift(family, key[1], one, "missing") for one in part.elements - found.elements)
            yield from (element_drift(family, key[1], one, "unexpected") for one in found.elements - part.elements)
        elif found != part or key in have.foreign:
            yield _drift(family, key, "different")
    yield from (_drift(family, key, "unexpected") for key in have.parts if key not in want)


def _counters(chains: Iterable[nft.Chain]) -> Iterator[str]:
    """The counters that rules count in."""
    expressions = (one for chain in chains for rule in chain.rules for one in rule)
    yield from (str(dict(one.told)["object"]) for one in expressions if one.name == "objref")


def _created(make: Maker, parts: Iterable[Part]) -> Iterator[Message]:
    parts = list(parts)
    for part in parts:
        if part.counter:
            yield from make.counter(part.counter)
    for part in parts:
        if part.chain:
            yield from make.chain(part.chain.name, part.chain.hook)
        elif part.collection:
            yield from make.collection(part.collection)
    for part in parts:
        if part.collection:
            yield from make.elements(part.collection.name, add=_ordered(part.elements))
    for part in parts:
        if part.chain:
            yield from make.rules(part.chain.name, part.chain.rules)


def _removed(make: Maker, parts: Iterable[Part]) -> Iterator[Message]:
    parts = list(parts)
    for part in parts:
        if part.chain:
            yield from make.no_rules(part.chain.name)
    for part in parts:
        if part.collection:
            yield from make.no_collection(part.collection.name)
    for part in parts:
        if part.chain:
            yield from make.no_chain(part.chain.name)
    for part in parts:
        if part.counter:
            yield from make.no_counter(part.counter)


def _is_of_runs(one: nft.Collection) -> bool:
    return one.interval and len(one.key) == 1


def _ordered(elements: Iterable[Element]) -> list[Element]:
    """In the order of their keys, and where one run ends and another begins the end first."""
    return sorted(elements, key=lambda one: (one.key, not one.stop))


def _drift(family: str, key: tuple[str, str], kind: str) -> Drift:
    text = f"{key[0]} {key[1]}"
    return Drift(
        table=f"{PLANE} {family}",
        key=text,
        kind=kind,
        want="" if kind == "unexpected" else text,
        have="" if kind == "missing" else "changed by somebody else" if kind == "different" else text,
    )


def element_drift(family: str, name: str, element: Element, kind: str) -> Drift:
    """An element that is not as it should be."""
    said = element.data
    text = element.key.hex() + (f" -> {said.chain or said.code}" if isinstance(said, nft.Verdict) else "")
    return Drift(
        table=f"{PLANE} {family}",
        key=f"element of {name}",
        kind=kind,
        want="" if kind == "unexpected" else text,
        have=text if kind == "unexpected" else "",
    )


def merged(*several: Mapping[tuple[str, str], Part]) -> Parts:
    """Parts together; elements of one map are put together."""
    found: Parts = {}
    for parts in several:
        for key, part in parts.items():
            known = found.get(key)
            found[key] = part._replace(elements=known.elements | part.elements) if known else part
    return found
