"""Sounding: how large a packet gets to another node, found with few packets, and taken back when it is no more so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.agent import sounding
from fairlead.agent.sounding import Depth, Sounding
from fairlead.model.address import Interface
from fairlead.topology.station import Station

A = Station("a", (Interface("192.0.2.1/24"),))
B = Station("b", (Interface("192.0.2.2/24"),))
SIX = Station("b", (Interface("2001:db8::2/64"),))


class Sea:
    """What gets to each address, and who asked."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.me = A
        self.others = {"b": B}
        self.asked: list[int] = []
        self.told: list[str] = []
        self.sounding = Sounding(lambda: self.me, lambda: self.others, self.found, 3600, self.ask)

    async def ask(self, address: str, patience: float, size: int, source: str) -> bool:
        assert (address, source) in {("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")}
        assert patience > 0
        self.asked.append(size)
        return size <= self.depth

    async def found(self, names: Iterable[str]) -> None:
        self.told += names

    def settle(self) -> None:
        """One turn."""
        asyncio.run(self.sounding.turn())


@given(st.integers(576, 1499))
def test_the_largest_is_found_to_the_byte(depth: int) -> None:
    sea = Sea(depth)
    sea.settle()
    assert sea.sounding.narrow() == {"b": Depth("192.0.2.2", 1500, depth)}
    assert sea.sounding.limit(B).mtu == depth
    assert sea.told == ["b"]
    assert len(sea.asked) < 40


def test_as_claimed_takes_one_packet() -> None:
    sea = Sea(1500)
    sea.settle()
    assert sea.asked == [1500]
    assert sea.sounding.narrow() == {}
    assert sea.sounding.limit(B) is not None
    assert sea.told == []
    sea.settle()
    assert sea.asked == [1500], "not before an hour has passed"


def test_who_does_not_answer_at_all_limits_nothing() -> None:
    sea = Sea(0)
    sea.settle()
    assert sea.sounding.narrow() == {}
    assert sea.sounding.limit(B) == B
    assert set(sea.asked) == {1500, 576}


def test_the_smaller_of_both_claims_is_tried() -> None:
    sea = Sea(9000)
    sea.me, sea.others = A._replace(mtu=9000), {"b": B._replace(mtu=4000)}
    sea.settle()
    assert sea.asked == [4000]


def test_ipv6_has_a_floor_of_its_own() -> None:
    sea = Sea(1000)
    sea.me, sea.others = A._replace(addresses=(Interface("2001:db8::1/64"),)), {"b": SIX}
    sea.settle()
    assert min(sea.asked) == 1280
    assert sea.sounding.narrow() == {}


def test_a_node_that_changes_is_asked_again() -> None:
    sea = Sea(1400)
    sea.settle()
    assert sea.told == ["b"]
    sea.others = {"b": B._replace(mtu=1400)}
    sea.settle()
    assert sea.told == ["b", "b"]
    assert sea.sounding.narrow() == {"b": Depth("192.0.2.2", 1400, 1400)}, "now it claims what is true, and is narrower than we"


def test_a_node_that_goes_is_forgotten() -> None:
    sea = Sea(1400)
    sea.settle()
    sea.others = {}
    sea.settle()
    assert sea.told == ["b", "b"]
    assert sea.sounding.limit(B) == B


def test_no_answer_at_all_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    sea = Sea(1400)
    sea.settle()
    monkeypatch.setattr(sea.sounding, "_interval", 0)
    sea.depth = 0
    sea.settle()
    assert sea.sounding.limit(B).mtu == 1400
    sea.depth = 1500
    sea.settle()
    assert sea.sounding.limit(B) == B
    assert sea.told == ["b", "b"]


def test_a_packet_lost_by_chance_limits_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The claimed size fails three times, and gets there when it is tried at the end."""
    sea = Sea(1500)
    lost = iter([False] * 3)

    async def ask(address: str, patience: float, size: int, source: str) -> bool:
        return next(lost, True) and await sea.ask(address, patience, size, source)

    monkeypatch.setattr(sea.sounding, "_ask", ask)
    sea.settle()
    assert sea.sounding.narrow() == {}


def test_many_are_asked_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sea = Sea(1500)
    sea.others = {f"n{at}": Station(f"n{at}", (Interface(f"192.0.2.{at}/24"),)) for at in range(2, 100)}
    together = most = 0

    async def ask(address: str, patience: float, size: int, source: str) -> bool:
        del address, patience, size, source
        nonlocal together, most
        together += 1
        most = max(most, together)
        await asyncio.sleep(0)
        together -= 1
        return True

    monkeypatch.setattr(sea.sounding, "_ask", ask)
    sea.settle()
    assert len(sea.sounding.depths) == 98
    assert most <= sounding._TOGETHER
