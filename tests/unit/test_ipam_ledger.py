from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.ipam.ledger import Ledger, holder_of
from fairlead.ipam.pool import Holder
from fairlead.model.address import Address, ContainerID, Interface, InterfaceName, Name, Prefix
from fairlead.model.endpoint import Endpoint, EndpointSpec, Sandbox
from fairlead.model.errors import Conflict, Exhausted, Invalid, Missing
from fairlead.model.meta import Meta
from fairlead.model.network import Driver, Network, NetworkSpec, Range, Subnet

A, B = Holder("a:eth0", "web"), Holder("b:eth0", "db")


def subnet(cidr: str, **fields: Any) -> Subnet:
    return Subnet(cidr=Prefix(cidr), **fields)


def network(*subnets: str | Subnet, name: str = "blue") -> Network:
    made = tuple(subnet(one) if isinstance(one, str) else one for one in subnets)
    return Network(metadata=Meta(name=name), spec=NetworkSpec(subnets=made))


def ledger(*subnets: str | Subnet) -> Ledger:
    made = Ledger()
    made.define(network(*subnets))
    return made


def endpoint(name: str, *addresses: str, network: str = "blue", chained: bool = False) -> Endpoint:
    spec = EndpointSpec(
        container=ContainerID(name),
        interface=InterfaceName("eth0"),
        network=Name(network),
        sandbox=Sandbox(path="/p"),
        addresses=tuple(Interface(one) for one in addresses),
        chained=InterfaceName("veth0") if chained else None,
    )
    return Endpoint(metadata=Meta(name=f"{name}:eth0"), spec=spec)


def test_one_address_of_each_family() -> None:
    both = ledger("10.0.0.0/24", "fd00::/64", "10.1.0.0/24")
    assert both.allocate("blue", A) == ("10.0.0.2/24", "fd00::2/64")
    assert both.allocate("blue", A) == ("10.0.0.2/24", "fd00::2/64")
    assert both.allocate("blue", B, families=[6]) == ("fd00::3/64",)
    assert both.held("a:eth0") == ("10.0.0.2/24", "fd00::2/64")
    assert both.release("a:eth0") == ("10.0.0.2", "fd00::2")
    assert both.release("a:eth0") == ()
    assert both.held("a:eth0") == ()


def test_the_next_subnet_of_a_family_when_the_first_is_full() -> None:
    two = ledger("10.0.0.0/30", "fd00::/64", "10.1.0.0/30")
    assert two.allocate("blue", A)[0] == "10.0.0.2/30"
    assert two.allocate("blue", B) == ("10.1.0.2/30", "fd00::3/64")
    assert two.allocate("blue", B) == ("10.1.0.2/30", "fd00::3/64")
    with pytest.raises(Exhausted) as refused:
        two.allocate("blue", Holder("c:eth0"))
    assert "10.0.0.0/30: 1 of 1 are used; held by 10.0.0.2 web (a:eth0)" in str(refused.value)
    assert "10.1.0.0/30: 1 of 1 are used; held by 10.1.0.2 db (b:eth0)" in str(refused.value)


def test_all_or_nothing() -> None:
    tight = ledger("10.0.0.0/24", subnet("fd00::/64", ranges=(Range(start=Address("fd00::9"), end=Address("fd00::9")),)))
    tight.allocate("blue", A)
    for wishes in ((), ("10.0.0.77",)):
        with pytest.raises(Exhausted, match="fd00::/64"):
            tight.allocate("blue", B, wishes=wishes)
    assert tight.held("b:eth0") == ()
    assert tight.pools("blue")[0].used == 1
    tight.release("a:eth0")
    assert tight.allocate("blue", B) == ("10.0.0.3/24", "fd00::9/64")


def test_a_network_without_subnets_gives_nothing() -> None:
    none = Ledger()
    none.define(Network(metadata=Meta(name="host"), spec=NetworkSpec(driver=Driver.HOST)))
    assert none.allocate("host", A) == ()
    with pytest.raises(Invalid, match="host has no IPv4 subnet; its subnets: none"):
        none.allocate("host", A, families=[4])


