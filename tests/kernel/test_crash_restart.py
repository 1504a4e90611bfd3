"""The agent is killed and started twenty times under load, then upgraded as often; traffic does not notice."""

from __future__ import annotations

from contextlib import ExitStack, suppress

from fairlead.model import errors
from tests.kernel.agents import Agent, address
from tests.kernel.traffic import Lost, Traffic
from tests.net import Containers, Node, Outside
from tests.wait import eventually

ROUNDS, UPGRADES = 20, 10


class Load:
    """Traffic between two containers, and from outside through a published port."""

    def __init__(self, agent: Agent, node: Node, outside: Outside, containers: Containers) -> None:
        agent.network("blue", "10.50.0.0/24", "fd50::/64")
        one, two = containers.new("one"), containers.new("two")
        to = address(agent.attach(one, "blue", ports=[{"hostPort": 8080, "containerPort": 7080}]))
        agent.attach(two, "blue")
        self._between = Traffic(two, one, to)
        self._published = Traffic(outside, one, node.v4, port=8080, at=7080)

    def stop(self, figures: list[str], what: str) -> list[Lost]:
        lost = {"two containers": self._between.stop(), "a published port, from outside": self._published.stop()}
        figures += [f"agent {what} times; {where}: {said}" for where, said in lost.items()]
        return list(lost.values())


def test_nothing_is_lost_while_the_agent_is_killed_and_started_twenty_times(
    agent: Agent, node: Node, outside: Outside, containers: Containers, record_figures: list[str]
) -> None:
    load = Load(agent, node, outside, containers)
    for _ in range(ROUNDS):
        agent.kill()
        agent.start()
        assert agent.client.status().repairs == 0
    for lost in load.stop(record_figures, f"killed and started {ROUNDS}"):
        assert lost.nothing, lost
    assert not agent.drift()


def test_an_upgrade_that_brings_other_rules_is_not_felt(
    agent: Agent, node: Node, outside: Outside, containers: Containers, record_figures: list[str]
) -> None:
    load = Load(agent, node, outside, containers)
    for _ in range(UPGRADES):
        agent.stop()
        for memory in node.run_dir.glob("nftables-*.fingerprint"):  # as another version would leave them
            memory.write_text("0123456789abcdef " + memory.read_text().partition(" ")[2])
        agent.start()
        assert agent.client.status().repairs == 0
    for lost in load.stop(record_figures, f"upgraded {UPGRADES}"):
        # A packet that is being judged in the instant of the exchange finds the old table's sets empty.
        assert lost.lost <= 3, lost
        assert lost.bytes_sent == lost.bytes_taken > 0, lost
    assert not agent.drift()


def test_ports_that_were_passing_on_are_published_after_a_crash(
    cleanup: ExitStack, node: Node, outside: Outside, containers: Containers
) -> None:
    """Of two attachments that publish one port the first goes, and the agent dies before the other has taken it over."""
    armed = node.run_dir.parent / "fault"
    node.environ["FAIRLEAD_FAULT"] = f"@{armed}"
    agent = Agent(node)
    cleanup.callback(agent.remove)
    agent.start()
    one = containers.new("one")
    for network, subnet, interface in (("red", "10.51.0.0/24", "eth0"), ("blue", "10.50.0.0/24", "eth1")):
        agent.network(network, subnet)
        agent.attach(one, network, interface=interface, ports=[{"hostPort": 8080, "containerPort": 80}])
    one.serve("tcp", 80)
    assert outside.connects(node.v4, 8080)
    armed.write_text("detach.released")
    with suppress(errors.Unavailable):
        agent.detach(one, "eth0")
    eventually(lambda: not agent.running, what="the agent has died")
    armed.unlink()
    agent.start()
    assert outside.connects(node.v4, 8080)
    assert not agent.drift()
