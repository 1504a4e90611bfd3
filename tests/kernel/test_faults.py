"""A store that fails, a firewall that reloads and reloads, callers who may not: said clearly, and packets go on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fairlead.model import errors
from tests.kernel.agents import Agent, address
from tests.net import Containers, Namespace, Node, Outside
from tests.wait import eventually

SMALL = 'mount -t tmpfs -o size=400k tmpfs "$FAIRLEAD_STATE_DIR" && exec "$0" "$@"'

RELOAD = """
flush ruleset
table inet firewalld {
    chain c { type filter hook input priority 0; policy accept; }
}
"""


def _beside(agent: Agent, *command: str) -> str:
    """Run a command where the agent sees its files."""
    return subprocess.run(
        ["nsenter", "-t", str(agent.pid), "-m", *command], check=True, capture_output=True, text=True, timeout=20
    ).stdout


def test_a_full_disk_fails_an_attach_and_no_detach(agent: Agent, node: Node, containers: Containers) -> None:
    agent.stop()
    agent.under = ("unshare", "-m", "--propagation", "slave", "sh", "-c", SMALL)
    agent.start()
    one, two, three = (containers.new(role) for role in ("one", "two", "three"))
    agent.attach(one)
    there = address(agent.attach(two))
    subprocess.run(
        ["nsenter", "-t", str(agent.pid), "-m", "dd", "if=/dev/zero", f"of={node.state_dir}/fill", "bs=1k"],
        check=False,
        capture_output=True,
        timeout=20,
    )
    said = [_refusal(agent, three, f"eth{at}") for at in range(50)]  # the store's own file still has room for some
    assert any("store.db" in one and "full" in one for one in said), said
    left = {one["ifname"] for one in three.json("ip", "-j", "link") if one["ifname"].startswith("eth")}
    known = {one.spec.interface for one in agent.client.objects("endpoints") if one.spec.container == three.name}  # type: ignore[attr-defined]
    assert left == known, "what failed left nothing"
    assert one.pings(there)
    agent.detach(two)
    assert "eth0" not in two.run("ip", "-br", "link")
    assert not agent.drift()

    _beside(agent, "rm", f"{node.state_dir}/fill")
    agent.detach(three)
    agent.attach(three)
    assert one.pings(address(agent.attach(containers.new("four"))))


@pytest.mark.parametrize("what", ["garbage", "cut short"])
def test_a_corrupt_store_stops_the_start_and_touches_nothing(
    agent: Agent, node: Node, containers: Containers, what: str
) -> None:
    one, two = containers.new("one"), containers.new("two")
    agent.attach(one)
    there = address(agent.attach(two))
    agent.stop()
    path = node.state_dir / "store.db"
    whole = path.read_bytes()
    path.write_bytes(os.urandom(len(whole)) if what == "garbage" else whole[:5000])
    broken, rules = path.read_bytes(), node.run("nft", "-s", "list", "ruleset")
    with pytest.raises(RuntimeError, match=r"store.db") as ended:
        agent.start()
    assert "Traceback" not in str(ended.value)
    assert path.read_bytes() == broken, "it is not overwritten"
    assert node.run("nft", "-s", "list", "ruleset") == rules
    assert one.pings(there)
    path.write_bytes(whole)
    agent.start()
    assert not agent.drift()


def test_a_firewall_that_reloads_and_reloads(agent: Agent, node: Node, outside: Outside, containers: Containers) -> None:
    one = containers.new("one")
    agent.attach(one, ports=[{"hostPort": 8080, "containerPort": 80}])
    one.serve("tcp", 80)
    before = _cpu(agent)
    began = time.monotonic()
    for _ in range(20):
        node.run("nft", "-f", "-", stdin=RELOAD)
        eventually(lambda: "table inet fairlead" in node.run("nft", "list", "tables"), deadline=8)
    assert _cpu(agent) - before < 3.0, "seconds of CPU for twenty reloads"
    eventually(lambda: outside.connects(node.v4, 8080, deadline=0.3), deadline=8)
    assert time.monotonic() - began < 30
    assert "firewalld" in node.run("nft", "list", "tables")
    assert not agent.drift()


def test_the_socket_is_for_root_alone(agent: Agent, node: Node) -> None:
    socket = node.run_dir / "agent.sock"
    assert socket.stat().st_mode & 0o777 == 0o600
    ask = f"import socket;socket.socket(socket.AF_UNIX).connect({str(socket)!r})"
    for parent in (*socket.parents,):
        if parent != Path("/") and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    said = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-I", "-S", "-c", ask],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert "PermissionError" in said.stderr
    assert agent.client.status().ready


def _refusal(agent: Agent, container: Namespace, interface: str) -> str:
    """Why an attach was refused; empty if it was not."""
    try:
        agent.attach(container, interface=interface)
    except errors.Problem as problem:
        return str(problem)
    return ""


def _cpu(agent: Agent) -> float:
    """Seconds of processor time that the agent has used."""
    words = Path(f"/proc/{agent.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def test_a_container_does_not_see_the_socket(agent: Agent, node: Node) -> None:
    ask = f"import socket;socket.socket(socket.AF_UNIX).connect({str(node.run_dir / 'agent.sock')!r})"
    command = ["nsenter", f"--net={node.path}", sys.executable, "-m", "fairlead.cli", "run", "--", "python3", "-c", ask]
    said = subprocess.run(command, env=node._env(), capture_output=True, text=True, timeout=30, check=False)
    assert "FileNotFoundError" in said.stderr, said.stderr
    assert agent.client.status().ready
