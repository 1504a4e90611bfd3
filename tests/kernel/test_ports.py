"""Published ports: from the host, from outside, from other networks, from the container itself; runs, binds, conflicts."""

from __future__ import annotations

import pytest

from fairlead.model import errors
from tests.kernel.agents import Agent
from tests.net import Containers, Namespace, Node, Outside
from tests.wait import eventually

BRIDGED = pytest.mark.parametrize("bridged", ["0", "1"], ids=["frames-by-bridge", "frames-through-netfilter"])
FAMILIES = pytest.mark.parametrize("family", [4, 6])


@pytest.fixture
def enforced(plane: str) -> str:
    """Each plane in turn."""
    return plane


@pytest.fixture
def web(agent: Agent, containers: Containers) -> Namespace:
    """A container that serves TCP 80 and UDP 53, published as 8080 and 5353, on a network of both families."""
    agent.network("blue", "10.50.0.0/24", "fd50::/64")
    one = containers.new("web")
    ports = [{"hostPort": 8080, "containerPort": 80}, {"hostPort": 5353, "containerPort": 53, "protocol": "udp"}]
    agent.attach(one, "blue", ports=ports)
    one.serve("tcp", 80)
    one.serve("udp", 53)
    return one


@FAMILIES
@BRIDGED
def test_a_published_port_is_reached_from_everywhere(
    agent: Agent, node: Node, outside: Outside, containers: Containers, web: Namespace, family: int, bridged: str
) -> None:
    node.run("sysctl", "-qw", f"net.bridge.bridge-nf-call-iptables={bridged}", f"net.bridge.bridge-nf-call-ip6tables={bridged}")
    agent.network("red", "10.51.0.0/24", "fd51::/64")
    neighbour, stranger = containers.new("neighbour"), containers.new("stranger")
    agent.attach(neighbour, "blue")
    agent.attach(stranger, "red")
    host = node.v4 if family == 4 else node.v6
    gateway = "10.50.0.1" if family == 4 else "fd50::1"

    answer = outside.ask(host, 8080)
    assert answer
    assert answer.port == 80
    assert answer.peer.removeprefix("::ffff:") == (outside.v4 if family == 4 else outside.v6), "the client's address is kept"
    assert outside.connects(host, 5353, "udp")
    for who in (node, neighbour, stranger, web):
        assert who.connects(host, 8080), who.name
        assert who.connects(host, 5353, "udp"), who.name
        assert who.connects(gateway, 8080), who.name
    if family == 4:
        assert node.connects("127.0.0.1", 8080)
        assert node.connects("127.0.0.1", 5353, "udp")
        assert not outside.connects(host, 80, deadline=0.3)


def test_a_run_of_ports_is_one_interval(agent: Agent, node: Node, outside: Outside, containers: Containers) -> None:
    agent.network("blue", "10.50.0.0/24", "fd50::/64")
    one = containers.new("ftp")
    one.serve("tcp", 9000, 3)
    agent.attach(one, "blue", ports=[{"hostPort": 9000, "containerPort": 9000, "count": 1000}])
    for host in (node.v4, node.v6):
        assert [answer.port for at in range(3) if (answer := outside.ask(host, 9000 + at))] == [9000, 9001, 9002]
    shown = node.json("nft", "-j", "list", "map", "inet", "fairlead", "run4")["nftables"][1]["map"]
    assert len(shown["elem"]) == 1


def test_a_shifted_run_keeps_its_distance(agent: Agent, node: Node, outside: Outside, containers: Containers) -> None:
    one = containers.new("shift")
    one.serve("tcp", 80, 3)
    agent.attach(one, ports=[{"hostPort": 8000, "containerPort": 80, "count": 3}])
    assert [answer.port for at in range(3) if (answer := outside.ask(node.v4, 8000 + at))] == [80, 81, 82]


def test_a_port_bound_to_one_address_is_served_there_alone(
    agent: Agent, node: Node, outside: Outside, containers: Containers
) -> None:
    node.run("ip", "address", "add", "203.0.113.9/24", "dev", "eth0")
    one, two = containers.new("one"), containers.new("two")
    agent.attach(one, ports=[{"hostPort": 8080, "containerPort": 80, "hostIp": "203.0.113.9"}])
    agent.attach(two, ports=[{"hostPort": 8080, "containerPort": 81, "hostIp": "127.0.0.1"}])
    one.serve("tcp", 80)
    two.serve("tcp", 81)

    assert (outside.ask("203.0.113.9", 8080) or pytest.fail("no answer")).port == 80
    assert not outside.connects(node.v4, 8080, deadline=0.3)
    assert (node.ask("127.0.0.1", 8080) or pytest.fail("no answer")).port == 81


