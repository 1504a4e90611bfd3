"""Who may speak to the agent: root, and a group if one is named; nothing that is not on the host's file system."""

from __future__ import annotations

import re
import shutil
import stat
from pathlib import Path

import pytest

from tests.kernel.agents import Agent
from tests.net import PYTHON, Containers, Namespace, Node

SPEAK = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(sys.argv[1])
except OSError as problem:
    sys.exit(problem.strerror)
s.sendall(b"GET /v1/status HTTP/1.0\\r\\n\\r\\n")
print(s.recv(12).decode())
"""
NOBODY, DAEMON = "65534", "1"


def speaks(where: Namespace, node: Node, *under: str) -> str:
    """What one who is started by ``under`` gets from the socket."""
    said = where.attempt(*under, *PYTHON, "-c", SPEAK, node.run_dir / "agent.sock")
    return (said.stdout + said.stderr).strip()


@pytest.fixture
def reachable(tmp_path: Path) -> None:
    """pytest's own folders are for their owner alone; what is tested is the socket, not they."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.name.startswith(("pytest-", "popen-")):
            folder.chmod(folder.stat().st_mode | 0o011)
    tmp_path.chmod(0o755)


@pytest.mark.usefixtures("reachable")
def test_root_alone_unless_a_group_is_named(agent: Agent, node: Node) -> None:
    sock = node.run_dir / "agent.sock"
    assert (stat.S_IMODE(sock.stat().st_mode), sock.stat().st_uid, sock.stat().st_gid) == (0o600, 0, 0)
    assert stat.S_IMODE(node.state_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((node.state_dir / "store.db").stat().st_mode) == 0o600
    assert speaks(node, node) == "HTTP/1.0 200"
    for gid in (NOBODY, DAEMON, "0"):
        assert speaks(node, node, "setpriv", "--reuid", NOBODY, "--regid", gid, "--clear-groups") == "Permission denied"

    agent.stop()
    agent.options = ("--group", "daemon")
    agent.start()
    assert (stat.S_IMODE(sock.stat().st_mode), sock.stat().st_gid) == (0o660, int(DAEMON))
    assert speaks(node, node, "setpriv", "--reuid", NOBODY, "--regid", DAEMON, "--clear-groups") == "HTTP/1.0 200"
    assert speaks(node, node, "setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--groups", DAEMON) == "HTTP/1.0 200"
    assert speaks(node, node, "setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups") == "Permission denied"


def test_a_group_that_is_none_is_refused(agent: Agent, node: Node) -> None:
    agent.stop()
    said = node.attempt(*agent.command, "--group", "no-such-group")
    assert said.returncode == 1
    assert "group: there is no group 'no-such-group' on this host" in said.stderr


def test_a_container_has_no_way_to_it(agent: Agent, node: Node, containers: Containers, tmp_path: Path) -> None:
    """A socket is found by its path, and a container's root is another: the network does not lead there."""
    one = containers.new("one")
    agent.attach(one)
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox
    shutil.copy(busybox, root / "bin/busybox")
    seen = one.run("unshare", "--mount", "--pid", "--fork", f"--root={root}", "/bin/busybox", "find", "/", "-name", "*.sock")
    assert not seen

    fds = {str(fd.readlink()) for fd in Path(f"/proc/{agent.pid}/fd").iterdir()}
    inodes = {found[1] for fd in fds if (found := re.fullmatch(r"socket:\[(\d+)\]", fd))}
    lines = [line.split() for line in node.run("cat", "/proc/net/unix").splitlines()[1:]]
    named = {line[7] for line in lines if line[6] in inodes and len(line) > 7}
    assert named == {str(node.run_dir / "agent.sock")}, "no abstract socket, which a network namespace alone would give away"
    assert not node.run("ss", "-Hltunp"), "nor a port"


@pytest.mark.usefixtures("reachable")
def test_who_shares_the_hosts_files_is_told_apart_by_who_he_is(agent: Agent, node: Node, containers: Containers) -> None:
    """A network namespace alone, as `fairlead run` makes, hides no file: root in it is root."""
    one = containers.new("one")
    agent.attach(one)
    assert speaks(one, node, "unshare", "--mount") == "HTTP/1.0 200"
    assert speaks(one, node, "unshare", "--mount", "setpriv", "--reuid", NOBODY, "--clear-groups") == "Permission denied"
