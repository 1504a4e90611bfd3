"""The whole of it by the command line alone, as a person would: a real agent on a node of its own, real traffic."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.datapath.ebpf import programs
from fairlead.kernel import process
from tests.net import ECHO, PYTHON, Node, Outside
from tests.wait import eventually


class Fairlead:
    """``fairlead`` on the node. Its mounts are the machine's, unlike under ``ip netns exec``."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.environment = {**node._env(), "PYTHONPATH": os.pathsep.join(sys.path)}  # absolute: a daemon goes to /

    def attempt(self, *words: object) -> subprocess.CompletedProcess[str]:
        command = ["nsenter", f"--net={self.node.path}", sys.executable, "-m", "fairlead.cli", *map(str, words)]
        return subprocess.run(
            command, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )

    def __call__(self, *words: object) -> str:
        done = self.attempt(*words)
        assert done.returncode == 0, f"{' '.join(map(str, words))}: {done.stderr}"
        return done.stdout

    def close(self) -> None:
        containers = self.node.run_dir / "containers"
        for path in list(containers.iterdir()) if containers.exists() else ():
            self.attempt("rm", "-f", "-t", 0, path.name)
        self.attempt("down")
        programs.remove(self.node.run_dir)  # what is pinned outlasts an agent; this one has no successor


@pytest.fixture
def fairlead(node: Node) -> Iterator[Fairlead]:
    made = Fairlead(node)
    try:
        yield made
    finally:
        made.close()


def serve(fairlead: Fairlead, name: str, *options: object) -> None:
    """A container with a real TCP server on port 80."""
    fairlead("run", "-d", "--name", name, *options, "--", *PYTHON, ECHO, "serve", "tcp", "::", 80, 1, name)
    eventually(lambda: "ready" in fairlead("logs", name), deadline=10)


def test_from_up_to_purge(fairlead: Fairlead, node: Node, outside: Outside) -> None:
    assert "The agent is ready" in fairlead("up", "--ipv6")
    assert "running already" in fairlead.attempt("up").stderr
    assert "state: ready" in fairlead("status")
    assert "default" in fairlead("network", "ls")

    fairlead("network", "create", "front", "--subnet", "10.20.0.0/24", "--subnet", "fd20::/64")
    serve(fairlead, "web", "--network", "front", "-p", "8080:80", "--ip", "10.20.0.80")
    for address in (node.v4, node.v6):
        answer = eventually(lambda at=address: outside.ask(at, 8080))  # type: ignore[misc]
        assert answer.name == "web"
    assert "10.20.0.80" in fairlead("ps")

    refused = fairlead.attempt("run", "--network", "front", "-p", "8080:80", "true")
    assert refused.returncode == 125
    assert "published by container web" in refused.stderr
    assert fairlead("run", "--network", "front", "ping", "-c", 1, "-W", 2, "10.20.0.80").count("1 received") == 1

    # The agent goes; the container, its network and its published port stay.
    assert "Containers go on: 1 endpoint keeps all of the network." in fairlead("down")
    assert outside.connects(node.v4, 8080)
    assert "agent is not running" in fairlead.attempt("ps").stderr
    assert "web" in fairlead("ps")

    fairlead("up")
    assert json.loads(fairlead("inspect", "web", "-o", "json"))["networks"][0]["addresses"][0] == "10.20.0.80/24"
    assert fairlead("rm", "-f", "web") == "web\n"
    assert not outside.connects(node.v4, 8080)
    assert fairlead("network", "rm", "front") == "front\n"

    serve(fairlead, "left")
    assert "Everything of Fairlead was removed" in fairlead("down", "--purge", "--yes")
    assert [link["ifname"] for link in node.json("ip", "-json", "link")] == ["lo", "eth0"]
    assert "fairlead" not in node.run("nft", "list", "tables")


def test_what_ended_while_the_agent_was_down_is_made_up_for(fairlead: Fairlead) -> None:
    fairlead("up")
    serve(fairlead, "web")
    pid = json.loads(fairlead("inspect", "web", "-o", "json"))["pid"]
    fairlead("down")
    fairlead("stop", "-t", 1, "web")
    assert process.started(pid) == 0
    fairlead("up")
    assert fairlead("get", "endpoints", "-o", "name") == ""
    assert "exited (143)" in fairlead("ps", "-a")
    assert fairlead("rm", "web") == "web\n"


def test_an_agent_that_cannot_start_says_why(fairlead: Fairlead) -> None:
    done = fairlead.attempt("up", "--group", "no-such-group")
    assert done.returncode == 1
    assert "there is no group 'no-such-group'" in done.stderr
    assert "Error: the agent ended with status 1; above is what it said last\n" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Try: fairlead up --foreground, or read ")
    assert fairlead.attempt("status").returncode == 1


def test_in_the_foreground_it_is_this_process(fairlead: Fairlead, node: Node, tmp_path: Path) -> None:
    command = ["nsenter", f"--net={node.path}", sys.executable, "-m", "fairlead.cli", "up", "--foreground"]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, env=fairlead.environment, stderr=log) as agent:
        eventually(lambda: fairlead.attempt("status").returncode == 0, deadline=20)
        assert f"pid: {agent.pid}" in fairlead("status")
        fairlead("down")
        assert agent.wait(10) == 0
