"""Book: everything that policies depend on, and the rows that follow from it, change by change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from fairlead.desired.state import Rows
from fairlead.model.address import Address, Prefix
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Missing
from fairlead.model.namespace import DEFAULT, Namespace
from fairlead.model.policy import NetworkPolicy

from .explain import Explanation, Party, explain
from .identity import Class, Profile, profile
from .peers import Peers, Steps
from .select import DIRECTIONS, Clause, Prepared, Rule
from .sets import Sets

Thing = Namespace | NetworkPolicy | Endpoint


class Delta(NamedTuple):
    """What a change does to the rows, in the order in which it must be done.

    ``steps`` are (owner, all rows of that owner from now on); an owner may come twice. Then the ``subjects``, endpoints whose
    set numbers are others now or who are new, get them. Then comes ``after``, in the form of ``steps``: what nothing refers to
    any more. While one policy changes, each endpoint is under all of the old one and then under all of the new one.
    """

    steps: tuple[tuple[str, Rows], ...] = ()
    subjects: frozenset[str] = frozenset()
    after: tuple[tuple[str, Rows], ...] = ()


class _Group:
    """The endpoints of one profile: the policies that select them, and the sets that these make."""

    __slots__ = ("labels", "names", "selecting", "subject")

    def __init__(self, labels: dict[str, str]) -> None:
        self.labels = labels
        self.names: set[str] = set()
        self.selecting: dict[tuple[str, str], Prepared] = {}
        self.subject = (0, 0)


class Book:
    """Everything policies depend on, and the rows that follow from it. The same things, in any order, make the same rows."""

    def __init__(self) -> None:
        self._namespaces: dict[str, Namespace] = {}
        self._policies: dict[tuple[str, str], Prepared] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._profiles: dict[str, Profile] = {}
        self._groups: dict[Profile, _Group] = {}
        self._inside: dict[str, tuple[set[Profile], dict[tuple[str, str], Prepared]]] = {}
        self._rules: dict[int, Rule] = {}
        self._peers = Peers()
        self._sets = Sets()
        self._stale: set[Profile] = set()
        self._disused: list[Prefix] = []
        self._before: dict[str, tuple[int, int] | None] = {}

    def put(self, *things: Thing) -> Delta:
        """Have ``things``, each in place of one of its kind and name."""
        for thing in things:
            if isinstance(thing, Namespace):
                self._namespaces[thing.name] = thing
                self._rename(thing.name)
            elif isinstance(thing, NetworkPolicy):
                new = Prepared(thing)
                self._replace(new.key, new)
            else:
                self._endpoints[thing.name] = thing
                self._seat(thing)
        return self._settle()

    def drop(self, *things: Thing) -> Delta:
        """Have ``things`` no more; what was not there is no error."""
        for thing in things:
            if isinstance(thing, Namespace):
                self._namespaces.pop(thing.name, None)
                self._rename(thing.name)
            elif isinstance(thing, NetworkPolicy):
                self._replace((thing.metadata.namespace or DEFAULT, thing.name), None)
            elif self._endpoints.pop(thing.name, None):
                self._leave(thing.name)
                self._peers.unseat(thing.name)
        return self._settle()

    def subject(self, endpoint: Endpoint) -> tuple[int, int]:
        """The (ingress, egress) set numbers of an endpoint that was put; ``Missing`` if it was not."""
        found = self._subject(endpoint.name)
        if found is None:
            raise Missing(f"endpoint {endpoint.name} is not known to policies")
        return found

    def rules(self) -> Mapping[int, Rule]:
        """Rules by number, to name what decided about a flow."""
        return MappingProxyType(self._rules)

    def explain(self, source: Endpoint | Address, destination: Endpoint | Address, protocol: str, port: int) -> Explanation:
        """Whether the one may open a connection to the other's ``port``, and why. ``protocol`` is "tcp", "icmp" or any other.

        An address that an endpoint has stands for the endpoint. Of an endpoint with several addresses the first counts whose
        family the other side has too.
        """
        for family in (4, 6):
            ends = [self._party(one, family) for one in (source, destination)]
            if all(one.address for one in ends):
                break
        else:
            ends = [self._party(one, 0) for one in (source, destination)]
        return explain(ends[0], ends[1], protocol, port)

    def _party(self, one: Endpoint | Address, family: int) -> Party:
        if isinstance(one, Address):
            name = self._peers.holder(one)
            address: Address | None = one if one.family == family else None
            found = self._endpoints.get(name or "")
            blocks = self._peers.around(one)
        else:
            found = one
            address = next((at.address for at in one.spec.addresses if at.family == family), None)
            blocks = self._peers.around(address) if address else ()
        if found is None:
            return Party(str(one), address, Class(None, blocks), None)
        who = profile(found, self._namespaces)
        labels = dict(who.labels)
        near = self._inside.get(who.namespace, (set(), {}))[1].values()
        selecting = [policy for policy in sorted(near, key=lambda one: one.name) if policy.selects(who, labels)]
        return Party(f"{who.namespace}/{found.display}", address, Class(who, blocks), selecting, found.name)

    def _subject(self, name: str) -> tuple[int, int] | None:
        who = self._profiles.get(name)
        return self._groups[who].subject if who else None

    def _rename(self, namespace: str) -> None:
        """The labels of a namespace changed."""
        groups = self._inside.get(namespace, (set(), {}))[0]
        for name in sorted(name for who in groups for name in self._groups[who].names):
            self._seat(self._endpoints[name])

    def _seat(self, endpoint: Endpoint) -> None:
        """An endpoint is new, or changed, or its namespace did."""
        name = endpoint.name
        who = profile(endpoint, self._namespaces)
        self._before.setdefault(name, self._subject(name))
        if self._profiles.get(name) != who:
            self._leave(name)
            self._profiles[name] = who
            self._join(name, who)
        self._peers.seat(name, who, (one.address for one in endpoint.spec.addresses))

    def _join(self, name: str, who: Profile) -> None:
        if who not in self._groups:
            group = self._groups[who] = _Group(dict(who.labels))
            groups, policies = self._inside.setdefault(who.namespace, (set(), {}))
            groups.add(who)
            group.selecting = {key: one for key, one in policies.items() if one.selects(who, group.labels)}
            self._stale.add(who)
        self._groups[who].names.add(name)

    def _leave(self, name: str) -> None:
        who = self._profiles.pop(name, None)
        if who is not None:
            self._groups[who].names.discard(name)
            self._stale.add(who)

    def _replace(self, key: tuple[str, str], new: Prepared | None) -> None:
        """A policy is ``new``, or there is none."""
        groups, policies = self._inside.setdefault(key[0], (set(), {}))
        if new:
            self._peers.use(new.cidrs)
            policies[key] = new
        if old := self._policies.pop(key, None):
            self._disused += old.cidrs
            for clause in _clauses(old):
                del self._rules[clause.number]
            if not new:
                del policies[key]
        if new:
            self._policies[key] = new
            self._rules |= {clause.number: clause.rule for clause in _clauses(new)}
        for who in groups:
            group = self._groups[who]
            was = group.selecting.pop(key, None)
            if new and new.selects(who, group.labels):
                group.selecting[key] = new
            if was or key in group.selecting:
                self._stale.add(who)
        if not groups and not policies:
            del self._inside[key[0]]

    def _settle(self) -> Delta:
        for who in self._stale:
            group = self._groups[who]
            old = group.subject
            group.subject = self._hold(group)
            for own in old:
                self._sets.release(own)
            if group.subject != old:
                for name in group.names:
                    self._before.setdefault(name, old)
            if not group.names:
                self._bury(who)
        moves = self._peers.settle()
        turn = self._sets.settle(moves, self._peers.faces)
        subjects = frozenset(
            name for name, old in self._before.items() if name in self._endpoints and self._subject(name) != old
        )
        self._stale, self._before = set(), {}
        return Delta((*turn.first, *moves.steps), subjects, (*turn.last, *self._retire()))

    def _retire(self) -> Steps:
        """CIDRs leave the classes only now: the sets that subjects had so far were made with them."""
        if not self._disused:
            return ()
        self._peers.disuse(self._disused)
        self._disused = []
        moves = self._peers.settle()
        turn = self._sets.settle(moves, self._peers.faces)
        return (*turn.first, *moves.steps, *turn.last)

    def _hold(self, group: _Group) -> tuple[int, int]:
        if not group.names:
            return (0, 0)
        policies = group.selecting.values()
        ingress, egress = (self._sets.hold(one, [each for each in policies if one in each.directions]) for one in DIRECTIONS)
        return (ingress, egress)

    def _bury(self, who: Profile) -> None:
        del self._groups[who]
        groups, policies = self._inside[who.namespace]
        groups.discard(who)
        if not groups and not policies:
            del self._inside[who.namespace]


def _clauses(policy: Prepared) -> Iterable[Clause]:
    return (clause for one in policy.directions.values() for clause in one.clauses)
