"""Several nodes with real agents that share a store: their containers reach each other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kernel.agents import Agent, address
from tests.net import Containers, Namespace, Node, kept, machine
from tests.wait import eventually


class Station(Node):
    """A node on a switch: its only interface is eth0, with no default route."""

    def __init__(self, directory: Path, number: int, switch: Namespace) -> None:
        directory.mkdir()
        super().__init__(directory)
        self.number = number
        self.v4, self.v6 = f"192.0.2.{number}", f"2001:db8:2::{number:x}"
        machine(
            "ip",
            "link",
            "add",
            "eth0",
            "netns",
            self.name,
            "type",
            "veth",
            "peer",
            "name",
            f"port{number}",
            "netns",
            switch.name,
        )
        switch.run("ip", "link", "set", f"port{number}", "master", "switch", "up")
        self.run("sysctl", "-q", "-w", "net.ipv6.conf.eth0.accept_dad=0")
        self.run("ip", "address", "add", f"{self.v4}/24", "dev", "eth0")
        self.run("ip", "address", "add", f"{self.v6}/64", "dev", "eth0", "nodad")
        self.run("ip", "link", "set", "eth0", "up")


class Town:
    """Nodes with agents on one switch."""

    def __init__(self, cleanup: ExitStack, folder: Path, count: int) -> None:
        switch = kept(cleanup, Namespace("switch"))
        switch.run("ip", "link", "add", "switch", "up", "type", "bridge")
        self.nodes = [kept(cleanup, Station(folder / f"node{at}", at, switch)) for at in range(1, count + 1)]
        self.agents = []
        for node in self.nodes:
            agent = Agent(node, "--node", f"node{node.number}", "--store", f"sqlite://{folder}/shared.db", "--interval", "2")
            cleanup.callback(agent.remove)
            agent.start()
            self.agents.append(agent)


def known(agent: Agent, network: str) -> bool:
    return network in {one.name for one in agent.client.objects("networks")}


@pytest.fixture
def town(cleanup: ExitStack, tmp_path: Path) -> Callable[[int], Town]:
    return lambda count: Town(cleanup, tmp_path, count)


@pytest.mark.parametrize("driver", ["vxlan", "host-gw"])
def test_containers_of_two_nodes_reach_each_other(town: Callable[[int], Town], containers: Containers, driver: str) -> None:
    made = town(2)
    one, two = made.agents
    one.network("farm", "10.60.0.0/16", "fd60::/64", driver=driver)
    eventually(lambda: known(two, "farm"), what="the other node knows the network")
    here, there = containers.new("here"), containers.new("there")
    one.attach(here, "farm")
    at = two.attach(there, "farm")
    there.serve("tcp", 80)
    for family in (4, 6):
        eventually(lambda family=family: here.pings(address(at, family)), what=f"the way to the other node, IPv{family}")
        assert here.connects(address(at, family), 80)
        assert made.nodes[0].pings(address(at, family)), "the node itself reaches it"
    assert not one.drift()
    assert not two.drift()
