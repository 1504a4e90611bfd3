"""Nothing is repaired where nothing is broken: containers come, go, fail and vanish under comparisons all the time."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from fairlead.model import codec, errors
from tests.kernel.agents import Agent
from tests.kernel.test_policy import policy
from tests.net import Containers, Node
from tests.wait import eventually

SECONDS = 3.0


@pytest.fixture
def agent(cleanup: ExitStack, node: Node, plane: str) -> Agent:
    """One that compares everything a hundred times a second, if it gets to it."""
    made = Agent(node, "--interval", "0.01", "--debounce", "0.001", "--plane", plane)
    cleanup.callback(made.remove)
    made.start()
    made.network("blue", "10.50.0.0/24", "fd50::/64")
    made.network("red", "10.51.0.0/24", interContainer=False)
    for one in codec.from_yaml(policy("a", "{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 80}]}]}")):
        made.client.apply(one)
    return made


def keep(busy: Callable[[int], object]) -> int:
    """Do it again and again in several threads; how often it was done."""
    end, count = time.monotonic() + SECONDS, itertools.count()

    def work(at: int) -> None:
        while time.monotonic() < end:
            busy(at)
            next(count)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    return next(count)


def repaired(agent: Agent) -> list[str]:
    return [line for line in agent.log.splitlines() if "repair" in line or "WARNING" in line or "ERROR" in line]


def test_containers_come_and_go(agent: Agent, containers: Containers) -> None:
    """With ports, limits and policies; each thread has its own containers."""
    rooms = [[containers.new(f"c{at}-{i}") for i in range(2)] for at in range(4)]

    def turn(at: int) -> None:
        for i, room in enumerate(rooms[at]):
            ports = [{"hostPort": 9000 + at * 10 + i, "containerPort": 80, "protocol": "udp" if i else "tcp"}]
            limits = (
                {
                    "bandwidth": {
                        "ingressRate": 10_000_000,
                        "ingressBurst": 1_000_000,
                        "egressRate": 10_000_000,
                        "egressBurst": 1_000_000,
                    }
                }
                if i
                else {}
            )
            agent.attach(room, "red" if i else "blue", namespace="shop", labels={"app": "web"}, ports=ports, **limits)
        for i, room in enumerate(rooms[at]):
            agent.detach(room, wait=bool(i))

    assert keep(turn) > 10
    assert repaired(agent) == []
    assert agent.client.status().repairs == 0
    eventually(lambda: not agent.drift(), what="no drift")


def test_starts_that_fail(agent: Agent, containers: Containers) -> None:
    """Half way, in the kernel: there is another eth0 already. What was made is taken back, and nobody takes it for broken."""
    rooms = [containers.new(f"c{at}") for at in range(4)]
    for room in rooms:
        room.run("ip", "link", "add", "eth0", "type", "bridge")

    def turn(at: int) -> None:
        with pytest.raises(errors.Problem):
            agent.attach(
                rooms[at], "blue", namespace="shop", labels={"app": "web"}, ports=[{"hostPort": 9000 + at, "containerPort": 80}]
            )

    assert keep(turn) > 10
    assert repaired(agent) == []
    eventually(lambda: not agent.drift(), what="no drift")


def test_containers_that_vanish(agent: Agent, containers: Containers) -> None:
    """Their namespace goes before anybody says so, and with it their interface."""

    def turn(at: int) -> None:
        room = containers.new(f"c{at}")
        agent.attach(
            room, "blue", namespace="shop", labels={"app": "web"}, ports=[{"hostPort": 9000 + at, "containerPort": 80}]
        )
        room.remove()
        agent.detach(room)

    assert keep(turn) > 10
    assert repaired(agent) == []
    eventually(lambda: not agent.drift(), what="no drift")
