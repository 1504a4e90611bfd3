"""What the tables should hold: the index of policies, the containers under them, and which sets are in use. Pure.

A set is made when the first container comes under it, since only then is it known which direction it judges; it goes when no
container is under it and nothing is said of it any more. Each act answers with the parts it touches, before and after.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from fairlead.desired.state import Front, Judgement, Link, NodeState, Peer, Row, Ruling, Subject
from fairlead.kernel.nft import Element, field

from . import ruleset, sets, subjects, tables
from .index import Host, Index
from .sets import Key, Part, Parts
from .subjects import Manner, Places, Touched
from .words import Direction, Use


class Change(NamedTuple):
    """What an act touches, and how to take it back if it is refused."""

    touched: Touched
    undo: Callable[[], None]


class Model:
    """Rows go in, parts come out."""

    def __init__(
        self,
        rows: Iterable[Row] | Index = (),
        under: Iterable[Subject] = (),
        shut: Iterable[Subject] = (),
        *,
        fronts: Iterable[Front] = (),
        beside: bool = False,
    ) -> None:
        """``shut``: links that carry nothing, since it is not known whose they are.

        ``beside``: only what is for services is judged here.
        """
        under, shut = list(under), list(shut)
        self._index = rows if isinstance(rows, Index) else Index(rows)
        self._fronts: dict[object, Front] = {row.key: row for row in fronts}
        self._manner = Manner(bool(self._fronts), beside)
        self._front_hosts = Counter(map(_host, self._fronts.values()))
        self._under: dict[str, Subject] = {row.host: row for row in under}
        self._shut: dict[str, Subject] = {row.host: row for row in shut}
        self._known = Counter(address for row in (*under, *shut) for address in row.addresses)
        self._users = Counter(use for row in under for use in subjects.uses(row, self._manner))
        self._live: set[Use] = set()
        self._leads: Counter[Key] = Counter(sets.ALWAYS)  # parts that sets share, and how many of their rulings lead to each
        for use in self._users:
            self._enliven(use)

    @classmethod
    def of(cls, state: NodeState, *, beside: bool = False) -> Model:
        """What a node's state comes to."""
        under = state.table(Subject)
        links = () if beside else state.table(Link).values()
        strange = [subjects.nobody(row) for row in links if row.host not in under]
        rows: list[Row] = [*state.table(Ruling).values(), *state.table(Judgement).values(), *state.table(Peer).values()]
        return cls(rows, under.values(), strange, fronts=state.table(Front).values(), beside=beside)

    def parts(self, family: str, *, node_access: bool = True) -> Parts:
        """Everything that one of the tables should hold. ``node_access``: what this node itself sends passes."""
        found = tables.fixed(family, self._manner, node_access=node_access)
        if family == "inet":
            for use in self._live:
                followed = sets.followed(self._index, use).values()
                found |= sets.made(use.direction, followed, _leading({use: followed}).keys())
                found |= self._own(use)
            found = tables.merged(found, _front_parts(self._fronts.values()))
        return tables.merged(found, subjects.parts(self._said({**self._under, **self._shut}), family))

    def same(self, other: Model) -> bool:
        """Whether both come to the same."""
        said = (self._under, self._shut, self._fronts) == (other._under, other._shut, other._fronts)
        return said and self._index.rows == other._index.rows

    @property
    def manner(self) -> Manner:
        """Which table it is the model of."""
        return self._manner

    def via(self, host: str) -> str:
        """The interface by which the host's network layer meets a container; empty if it is not known."""
        row = self._under.get(host)
        return (row.via or "") if row else ""

    def fill(self) -> dict[str, int]:
        """How many there are of what people know."""
        return {"endpoints": len(self._under), **self._index.fill()}

    def unused(self) -> set[str]:
        """The chains of sets that no container is under, though something is said of them: nothing of them need be there."""
        named = {Use(one, policy) for policy in self._index.policies() for one in Direction}
        return {use.chain for use in named - self._live}

    @property
    def needed(self) -> bool:
        """Whether there is anything to judge beside programs: somebody isolated, and services."""
        return bool(self._fronts) and any(row.egress for row in self._under.values())

    def led(self, add: Iterable[Front], remove: Iterable[Front]) -> Model:
        """The same with other services. Where there were none before, or are none any more, much is otherwise."""
        fronts = self._changed(add, remove).values()
        return Model(self._index, self._under.values(), self._shut.values(), fronts=fronts, beside=self._manner.beside)

    def front(self, add: Iterable[Front], remove: Iterable[Front]) -> Change:
        """There are other services, as there were some before."""
        add, remove, before = list(add), list(remove), self._fronts
        hosts = {_host(row) for row in (*add, *remove)}
        was = self._about(hosts)
        self._show(self._changed(add, remove))
        return Change({"inet": (was, self._about(hosts))}, lambda: self._show(before))

    def toggles(self, add: Iterable[Front], remove: Iterable[Front]) -> bool:
        """Whether there were no services before, or are none any more."""
        return bool(self._fronts) != bool(self._changed(add, remove))

    def _changed(self, add: Iterable[Front], remove: Iterable[Front]) -> dict[object, Front]:
        fresh: dict[object, Front] = {row.key: row for row in add}
        gone = {row.key for row in remove}
        return {key: row for key, row in self._fronts.items() if key not in gone} | fresh

    def _show(self, fronts: dict[object, Front]) -> None:
        self._fronts = fronts
        self._front_hosts = Counter(map(_host, self._fronts.values()))

    def _about(self, hosts: AbstractSet[Host]) -> Parts:
        """What is said of some addresses of services."""
        own = {use for use in self._live if use.direction is Direction.FRONT or self._bare(use)}
        of_sets = self._picture((), own, {use.policy: set(hosts) for use in own})
        return of_sets | _front_parts(row for row in self._fronts.values() if _host(row) in hosts)

    def _only(self, use: Use, host: Host) -> bool:
        """Whether a set has anything to say of an address where it is asked."""
        if use.direction is Direction.FRONT:
            return host not in self._front_hosts
        if not self._bare(use):
            return True
        spans = self._index.spans(self._index.on(use.policy, *host)) if host in self._front_hosts else ()
        return any(one.later and (one.allow or one.rule) for one in spans or ())

    def _bare(self, use: Use) -> bool:
        """Whether a set is asked of services' addresses alone: beside programs, that of egress."""
        return self._manner.beside and use.direction is Direction.EGRESS

    def _own(self, use: Use) -> Parts:
        return sets.own(self._index, use, self._only, bare=self._bare(use))

    def _own_names(self, use: Use) -> Parts:
        return sets.own_names(self._index, use, bare=self._bare(use))

    def change(self, add: Iterable[Row], remove: Iterable[Row]) -> Change:
        """Policies say something else."""
        add, remove = list(add), list(remove)
        hosts, judged, broad = self._index.touched(add, remove, {use.policy for use in self._live})
        whole = {use for use in self._live if use.policy in broad or (use.policy in judged and not self._users[use])}
        some = {use for use in self._live if use.policy in hosts} - whole
        told = {use for use in self._live if use.policy in judged} | whole
        known, undo = self._index.prior([*add, *remove]), self._keep()
        silenced = self._index.silenced(add, remove)
        dead = {use for use in whole if not self._users[use] and use.policy in silenced}
        before = self._picture(whole - dead, some, hosts)
        for use in dead:
            before |= self._own_names(use)
        led = {use: sets.followed(self._index, use) for use in told}
        self._index.apply(add, remove)
        self._live -= dead
        after = self._picture(whole - dead, some, hosts)
        lead = {use: sets.followed(self._index, use) if use in self._live else {} for use in told}
        come = {use: _beyond(lead[use], led[use]) for use in told}
        shift = _leading(come)
        shift.subtract(_leading({use: _beyond(led[use], lead[use]) for use in told}))
        born, gone = self._shift(shift)
        before |= {key: Part.named(key) for key in gone}
        for use, fresh in come.items():
            after |= sets.made(use.direction, fresh, born)

        def take_back() -> None:
            self._index.apply(*known)
            self._shift(Counter({key: -count for key, count in shift.items()}))
            undo()

        return Change({"inet": (before, after)}, take_back)

    def put(self, rows: Iterable[Subject], shut: Iterable[Subject] = (), *, sure: bool = True) -> Change:
        """Containers are under these sets; or ``shut``: links that carry nothing.

        Not ``sure`` that the kernel has what it was last told of them: it is told again.
        """
        under: dict[str, Subject] = {row.host: row for row in rows}
        closed: dict[str, Subject] = {row.host: row for row in shut}
        return self._seat(under, closed, under.keys() | closed.keys(), sure=sure)

    def drop(self, hosts: Iterable[str], *, gone: Callable[[str], bool]) -> Change:
        """Containers are under nothing any more. A link that is not ``gone`` carries nothing from now on."""
        known = {host: row for host in hosts if (row := self._under.get(host) or self._shut.get(host))}
        return self._seat({}, {host: row for host, row in known.items() if not gone(host)}, known.keys(), sure=False)

    def _seat(
        self, under: Mapping[str, Subject], shut: Mapping[str, Subject], hosts: AbstractSet[str], *, sure: bool
    ) -> Change:
        """Of ``hosts`` those of ``under`` are under their sets from now on, those of ``shut`` carry nothing, others are not."""
        undo = self._keep()
        old = [row for host in hosts if (row := self._under.get(host) or self._shut.get(host))]
        near = hosts | self._sharing([*old, *under.values(), *shut.values()])
        was = self._said(near)
        for host in hosts:
            self._shut.pop(host, None)
            if row := self._under.pop(host, None):
                self._users.subtract(self._uses(row))
        self._known.subtract(address for row in old for address in row.addresses)
        self._under |= under
        self._shut |= shut
        self._known.update(address for row in (*under.values(), *shut.values()) for address in row.addresses)
        self._users.update(use for row in under.values() for use in self._uses(row))
        made, lost = Parts(), Parts()
        coming = {use for row in under.values() for use in self._uses(row)} - self._live
        for use in coming:
            made |= self._enliven(use)
        left = {use for row in old for use in self._uses(row) if not self._users[use]}
        going = {use for use in left if use in self._live and use.policy not in self._index.policies()}
        for use in going:
            lost |= self._bury(use)

        def take_back() -> None:
            for use in coming:
                self._bury(use)
            for use in going:
                self._enliven(use)
            undo()

        touched = subjects.touched(was if sure else subjects.doubted(was), self._said(near))
        before, after = touched["inet"]
        return Change({**touched, "inet": (before | lost, after | made)}, take_back)

    def _sharing(self, rows: Iterable[Subject]) -> set[str]:
        """Containers that have an address which one of ``rows`` has or had too: the first by its host's interface counts."""
        twice = {address for row in rows for address in row.addresses if self._known[address]}
        several = (*self._under.values(), *self._shut.values()) if twice else ()
        return {row.host for row in several if not twice.isdisjoint(row.addresses)}

    def _said(self, hosts: Iterable[str]) -> Places:
        """What is said of these containers."""
        found: Places = {}
        for host in sorted(hosts, reverse=True):
            if row := self._under.get(host):
                found |= subjects.places(row, self._manner)
            elif row := self._shut.get(host):
                found |= subjects.places(row, self._manner, shut=True)
        return found

    def _uses(self, row: Subject) -> set[Use]:
        return subjects.uses(row, self._manner)

    def _enliven(self, use: Use) -> Parts:
        """A set comes into use; the parts that are not there yet."""
        self._live.add(use)
        followed = list(sets.followed(self._index, use).values())
        born, _ = self._shift(_leading({use: followed}))
        return sets.made(use.direction, followed, born) | self._own(use)

    def _bury(self, use: Use) -> Parts:
        """A set goes out of use; the parts that nothing needs any more."""
        self._live.discard(use)
        shift = _leading({use: sets.followed(self._index, use).values()})
        _, gone = self._shift(Counter({key: -count for key, count in shift.items()}))
        return {key: Part.named(key) for key in gone} | self._own_names(use)

    def _shift(self, change: Counter[Key]) -> tuple[set[Key], set[Key]]:
        """So many rulings more, or less, lead to each of these parts; those that none did before, and that none does now."""
        born, gone = set(), set()
        for key, count in change.items():
            was = self._leads[key]
            self._leads[key] = now = was + count
            if now and not was:
                born.add(key)
            elif not now:
                del self._leads[key]
                if was:
                    gone.add(key)
        return born, gone

    def _picture(self, whole: Iterable[Use], some: Iterable[Use], hosts: dict[int, set[Host]]) -> Parts:
        """Sets with all that is theirs, and what others say of some addresses."""
        found: Parts = {}
        for use in whole:
            found |= self._own(use)
        for use in some:
            for family in ruleset.FAMILIES:
                near = (one for one in hosts[use.policy] if one.family == family and self._only(use, one))
                part = sets.hosts(self._index, use, family, self._index.apart(use.policy, near))
                found[part.key] = part
        return found

    def _keep(self) -> Callable[[], None]:
        """How containers and sets are, to be put back."""
        under, shut, live = dict(self._under), dict(self._shut), set(self._live)
        known, users = self._known.copy(), self._users.copy()

        def undo() -> None:
            self._under, self._shut, self._live, self._known, self._users = under, shut, live, known, users

        return undo


