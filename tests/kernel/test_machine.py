"""The ground that the other kernel tests stand on: servers answer, clients notice when they do not, nothing stays behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import leftovers
from tests.net import Containers, Namespace, Node, Outside, machine, settled
from tests.wait import eventually

FAMILIES = (4, 6)


def address(family: int, host: int) -> str:
    """A host of the network between container and node."""
    return f"10.99.0.{host}" if family == 4 else f"fd00:99::{host}"


@pytest.fixture
def joined(node: Node, containers: Containers) -> Namespace:
    """A container joined to the node by hand, with masquerade, as Fairlead would do it."""
    inside = containers.new()
    machine("ip", "link", "add", "port0", "netns", node.name, "type", "veth", "peer", "name", "eth0", "netns", inside.name)
    for where, device, host in ((node, "port0", 1), (inside, "eth0", 2)):
        where.run("ip", "address", "add", f"{address(4, host)}/24", "dev", device)
        where.run("ip", "address", "add", f"{address(6, host)}/64", "dev", device, "nodad")
        where.run("ip", "link", "set", device, "up")
    for family in FAMILIES:
        inside.run("ip", f"-{family}", "route", "add", "default", "via", address(family, 1))
    node.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    return inside


@pytest.mark.parametrize("protocol", ["tcp", "udp", pytest.param("sctp", marks=pytest.mark.kernel("sctp"))])
def test_a_server_answers_both_families_and_says_who_asked(node: Node, outside: Outside, protocol: str) -> None:
    server = outside.serve(protocol, 8000)
    for target, seen in ((outside.v4, node.v4), (outside.v6, node.v6)):
        answer = node.ask(target, 8000, protocol)
        assert answer is not None
        assert (answer.name, answer.port, answer.peer) == (server.name, 8000, seen)
    server.stop()
    assert not node.connects(outside.v4, 8000, protocol, deadline=0.2)


def test_a_server_of_many_ports_says_which_was_asked(node: Node, outside: Outside) -> None:
    node.serve("udp", 9000, ports=50)
    answers = [outside.ask(node.v6, port, "udp") for port in (9000, 9031, 9049)]
    assert [answer and answer.port for answer in answers] == [9000, 9031, 9049]
    assert not outside.connects(node.v6, 9050, "udp", deadline=0.2)


@pytest.mark.parametrize("family", FAMILIES)
def test_source_nat_shows_in_the_answer(node: Node, outside: Outside, joined: Namespace, family: int) -> None:
    outside.serve("tcp", 8000)
    target, own = (outside.v4, node.v4) if family == 4 else (outside.v6, node.v6)
    assert not joined.connects(target, 8000, deadline=0.3), "the outside knows no way back to containers"
    node.run(
        "nft", "-f", "-", stdin="table inet t { chain c { type nat hook postrouting priority 100; oifname eth0 masquerade; }; }"
    )
    answer = joined.ask(target, 8000)
    assert answer is not None
    assert answer.peer == own
    assert joined.pings(target)


def test_a_silent_host_is_noticed(node: Node, outside: Outside) -> None:
    outside.serve("tcp", 8000)
    assert node.connects(outside.v4, 8000)
    outside.run("nft", "-f", "-", stdin="table inet t { chain c { type filter hook input priority 0; policy drop; }; }")
    assert not node.connects(outside.v4, 8000, deadline=0.2)
    assert not node.pings(outside.v6)


def test_a_failed_command_fails_the_test_with_what_it_said(containers: Containers) -> None:
    with pytest.raises(AssertionError, match="No such file"):
        containers.new().run("cat", "/nonexistent")


def test_a_server_that_cannot_start_says_why(containers: Containers) -> None:
    one = containers.new()
    one.serve("tcp", 8000)
    with pytest.raises(AssertionError, match="Address already in use"):
        one.serve("tcp", 8000)


def test_remove_ends_what_runs_inside_and_may_be_called_twice() -> None:
    one = Namespace("removed")
    server = one.start("sleep", 600)
    # A process that has left its parent behind is found by the namespace it is in.
    orphan = int(one.run("sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"))
    one.remove()
    assert server.returncode is not None
    eventually(lambda: not Path(f"/proc/{orphan}/ns").exists() or _ended(orphan))
    assert not one.path.exists()
    one.remove()


def test_addresses_settle(containers: Containers) -> None:
    one, other = containers.new(), containers.new()
    machine("ip", "link", "add", "eth0", "netns", one.name, "type", "veth", "peer", "name", "eth0", "netns", other.name)
    for where in (one, other):
        where.run("ip", "link", "set", "eth0", "up")
    settled(one)
    assert "fe80" in json.dumps(one.json("ip", "-json", "-6", "address"))


def test_leftovers_names_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(leftovers.RUN, f"test-{os.getpid()}")
    before = leftovers.picture()
    stays = Namespace("stays")
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        said = leftovers.difference(before, leftovers.picture())
    finally:
        process.kill()
        process.wait()
        stays.remove()
    assert f"left behind: namespace {stays.name}" in said
    assert any(line.startswith(f"left behind: process {process.pid}:") for line in said)
    assert f"gone: namespace {stays.name}" in leftovers.difference(frozenset({("namespace", stays.name)}), frozenset())


def _ended(pid: int) -> bool:
    """Whether a process is a zombie that its new parent has not taken yet."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
