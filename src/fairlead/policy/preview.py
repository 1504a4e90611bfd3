"""Preview: who could talk to whom, and could not, if policies were others. Two books compared, without touching anything.

Containers that policies see alike in both books are one unit; whole units are compared, and of these only the pairs in which
one side's set of policies would be another. A row of the answer is what people would say in one breath: the sources, the
destinations and the ports, by workload (``shop/web``), and by namespace (``shop/*``) where all of it is meant.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from fairlead.model.address import FAMILIES, Address, Family, Prefix
from fairlead.model.endpoint import Endpoint
from fairlead.model.namespace import DEFAULT

from . import reach
from .book import Book
from .reach import EVERYTHING, NOTHING, Reach

WORKLOAD_LABELS = ("app.kubernetes.io/name", "app", "k8s-app")
"""Where a container says of which workload it is; the first that it has counts, else its name."""
WORLD = "world"
EVERYBODY = "*"

Classes = tuple[tuple[int, int] | None, ...]
"""The class of peers, old and new, for each of ``FAMILIES``; None where a party has no address of it."""
Key = tuple[tuple[int, int, int, int] | None, ...]
"""What is said of one pair in each family, by number: what may leave and what may enter, old and then new."""


class Row(NamedTuple):
    """One change: at ``ports`` the sources can reach the destinations, or cannot any more. ``pairs``: of containers."""

    allowed: bool
    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    ports: str
    pairs: int


class Table(NamedTuple):
    """What a set says of classes, by number of what may be reached: of those listed, and of all others.

    ``refused``: the same of what rules deny.
    """

    judged: Mapping[int, int]
    rest: int
    refused: Mapping[int, int]
    rest_refused: int

    def refuses(self, peer: int) -> int:
        """The number of what rules deny of a class."""
        return self.refused.get(peer, self.rest_refused)


_EVERYTHING, _NOTHING = 0, 1
_OPEN = Table({}, _EVERYTHING, {}, _NOTHING)


class Unit(NamedTuple):
    """Parties that are alike in both books: their classes, and what their sets say, old and new; of how many containers."""

    name: str
    size: int
    classes: Classes
    container: bool = False
    egress: tuple[Table, Table] = (_OPEN, _OPEN)
    ingress: tuple[Table, Table] = (_OPEN, _OPEN)
    leaves: bool = False
    """Whether what it may reach may be otherwise."""
    enters: bool = False
    """Whether who may reach it may be otherwise."""
    alone: str = ""
    """The name of the container, if it is like no other."""


Door = tuple[Address, str, int]
"""What a connection leads to: an address, a protocol and a port."""
Into = Iterator[tuple[Unit, tuple[bool, str]]]
"""Who can reach a destination newly (True) or not any more, and at which ports."""


class Likeness(NamedTuple):
    """What containers have in common that are alike: the workload, the classes, the sets old and new."""

    name: str
    classes: Classes
    old: tuple[int, int]
    new: tuple[int, int]


class Preview:
    """What changes from one book to another; both know the same endpoints."""

    def __init__(self, old: Book, new: Book, *, peers_change: bool = False) -> None:
        """``peers_change``: also who is who may be otherwise, because namespaces or nodes are."""
        self._books, self._peers_change = (old, new), peers_change
        self._reaches: list[Reach] = [EVERYTHING, NOTHING]
        self._numbers: dict[Reach, int] = {EVERYTHING: _EVERYTHING, NOTHING: _NOTHING}
        self._tables: dict[tuple[int, int], Table] = {}
        self._memo: dict[Key, tuple[tuple[bool, str], ...]] = {}
        self.units = list(self._containers())
        """All containers."""
        self._alone = {unit.alone for unit in self.units}
        self._outside = list(self._blocks())
        self._workloads = Workloads(unit.name for unit in self.units)

    def rows(self, beside: Iterable[tuple[Unit, Into]] = ()) -> list[Row]:
        """Every change, the one that means most pairs first; ``beside``: more destinations, with what changes for each."""
        merged: defaultdict[tuple[bool, tuple[str, ...], str], Counter[str]] = defaultdict(Counter)
        asked = ((one, self._into(one)) for one in (*self.units, *self._outside))
        for destination, into in (*asked, *beside):
            told: defaultdict[tuple[bool, str], Counter[str]] = defaultdict(Counter)
            for source, change in into:
                _add(told[change], source, _pairs(source, destination))
            for (allowed, ports), sources in told.items():
                names = self._workloads.shorten(sources, but=destination.name)
                _add(merged[allowed, names, ports], destination, sources.total())
        rows = (
            Row(allowed, sources, self._workloads.shorten(destinations), ports, destinations.total())
            for (allowed, sources, ports), destinations in merged.items()
        )
        return sorted(rows, key=lambda one: (-one.pairs, one.allowed, one.sources, one.destinations, one.ports))

    def cut(self, source: Address, destination: Address, protocol: str, port: int) -> bool:
        """Whether a connection that could be opened cannot be any more."""
        return self.allows(0, source, (destination, protocol, port)) and not self.allows(
            1, source, (destination, protocol, port)
        )

    def allows(self, at: int, source: Address, door: Door, front: tuple[Address, int] | None = None) -> bool:
        """Whether one of the books (0 old, 1 new) lets a connection be opened; ``front``: by the service that leads there."""
        return self._books[at].explain(source, *door, front).allowed

    def face(self, address: Address) -> Unit:
        """Whoever has an address, alone; what egress says to him, and who may enter if he is a container."""
        classes = tuple(self._both(address) if one == address.family else None for one in FAMILIES)
        holders = [book.at(address) for book in self._books]
        sets = [book.subject(one)[0] if one else 0 for book, one in zip(self._books, holders, strict=True)]
        ingress = (self._table(0, sets[0]), self._table(1, sets[1]))
        enters = self._peers_change or sets[0] != sets[1]
        alone = next((one.name for one in holders if one and one.name in self._alone), "")
        return Unit(str(address), 1, classes, ingress=ingress, enters=enters, alone=alone)

    def leaving(self, at: int, source: Unit, destination: Unit, family: Family) -> Reach:
        """At which ports one of the books lets the one ask the other, as far as the one's egress goes."""
        table, asked = source.egress[at], destination.classes[FAMILIES.index(family)]
        return self._reaches[table.judged.get(asked[at], table.rest) if asked else _EVERYTHING]

    def refused(self, at: int, source: Unit, destination: Unit, family: Family) -> Reach:
        """At which ports a rule for the one's egress says no."""
        asked = destination.classes[FAMILIES.index(family)]
        return self._reaches[source.egress[at].refuses(asked[at]) if asked else _NOTHING]

    def entering(self, at: int, source: Unit, destination: Unit, family: Family) -> Reach:
        """At which ports one of the books lets the one ask the other, as far as the other's ingress goes."""
        table, asks = destination.ingress[at], source.classes[FAMILIES.index(family)]
        return self._reaches[table.judged.get(asks[at], table.rest) if asks else _EVERYTHING]

    # ---- who there is ----

    def _containers(self) -> Iterator[Unit]:
        known = (one for one in self._books[1].endpoints.values() if one.spec.addresses)
        alike: defaultdict[Likeness, list[str]] = defaultdict(list)
        for one in known:
            alike[self._likeness(one)].append(one.name)
        for of, names in alike.items():
            unit = self._unit(of, len(names))
            yield unit if len(names) > 1 else unit._replace(alone=names[0])

    def _likeness(self, endpoint: Endpoint) -> Likeness:
        old, new = self._books
        having = {one.family for one in endpoint.spec.addresses}
        classes = tuple((old.peer(endpoint, one), new.peer(endpoint, one)) if one in having else None for one in FAMILIES)
        return Likeness(workload(endpoint), classes, old.subject(endpoint), new.subject(endpoint))

    def _unit(self, of: Likeness, size: int) -> Unit:
        return Unit(
            name=of.name,
            size=size,
            classes=of.classes,
            container=True,
            ingress=(self._table(0, of.old[0]), self._table(1, of.new[0])),
            egress=(self._table(0, of.old[1]), self._table(1, of.new[1])),
            enters=self._peers_change or of.old[0] != of.new[0],
            leaves=self._peers_change or of.old[1] != of.new[1],
        )

    def _both(self, address: Address) -> tuple[int, int]:
        """The class of whoever has an address, old and new."""
        old, new = (book.peer(address) for book in self._books)
        return old, new

    def _blocks(self) -> Iterator[Unit]:
        """Addresses that are no container's: by the CIDRs that policies speak of, and all others."""
        old, new = self._books
        for cidr in sorted({*old.blocks, *new.blocks, Prefix("0.0.0.0/0"), Prefix("::/0")}):
            classes = tuple((old.peer(cidr), new.peer(cidr)) if one == cidr.family else None for one in FAMILIES)
            yield Unit(str(cidr) if cidr.length else WORLD, 1, classes)

    def _table(self, at: int, own: int) -> Table:
        """What a set of one of the books says; none says yes to everything."""
        if not own:
            return _OPEN
        if (at, own) not in self._tables:
            rulings, judged, rest = self._books[at].judgements(own)
            numbers = {one: self._number(reach.of(spans)) for one, spans in rulings.items()}
            refused = {one: self._number(reach.refused(spans)) for one, spans in rulings.items()}
            self._tables[at, own] = Table(
                {peer: numbers[one] for peer, one in judged.items()},
                numbers[rest],
                {peer: refused[one] for peer, one in judged.items()},
                refused[rest],
            )
        return self._tables[at, own]

    def _number(self, of: Reach) -> int:
        if of not in self._numbers:
            self._numbers[of] = len(self._reaches)
            self._reaches.append(of)
        return self._numbers[of]

    # ---- what changes between two ----

    def _into(self, destination: Unit) -> Into:
        """Who can reach it newly or not any more, and at which ports."""
        for source in (*self.units, *(self._outside if destination.container else ())):
            if (source.leaves or destination.enters) and _pairs(source, destination):
                for change in self._changes(_key(source, destination)):
                    yield source, change

    def _changes(self, key: Key) -> tuple[tuple[bool, str], ...]:
        """What is allowed newly and what not any more, in words; of one family alone if only that changes."""
        if key not in self._memo:
            self._memo[key] = tuple(self._compared(key))
        return self._memo[key]

    def _compared(self, key: Key) -> Iterator[tuple[bool, str]]:
        opened: dict[Family, str] = {}
        closed: dict[Family, str] = {}
        for family, numbers in zip(FAMILIES, key, strict=True):
            if numbers:
                one, two, three, four = (self._reaches[number] for number in numbers)
                old, new = one & two, three & four
                opened[family], closed[family] = str(new - old), str(old - new)
        for allowed, words in ((True, opened), (False, closed)):
            same = len(set(words.values())) == 1
            for family, text in list(words.items())[: 1 if same else None]:
                if text != str(NOTHING):
                    yield allowed, text if same else f"{text} (IPv{family})"


