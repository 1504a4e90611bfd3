"""Compiling: the rules that allow a peer become spans of ports, and a set of policies becomes rulings and judgements."""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from fairlead.desired.state import Judgement, Rows, Ruling, Span
from fairlead.model.policy import PolicyProtocol, PolicyType

from .identity import number
from .select import Clause, Prepared

PROTOCOLS = {PolicyProtocol.TCP: 6, PolicyProtocol.UDP: 17, PolicyProtocol.SCTP: 132}
"""The protocols that have ports, by their numbers in IP."""


def spans(clauses: Iterable[Clause]) -> tuple[Span, ...]:
    """What rules that mean a peer allow it, each span named by the first of them; the rest is denied by rule 0."""
    runs: dict[int, list[tuple[int, int, int, int]]] = {}
    rest = Span(protocol=0, first=0, last=65535, allow=False, rule=0)
    for place, clause in enumerate(clauses):
        if not clause.ports:
            rest = Span(protocol=0, first=0, last=65535, allow=True, rule=clause.number)
            break
        for port in clause.ports:
            runs.setdefault(PROTOCOLS[port.protocol], []).append((*port.span, place, clause.number))
    return (*(span for protocol in sorted(runs) for span in _first(protocol, runs[protocol])), rest)


def _first(protocol: int, runs: Sequence[tuple[int, int, int, int]]) -> list[Span]:
    """Runs of ports that may overlap, (first, last, place, rule), as spans that do not: the lowest place wins."""
    starts = sorted(runs, reverse=True)
    edges = sorted({edge for first, last, _, _ in runs for edge in (first, last + 1)})
    open_now: list[tuple[int, int, int]] = []
    found: list[tuple[int, int, int]] = []
    for edge, beyond in itertools.pairwise(edges):
        while starts and starts[-1][0] == edge:
            _, last, place, rule = starts.pop()
            heapq.heappush(open_now, (place, last, rule))
        while open_now and open_now[0][1] < edge:
            heapq.heappop(open_now)
        if not open_now:
            continue
        rule = open_now[0][2]
        if found and found[-1][1] == edge - 1 and found[-1][2] == rule:
            found[-1] = (found[-1][0], beyond - 1, rule)
        else:
            found.append((edge, beyond - 1, rule))
    return [Span(protocol=protocol, first=first, last=last, allow=True, rule=rule) for first, last, rule in found]


def verdict(of: Sequence[Span], protocol: int, port: int) -> Span:
    """The span that decides, found as the kernel finds it."""
    return next((one for one in of if one.protocol == protocol != 0 and one.first <= port <= one.last), of[-1])


def set_number(direction: PolicyType, namespace: str, policies: Sequence[Prepared]) -> int:
    """The number of the set of ``policies``, sorted by name: made from what they say; 0 if there are none."""
    if not policies:
        return 0
    return number("set", direction, namespace, [(one.name, one.directions[direction].text) for one in policies])


class PolicySet:
    """Some policies of one namespace and direction, and how they judge the classes of peers that there are."""

    def __init__(self, own: int, direction: PolicyType, policies: Sequence[Prepared]) -> None:
        self.number = own
        self.clauses = tuple(clause for one in policies for clause in one.directions[direction].clauses)
        self.terms = {term.key: term for clause in self.clauses for term in clause.terms}
        self._memo: dict[tuple[bool, ...], Ruling] = {}
        self._keys = tuple(tuple(term.key for term in clause.terms) for clause in self.clauses)
        self._rest = self._ruling(())
        self._judged: dict[int, Judgement] = {}
        self._order: list[int] = []
        self._uses = Counter((self._rest.number,))

    @property
    def owner(self) -> str:
        """The owner of its rows."""
        return f"policy/{self.number:016x}"

    def judge(self, peer: int, meant: Collection[bytes]) -> bool:
        """Judge a class that the terms ``meant`` mean; whether that adds a row."""
        ruling = self._ruling(meant)
        if ruling.number == self._rest.number:
            return False
        self._judged[peer] = Judgement(policy=self.number, peer=peer, ruling=ruling.number)
        bisect.insort(self._order, peer)
        self._uses[ruling.number] += 1
        return True

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

    def rows(self) -> Rows:
        """Its rulings, then its judgements, each in order."""
        rulings = {one.number: one for one in self._memo.values()}
        rest = Judgement(policy=self.number, peer=0, ruling=self._rest.number)
        return (*[rulings[one] for one in sorted(self._uses)], rest, *[self._judged[peer] for peer in self._order])

    def _ruling(self, meant: Collection[bytes]) -> Ruling:
        """The ruling on a class. Its number holds the set's, so that no two sets share a row."""
        key = tuple([not keys or any(one in meant for one in keys) for keys in self._keys])
        if key not in self._memo:
            said = spans(clause for clause, meets in zip(self.clauses, key, strict=True) if meets)
            self._memo[key] = Ruling(number=number("ruling", self.number, said), spans=said)
        return self._memo[key]
