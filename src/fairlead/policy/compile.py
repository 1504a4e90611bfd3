"""Compiling: the rules that mean a peer become spans of ports, and a set of policies becomes rulings and judgements.

Of each protocol and port the first word counts, layer by layer::

    Admin      the first rule that matches: accepts, denies, or passes on
    Network    where policies isolate: the first rule that matches accepts, else it is denied
    Baseline   the first rule that matches: accepts, denies, or passes on
               else it passes

At the ports of a service's own address nothing is decided yet: who is led on from there is judged by whom he reaches. What is
said of the address itself (``_of_front``) counts where no rule allows who that is.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from msgspec.structs import replace

from fairlead.desired.state import Judgement, Rows, Ruling, Span
from fairlead.model.cluster import Action
from fairlead.model.policy import PolicyType

from .identity import Content, Face, FrontPorts, Numbers
from .ports import Named, Run, runs
from .select import Clause, Layer, Prepared
from .terms import Fronting, Term

_PORTS = 1 << 16


class Said(NamedTuple):
    """What one rule says of a peer that it means. ``runs`` None: of every protocol and port."""

    layer: Layer
    action: Action
    runs: tuple[Run, ...] | None
    rule: int

    @classmethod
    def by(cls, clause: Clause, named: Named) -> Said:
        """What ``clause`` says where ports have these names."""
        return cls(clause.layer, clause.rule.action, runs(clause.ports, named) if clause.ports else None, clause.number)


class _Word(NamedTuple):
    """A rule that is in force at some port, in the order of its place; ``last`` is its last port."""

    place: int
    last: int
    action: Action
    rule: int


class _Decided(NamedTuple):
    allow: bool
    rule: int


_ISOLATED, _PASSES = _Decided(allow=False, rule=0), _Decided(allow=True, rule=0)


@lru_cache(maxsize=1 << 14)
def spans(said: tuple[Said, ...], *, isolated: bool) -> tuple[Span, ...]:
    """What rules that mean a peer come to, in their order, each span with the rule that decides, if one does.

    ``isolated``: whether NetworkPolicies deny what none of their rules allows. The last span is that of everything else.
    """
    whole: list[list[_Word]] = [[] for _ in Layer]
    starts: dict[int, list[tuple[int, Layer, _Word]]] = {}
    for place, one in enumerate(said):
        if whole[one.layer]:
            continue  # a rule before it in its layer is for every port
        if one.runs is None:
            whole[one.layer].append(_Word(place, _PORTS - 1, one.action, one.rule))
        for protocol, first, last in one.runs or ():
            starts.setdefault(protocol, []).append((first, one.layer, _Word(place, last, one.action, one.rule)))
    rest = _decide(whole, isolated=isolated)
    found = (span for protocol in sorted(starts) for span in _sweep(protocol, starts[protocol], whole, rest, isolated=isolated))
    return (*found, Span(protocol=0, first=0, last=_PORTS - 1, allow=rest.allow, rule=rest.rule))


def _decide(words: Sequence[Sequence[_Word]], *, isolated: bool) -> _Decided:
    """The first word of each layer, until one decides."""
    for layer in Layer:
        first = words[layer][0] if words[layer] else None
        if first and first.action is not Action.PASS:
            return _Decided(first.action is Action.ACCEPT, first.rule)
        if layer is Layer.NETWORK and isolated:
            return _ISOLATED
    return _PASSES


def _sweep(
    protocol: int, starts: list[tuple[int, Layer, _Word]], whole: list[list[_Word]], rest: _Decided, *, isolated: bool
) -> list[Span]:
    """Runs of ports that may overlap as spans that do not, without those that say what ``rest`` does."""
    edges = sorted({0, _PORTS, *(edge for first, _, word in starts for edge in (first, word.last + 1))})
    coming = sorted(starts, reverse=True)
    now = [list(words) for words in whole]
    found: list[tuple[int, int, _Decided]] = []
    for edge, beyond in itertools.pairwise(edges):
        while coming and coming[-1][0] == edge:
            _, layer, word = coming.pop()
            heapq.heappush(now[layer], word)
        for words in now:
            while words and words[0].last < edge:
                heapq.heappop(words)
        decided = _decide(now, isolated=isolated)
        if found and found[-1][2] == decided:
            found[-1] = (found[-1][0], beyond - 1, decided)
        else:
            found.append((edge, beyond - 1, decided))
    return [
        Span(protocol=protocol, first=first, last=last, allow=one.allow, rule=one.rule)
        for first, last, one in found
        if one != rest
    ]


def verdict(of: Sequence[Span], protocol: int, port: int) -> Span:
    """The span that decides, found as the kernel finds it."""
    return next((one for one in of if one.protocol == protocol != 0 and one.first <= port <= one.last), of[-1])


def fronted(of: tuple[Span, ...], own: tuple[Span, ...], front: FrontPorts) -> tuple[Span, ...]:
    """What is said of a service's address: ``own`` of its ports, later; ``of`` of all others."""
    found = [
        Span(protocol=one, first=port, last=port, allow=said.allow, rule=said.rule, later=True)
        for one, port in front
        for said in [verdict(own, one, port)]
    ]
    for span in of[:-1]:
        at = span.first
        for port in sorted(port for one, port in front if one == span.protocol and span.first <= port <= span.last):
            if at < port:
                found.append(replace(span, first=at, last=port - 1))
            at = port + 1
        if at <= span.last:
            found.append(replace(span, first=at))
    return (*sorted(found, key=lambda one: (one.protocol, one.first)), of[-1])


