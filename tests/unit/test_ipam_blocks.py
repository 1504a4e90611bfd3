"""Which block a node takes next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.ipam.blocks import choose, fill, full, narrowed
from fairlead.ipam.ledger import Lacking, Ledger
from fairlead.ipam.pool import Holder
from fairlead.ipam.spans import Spans
from fairlead.model.address import Address, Name, Prefix
from fairlead.model.block import Block, BlockSpec, block_name
from fairlead.model.errors import Conflict, Invalid
from fairlead.model.meta import Meta
from fairlead.model.network import Driver, Network, NetworkSpec, Range, Subnet

FARM = Subnet(cidr=Prefix("10.60.0.0/24"), block_size=28)


def network(*subnets: Subnet) -> Network:
    return Network(metadata=Meta(name="farm"), spec=NetworkSpec(driver=Driver.VXLAN, subnets=subnets))


def block(cidr: str, node: str, of: str = "farm") -> Block:
    return Block(metadata=Meta(name=block_name(Prefix(cidr))), spec=BlockSpec(network=Name(of), cidr=Prefix(cidr), node=node))


@given(st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=16, max_size=16))
def test_every_block_is_taken_once_and_then_none_is_left(nodes: list[str]) -> None:
    taken: list[Prefix] = []
    for node in nodes:
        found = choose((FARM,), taken, node)
        assert found
        assert found.length == 28
        assert FARM.cidr.overlaps(found)
        assert found not in taken
        taken.append(found)
    assert choose((FARM,), taken, "a") is None


@given(
    st.lists(st.tuples(st.sampled_from(["10.60.0.0/28", "10.60.0.8/29", "10.60.0.0/30"]), st.sampled_from("abc")), max_size=40)
)
def test_ranges_that_overlap_give_out_each_address_once_and_all_of_them(turns: list[tuple[str, str]]) -> None:
    """What is taken counts whichever range it was taken of; a range has none left only when each address of it is taken."""
    taken: list[Prefix] = []
    for cidr, node in turns:
        subnet = Subnet(cidr=Prefix(cidr), block_size=32)
        found = choose((subnet,), taken, node)
        if found is None:
            assert {str(one) for one in subnet.cidr.net.hosts()} <= {one.partition("/")[0] for one in taken}
        else:
            assert subnet.cidr.overlaps(found)
            assert found not in taken
            taken.append(found)


def test_nodes_begin_at_different_places() -> None:
    large = Subnet(cidr=Prefix("10.0.0.0/8"))
    assert len({choose((large,), (), f"node-{at}") for at in range(100)}) > 95


def test_ipv6_has_more_blocks_than_anybody_looks_at() -> None:
    wide = Subnet(cidr=Prefix("fd00::/64"))
    found = choose((wide,), (), "a")
    assert found
    assert found.length == 122
    assert choose((wide,), (found,), "a") != found


def test_a_few_addresses_of_a_large_subnet_are_found() -> None:
    run = Range(start=Address("fd00::ffff:0:0:10"), end=Address("fd00::ffff:0:0:12"))
    few = Subnet(cidr=Prefix("fd00::/48"), block_size=128, ranges=(run,), exclude=("fd00::ffff:0:0:11",))
    first = choose((few,), (), "a")
    assert first
    second = choose((few,), (first,), "a")
    assert second
    assert {first, second} == {"fd00::ffff:0:0:10/128", "fd00::ffff:0:0:12/128"}
    assert choose((few,), (first, second), "a") is None


def test_no_block_is_taken_for_what_nobody_may_have() -> None:
    tiny = Subnet(cidr=Prefix("10.60.0.0/30"), block_size=32)
    taken: list[Prefix] = []
    while found := choose((tiny,), taken, "a"):
        taken.append(found)
    assert sorted(taken) == ["10.60.0.1/32", "10.60.0.2/32"]


def test_a_wish_is_for_the_block_that_holds_it() -> None:
    assert choose((FARM,), (), "a", Address("10.60.0.33")) == "10.60.0.32/28"
    assert choose((FARM,), (Prefix("10.60.0.32/28"),), "a", Address("10.60.0.33")) is None
    assert choose((FARM,), (Prefix("10.60.0.32/30"),), "a", Address("10.60.0.40")) is None, "a smaller one lies in it"


def test_blocks_without_an_address_are_passed_over() -> None:
    ranges = (Range(start=Address("10.60.0.100"), end=Address("10.60.0.101")),)
    narrow = Subnet(cidr=Prefix("10.60.0.0/24"), block_size=28, ranges=ranges)
    assert choose((narrow,), (), "a") == "10.60.0.96/28"
    shut = Subnet(cidr=Prefix("10.60.0.0/24"), block_size=28, exclude=("10.60.0.0/24",))
    assert choose((shut,), (), "a") is None


def test_who_has_them() -> None:
    said = full("farm", (FARM,), [block("10.60.0.0/28", "a"), block("10.60.0.16/28", "a"), block("10.60.0.32/28", "b")])
    assert said == "network farm: every /28 block of 10.60.0.0/24 is taken; by node: a 2, b 1"


def test_who_has_them_for_another_network() -> None:
    single = Subnet(cidr=Prefix("10.60.0.0/29"), block_size=32)
    mine, theirs = (
        [block(f"10.60.0.{at}/32", "a") for at in (1, 2)],
        [block(f"10.60.0.{at}/32", "b", "cam") for at in (3, 4, 5)],
    )
    assert full("farm", (single,), [*mine, *theirs, block("10.61.0.1/32", "c")]) == (
        "network farm: every address of 10.60.0.0/29 is taken; by node: a 2; for network cam, by node: b 3"
    )
    assert full("lan", (single,), mine) == (
        "network lan: every address of 10.60.0.0/29 is taken; by node: none; for network farm, by node: a 2"
    )
    assert fill(single, theirs, [Address("10.60.0.6"), Address("10.61.0.1")]) == (5, 3)


def test_a_ledger_gives_out_addresses_of_its_blocks_alone() -> None:
    ledger, of = Ledger(), network(Subnet(cidr=Prefix("10.60.0.0/24"), block_size=30), Subnet(cidr=Prefix("fd60::/64")))
    ledger.define(of, [])
    with pytest.raises(Lacking) as lacking:
        ledger.allocate("farm", Holder("one"))
    assert (lacking.value.family, lacking.value.wish) == (4, None)
    blocks = [Prefix("10.60.0.4/30"), Prefix("fd60::40/122")]
    ledger.define(of, blocks)
    given = [ledger.allocate("farm", Holder(str(at))) for at in range(4)]
    assert [one[0] for one in given] == [f"10.60.0.{at}/32" for at in range(4, 8)], "a block has no address to spare"
    assert given[0][1] == "fd60::40/128"
    with pytest.raises(Lacking, match=r"10\.60\.0\.4/30"):
        ledger.allocate("farm", Holder("five"))
    assert not ledger.held("five")
    with pytest.raises(Conflict, match=r"10\.60\.0\.4"):
        ledger.define(of, blocks[1:])
    ledger.define(of, [*blocks, Prefix("10.60.0.8/30")])
    assert ledger.allocate("farm", Holder("five"))[0] == "10.60.0.8/32"
    with pytest.raises(Lacking) as lacking:
        ledger.allocate("farm", Holder("six"), wishes=["10.60.0.99"])
    assert lacking.value.wish == "10.60.0.99"
    with pytest.raises(Invalid, match="not in network farm"):
        ledger.allocate("farm", Holder("six"), wishes=["10.61.0.99"])


def test_the_ends_of_the_subnet_are_given_to_nobody() -> None:
    ledger = Ledger()
    ledger.define(network(Subnet(cidr=Prefix("10.60.0.0/29"), block_size=29)), [Prefix("10.60.0.0/29")])
    assert [ledger.allocate("farm", Holder(str(at)))[0] for at in range(6)] == [f"10.60.0.{at}/32" for at in range(1, 7)]
    with pytest.raises(Lacking):
        ledger.allocate("farm", Holder("six"))


def test_subnets_for_some() -> None:
    ledger = Ledger()
    ledger.define(network(FARM, Subnet(cidr=Prefix("10.61.0.0/24"))), [Prefix("10.60.0.0/28"), Prefix("10.61.0.0/26")])
    assert ledger.allocate("farm", Holder("a"), fits=lambda subnet: "61" in subnet.cidr)[0] == "10.61.0.1/32"
    with pytest.raises(Invalid, match="none of"):
        ledger.allocate("farm", Holder("b"), fits=lambda _: False)


def test_of_a_block_that_is_a_network_to_others_the_ends_are_given_to_nobody() -> None:
    """As host-local does with a podCIDR: in IPv6 there is no broadcast address."""
    ledger, of = Ledger(), network(Subnet(cidr=Prefix("10.60.0.0/16")), Subnet(cidr=Prefix("fd60::/48")))
    mine = [Prefix("10.60.3.0/29"), Prefix("fd60:0:0:3::/125")]
    ledger.define(of, mine)
    assert ledger.allocate("farm", Holder("early")) == ("10.60.3.0/32", "fd60:0:0:3::/128")
    ledger.define(of, mine, apart=mine)
    assert ledger.held("early") == ("10.60.3.0/32", "fd60:0:0:3::/128"), "what somebody has he keeps"
    given = [ledger.allocate("farm", Holder(str(at))) for at in range(6)]
    assert [one[0] for one in given] == [f"10.60.3.{at}/32" for at in range(1, 7)]
    assert [one[1] for one in given] == [f"fd60:0:0:3::{at}/128" for at in range(1, 7)]
    with pytest.raises(Invalid, match="the broadcast address"):
        ledger.allocate("farm", Holder("last"), wishes=["10.60.3.7"], families=(4,))
    assert ledger.allocate("farm", Holder("last"), wishes=["fd60:0:0:3::7"], families=(6,)) == ("fd60:0:0:3::7/128",)
    ledger.release("early")
    with pytest.raises(Invalid, match="the network's own address"):
        ledger.allocate("farm", Holder("late"), wishes=["10.60.3.0"], families=(4,))
    few = [Prefix("10.60.4.0/31")]
    ledger = Ledger()
    ledger.define(of, few, apart=few)
    pair = [ledger.allocate("farm", Holder(f"few{at}"), families=(4,)) for at in range(2)]
    assert pair == [("10.60.4.0/32",), ("10.60.4.1/32",)], "of two none is spared"


def test_a_range_outside_of_the_blocks_there_are_may_be_in_another() -> None:
    pools = (Subnet(cidr=Prefix("10.60.0.0/24"), block_size=28), Subnet(cidr=Prefix("10.61.0.0/24"), block_size=28))
    ledger = Ledger()
    ledger.define(network(*pools), [Prefix("10.60.0.0/28")])
    with pytest.raises(Lacking) as lacking:
        ledger.allocate("farm", Holder("a"), ranges=[Subnet(cidr=Prefix("10.61.0.0/24"))])
    useful = narrowed(pools, lacking.value.within)
    assert [one.cidr for one in useful] == ["10.61.0.0/24"]
    block = choose(useful, [Prefix("10.60.0.0/28")], "a")
    assert block is not None
    assert useful[0].cidr.overlaps(block)
    ledger.define(network(*pools), [Prefix("10.60.0.0/28"), block])
    (given,) = ledger.allocate("farm", Holder("a"), ranges=[Subnet(cidr=Prefix("10.61.0.0/24"))])
    assert given.startswith("10.61.")
    part = Subnet(cidr=Prefix("10.60.0.0/24"), ranges=(Range(start=Address("10.60.0.100"), end=Address("10.60.0.101")),))
    with pytest.raises(Lacking) as lacking:
        ledger.allocate("farm", Holder("b"), ranges=[part])
    assert choose(narrowed(pools, lacking.value.within), [], "a") == "10.60.0.96/28"
    assert narrowed(pools, Spans.of(Prefix("10.70.0.0/24"))) == []
    assert narrowed(pools, None) == [*pools]
