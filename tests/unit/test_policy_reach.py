"""Reach against a slow reading: a set of (protocol, port)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.desired.state import Span
from fairlead.policy.compile import verdict
from fairlead.policy.reach import EVERYTHING, NOTHING, Reach, of

EDGES = (0, 1, 22, 79, 80, 81, 443, 444, 65535)
ASKED = [*((number, port) for number in (6, 17, 132) for port in EDGES), (0, 0)]


@st.composite
def spans(draw: Any) -> tuple[Span, ...]:
    found = []
    for protocol in draw(st.sets(st.sampled_from((6, 17, 132)))):
        cuts = sorted(draw(st.sets(st.sampled_from(EDGES), max_size=4)))
        found += [
            Span(protocol=protocol, first=first, last=last, allow=draw(st.booleans()), rule=0)
            for first, last in zip(cuts[::2], cuts[1::2], strict=False)
        ]
    return (*found, Span(protocol=0, first=0, last=65535, allow=draw(st.booleans()), rule=0))


def allows(reach: Reach, protocol: int, port: int) -> bool:
    runs = {6: reach.tcp, 17: reach.udp, 132: reach.sctp}.get(protocol)
    return reach.others if runs is None else any(first <= port <= last for first, last in runs)


def told(reach: Reach) -> set[tuple[int, int]]:
    return {asked for asked in ASKED if allows(reach, *asked)}


@given(spans())
def test_it_is_what_spans_allow(given_: tuple[Span, ...]) -> None:
    assert told(of(given_)) == {asked for asked in ASKED if verdict(given_, *asked).allow}


@given(spans(), spans())
def test_it_can_be_cut(one: tuple[Span, ...], other: tuple[Span, ...]) -> None:
    first, second = of(one), of(other)
    assert told(first & second) == told(first) & told(second)
    assert told(first - second) == told(first) - told(second)
    assert first & EVERYTHING == first
    assert first - first == NOTHING
    assert bool(first) == bool(told(first)) or not told(first)


@pytest.mark.parametrize(
    ("reach", "words"),
    [
        (EVERYTHING, "everything"),
        (NOTHING, "nothing"),
        (Reach(((80, 80), (443, 445)), ((0, 65535),), (), others=False), "tcp 80,443-445; every udp port"),
        (EVERYTHING - Reach(((22, 22),), (), (), others=False), "everything but tcp 22"),
        (Reach((), (), (), others=True), "everything but every tcp port; every udp port; every sctp port"),
        (Reach((), (), ((1, 1),), others=False), "sctp 1"),
    ],
)
def test_it_can_be_said(reach: Reach, words: str) -> None:
    assert str(reach) == words
