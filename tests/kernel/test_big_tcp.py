"""``bigTcp``: TCP between containers of a node in larger pieces than every device takes; what leaves the node arrives too."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from tests.kernel.agents import Agent, address
from tests.net import Containers, Namespace, Node, Outside
from tests.wait import eventually

pytestmark = pytest.mark.kernel("big tcp", "ebpf")
V4, V6 = "10.50.0.0/24", "fd50::/64"
SIZE, CHUNK = 48 << 20, 1 << 20
ORDINARY = 64 << 10
_COUNT = f"""
table inet sizes {{}}
delete table inet sizes
table inet sizes {{ chain input {{ type filter hook input priority 0; meta length > {ORDINARY} counter; }}; }}
"""
_SWALLOW = """
import hashlib, socket
listener = socket.create_server(("::", 5000), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
peer, seen = listener.accept()[0], hashlib.sha256()
while got := peer.recv(1 << 20):
    seen.update(got)
print(seen.hexdigest())
"""
_SEND = f"""
import hashlib, random, socket, sys
chunk, seen = random.randbytes({CHUNK}), hashlib.sha256()
with socket.create_connection((sys.argv[1], 5000), timeout=20) as peer:
    for _ in range({SIZE // CHUNK}):
        peer.sendall(chunk)
        seen.update(chunk)
print(seen.hexdigest())
"""


class Sent(NamedTuple):
    """``large``: how many pieces came that not every device takes."""

    whole: bool
    large: int


def send(one: Namespace, two: Namespace, target: str) -> Sent:
    """Many bytes from one to the other."""
    server = two.start(sys.executable, "-c", _SWALLOW)
    assert server.stdout
    assert server.stdout.readline() == "ready\n"
    two.run("nft", "-f", "-", stdin=_COUNT)
    sent = one.run(sys.executable, "-c", _SEND, target, deadline=60)
    got = server.communicate(timeout=20)[0]
    rule = two.json("nft", "-j", "list", "chain", "inet", "sizes", "input")["nftables"][-1]["rule"]
    return Sent(sent == got and len(sent) > 60, rule["expr"][-1]["counter"]["packets"])


@pytest.fixture
def agent(cleanup: ExitStack, node: Node) -> Agent:
    made = Agent(node, "--interval", "1")
    cleanup.callback(made.remove)
    made.start()
    return made


@pytest.mark.parametrize("driver", ["bridge", "routed"])
def test_pieces_are_larger_where_it_is_asked_for(agent: Agent, containers: Containers, outside: Outside, driver: str) -> None:
    agent.network("blue", V4, V6, driver=driver, bigTcp=True)
    one, two = containers.new("one"), containers.new("two")
    agent.attach(one, "blue")
    made = agent.attach(two, "blue")
    for family in (4, 6):
        target = address(made, family)
        eventually(lambda: one.pings(target))  # noqa: B023  # called at once
        sent = send(one, two, target)
        assert sent.whole
        assert bool(sent.large) == (family == 4), "the kernel forwards no IPv6 packet of more than 64 KiB"
    assert not agent.drift()
    for target in (outside.v4, outside.v6):
        sent = send(one, outside, target)
        assert sent.whole, "cut on the way out"
        assert not sent.large


def test_it_can_be_switched_while_containers_run(agent: Agent, containers: Containers) -> None:
    agent.network("blue", V4)
    one, two = containers.new("one"), containers.new("two")
    agent.attach(one, "blue")
    made = agent.attach(two, "blue")
    target = address(made)
    assert not send(one, two, target).large
    agent.network("blue", V4, bigTcp=True)
    assert not agent.drift()
    assert send(one, two, target).large
    agent.network("blue", V4)
    assert not agent.drift()
    assert not send(one, two, target).large
    agent.network("blue", V4, bigTcp=True)
    one.run("ip", "link", "set", "eth0", "gso_max_size", ORDINARY)  # of IPv4 too
    agent.node.run("ip", "link", "set", made.host_interface, "gso_max_size", ORDINARY)
    eventually(lambda: not agent.drift(), deadline=10)
    assert send(one, two, target).large
