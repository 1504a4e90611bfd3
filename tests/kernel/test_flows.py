"""Flows as people see them: a real agent, real traffic, real names; and what happens when things go wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from fairlead.api.schema import Flow
from fairlead.datapath.ebpf import programs
from fairlead.model import errors
from tests.kernel.agents import Agent
from tests.net import Containers, Namespace, Node, Outside
from tests.wait import eventually

pytestmark = pytest.mark.kernel("ebpf")

SEND = """
import socket, sys
server = socket.create_server(("::", 7000), family=socket.AF_INET6, dualstack_ipv6=True) if sys.argv[1] == "serve" else None
if server:
    print("ready", flush=True)
    connection, _ = server.accept()
    while connection.recv(65536):
        pass
    connection.close()
else:
    connection = socket.create_connection((sys.argv[1], 7000))
    for line in sys.stdin:
        connection.sendall(bytes(int(line)))
        print("sent", flush=True)
"""
"""A server that takes what comes, and a client that sends as many bytes as each line of its input says."""

BURST = """
import socket, struct, sys
if sys.argv[1] == "serve":
    server = socket.create_server(("0.0.0.0", 7000), backlog=4096)
    print("ready", flush=True)
    while True:
        server.accept()[0].close()
for _ in range(int(sys.argv[2])):
    with socket.create_connection((sys.argv[1], 7000)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
"""
"""Connections that are reset as soon as they are there."""


@pytest.fixture
def start(cleanup: ExitStack, node: Node) -> Callable[..., Agent]:
    """Starts an agent with flows; ``more`` options."""

    def begin(*more: str) -> Agent:
        made = Agent(node, "--interval", "1", *more)
        cleanup.callback(made.remove)
        made.start()
        return made

    return begin


@pytest.fixture
def watched(start: Callable[..., Agent]) -> Agent:
    made = start()
    made.network("blue", "10.50.0.0/24", "fd50::/64")
    return made


def seen(agent: Agent, **query: str) -> list[Flow]:
    """What matches, once there is something."""
    return eventually(lambda: agent.client.flows(**query), what=f"flows with {query}")


def closed(agent: Agent, **query: str) -> Flow:
    """The one connection that matches and is over."""

    def over() -> list[Flow]:
        return [one for one in agent.client.flows(**query) if one.event == "close"]

    (one,) = eventually(over, what=f"a closed connection with {query}")
    return one


def pair(agent: Agent, containers: Containers) -> tuple[Namespace, Namespace]:
    one, two = containers.new("one"), containers.new("two")
    agent.attach(one, "blue", namespace="shop", labels={"tier": "web"}, ports=[{"hostPort": 8080, "containerPort": 80}])
    agent.attach(two, "blue")
    return one, two


def followers(agent: Agent) -> int:
    flows = agent.client.status().flows
    assert flows
    return flows.followers


def hooked(node: Node, interface: str) -> list[str]:
    """The programs on an interface, as tc says."""
    said = [node.run("tc", "filter", "show", "dev", interface, way) for way in ("ingress", "egress")]
    return [name for name, text in zip(("from_pod", "to_pod"), said, strict=True) if name in text]


def test_flows_have_names(watched: Agent, node: Node, outside: Outside, containers: Containers) -> None:
    one, two = pair(watched, containers)
    one.serve("tcp", 80)
    one.serve("udp", 53)
    outside.serve("tcp", 443)
    assert two.connects("10.50.0.2", 80)
    assert two.connects("fd50::2", 53, "udp")
    assert two.pings("10.50.0.1")
    assert two.connects(outside.v4, 443)
    assert outside.connects(node.v4, 8080)

    web = closed(watched, port="80", **{"from": "default/two"})
    assert (web.source.endpoint, web.source.namespace, web.source.network, web.source.kind) == (
        "two",
        "default",
        "blue",
        "endpoint",
    )
    assert (web.destination.endpoint, web.destination.namespace, web.destination.port) == ("one", "shop", 80)
    assert web.destination.labels == {"tier": "web"}
    assert (web.protocol, web.verdict, web.direction, web.midway) == ("tcp", "forwarded", "egress", False)
    (name,) = seen(watched, protocol="udp", to="shop/one")
    assert (name.destination.address, name.destination.port, name.event) == ("fd50::2", 53, "new")
    (ping,) = seen(watched, protocol="icmp", to="host")
    assert (ping.source.endpoint, ping.destination.address, ping.destination.port) == ("two", "10.50.0.1", 0)
    assert closed(watched, to="world").destination.address == outside.v4
    entered = closed(watched, **{"from": outside.v4})
    assert (entered.source.kind, entered.direction) == ("world", "ingress")
    assert (entered.destination.endpoint, entered.destination.port) == ("one", 80), "as the container's link sees it"
    assert {one.destination.endpoint for one in seen(watched, label="tier=web")} == {"one"}
    assert not watched.client.flows(label="tier=db")
    assert not watched.client.flows(verdict="dropped")
    assert seen(watched, to="10.50.0.0/24", port="80")


def test_bytes_are_those_that_were_sent(watched: Agent, containers: Containers) -> None:
    one, two = pair(watched, containers)
    with Transfer(one, two, "10.50.0.2") as transfer:
        transfer.send(3_000_000)
    flow = closed(watched, port="7000")
    assert 3_000_000 < flow.sent.bytes < 3_000_000 * 1.06, "headers of 66 bytes in 1514"
    assert 3_000_000 / 1448 <= flow.sent.packets < 3_000_000 / 1448 * 1.05 + 10
    assert flow.received.packets > 2


def test_the_programs_go_on_without_the_agent(watched: Agent, containers: Containers) -> None:
    one, two = pair(watched, containers)
    with Transfer(one, two, "fd50::2") as transfer:
        transfer.send(100_000)
        assert seen(watched, port="7000")[0].event == "new"
        watched.kill()
        transfer.send(200_000)
        watched.start()
        assert not watched.drift()
        transfer.send(400_000)
    assert 700_000 < closed(watched, port="7000").sent.bytes < 760_000
    assert watched.client.status().repairs == 0, "what was there was used again"


def test_an_upgrade_keeps_the_connections(watched: Agent, containers: Containers) -> None:
    """A buffer of another size is another build: its programs replace those on the links."""
    one, two = pair(watched, containers)
    with Transfer(one, two, "10.50.0.2") as transfer:
        transfer.send(100_000)
        watched.stop()
        watched.options = (*watched.options, "--flow-buffer", "64")
        watched.start()
        transfer.send(100_000)
    assert 200_000 < closed(watched, port="7000").sent.bytes < 230_000
    assert not watched.drift()


def test_what_the_buffer_has_no_room_for_is_counted(start: Callable[..., Agent], containers: Containers) -> None:
    watched = start("--flow-buffer", "4")
    watched.network("blue", "10.50.0.0/24")
    one, two = pair(watched, containers)
    server = one.start(sys.executable, "-c", BURST, "serve")
    assert server.stdout
    assert server.stdout.readline() == "ready\n"
    before = watched.client.status().flows
    assert before
    two.run(sys.executable, "-c", BURST, "10.50.0.2", 20_000, deadline=60)

    def settled() -> bool:
        now = watched.client.status().flows
        assert now
        assert now.opened + now.lost_new - before.opened - before.lost_new == 20_000
        assert now.seen + now.lost - before.seen - before.lost == 40_000
        return now.lost > 0

    eventually(settled, what="new and closed connections, seen or lost, are all there were")


@pytest.mark.parametrize(
    "harm",
    [
        ("tc", "qdisc", "delete", "dev", "{}", "clsact"),
        ("tc", "filter", "delete", "dev", "{}", "egress"),
        ("ip", "link", "delete", "{}"),
    ],
)
def test_a_lost_program_comes_back(watched: Agent, node: Node, containers: Containers, harm: tuple[str, ...]) -> None:
    one = containers.new("one")
    interface = watched.attach(one, "blue").host_interface
    assert hooked(node, interface) == ["from_pod", "to_pod"]
    node.run(*(word.format(interface) for word in harm))
    eventually(lambda: interface in node.run("ip", "-br", "link") and hooked(node, interface) == ["from_pod", "to_pod"])
    eventually(lambda: not watched.drift())
    assert one.pings("10.50.0.1")
    assert seen(watched, protocol="icmp")


def test_limits_and_programs_share_a_link(watched: Agent, node: Node, containers: Containers) -> None:
    one = containers.new("one")
    interface = watched.attach(one, "blue", bandwidth={"egressRate": 8_000_000, "ingressRate": 8_000_000}).host_interface
    assert "mirred" in node.run("tc", "filter", "show", "dev", interface, "ingress")
    assert hooked(node, interface) == ["from_pod", "to_pod"]
    assert not watched.drift()


def test_planes_are_exchanged_under_running_containers(agent: Agent, node: Node, containers: Containers) -> None:
    one = containers.new("one")
    agent.stop()
    agent.options = ("--plane", "nftables")
    agent.start()
    interface = agent.attach(one, bandwidth={"egressRate": 8_000_000}).host_interface
    assert hooked(node, interface) == []
    assert "clsact" not in node.run("tc", "qdisc", "show", "dev", interface)
    assert not programs.present(node.run_dir)
    assert agent.client.status().flows is None
    with pytest.raises(errors.Unsupported, match="nftables"):
        agent.client.flows()
    agent.stop()
    agent.options = ()
    agent.start()
    assert hooked(node, interface) == ["from_pod", "to_pod"]
    assert "mirred" in node.run("tc", "filter", "show", "dev", interface, "ingress"), "the limit is still there"
    agent.stop()
    agent.options = ("--plane", "nftables")
    agent.start()
    assert hooked(node, interface) == []
    assert not programs.present(node.run_dir)
    assert "mirred" in node.run("tc", "filter", "show", "dev", interface, "ingress")
    assert not agent.drift()


def test_purge_leaves_nothing(watched: Agent, node: Node, containers: Containers) -> None:
    pair(watched, containers)
    watched.client.purge()
    assert not programs.present(node.run_dir)
    watched.stop()
    assert "fl" not in {name[:2] for name, *_ in node.links()}


def test_followers_see_what_comes(watched: Agent, node: Node, containers: Containers) -> None:
    one, two = pair(watched, containers)
    one.serve("tcp", 80)
    got: list[Flow] = []
    reading = threading.Thread(target=lambda: got.extend(_until_end(watched)), daemon=True)
    reading.start()
    eventually(lambda: followers(watched) == 1)
    command = (sys.executable, "-m", "fairlead.cli", "flows", "--follow", "--to", "shop/one", "-o", "json")
    shown = subprocess.Popen(command, env={**os.environ, **node.environ}, stdout=subprocess.PIPE, text=True)
    try:
        eventually(lambda: followers(watched) == 2)
        assert two.connects("10.50.0.2", 80)
        assert shown.stdout
        assert json.loads(shown.stdout.readline())["destination"]["endpoint"] == "one"
    finally:
        shown.kill()
        shown.wait(10)
        assert shown.stdout
        shown.stdout.close()
    eventually(lambda: followers(watched) == 1, what="who left is noticed")
    eventually(lambda: [one.event for one in got] == ["new", "close"])
    watched.stop()
    reading.join(10)
    assert not reading.is_alive(), "an agent that ends ends its followers"


def _until_end(agent: Agent) -> Iterator[Flow]:
    yield from agent.client.follow(port="80")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"port": "80; drop"}, "port"),
        ({"port": "70000"}, "port"),
        ({"since": "yesterday"}, "since"),
        ({"limit": "0"}, "limit"),
        ({"from": "a/b/c d"}, "from"),
        ({"label": "=x"}, "label"),
        ({"verdict": "maybe"}, "verdict"),
        ({"protocol": "quic"}, "protocol"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_filter_is_named(agent_with_flows: Agent, query: dict[str, str], field: str) -> None:
    for ask in (agent_with_flows.client.flows, lambda **words: next(agent_with_flows.client.follow(**words))):
        with pytest.raises(errors.Invalid) as refused:
            ask(**query)
        assert refused.value.field == field


@pytest.fixture
def agent_with_flows(start: Callable[..., Agent]) -> Agent:
    return start()


class Transfer:
    """A TCP connection over which bytes are sent when asked; all of them have arrived when the block ends."""

    def __init__(self, server: Namespace, client: Namespace, at: str) -> None:
        self._server = server.start(sys.executable, "-c", SEND, "serve")
        assert self._server.stdout
        assert self._server.stdout.readline() == "ready\n"
        command = ["ip", "netns", "exec", client.name, sys.executable, "-c", SEND, at]
        self._client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Transfer:
        return self

    def send(self, size: int) -> None:
        assert self._client.stdin
        assert self._client.stdout
        self._client.stdin.write(f"{size}\n")
        self._client.stdin.flush()
        assert self._client.stdout.readline() == "sent\n"

    def __exit__(self, *_: object) -> None:
        self._client.communicate(timeout=10)
        self._server.wait(10)
