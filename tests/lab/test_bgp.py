"""Nodes on subnets of their own that tell routers of their containers by BGP; the routers tell each other."""

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


@pytest.fixture
def spread(lab: Labs) -> Town:
    """Each node on a subnet of its own, with a router between."""
    return lab(nodes=2, network="bgp", underlay="l3", dual=True)


def test_each_node_on_a_subnet_of_its_own(spread: Town) -> None:
    one, other = spread.machine("node1"), spread.machine("node2")
    assert [str(at) for at in other.addresses] == ["172.16.2.1", "fd00:16:2::1"]
    assert spread.hops("node1", other.address(4)) == spread.hops("node1", other.address(6)) == 1
    assert spread.pod(2).reaches(spread.outside)
    assert one.reaches(spread.outside)


def test_pods_reach_each_other_without_a_tunnel(spread: Town) -> None:
    one, other = spread.pod(1), spread.pod(2)
    assert one.reaches(other)
    assert other.reaches(one)
    assert {answer.peer for answer in one.asks(other) if answer} == {str(at) for at in one.addresses}
    assert "proto bird" in spread.run("node1", "ip", "route")
    assert "vxlan" not in spread.run("node1", "ip", "-details", "link")


def test_a_partition_stops_what_routers_would_carry(spread: Town) -> None:
    one, other = spread.pod(1), spread.pod(2)
    assert one.reaches(other)
    spread.partition("node1", "node2")
    try:
        assert one.misses(other)
        assert spread.lab.machine("node1").attempt("ping", "-c", "1", "-W", "1", "172.16.2.1").returncode != 0
        assert spread.lab.machine("node2").attempt("ping", "-c", "1", "-W", "1", "fd00:16:1::1").returncode != 0
        assert one.reaches(spread.outside)
        assert spread.hops("node1", "172.16.2.254") == 0  # the router itself
    finally:
        spread.heal()
    assert one.reaches(other)


def test_a_router_that_crashes_learns_everything_again(spread: Town) -> None:
    one, other = spread.pod(1), spread.pod(2)
    assert one.reaches(other)
    spread.stop("router")
    assert one.misses(other)
    spread.start("router")
    assert one.reaches(other)


def test_one_node_more_gets_a_subnet_of_its_own_and_is_heard_of(lab: Labs) -> None:
    with lab.own(nodes=1, network="bgp", underlay="l3", dual=True) as town:
        town.add("node2")
        assert town.machine("node2").address(4) == "172.16.2.1"
        assert town.pod(2).reaches(town.pod(1))
        assert town.pod(1).reaches(town.pod(2))


def test_routers_tell_each_other(lab: Labs) -> None:
    town: Town = lab(file=TOWN, network="bgp")
    one, other = town.pod("a"), town.pod("b")
    assert one.reaches(other)
    assert other.reaches(one)
    assert "172.30.0." in town.run("r1", "ip", "route", "show", "proto", "bird")
