"""The agent is killed and started twenty times under load, every second time as an upgrade; traffic does not notice."""

from __future__ import annotations

from tests.kernel.agents import Agent, address
from tests.kernel.traffic import Lost, Traffic
from tests.net import Containers, Node, Outside

ROUNDS = 20


def test_nothing_is_lost_while_the_agent_is_killed_and_started_twenty_times(
    agent: Agent, node: Node, outside: Outside, containers: Containers, record_figures: list[str]
) -> None:
    agent.network("blue", "10.50.0.0/24", "fd50::/64")
    one, two = containers.new("one"), containers.new("two")
    to = address(agent.attach(one, "blue", ports=[{"hostPort": 8080, "containerPort": 7080}]))
    agent.attach(two, "blue")
    between = Traffic(two, one, to)
    published = Traffic(outside, one, node.v4, port=8080, at=7080)
    for at in range(ROUNDS):
        agent.kill()
        if at % 2:  # as another version would leave it: rules that are not known to be ours, so they are put anew
            (node.run_dir / "nftables-inet.fingerprint").write_text("of another version")
        agent.start()
        assert (agent.client.status().repairs > 0) == bool(at % 2)
    lost: dict[str, Lost] = {"two containers": between.stop(), "a published port, from outside": published.stop()}
    record_figures += [f"agent killed and started {ROUNDS} times; {what}: {figures}" for what, figures in lost.items()]
    for figures in lost.values():
        assert figures.nothing, figures
    assert not agent.drift()