def test_sctp_is_translated_too(agent: Agent, node: Node, outside: Outside, containers: Containers) -> None:
    """Without SCTP sockets in the kernel: a bare INIT (RFC 9260, 3.3.2) arrives at the container with its port."""
    one = containers.new("one")
    agent.attach(one, ports=[{"hostPort": 3868, "containerPort": 38, "protocol": "sctp"}])
    hears = one.start("python3", "-c", HEAR_SCTP)
    assert hears.stdout
    assert hears.stdout.readline() == "ready\n"
    outside.run("python3", "-c", SEND_SCTP.format(host=node.v4))
    assert hears.stdout.readline() == "38\n"


HEAR_SCTP = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)
s.settimeout(5)
print("ready", flush=True)
print(int.from_bytes(s.recv(2048)[22:24], "big"), flush=True)
"""
SEND_SCTP = """
import socket, struct
def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
init = struct.pack("!BBHIIHHI", 1, 0, 20, 7, 65536, 1, 1, 1)
bare = struct.pack("!HHII", 5000, 3868, 0, 0) + init
packet = bare[:8] + struct.pack("<I", crc32c(bare)) + bare[12:]
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)
s.sendto(packet, ("{host}", 0))
"""


def test_conflicts_are_refused_and_name_the_holder(agent: Agent, node: Node, containers: Containers) -> None:
    first, second = containers.new("first"), containers.new("second")
    agent.attach(first, ports=[{"hostPort": 8000, "containerPort": 80, "count": 10}])
    with pytest.raises(errors.Conflict, match=r"ports\[0\]: host port 8005->80/tcp is published by container first"):
        agent.attach(second, ports=[{"hostPort": 8005, "containerPort": 80}])
    with pytest.raises(errors.Conflict, match="asked for twice"):
        agent.attach(second, ports=[{"hostPort": 1000, "containerPort": 80}, {"hostPort": 1000, "containerPort": 81}])
    node.serve("tcp", 7000)
    with pytest.raises(errors.Conflict, match="7000/tcp is used by a process of this host"):
        agent.attach(second, ports=[{"hostPort": 7000, "containerPort": 80}])
    assert not agent.client.objects("endpoints")[1:], "nothing is half done"
    agent.attach(second, ports=[{"hostPort": 8005, "containerPort": 80, "protocol": "udp"}])


def test_a_port_is_free_again_at_once_and_leads_to_its_new_owner(
    agent: Agent, node: Node, outside: Outside, containers: Containers
) -> None:
    for role in ("first", "second", "third"):
        one = containers.new(role)
        agent.attach(
            one, ports=[{"hostPort": 8080, "containerPort": 80}, {"hostPort": 5353, "containerPort": 53, "protocol": "udp"}]
        )
        one.serve("tcp", 80)
        one.serve("udp", 53)
        for port, protocol in ((8080, "tcp"), (5353, "udp")):
            answer = outside.ask(node.v4, port, protocol)
            assert answer
            assert answer.name.startswith(one.name)
        agent.detach(one, wait=False)


def test_a_udp_client_that_never_pauses_reaches_the_new_container(
    agent: Agent, node: Node, outside: Outside, containers: Containers
) -> None:
    """The kernel remembers a flow for as long as packets come; a client that keeps its source port must not be led astray."""
    first, second = containers.new("first"), containers.new("second")
    publish = [{"hostPort": 5353, "containerPort": 53, "protocol": "udp"}]
    agent.attach(first, ports=publish)
    first.serve("udp", 53)
    ask = "import socket,sys;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.bind(('',4444));s.settimeout(1);"
    ask += f"s.sendto(b'x',('{node.v4}',5353));print(s.recv(999))"
    assert first.name in outside.run("python3", "-c", ask)
    agent.detach(first)
    agent.attach(second, ports=publish)
    second.serve("udp", 53)
    eventually(lambda: second.name in outside.attempt("python3", "-c", ask).stdout)


def test_what_cannot_be_published_is_said(agent: Agent, containers: Containers) -> None:
    agent.network("vault", "10.50.0.0/24", internal=True)
    one = containers.new()
    port = {"hostPort": 8080, "containerPort": 80}
    with pytest.raises(errors.Invalid, match="ports: network vault is internal"):
        agent.attach(one, "vault", ports=[port])
    with pytest.raises(errors.Invalid, match="driver none"):
        agent.attach(one, "none", ports=[port])
    with pytest.raises(errors.Conflict, match=r"ports\[0\].*198.51.100.77.*no address of this host"):
        agent.attach(one, ports=[{**port, "hostIp": "198.51.100.77"}])
    with pytest.raises(errors.Invalid, match="not a port"):
        agent.attach(one, ports=[{**port, "hostPort": 70000}])
