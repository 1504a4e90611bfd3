"""What the kernel's tables have no room for is refused in words, whole; and who may not be refused is warned before."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from fairlead.api.schema import Finding
from fairlead.model import codec, errors
from tests.kernel.agents import Agent, address
from tests.kernel.test_policy import PATIENCE, policy
from tests.net import Containers, Node
from tests.wait import eventually

pytestmark = pytest.mark.kernel("ebpf")

FLOOD = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in range(1, 2001):
    sock.sendto(b"x", (sys.argv[1], port))
"""
"""As many connections as there are ports, nobody answering."""


@pytest.fixture
def start(cleanup: ExitStack, node: Node) -> Callable[..., Agent]:
    """Starts an agent with more options."""

    def begin(*more: str) -> Agent:
        made = Agent(node, "--interval", "1", *more)
        cleanup.callback(made.remove)
        made.start()
        made.network("town", "10.60.0.0/24")
        return made

    return begin


def blocks(name: str, count: int) -> str:
    """A policy that lets in as many addresses, and containers of its own namespace."""
    found = ", ".join(f"{{ipBlock: {{cidr: 198.51.100.{at}/32}}}}" for at in range(count))
    return policy(name, f"{{podSelector: {{}}, ingress: [{{from: [{{podSelector: {{}}}}, {found}]}}]}}")


def warnings(agent: Agent) -> list[Finding]:
    return [one for one in agent.client.doctor().findings if one.check == "policy" and one.level == "warning"]


def test_a_policy_too_many_is_refused_whole(start: Callable[..., Agent], containers: Containers) -> None:
    agent = start("--map-size", "peers=12")
    web, friend, rogue = containers.new("web"), containers.new("friend"), containers.new("rogue")
    target = address(agent.attach(web, "town", namespace="shop"))
    agent.attach(friend, "town", namespace="shop")
    agent.attach(rogue, "town")
    web.serve("tcp", 80)
    agent.client.apply(codec.from_yaml(blocks("a", 3))[0])
    with pytest.raises(errors.Problem, match="the kernel's map of peers is full: it has room for 12 entries"):
        agent.client.apply(codec.from_yaml(blocks("b", 30))[0])
    assert friend.connects(target, 80)
    assert not rogue.connects(target, 80, deadline=PATIENCE)
    assert not [one for one in agent.drift() if "peer" in one]
    assert [one.name for one in agent.client.objects("networkpolicies")] == ["a"], "nobody need take it back"
    agent.attach(containers.new("late"), "town", namespace="shop")
    with pytest.raises(errors.Problem, match="map of peers is full"):
        agent.client.apply(codec.from_yaml(blocks("a", 30))[0])
    agent.client.apply(codec.from_yaml(blocks("c", 4))[0])
    assert not agent.drift()
    assert friend.connects(target, 80)
    assert not rogue.connects(target, 80, deadline=PATIENCE)


def test_a_container_too_many_is_refused_whole(start: Callable[..., Agent], containers: Containers, node: Node) -> None:
    agent = start("--map-size", "endpoints=2")
    one, two, three = (containers.new(name) for name in ("one", "two", "three"))
    agent.attach(one, "town")
    target = address(agent.attach(two, "town"))
    before = node.links()
    with pytest.raises(errors.Problem, match="the kernel's map of endpoints is full: it has room for 2 entries"):
        agent.attach(three, "town")
    assert eventually(lambda: node.links() == before)
    assert not three.json("ip", "-j", "link", "show", "type", "veth")
    assert one.pings(target)
    assert not agent.drift()
    agent.detach(two)
    assert eventually(lambda: agent.client.status().pending == 0)
    again = agent.attach(three, "town", addresses=["10.60.0.3"])
    assert one.pings(address(again))


def test_it_is_told_before_it_is_too_late(start: Callable[..., Agent], containers: Containers) -> None:
    agent = start("--map-size", "peers=12")
    agent.attach(containers.new("web"), "town", namespace="shop")
    assert not warnings(agent)
    agent.client.apply(codec.from_yaml(blocks("a", 9))[0])
    (told,) = eventually(lambda: warnings(agent))
    assert "the kernel's map of peers is nearly full: 10 of 12" in told.message
    assert "--map-size peers=N" in told.remedy
    assert agent.client.status().maps == {"peers": (10, 12)}
    assert eventually(lambda: "the kernel's map of peers is nearly full" in agent.log)
    assert agent.log.count("nearly full") == 1


def test_connections_that_made_room_are_told_of(start: Callable[..., Agent], containers: Containers) -> None:
    agent = start("--map-size", "connections=512")
    one, two = containers.new("one"), containers.new("two")
    agent.attach(one, "town")
    target = address(agent.attach(two, "town"))
    two.serve("tcp", 8080)
    one.run(sys.executable, "-c", FLOOD, target)
    flows = eventually(lambda: (found := agent.client.status().flows) and found.evicted and found, deadline=15)
    assert flows.capacity == 512
    assert flows.evicted + 512 >= 2000
    assert any(f"{flows.evicted} connections were forgotten" in one.message for one in warnings(agent))
    assert one.connects(target, 8080), "new ones find room"


def test_a_size_that_cannot_be(start: Callable[..., Agent]) -> None:
    for word, said in (("poers=5", "there is no map 'poers'"), ("peers=0", "peers: '0' is not a number from 1 to")):
        with pytest.raises(RuntimeError, match=said):
            start("--map-size", word)


def test_policies_may_say_what_the_node_reaches(start: Callable[..., Agent], containers: Containers, node: Node) -> None:
    """With --no-node-access only what a policy lets in, such as the gateway's address."""
    agent = start()
    web = containers.new("web")
    target = address(agent.attach(web, "town", namespace="shop"))
    web.serve("tcp", 80)
    agent.client.apply(codec.from_yaml(policy("a", "{podSelector: {}}"))[0])
    assert node.connects(target, 80)
    agent.stop()
    agent.options = (*agent.options, "--no-node-access")
    agent.start()
    assert not node.connects(target, 80, deadline=PATIENCE)
    assert not node.pings(target)
    host = "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.60.0.1/32}}]}]}"
    agent.client.apply(codec.from_yaml(policy("b", host))[0])
    assert node.connects(target, 80)
    agent.client.delete("networkpolicies", "shop/b")
    assert not node.connects(target, 80, deadline=PATIENCE)
    agent.stop()
    agent.options = agent.options[:-1]
    agent.start()
    assert node.connects(target, 80)
