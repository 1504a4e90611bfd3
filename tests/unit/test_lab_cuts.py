"""The rules that cut machines off from each other, as text; that they work is tested in tests/lab."""

from __future__ import annotations

from fairlead.lab import cuts, plan, shape, topology
from fairlead.lab.shape import Underlay
from fairlead.model.address import Prefix
from tests.unit.test_lab_topology import WHOLE


def rules(text: str) -> list[str]:
    """The lines that drop, without what all have."""
    return [line.strip().removesuffix(" counter drop") for line in text.splitlines() if "drop" in line]


def test_on_one_switch_by_ports() -> None:
    made = plan.plan(plan.complete(shape.spec(Underlay.L2, 3)))
    texts = cuts.rules(made, [("node1", "node2")], {})
    assert set(texts) == {"switch"}
    assert rules(texts["switch"]) == ['iifname "node1" oifname "node2"', 'iifname "node2" oifname "node1"']


def test_through_one_router_by_the_sender_s_mac_and_the_next_hop() -> None:
    made = plan.plan(plan.complete(shape.spec(Underlay.L3, 2, families=(4, 6))))
    texts = cuts.rules(made, [("node1", "node2")], {})
    mac, hop = made.machines["node1"].wires[0].mac, made.machines["node2"].wires[0].mac.link_local
    assert rules(texts["switch"]) == []
    assert rules(texts["router"])[:2] == [
        f"ether saddr {{ {mac} }} rt ip nexthop {{ 172.16.2.1 }}",
        f"ether saddr {{ {mac} }} rt ip6 nexthop {{ fd00:16:2::1, {hop} }}",
    ]
    assert len(rules(texts["router"])) == 4


def test_through_two_routers_by_addresses_and_what_is_behind() -> None:
    made = plan.plan(plan.complete(topology.read(WHOLE)[0].spec))
    texts = cuts.rules(made, [("a", "world")], {"a": [Prefix("10.1.0.0/24")]})
    assert f"ether saddr {{ {made.machines['a'].wires[0].mac} }} ip daddr {{ 172.16.0.1/32 }}" in rules(texts["r1"])
    assert "ip saddr { 192.0.2.9/32, 10.1.0.0/24 } rt ip nexthop { 172.16.0.1 }" in rules(texts["r2"])
    assert not any("{  }" in text for text in texts.values())


def test_nothing_is_left_of_what_is_healed() -> None:
    made = plan.plan(plan.complete(shape.spec(Underlay.L3, 2)))
    for name, text in cuts.rules(made, [], {}).items():
        family = "bridge" if name == "switch" else "inet"
        assert text == f"add table {family} {cuts.TABLE}\ndelete table {family} {cuts.TABLE}\n"


def test_a_router_is_cut_off_at_the_switch() -> None:
    made = plan.plan(plan.complete(shape.spec(Underlay.L3, 2)))
    texts = cuts.rules(made, [("node1", "router")], {})
    assert rules(texts["router"]) == []
    assert rules(texts["switch"]) == ['iifname "node1" oifname "router"', 'iifname "router" oifname "node1"']
