"""What routers of a lab that speak BGP are told, and nodes of them."""

from __future__ import annotations

from fairlead.lab import plan, shape, speaker, topology
from fairlead.lab.shape import Underlay
from tests.unit.test_lab_topology import HEAD

FILE = f"""{HEAD}spec:
  subnets: [{{name: east}}, {{name: far-west}}]
  routers:
    - {{name: r1, subnets: [east], asNumber: 65001}}
    - {{name: r2, subnets: [far-west], asNumber: 65002}}
    - {{name: r3, subnets: [east]}}
  links: [{{routers: [r1, r2]}}]
  nodes: [{{name: a, subnets: [east]}}, {{name: b, subnets: [far-west]}}]
"""


def test_a_router_hears_every_node_on_its_subnets() -> None:
    spec = plan.complete(shape.spec(Underlay.L3, 2, families=(4, 6), as_number=speaker.ROUTERS))
    made = plan.plan(spec)
    text = speaker.text(made, made.machines["router"], spec.systems)
    assert "router id 172.16.1.254;" in text
    assert "    local 172.16.2.254 as 65000;\n    neighbor range 172.16.2.0/24 as 64512;" in text
    assert list(speaker.peers(made, made.machines["node2"], spec.systems)) == [
        {
            "apiVersion": "fairlead.dev/v1",
            "kind": "BGPPeer",
            "metadata": {"name": "node2-router"},
            "spec": {"node": "node2", "peerIP": "172.16.2.254", "asNumber": 65000, "numAllowedLocalASNumbers": 1},
        }
    ]


def test_routers_speak_with_each_other_where_both_do() -> None:
    spec = plan.complete(topology.read(FILE)[0].spec)
    made = plan.plan(spec)
    text = speaker.text(made, made.machines["r2"], spec.systems)
    assert "protocol bgp r1_link1 from lab {\n    local 172.30.0.1 as 65002;\n    neighbor 172.30.0.2 as 65001;\n}" in text
    assert "protocol bgp nodes_far_west from lab" in text
    assert "r3" not in speaker.text(made, made.machines["r1"], spec.systems)
    assert [one["spec"]["peerIP"] for one in speaker.peers(made, made.machines["a"], spec.systems)] == ["172.16.0.254"]


def test_without_ipv4() -> None:
    spec = plan.complete(shape.spec(Underlay.L3, 1, families=(6,), as_number=speaker.ROUTERS))
    made = plan.plan(spec)
    text = speaker.text(made, made.machines["router"], spec.systems)
    assert "neighbor range fd00:16:1::/64 as 64512;" in text
    assert text.split("router id ")[1].split(";")[0].count(".") == 3


def test_nodes_that_have_routers_do_not_speak_among_themselves() -> None:
    assert [one["spec"] for one in speaker.settings({"r1": 65001})] == [{"nodeToNodeMesh": False}]
    assert list(speaker.settings({})) == []


def test_on_one_switch_nobody_need_be_told() -> None:
    spec = plan.complete(shape.spec(Underlay.L2, 2, as_number=speaker.ROUTERS))
    assert spec.systems == {}
    assert list(speaker.peers(plan.plan(spec), plan.plan(spec).machines["node1"], spec.systems)) == []
