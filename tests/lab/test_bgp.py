"""Nodes that tell of their containers by BGP: each other on one subnet, over subnets routers that speak it too."""

from __future__ import annotations

import pytest

from fairlead.model import codec, meta
from tests.lab.conftest import Labs
from tests.lab.town import Town

KINDS = {meta.kind(one) for one in codec.KINDS}

pytestmark = [
    pytest.mark.needs("bird"),
    pytest.mark.skipif("BGPPeer" not in KINDS, reason="these agents speak no BGP"),
]

TOWN = """
apiVersion: fairlead.dev/v1
kind: Lab
spec:
  families: [4, 6]
  subnets: [{name: east}, {name: west}]
  routers: [{name: r1, subnets: [east], asNumber: 65001}, {name: r2, subnets: [west], asNumber: 65002}]
  links: [{routers: [r1, r2]}]
  nodes:
    - {name: a, subnets: [east], pods: 1}
    - {name: b, subnets: [west], pods: 1}
"""


@pytest.mark.parametrize("underlay", ["l2", "l3"])
def test_pods_reach_each_other_without_a_tunnel(lab: Labs, underlay: str) -> None:
    town = lab(nodes=2, network="bgp", underlay=underlay, dual=True)
    one, other = town.pod(1), town.pod(2)
    assert one.reaches(other)
    assert other.reaches(one)
    assert {answer.peer for answer in one.asks(other) if answer} == {str(at) for at in one.addresses}
    assert "proto bird" in town.run("node1", "ip", "route")
    assert "vxlan" not in town.run("node1", "ip", "-details", "link")


def test_a_partition_stops_what_routers_would_carry(lab: Labs) -> None:
    town = lab(nodes=2, network="bgp", underlay="l3", dual=True)
    one, other = town.pod(1), town.pod(2)
    assert one.reaches(other)
    town.partition("node1", "node2")
    try:
        assert one.misses(other)
        assert one.reaches(town.outside)
    finally:
        town.heal()
    assert one.reaches(other)


def test_a_router_that_crashes_learns_everything_again(lab: Labs) -> None:
    town = lab(nodes=2, network="bgp", underlay="l3", dual=True)
    one, other = town.pod(1), town.pod(2)
    assert one.reaches(other)
    town.stop("router")
    assert one.misses(other)
    town.start("router")
    assert one.reaches(other)


def test_one_node_more_is_heard_of(lab: Labs) -> None:
    with lab.own(nodes=1, network="bgp", underlay="l3") as town:
        town.add("node2")
        assert town.pod(2).reaches(town.pod(1))
        assert town.pod(1).reaches(town.pod(2))


def test_routers_tell_each_other(lab: Labs) -> None:
    town: Town = lab(file=TOWN, network="bgp")
    one, other = town.pod("a"), town.pod("b")
    assert one.reaches(other)
    assert other.reaches(one)
    assert "172.30.0." in town.run("r1", "ip", "route", "show", "proto", "bird")
