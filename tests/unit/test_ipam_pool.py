from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fairlead.ipam.pool import Holder, Pool, runs
from fairlead.ipam.spans import Spans
from fairlead.model.address import Address, Prefix
from fairlead.model.errors import Conflict, Exhausted, Invalid
from fairlead.model.network import Range, Subnet


def subnet(cidr: str, gateway: str = "", ranges: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> Subnet:
    pairs = (text.split("-") for text in ranges)
    return Subnet(
        cidr=Prefix(cidr),
        gateway=Address(gateway) if gateway else None,
        ranges=tuple(Range(start=Address(start), end=Address(end)) for start, end in pairs),
        exclude=exclude,
    )


def pool(cidr: str = "10.0.0.0/29", **options: Any) -> Pool:
    return Pool("blue", subnet(cidr, **options))


def drain(of: Pool) -> list[str]:
    taken = []
    while of.free:
        taken.append(str(of.take(Holder(f"h{len(taken)}"))))
    with pytest.raises(Exhausted):
        of.take(Holder("late"))
    return taken


@pytest.mark.parametrize(
    ("given", "addresses"),
    [
        (pool("10.0.0.0/29"), ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]),
        (pool("10.0.0.0/29", gateway="10.0.0.6"), ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"]),
        (pool("10.0.0.0/30"), ["10.0.0.2"]),
        (pool("fd00::/126"), ["fd00::2", "fd00::3"]),
        (pool("fd00::/126", gateway="fd00::3"), ["fd00::1", "fd00::2"]),
        (pool("10.0.0.0/29", exclude=("10.0.0.2", "10.0.0.4/31")), ["10.0.0.3", "10.0.0.6"]),
        (
            pool("10.0.0.0/24", ranges=("10.0.0.250-10.0.0.255", "10.0.0.0-10.0.0.2")),
            ["10.0.0.2", *(f"10.0.0.25{at}" for at in range(5))],
        ),
        (pool("10.0.0.0/29", exclude=("10.0.0.0/28",)), []),
    ],
)
def test_a_pool_gives_all_it_has_in_order(given: Pool, addresses: list[str]) -> None:
    assert given.size == len(addresses)
    assert drain(given) == addresses
    assert (given.used, given.free) == (given.size, 0)


def test_a_huge_pool_costs_nothing() -> None:
    huge = pool("fd00::/8", exclude=("fd00::/64",))
    assert huge.size == (1 << 120) - (1 << 64)
    assert huge.take(Holder("a")) == "fd00:0:0:1::"
    assert huge.free == huge.size - 1


def test_the_oldest_freed_comes_first_but_after_the_never_used() -> None:
    one = pool()
    for name in "abc":
        one.take(Holder(name))
    for name in "bac":
        one.give(name)
    assert [str(one.take(Holder(name))) for name in "defgh"] == ["10.0.0.5", "10.0.0.6", "10.0.0.3", "10.0.0.2", "10.0.0.4"]


def test_a_pool_that_is_never_full_remembers_little() -> None:
    one = Pool("blue", subnet("fd00::/64"), remember=3)
    seen = []
    for _ in range(12):
        seen.append(str(one.take(Holder("x"))))
        one.give("x")
    assert seen == [f"fd00::{at}" for at in (2, 3, 4, 5, 2, 3, 4, 5, 2, 3, 4, 5)]
    assert len(one.freed) == 4


def test_asked_again_it_answers_the_same() -> None:
    one = pool()
    a = Holder("a", "web")
    assert one.take(a) == one.take(a) == one.take(a, Address("10.0.0.2"))
    assert one.used == 1
    assert one.give("a") == "10.0.0.2"
    assert one.give("a") is None
    assert one.of("a") is None


@pytest.mark.parametrize(
    ("wish", "kind", "words"),
    [
        ("10.0.1.1", Invalid, "is not in 10.0.0.0/29"),
        ("fd00::1", Invalid, "is not in 10.0.0.0/29"),
        ("10.0.0.1", Invalid, "is the gateway of network blue"),
        ("10.0.0.0", Invalid, "the network's own address"),
        ("10.0.0.7", Invalid, "the broadcast address"),
        ("10.0.0.5", Invalid, "is excluded"),
        ("10.0.0.4", Conflict, "is held by web (c1:eth0)"),
    ],
)
def test_a_static_address_is_refused_with_the_reason(wish: str, kind: type[Exception], words: str) -> None:
    one = pool(exclude=("10.0.0.5",))
    one.take(Holder("c1:eth0", "web"), Address("10.0.0.4"))
    with pytest.raises(kind) as refused:
        one.take(Holder("c2:eth0", "db"), Address(wish))
    assert words in str(refused.value)
    assert one.used == 1
    if kind is Invalid:
        assert one.of("c2:eth0") is None


def test_the_subnet_router_anycast_address_is_named() -> None:
    with pytest.raises(Invalid, match="subnet-router anycast"):
        pool("fd00::/64").take(Holder("a"), Address("fd00::"))


def test_a_static_address_may_lie_outside_the_ranges() -> None:
    one = pool("10.0.0.0/24", ranges=("10.0.0.10-10.0.0.11",))
    assert one.take(Holder("a"), Address("10.0.0.99")) == "10.0.0.99"
    assert (one.size, one.used) == (2, 0)
    one.give("a")
    assert drain(one) == ["10.0.0.10", "10.0.0.11"]


def test_a_holder_has_one_address() -> None:
    one = pool()
    one.take(Holder("a", "web"))
    with pytest.raises(Conflict, match=r"web \(a\) already holds 10\.0\.0\.2"):
        one.take(Holder("a", "web"), Address("10.0.0.4"))


def test_exhaustion_names_the_pool_and_its_holders() -> None:
    one = pool("10.0.0.0/28")
    for at in range(13):
        one.take(Holder(f"c{at}:eth0", f"web{at}"))
    with pytest.raises(Exhausted) as refused:
        one.take(Holder("late"))
    said = str(refused.value)
    assert said.startswith(
        "network blue: no address is left in 10.0.0.0/28: 13 of 13 are used; held by 10.0.0.2 web0 (c0:eth0), "
    )
    assert said.endswith("10.0.0.11 web9 (c9:eth0) and 3 more")


def test_restoring_takes_what_is_there() -> None:
    one = pool("10.0.0.0/28", exclude=("10.0.0.9",))
    one.hold(Address("10.0.0.9"), Holder("excluded-meanwhile"))
    one.hold(Address("10.0.0.3"), Holder("a"))
    one.hold(Address("10.0.0.3"), Holder("a"))
    with pytest.raises(Conflict, match="held by a, and cannot also be held by b"):
        one.hold(Address("10.0.0.3"), Holder("b"))
    with pytest.raises(Conflict, match=r"a holds 10\.0\.0\.3"):
        one.hold(Address("10.0.0.4"), Holder("a"))
    with pytest.raises(Invalid):
        one.hold(Address("10.0.1.3"), Holder("c"))
    one.recall(Address(text) for text in ("10.0.0.5", "10.0.0.2", "10.0.0.3", "10.0.0.9", "10.0.0.5", "fd00::5", "10.9.0.1"))
    assert [str(one) for one in one.freed] == ["10.0.0.2", "10.0.0.5"]
    assert one.used == 1
    rest = [str(one.take(Holder(f"h{at}"))) for at in range(one.free)]
    assert rest == [f"10.0.0.{at}" for at in (4, 6, 7, 8, 10, 11, 12, 13, 14, 2, 5)]


def test_narrowing_gives_of_the_part_alone() -> None:
    one = pool("10.0.0.0/24")
    part = runs(subnet("10.0.0.0/24", ranges=("10.0.0.100-10.0.0.101", "10.0.0.1-10.0.0.1")))
    assert [str(one.take(Holder(name), within=part)) for name in "ab"] == ["10.0.0.100", "10.0.0.101"]
    with pytest.raises(Exhausted, match=r"in the 2 addresses asked for: 2 of 253 are used; held by 10\.0\.0\.100 a"):
        one.take(Holder("c"), within=part)
    one.give("b")
    one.give("a")
    assert one.take(Holder("c"), within=part) == "10.0.0.101"
    assert one.take(Holder("d")) == "10.0.0.2"


class PoolModel(RuleBasedStateMachine):
    """The pool beside the plainest thing that could be right: sets and lists, everything enumerated."""

    @initialize(
        cidr=st.sampled_from(["10.0.0.0/28", "10.0.0.16/29", "fd00::/124", "fd00::/125"]),
        gateway=st.integers(1, 6),
        ranges=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=2),
        exclude=st.lists(st.integers(0, 7), max_size=2),
        remember=st.sampled_from([1, 3, 1000]),
    )
    def start(self, cidr: str, gateway: int, ranges: list[tuple[int, int]], exclude: list[int], remember: int) -> None:
        net = ipaddress.ip_network(cidr)
        spots = list(net)
        self.spots = [Address(one) for one in spots]
        made = subnet(
            cidr,
            gateway=str(spots[gateway]),
            ranges=tuple(f"{spots[min(pair)]}-{spots[max(pair)]}" for pair in ranges),
            exclude=tuple(str(spots[at]) for at in exclude),
        )
        self.pool = Pool("blue", made, remember=remember)
        self.remember = remember
        named = {spots[at] for pair in ranges for at in range(min(pair), max(pair) + 1)} if ranges else set(spots)
        forbidden = {spots[0], spots[gateway], *(spots[at] for at in exclude)} | ({spots[-1]} if net.version == 4 else set())
        self.forbidden = {Address(one) for one in forbidden}
        self.usable = [Address(one) for one in spots if one in named - forbidden]
        self.held: dict[str, Address] = {}
        self.freed: list[Address] = []

    def expected(self, among: list[Address]) -> Address | None:
        fresh = [one for one in among if one not in self.held.values() and one not in self.freed]
        if len(self.freed) > self.remember and among is self.usable:
            return self.freed[0]
        return fresh[0] if fresh else next((one for one in self.freed if one in among), None)

    def note(self, name: str, address: Address) -> None:
        self.held[name] = address
        if address in self.freed:
            self.freed.remove(address)

    @rule(name=st.sampled_from("abcdefghijklmnop"))
    def take(self, name: str) -> None:
        expected = self.held.get(name) or self.expected(self.usable)
        if expected is None:
            with pytest.raises(Exhausted, match="are used"):
                self.pool.take(Holder(name))
        else:
            assert self.pool.take(Holder(name)) == expected
            self.note(name, expected)

    @rule(name=st.sampled_from("abcdefghijklmnop"), first=st.integers(0, 7), length=st.integers(0, 7))
    def take_within(self, name: str, first: int, length: int) -> None:
        part = self.spots[first : first + length + 1]
        expected = self.held.get(name) or self.expected([one for one in self.usable if one in part])
        within = Spans((int(one.ip), int(one.ip)) for one in part)
        if expected is None:
            with pytest.raises(Exhausted):
                self.pool.take(Holder(name), within=within)
        else:
            assert self.pool.take(Holder(name), within=within) == expected
            self.note(name, expected)

    @rule(name=st.sampled_from("abcdefghijklmnop"), at=st.integers(0, 7))
    def take_static(self, name: str, at: int) -> None:
        wish = self.spots[at]
        owner = next((who for who, address in self.held.items() if address == wish), name)
        if wish in self.forbidden:
            with pytest.raises(Invalid):
                self.pool.take(Holder(name), wish)
        elif owner != name or self.held.get(name, wish) != wish:
            with pytest.raises(Conflict):
                self.pool.take(Holder(name), wish)
        else:
            assert self.pool.take(Holder(name), wish) == wish
            self.note(name, wish)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def give(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        address = self.held.pop(name)
        assert self.pool.give(name) == address
        if address in self.usable:
            self.freed.append(address)

    @rule()
    def restart(self) -> None:
        """A new pool that is told what is held and what was freed goes on as the old one would have."""
        old, self.pool = self.pool, Pool("blue", self.pool.subnet, remember=self.remember)
        for address, holder in old.holders.items():
            self.pool.hold(address, holder)
        self.pool.recall(old.freed)

    @invariant()
    def agrees(self) -> None:
        assert {str(who): address for address, who in self.pool.holders.items()} == self.held
        assert len(set(self.held.values())) == len(self.held)
        assert self.pool.size == len(self.usable)
        assert self.pool.used == sum(address in self.usable for address in self.held.values())
        assert list(self.pool.freed) == self.freed


PoolModel.TestCase.settings = settings(settings.default, stateful_step_count=40)
TestPool = PoolModel.TestCase