def _key(source: Unit, destination: Unit) -> Key:
    (leave_old, leave_new), (enter_old, enter_new) = source.egress, destination.ingress
    found: list[tuple[int, int, int, int] | None] = []
    for asks, asked in zip(source.classes, destination.classes, strict=True):
        if asks is None or asked is None:
            found.append(None)
        else:
            leaves = (leave_old.judged.get(asked[0], leave_old.rest), leave_new.judged.get(asked[1], leave_new.rest))
            enters = (enter_old.judged.get(asks[0], enter_old.rest), enter_new.judged.get(asks[1], enter_new.rest))
            found.append((leaves[0], enters[0], leaves[1], enters[1]))
    return tuple(found)


class Workloads:
    """All workloads by namespace, to say many of them shortly."""

    def __init__(self, names: Iterable[str]) -> None:
        self.all = set(names)
        self._spaces: defaultdict[str, set[str]] = defaultdict(set)
        for one in self.all:
            self._spaces[one.partition("/")[0]].add(one)

    def shorten(self, names: Iterable[str], but: str = "") -> tuple[str, ...]:
        """Names with ``shop/*`` in place of all of a namespace, and ``*`` for all there are; ``but`` may lack."""
        given = set(names)
        strangers = sorted(given - self.all)
        if len(given) > 1 and self.all <= given | {but}:
            return (EVERYBODY, *strangers)
        inside = {space: given & self._spaces[space] for space in {one.partition("/")[0] for one in given & self.all}}
        whole = {space for space, some in inside.items() if len(some) > 1 and self._spaces[space] <= some | {but}}
        kept = (one for space, some in inside.items() if space not in whole for one in some)
        return (*sorted([*(f"{space}/*" for space in whole), *kept]), *strangers)


def workload(endpoint: Endpoint) -> str:
    """What people call a container together with its likes: ``shop/web``."""
    labels = endpoint.metadata.labels
    name = next((labels[key] for key in WORKLOAD_LABELS if labels.get(key)), endpoint.display)
    return f"{endpoint.metadata.namespace or DEFAULT}/{name}"


def _add(to: Counter[str], of: Unit, pairs: int) -> None:
    """Count pairs with a unit; what is outside counts once, whatever its families."""
    to[of.name] = to[of.name] + pairs if of.container else max(to[of.name], pairs)


def _pairs(source: Unit, destination: Unit) -> int:
    """How many pairs of containers; what is outside counts as one, and a container is no pair with itself."""
    return source.size * (source.size - 1) if source is destination else source.size * destination.size