def _host(row: Front) -> Host:
    return Host(row.address.family, row.address.packed)


def _front_parts(rows: Iterable[Front]) -> Parts:
    """Addresses of services, and their ports, as parts of the sets that have them. Those of each family are always there."""
    made = ruleset.collections("inet")
    found: dict[str, set[Element]] = {f"front{n}{ports}": set() for n in ruleset.FAMILIES for ports in ("", "-ports")}
    for row in rows:
        n, packed = row.address.family, row.address.packed
        found[f"front{n}"].add(Element(packed))
        port = field(bytes([row.protocol])) + field(row.port.to_bytes(2, "big"))
        found[f"front{n}-ports"].add(Element(packed + port))
    several = (Part(collection=made[name], elements=frozenset(elements)) for name, elements in found.items())
    return {one.key: one for one in several}


def _beyond(some: Mapping[int | None, sets.Said], others: Mapping[int | None, sets.Said]) -> list[sets.Said]:
    """What rulings of ``some`` say that are not among ``others``, or say something else there."""
    return [said for ruling, said in some.items() if ruling not in others or others[ruling] != said]


def _leading(followed: Mapping[Use, Iterable[sets.Said]]) -> Counter[Key]:
    """How many of these rulings lead to each part."""
    return Counter(key for use, several in followed.items() for said in several for key in sets.keys(use.direction, said))
