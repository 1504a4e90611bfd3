"""From a topology to every address, cable and route of it."""

from __future__ import annotations

import pytest

from fairlead.lab import grow, plan, shape, topology
from fairlead.lab.parts import Plan, Planned, Role
from fairlead.lab.shape import Underlay
from fairlead.lab.topology import Label, LabSpec, Node, Store, StoreDriver
from fairlead.model import codec
from fairlead.model.address import Address, Prefix
from fairlead.model.errors import Exhausted, Invalid
from tests.unit.test_lab_topology import HEAD, WHOLE


def planned(spec: LabSpec, **behind: tuple[Prefix, ...]) -> Plan:
    return plan.plan(plan.complete(spec), behind)


def routes(of: Planned) -> dict[str, str]:
    return {str(one.dst): str(one.via) for one in of.routes}


def addresses(of: Planned) -> list[str]:
    return [str(one) for one in of.addresses]


def test_one_switch() -> None:
    made = planned(shape.spec(Underlay.L2, 2, families=(4, 6)))
    assert {name: addresses(one) for name, one in made.machines.items()} == {
        "node1": ["172.16.0.1/24", "fd00:16::1/64"],
        "node2": ["172.16.0.2/24", "fd00:16::2/64"],
        "outside": ["172.16.0.254/24", "fd00:16::fe/64"],
    }
    assert routes(made.machines["node1"]) == {"0.0.0.0/0": "172.16.0.254", "::/0": "fd00:16::fe"}
    assert routes(made.machines["outside"]) == {}


def test_nobody_outside() -> None:
    made = planned(shape.spec(Underlay.L2, 2, outside=False))
    assert routes(made.machines["node1"]) == {}


def test_a_router_between() -> None:
    made = planned(shape.spec(Underlay.L3, 2))
    assert addresses(made.machines["node2"]) == ["172.16.2.1/24"]
    assert routes(made.machines["node2"]) == {"0.0.0.0/0": "172.16.2.254"}
    assert addresses(made.machines["router"]) == ["172.16.1.254/24", "172.16.2.254/24", "203.0.113.254/24"]
    assert [wire.interface for wire in made.machines["router"].wires] == ["net1", "net2", "internet"]
    assert [wire.port for wire in made.machines["router"].wires] == ["router", "router.1", "router.2"]
    assert routes(made.machines["outside"]) == {"0.0.0.0/0": "203.0.113.254"}


def test_a_whole_file() -> None:
    made = planned(topology.read(WHOLE)[0].spec)
    a, b, r1, r2 = (made.machines[name] for name in ("a", "b", "r1", "r2"))
    assert addresses(a) == ["192.0.2.9/24"]
    assert addresses(b) == ["192.0.2.1/24", "172.16.0.2/24", "fd00:16::2/64"]
    assert [(wire.subnet, wire.interface, wire.mtu) for wire in b.wires] == [
        ("east", "eth0", 1300), ("west", "eth1", 1300), ("mgmt", "mgmt0", 1500),
    ]  # fmt: skip
    assert {wire.subnet: wire.mtu for wire in r2.wires} == {"west": 1400, "link1": 1300}
    assert routes(r1) == {"172.16.0.0/24": "172.30.0.1", "fd00:16::/64": "fd00:30::1"}
    assert routes(r2) == {"192.0.2.0/24": "172.30.0.2"}
    assert routes(a) == {"0.0.0.0/0": "192.0.2.254"}
    assert [one.name for one in made.of(Role.STORE)] == ["etcd1", "etcd2", "etcd3"]
    assert made.machines["etcd1"].wires[0].addresses == ("172.31.0.254/24", "fd00:31::fe/64")
    assert a.wires[1].addresses == ("172.31.0.1/24", "fd00:31::1/64")