@pytest.mark.parametrize("wish", ["10.0.0.9", "10.0.0.9/24", "10.0.0.9/32"])
def test_a_wish_with_or_without_length(wish: str) -> None:
    both = ledger("10.0.0.0/24", "fd00::/64")
    assert both.allocate("blue", A, wishes=[wish]) == ("10.0.0.9/24", "fd00::2/64")
    assert both.allocate("blue", B, wishes=["fd00:0::7", "10.0.0.2"]) == ("10.0.0.2/24", "fd00::7/64")


@pytest.mark.parametrize(
    ("wishes", "kind", "words"),
    [
        (["10.9.0.1"], Invalid, "addresses[0]: 10.9.0.1 is not in network blue; its subnets: 10.0.0.0/24, fd00::/64"),
        (["fd00::5", "nonsense"], Invalid, "addresses[1]: 'nonsense' is not an IP address"),
        (["10.0.0.5/33"], Invalid, "addresses[0]: '10.0.0.5/33' is not an address with a prefix length"),
        (["10.0.0.5/16"], Invalid, "addresses[0]: 10.0.0.5/16 does not fit 10.0.0.0/24: write 10.0.0.5 or 10.0.0.5/24"),
        (["10.0.0.5", "10.0.0.6"], Invalid, "addresses[1]: 10.0.0.6 is the second IPv4 address"),
        (["10.0.0.1"], Invalid, "10.0.0.1 is the gateway of network blue"),
        (["fd00::2"], Conflict, "fd00::2 of network blue is held by web (a:eth0)"),
    ],
)
def test_a_wish_that_cannot_be(wishes: list[str], kind: type[Exception], words: str) -> None:
    both = ledger("10.0.0.0/24", "fd00::/64")
    both.allocate("blue", A)
    with pytest.raises(kind) as refused:
        both.allocate("blue", B, wishes=wishes)
    assert words in str(refused.value)
    assert both.held("b:eth0") == ()


def test_a_wish_of_a_family_not_asked_for() -> None:
    with pytest.raises(Invalid, match=r"addresses\[0\]: fd00::5 is IPv6, which is not asked for"):
        ledger("10.0.0.0/24", "fd00::/64").allocate("blue", A, wishes=["fd00::5"], families=[4])


def test_another_wish_of_one_who_has() -> None:
    one = ledger("10.0.0.0/30", "10.1.0.0/24")
    one.allocate("blue", A)
    with pytest.raises(Conflict, match=r"web \(a:eth0\) already holds 10\.0\.0\.2"):
        one.allocate("blue", A, wishes=["10.1.0.5"])


def test_a_holder_is_of_one_network() -> None:
    two = ledger("10.0.0.0/24")
    two.define(network("10.1.0.0/24", name="red"))
    two.allocate("blue", A)
    with pytest.raises(Conflict, match="already holds addresses of network blue"):
        two.allocate("red", A)
    two.release("a:eth0")
    assert two.allocate("red", A) == ("10.1.0.2/24",)


def test_an_unknown_network() -> None:
    with pytest.raises(Missing, match="network green"):
        ledger().allocate("green", A)


def test_ranges_narrow_the_families_they_name() -> None:
    both = ledger("10.0.0.0/24", "fd00::/64")
    part = subnet(
        "10.0.0.0/24",
        gateway=Address("10.0.0.128"),
        exclude=("10.0.0.129",),
        ranges=(Range(start=Address("10.0.0.128"), end=Address("10.0.0.130")),),
    )
    assert both.allocate("blue", A, ranges=[part]) == ("10.0.0.130/24", "fd00::2/64")
    with pytest.raises(Exhausted, match="in the 1 addresses asked for"):
        both.allocate("blue", B, ranges=[part])
    with pytest.raises(Invalid, match=r"addresses: 10\.0\.0\.5 is not in the ranges asked for"):
        both.allocate("blue", B, ranges=[part], wishes=["10.0.0.5"])
    with pytest.raises(Invalid, match=r"ranges: none of the addresses asked for can be given out by 10\.0\.0\.0/24"):
        both.allocate("blue", B, ranges=[subnet("10.7.0.0/24")])
    assert both.held("b:eth0") == ()


