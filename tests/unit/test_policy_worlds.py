"""The rows of generated worlds say what the API references say, in whatever order the world came to be."""

from __future__ import annotations

from itertools import product
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.desired.state import NodeState
from fairlead.model.address import Address
from fairlead.model.endpoint import Endpoint
from fairlead.model.policy import PolicyType
from fairlead.policy.book import Book
from fairlead.policy.identity import Numbers
from tests.unit.policy_oracle import NUMBERS, allowed, direction_allows, lookup, owner, replay
from tests.unit.policy_world import (
    ADDRESSES,
    ANY_POLICY,
    ANYTHING,
    ASKED,
    BROKEN,
    DENSE,
    ENDPOINTS,
    MADE,
    POLICIES,
    PORTS,
    done,
    identity,
    latest,
    world,
)

THINGS = st.lists(POLICIES | ENDPOINTS | MADE, max_size=9) | st.lists(ANYTHING, max_size=10) | DENSE
HISTORIES = st.lists(st.tuples(st.booleans(), st.lists(ANYTHING | BROKEN, min_size=1, max_size=3)), max_size=6)
CHECKED = settings(max_examples=settings().max_examples // 2, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@CHECKED
@given(THINGS)
def test_rows_say_what_the_references_say(things: list[Any]) -> None:
    book, there = Book(), world(things)
    state = done(NodeState(), book.put(*things))
    names = {number: rule.title for number, rule in book.rules().items()}
    for one in there.endpoints:
        for way, policy in zip(PolicyType, book.subject(one), strict=True):
            for peer, (protocol, port) in product(ADDRESSES, ASKED):
                span = lookup(state, policy, peer, protocol, port)
                said = (span is None or span.allow, names[span.rule] if span and span.rule else "")
                assert said == direction_allows(there, way, one, peer, protocol, port)


@CHECKED
@given(HISTORIES)
def test_the_way_there_does_not_matter(history: list[tuple[bool, list[Any]]]) -> None:
    book, state, things = Book(), NodeState(), []
    subjects: dict[str, tuple[int, int]] = {}
    for put, some in history:
        delta = book.put(*some) if put else book.drop(*some)
        gone = {identity(one) for one in some}
        things = latest([*things, *some]) if put else [one for one in things if identity(one) not in gone]
        there = {one.name: one for one in things if isinstance(one, Endpoint)}
        subjects = {name: old for name, old in subjects.items() if name in there}
        state = replay(state, delta.steps)
        assert all((policy, 0) in keys(state) for pair in subjects.values() for policy in pair if policy)
        for name in delta.subjects:
            assert subjects.get(name) != book.subject(there[name])
            subjects[name] = book.subject(there[name])
        state = replay(state, delta.after)
        assert all((policy, 0) in keys(state) for pair in subjects.values() for policy in pair if policy)
        fresh = Book()
        scratch = done(NodeState(), fresh.put(*things))
        assert dict(scratch.owners()) == dict(state.owners())
        assert dict(fresh.rules()) == dict(book.rules())
        assert subjects == {name: fresh.subject(one) for name, one in there.items()}


class Few(Numbers):
    """Nearly all classes, and nearly all sets, come to a number that another has."""

    def of(self, *parts: object) -> int:
        whole = super().of(*parts)
        return 3 + whole % 4 if parts[0] in {"peer", "front", "set"} else whole


@CHECKED
@given(HISTORIES)
def test_two_of_one_number_are_still_two(history: list[tuple[bool, list[Any]]]) -> None:
    book, state, things = Book(numbers=Few()), NodeState(), []
    for put, some in history:
        gone = {identity(one) for one in some}
        things = latest([*things, *some]) if put else [one for one in things if identity(one) not in gone]
        state = done(state, book.put(*some) if put else book.drop(*some))
    plain = Book()
    wanted = done(NodeState(), plain.put(*things))
    for one in (each for each in things if isinstance(each, Endpoint)):
        for own, other in zip(book.subject(one), plain.subject(one), strict=True):
            for peer, (protocol, port) in product(ADDRESSES, ASKED):
                span, right = (lookup(of, at, peer, protocol, port) for of, at in ((state, own), (wanted, other)))
                assert (span and (span.allow, span.rule)) == (right and (right.allow, right.rule))


def keys(state: NodeState) -> set[Any]:
    return {row.key for rows in state.owners().values() for row in rows}


@CHECKED
@given(THINGS, st.sampled_from(ADDRESSES), st.sampled_from(ADDRESSES), st.sampled_from(tuple(NUMBERS)), st.sampled_from(PORTS))
def test_the_explanation_ends_in_the_verdict(things: list[Any], source: Address, to: Address, protocol: str, port: int) -> None:
    if source.family != to.family:
        return
    book, there = Book(), world(things)
    book.put(*things)
    told = book.explain(source, to, protocol, port)
    assert told.allowed == told.steps[-1].allows == (source == to or allowed(there, source, to, protocol, port))
    if source == to:
        return
    receiver = owner(there, to)
    if receiver:
        lets, rule = direction_allows(there, PolicyType.INGRESS, receiver, source, protocol, port)
        named = [one for one in told.steps if one.direction == "ingress" and one.allows is not None]
        assert [(one.allows, one.rule.title if one.rule else "") for one in named] == [(lets, rule)]


@CHECKED
@given(THINGS, st.lists(ANY_POLICY, min_size=1, max_size=1))
def test_a_policy_changes_from_all_of_the_old_to_all_of_the_new(things: list[Any], change: list[Any]) -> None:
    book = Book()
    state = done(NodeState(), book.put(*things))
    old, new = world(things), world([*things, *change])
    before = {one.name: book.subject(one) for one in old.endpoints}
    delta = book.put(*change)
    for at, step in enumerate((*delta.steps, *delta.after)):
        state = replay(state, [step])
        flipped = at >= len(delta.steps)
        for one in old.endpoints:
            sets = book.subject(one) if flipped else before[one.name]
            for way, policy in zip(PolicyType, sets, strict=True):
                for peer in ADDRESSES:
                    span = lookup(state, policy, peer, "tcp", 80)
                    right = direction_allows(new if flipped else old, way, one, peer, "tcp", 80)[0]
                    assert (span is None or span.allow) == right