def test_the_shortest_way_through_several_routers() -> None:
    made = planned(
        topology.read(
            f"{HEAD}spec:\n"
            "  nodes: [{name: n, subnets: [w]}]\n"
            "  subnets: [{name: w}, {name: x}, {name: y}, {name: z}]\n"
            "  routers: [{name: r, subnets: [w, x]}, {name: s, subnets: [x, y]}, {name: t, subnets: [y, z]}, "
            "{name: u, subnets: [w, z]}]\n"
        )[0].spec
    )
    x, z = made.machines["s"].on("x"), made.machines["u"].on("w")
    assert x
    assert z
    assert routes(made.machines["r"]) == {"172.16.2.0/24": str(x.address(4)), "172.16.3.0/24": str(z.address(4))}


def test_what_is_complete_stays_as_it_is() -> None:
    for spec in (topology.read(WHOLE)[0].spec, shape.spec(Underlay.L3, 3, store=Store(driver=StoreDriver.ETCD))):
        made = plan.complete(spec)
        assert plan.complete(made) == made
        assert codec.from_tree(codec.to_tree(made), LabSpec) == made


def test_no_two_machines_share_a_mac_or_a_port() -> None:
    made = planned(shape.spec(Underlay.L3, 20, store=Store(driver=StoreDriver.ETCD, members=3)))
    wires = [wire for one in made.machines.values() for wire in one.wires]
    assert len({wire.mac for wire in wires}) == len({wire.port for wire in wires}) == len(wires)
    assert all(len(wire.port) <= 15 for wire in wires)


def test_what_is_behind_a_node_is_reached_through_it() -> None:
    pods = {"node1": (Prefix("10.1.0.0/24"), Prefix("fd01::/64"))}
    flat = plan.plan(plan.complete(shape.spec(Underlay.L2, 2, families=(4, 6))), pods)
    assert routes(flat.machines["node2"])["10.1.0.0/24"] == "172.16.0.1"
    assert routes(flat.machines["node2"])["fd01::/64"] == "fd00:16::1"
    assert "10.1.0.0/24" not in routes(flat.machines["node1"])
    spread = plan.plan(plan.complete(shape.spec(Underlay.L3, 2, store=Store(driver=StoreDriver.ETCD))), pods)
    assert routes(spread.machines["router"])["10.1.0.0/24"] == "172.16.1.1"
    assert "10.1.0.0/24" not in routes(spread.machines["node2"])  # its router knows


def test_a_node_more_changes_nobody_s_address() -> None:
    for underlay, subnet in ((Underlay.L2, "underlay"), (Underlay.L3, "net3")):
        before = plan.complete(shape.spec(underlay, 2, store=Store(driver=StoreDriver.ETCD)))
        after = plan.complete(shape.grown(before, underlay, Node(name=Label("node3"))))
        assert after.nodes[:2] == before.nodes
        assert after.nodes[2].subnets == (subnet,)
        old, new = plan.plan(before), plan.plan(after)
        assert [new.machines[name].wires for name in ("node1", "etcd1")] == [
            old.machines[name].wires for name in ("node1", "etcd1")
        ]
        assert new.machines["node3"].wires[1].addresses == ("172.31.0.3/24",)


def test_a_machine_that_moves_keeps_what_nobody_spoke_of() -> None:
    before = plan.complete(shape.spec(Underlay.L2, 2, families=(4, 6)))
    after = grow.moved(before, "node2", [Address("172.16.0.9")])
    assert set(after.nodes[1].addresses) == {"172.16.0.9", "fd00:16::2"}
    assert after.nodes[0] == before.nodes[0]
    with pytest.raises(Invalid, match=r"172\.16\.0\.1 is node1's") as caught:
        grow.moved(before, "node2", [Address("172.16.0.1")])
    assert caught.value.field == "nodes[1].addresses[0]"


def test_a_subnet_can_be_full() -> None:
    text = f"{HEAD}spec:\n  subnets: [{{name: x, cidrs: [10.0.0.0/30]}}]\n  nodes: [{{name: a}}, {{name: b}}, {{name: c}}]\n"
    with pytest.raises(Exhausted, match=r"10\.0\.0\.0/30 has no address left for c"):
        plan.complete(topology.read(text)[0].spec)
