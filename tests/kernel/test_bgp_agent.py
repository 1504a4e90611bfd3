"""BGP as people meet it: agents that share a store, networks with driver bgp, objects, the command line, doctor."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead.kernel.process import started
from fairlead.model import codec
from tests.kernel.agents import Agent, address
from tests.kernel.test_cluster import Town, known, town  # noqa: F401  # a fixture
from tests.net import Containers, Node
from tests.wait import eventually

pytestmark = pytest.mark.needs("bird")


def apply(agent: Agent, text: str) -> list[str]:
    """Apply objects; the warnings."""
    return [warning for one in codec.from_yaml(text) for warning in agent.client.apply(one).warnings]


def farm(town: Callable[[int], Town], count: int = 2, **spec: object) -> Town:  # noqa: F811  # the fixture's value
    made = town(count)
    made.agents[0].network("farm", "10.60.0.0/16", "fd60::/64", driver="bgp", **spec)
    for agent in made.agents:
        eventually(lambda agent=agent: known(agent, "farm"), what="every node knows the network")
    return made


def established(agent: Agent, count: int) -> bool:
    status = agent.client.bgp_status()
    return status.running and len(status.neighbours) == count and all(one.up for one in status.neighbours)


def bird(node: Node) -> int:
    """The speaker's process; 0 if there is none."""
    path = node.run_dir / "bgp/var/bird.pid"
    pid = int(path.read_text()) if path.exists() else 0
    return pid if pid and started(pid) else 0


def fairlead(node: Node, *words: str, ok: bool = True) -> str:
    done = node.attempt(Path(__import__("sys").executable).with_name("fairlead"), *words)
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_containers_of_two_nodes_reach_each_other(town: Callable[[int], Town], containers: Containers) -> None:  # noqa: F811
    made = farm(town)
    one, two = made.agents
    here, there = containers.new("here"), containers.new("there")
    one.attach(here, "farm")
    at = two.attach(there, "farm")
    there.serve("tcp", 80)
    for agent in made.agents:
        eventually(lambda agent=agent: established(agent, 1), deadline=15, what="the session")
    for family in (4, 6):
        eventually(lambda family=family: here.pings(address(at, family)), what=f"the way to the other node, IPv{family}")
        assert here.connects(address(at, family), 80)
        assert made.nodes[0].pings(address(at, family)), "the node itself reaches it"
    assert not one.drift()
    assert not two.drift()
    (route,) = [one for one in one.client.bgp_routes(peer="node2") if one.prefix.startswith("10.")]
    assert (route.best, route.via) == (True, ("192.0.2.2 on eth0",))
    assert "1 session, all established" in str(one.client.doctor())
    # The network can still be changed, though its own routes are in the kernel.
    one.network("farm", "10.60.0.0/16", "fd60::/64", driver="bgp", masquerade=False)
    assert here.connects(address(at), 80)


def test_an_agent_ends_and_the_speaker_goes_on(town: Callable[[int], Town], containers: Containers) -> None:  # noqa: F811
    made = farm(town)
    one, two = made.agents
    here, there = containers.new("here"), containers.new("there")
    one.attach(here, "farm")
    at = address(two.attach(there, "farm"))
    eventually(lambda: established(one, 1), deadline=15)
    eventually(lambda: here.pings(at))
    pid, since = bird(made.nodes[0]), one.client.bgp_status().neighbours[0].since
    one.stop()
    assert bird(made.nodes[0]) == pid
    assert here.pings(at)
    one.start()
    eventually(lambda: established(one, 1))
    assert (bird(made.nodes[0]), one.client.bgp_status().neighbours[0].since) == (pid, since)
    one.kill()
    os.kill(pid, 9)
    assert here.pings(at), "the kernel keeps what was learned"
    one.start()
    eventually(lambda: bird(made.nodes[0]) not in {0, pid}, what="an agent that finds it dead starts it")
    eventually(lambda: established(one, 1), deadline=15)
    assert here.pings(at)
    os.kill(bird(made.nodes[0]), 9)
    eventually(lambda: one.client.bgp_status().restarts == 1, what="and one that sees it die, too")
    eventually(lambda: established(one, 1), deadline=15)


def test_without_a_network_nobody_speaks(town: Callable[[int], Town], containers: Containers) -> None:  # noqa: F811
    made = town(2)
    one, two = made.agents
    assert not one.client.bgp_status().wanted
    assert not (made.nodes[0].run_dir / "bgp").exists()
    assert "BGP" not in str(one.client.doctor())
    one.network("farm", "10.60.0.0/16", driver="bgp")
    eventually(lambda: known(two, "farm"))
    there = containers.new("there")
    two.attach(there, "farm")
    eventually(lambda: made.nodes[0].run("ip", "route", "show", "proto", "bird"), deadline=15, what="the other node's block")
    two.detach(there)
    one.client.delete("networks", "farm")
    for node in made.nodes:
        eventually(lambda node=node: not bird(node), what="the speaker ends")
        eventually(lambda node=node: not node.run("ip", "route", "show", "proto", "bird"), what="and its routes go")
    assert not one.client.bgp_status().wanted