def set_content(direction: PolicyType, policies: Sequence[Prepared], named: Named) -> Content:
    """What the number of the set of ``policies``, in their order, stands for: what they say; nothing if there are none.

    ``named``: the names of ports that their rules use and the container has, if it is the one that is asked.
    """
    if not policies:
        return ()
    said = [(one.title, one.directions[direction].text) for one in policies]
    return ("set", direction, said, sorted(named.items())) if named else ("set", direction, said)


def own_ports(direction: PolicyType, policies: Iterable[Prepared], named: Named) -> Named:
    """Of a container's named ports those that the rules for what comes to it use."""
    if direction is PolicyType.EGRESS or not named:
        return {}
    used = {name for one in policies for clause in one.directions[direction].clauses for name in clause.names}
    return {name: named[name] for name in sorted(used & named.keys())}


class Judgements(NamedTuple):
    """What a set says: its rulings by number, which of them each class follows that has one of its own, and all others."""

    rulings: Mapping[int, tuple[Span, ...]]
    judged: Mapping[int, int]
    rest: int


class PolicySet:
    """Some policies of one direction, and how they judge the classes of peers that there are.

    Which of its clauses mean a class is a mask, a bit a clause; ``bits`` says which each of its terms sets. What is said of an
    endpoint that only rules for every endpoint mean goes for all who have no judgement of their own; where there are such
    rules everybody else has one.
    """

    def __init__(self, own: int, direction: PolicyType, policies: Sequence[Prepared], named: Named, numbers: Numbers) -> None:
        """``named``: the named ports of the containers that are under it, where these are what is asked."""
        self.number, self._numbers = own, numbers
        self._isolated = any(one.layer is Layer.NETWORK for one in policies)
        self._clauses = tuple(clause for one in policies for clause in one.directions[direction].clauses)
        self._said = tuple(Said.by(clause, named) for clause in self._clauses)
        self._named = tuple(at for at, one in enumerate(self._clauses) if one.names and direction is PolicyType.EGRESS)
        self._always = sum(1 << at for at, clause in enumerate(self._clauses) if clause.everybody)
        self._endpoints = sum(1 << at for at, clause in enumerate(self._clauses) if clause.every_endpoint)
        self._of_whom_is_reached = sum(1 << at for at, clause in enumerate(self._clauses) if not clause.of_fronts)
        fronting = (Fronting(),) if direction is PolicyType.EGRESS else ()
        self.terms: dict[bytes, Term] = {term.key: term for term in fronting}
        self.bits: dict[bytes, int] = {term.key: 0 for term in fronting}
        for at, clause in enumerate(self._clauses):
            for bit, terms in ((1 << at, clause.matched), (0, clause.watched(direction))):
                for term in terms:
                    self.terms[term.key] = term
                    self.bits[term.key] = self.bits.get(term.key, 0) | bit
        self._memo: dict[tuple[int, tuple[Said, ...], FrontPorts], Ruling] = {}
        self._rest = self._ruling(self._endpoints, {})
        self._judged: dict[int, Judgement] = {}
        self._order: list[int] = []
        self._uses = Counter((self._rest.number,))

    @property
    def owner(self) -> str:
        """The owner of its rows."""
        return f"policy/{self.number:016x}"

    def judge(self, peer: int, face: Face, mask: int) -> bool:
        """Judge a class that the clauses of ``mask`` mean; whether that adds a row."""
        if self._judge(peer, face, mask):
            bisect.insort(self._order, peer)
            return True
        return False

    def judge_all(self, masks: Mapping[int, int], faces: Mapping[int, Face]) -> None:
        """Judge all classes that its terms mean, when it comes into use."""
        for peer, mask in masks.items():
            self._judge(peer, faces[peer], mask)
        self._order = sorted(self._judged)

    def forget(self, peer: int) -> bool:
        """Forget a class; whether that takes a row away."""
        one = self._judged.pop(peer, None)
        if one is None:
            return False
        del self._order[bisect.bisect_left(self._order, peer)]
        self._uses[one.ruling] -= 1
        if not self._uses[one.ruling]:
            del self._uses[one.ruling]
            self._memo = {key: kept for key, kept in self._memo.items() if kept.number != one.ruling}
        return True

    def judgements(self) -> Judgements:
        """All that it says."""
        rulings = {one.number: one.spans for one in self._memo.values()}
        return Judgements(rulings, {peer: one.ruling for peer, one in self._judged.items()}, self._rest.number)

    def rows(self) -> Rows:
        """Its rulings, then its judgements, each in order."""
        rulings = {one.number: one for one in self._memo.values()}
        rest = Judgement(policy=self.number, peer=0, ruling=self._rest.number)
        return (*[rulings[one] for one in sorted(self._uses)], rest, *[self._judged[peer] for peer in self._order])

    def _judge(self, peer: int, face: Face, mask: int) -> bool:
        ruling = self._ruling(mask | self._endpoints if face.namespace else mask, face.ports, face.front).number
        if ruling == self._rest.number:
            return False
        self._judged[peer] = Judgement(policy=self.number, peer=peer, ruling=ruling)
        self._uses[ruling] += 1
        return True

    def _ruling(self, mask: int, named: Named, front: FrontPorts = ()) -> Ruling:
        """The ruling on a class whose ports have these names. Its number holds the set's, so that no two sets share a row."""
        mask |= self._always
        resolved = tuple([Said.by(self._clauses[at], named) for at in self._named if mask >> at & 1]) if self._named else ()
        if (mask, resolved, front) not in self._memo:
            theirs = {one.rule: one for one in resolved}
            said = tuple([theirs.get(one.rule, one) for one in map(self._said.__getitem__, _places(mask))])
            found = spans(said, isolated=self._isolated)  # as often as not what another set says, too
            if front:
                found = fronted(found, self._of_front(mask), front)
            self._memo[mask, resolved, front] = Ruling(number=self._numbers.of("ruling", self.number, found), spans=found)
        return self._memo[mask, resolved, front]

    def _of_front(self, mask: int) -> tuple[Span, ...]:
        """What the clauses of ``mask`` say of the address of a service itself."""
        said = tuple([self._said[at] for at in _places(mask & ~self._of_whom_is_reached)])
        return spans(said, isolated=self._isolated)


def _places(mask: int) -> Iterator[int]:
    """The places of the bits that are set, of which there are few among many clauses."""
    while mask:
        last = mask & -mask
        yield last.bit_length() - 1
        mask ^= last