def test_changing_a_network_keeps_what_is_held() -> None:
    one = ledger("10.0.0.0/24")
    for holder in (A, B, Holder("c:eth0")):
        one.allocate("blue", holder)
    one.release("b:eth0")
    one.check(network(subnet("10.0.0.0/24", exclude=("10.0.0.2",)), "fd00::/64"))
    assert len(one.pools("blue")) == 1
    one.define(network(subnet("10.0.0.0/24", exclude=("10.0.0.2",)), "fd00::/64"))
    assert one.held("a:eth0") == ("10.0.0.2/24",)
    assert one.allocate("blue", B) == ("10.0.0.5/24", "fd00::2/64")
    assert one.pools()[0].freed == ("10.0.0.3",)
    with pytest.raises(Conflict, match=r"subnet 10\.0\.0\.0/24 of network blue is in use: 10\.0\.0\.2 is held by web"):
        one.check(network("fd00::/64"))
    with pytest.raises(Conflict, match="in use"):
        one.define(network("fd00::/64"))
    with pytest.raises(Conflict, match=r"10\.0\.0\.2 cannot become the gateway"):
        one.define(network(subnet("10.0.0.0/24", gateway=Address("10.0.0.2"))))
    with pytest.raises(Conflict, match="in use"):
        one.drop("blue")
    assert one.held("b:eth0") == ("10.0.0.5/24", "fd00::2/64")
    for name in ("a:eth0", "b:eth0", "c:eth0"):
        one.release(name)
    one.drop("blue")
    one.drop("blue")
    assert one.pools() == ()


def test_restoring_names_what_does_not_fit() -> None:
    one = ledger("10.0.0.0/24")
    problems = one.restore(
        [
            endpoint("a", "10.0.0.5/24"),
            endpoint("b", "10.0.0.5/24"),
            endpoint("c", "10.9.0.5/24"),
            endpoint("d", "10.0.0.6/24", network="gone"),
            endpoint("e", "192.0.2.7/24", chained=True),
            endpoint("f", "10.0.0.7/24"),
        ],
        [
            endpoint("g", "10.0.0.9/24"),
            endpoint("h", "10.0.0.2/24", "fd00::3/64"),
            endpoint("i", "10.0.0.9/24"),
            endpoint("j", network="gone"),
        ],
    )
    assert [str(problem).split(":eth0")[0] for problem in problems] == ["b", "c", "d"]
    assert isinstance(problems[0], Conflict)
    assert one.held("f:eth0") == ("10.0.0.7/24",)
    assert one.pools()[0].freed == ("10.0.0.2", "10.0.0.9")
    assert holder_of(endpoint("a")) == Holder("a:eth0", "a")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), max_size=60), st.integers(0, 59))
def test_a_restart_changes_no_answer(steps: list[tuple[str, bool]], restart: int) -> None:
    """Two ledgers do the same; one is rebuilt on the way from what a store would remember."""
    steady, rebuilt = ledger("10.0.0.0/29", "fd00::/125"), ledger("10.0.0.0/29", "fd00::/125")
    live: dict[str, Endpoint] = {}
    deleted: list[Endpoint] = []
    for at, (name, add) in enumerate(steps):
        if at == restart:
            rebuilt = ledger("10.0.0.0/29", "fd00::/125")
            assert rebuilt.restore(live.values(), deleted) == ()
        holder = Holder(f"{name}:eth0", name)
        if add:
            answers = [_try(one, holder) for one in (steady, rebuilt)]
            assert answers[0] == answers[1]
            if answers[0]:
                live[name] = endpoint(name, *answers[0])
        else:
            assert steady.release(holder.name) == rebuilt.release(holder.name)
            deleted += [live.pop(name)] if name in live else []
    assert [pool.holders for pool in steady.pools()] == [pool.holders for pool in rebuilt.pools()]


def _try(one: Ledger, holder: Holder) -> tuple[Interface, ...]:
    try:
        return one.allocate("blue", holder)
    except Exhausted:
        return ()
