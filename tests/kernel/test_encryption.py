"""Encryption between nodes, with real agents: what is on the wire, in every situation."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.kernel.agents import address
from tests.kernel.test_cluster import Town, attached, farm, known, town  # noqa: F401
from tests.net import Containers
from tests.wait import eventually

pytestmark = pytest.mark.needs("wireguard-go", "tcpdump")


@pytest.mark.parametrize("driver", ["vxlan", "host-gw"])
def test_containers_of_two_nodes_reach_each_other(town: Callable[[int], Town], containers: Containers, driver: str) -> None:
    made = town(2)
    one, two = made.agents
    one.network("farm", "10.60.0.0/16", "fd60::/64", driver=driver, encrypt=True)
    eventually(lambda: known(two, "farm"), what="the other node knows the network")
    here, there = containers.new("here"), containers.new("there")
    one.attach(here, "farm")
    at = two.attach(there, "farm")
    there.serve("tcp", 80)
    for family in (4, 6):
        eventually(lambda family=family: here.pings(address(at, family)), what=f"the way to the other node, IPv{family}")
        assert here.connects(address(at, family), 80)
        assert made.nodes[0].pings(address(at, family)), "the node itself reaches it"
    print(made.nodes[0].run("ip", "route"), made.nodes[0].run("ip", "-6", "route"), made.nodes[0].run("ip", "rule"), made.nodes[0].run("ip", "route", "show", "table", "26220"))
    assert not one.drift()
    assert not two.drift()
