"""A store that cannot be written or read: a clear error, the data plane goes on, and nothing is lost in silence."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fairlead.model import errors
from tests.kernel.agents import Agent, address
from tests.kernel.test_cni import cni, conf
from tests.kernel.traffic import Traffic
from tests.net import PYTHON, Containers, Node
from tests.wait import eventually

USED = conf(
    "1.1.0", network="blue", runtimeConfig={"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
)


ROWS = "import sqlite3, sys; [print(*row) for row in sqlite3.connect(f'file:{sys.argv[1]}/store.db?mode=ro', uri=True)"
ROWS += ".execute(\"SELECT name FROM objects WHERE plural = 'endpoints'\")]"


class Disk:
    """A small file system on the agent's state directory, that only the agent and whoever goes through ``path`` see."""

    def __init__(self, node: Node) -> None:
        node.state_dir.mkdir()
        self._at = str(node.state_dir)
        script = f"mount -t tmpfs -o size=1m none {node.state_dir} && echo ready && exec sleep infinity"
        self._holder = node.start("unshare", "-m", "--propagation", "slave", "sh", "-c", script)
        assert self._holder.stdout
        assert self._holder.stdout.readline() == "ready\n"
        self.path = Path(f"/proc/{self._holder.pid}/root{node.state_dir}")
        self.enter = ("nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt")

    def fill(self) -> None:
        with (self.path / "filler").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return

    def empty(self) -> None:
        (self.path / "filler").unlink()

    def mount(self, *options: str) -> None:
        subprocess.run([*self.enter, "mount", "-o", ",".join(options), "none", self._at], check=True, timeout=20)

    @property
    def rows(self) -> set[str]:
        """The endpoints in the file, read by another program."""
        said = subprocess.run(
            [*self.enter, *PYTHON, "-c", ROWS, self._at], check=True, timeout=20, capture_output=True, text=True
        )
        return set(said.stdout.split())


@pytest.fixture
def disk(node: Node) -> Disk:
    return Disk(node)


@pytest.fixture
def agent(disk: Disk, node: Node, cleanup: object) -> Agent:
    """An agent whose store is on the small disk, with a network."""
    made = Agent(node, "--interval", "0.3")
    cleanup.callback(made.remove)  # type: ignore[attr-defined]  # an ExitStack
    made.under = disk.enter
    made.start()
    made.network("blue", "10.50.0.0/24", "fd50::/64")
    return made


@contextmanager
def traffic(agent: Agent, containers: Containers) -> Iterator[None]:
    """Two containers that talk all the time and lose nothing."""
    one, two = containers.new("by"), containers.new("stander")
    to = address(agent.attach(one, "blue"))
    agent.attach(two, "blue")
    going = Traffic(two, one, to)
    yield
    lost = going.stop()
    assert lost.nothing, lost


def picture(node: Node) -> tuple[str, str]:
    return node.run("ip", "-br", "link"), node.run("nft", "-s", "list", "ruleset")


def used(agent: Agent) -> int:
    return {pool.cidr: pool.used for pool in agent.client.status().pools}["10.50.0.0/24"]


def test_a_full_disk_refuses_a_start_and_leaves_nothing_of_it(
    agent: Agent, disk: Disk, node: Node, containers: Containers
) -> None:
    one = containers.new("one")
    with traffic(agent, containers):
        disk.fill()
        before = picture(node)
        status, said = cni(node, "ADD", one, USED)
        assert (status, said["code"]) == (1, 11)
        assert f"{node.state_dir}/store.db: the disk is full" in said["msg"]
        with pytest.raises(errors.Unavailable, match="disk is full"):
            agent.network("red", "10.52.0.0/24")
        assert picture(node) == before
        assert used(agent) == 2
        disk.empty()
        status, said = cni(node, "ADD", one, USED)
        assert status == 0, said
    assert not agent.drift()


def test_a_full_disk_lets_containers_go_and_forgets_them_when_it_can(
    agent: Agent, disk: Disk, node: Node, containers: Containers
) -> None:
    one, other = containers.new("one"), containers.new("other")
    with traffic(agent, containers):
        for each in (one, other):
            assert cni(node, "ADD", each, {**USED, "runtimeConfig": {}})[0] == 0
        disk.fill()
        for each in (one, one, other):
            assert cni(node, "DEL", each, USED) == (0, {}), "removing containers is how people make room"
        eventually(lambda: "eth0" not in one.run("ip", "-br", "link") + other.run("ip", "-br", "link"))
        assert disk.rows >= {f"{one.name}:eth0", f"{other.name}:eth0"}
        eventually(lambda: agent.client.status().pending == 2, what="the kernel has let go, the store has not")
        assert used(agent) == 4, "addresses that the store still knows are given to nobody"
        assert "is detached, but not forgotten" in agent.log
        status, said = cni(node, "ADD", one, USED)
        assert (status, said["code"]) == (1, 11)

        other.remove()
        agent.kill()
        agent.start()
        eventually(lambda: {end.spec.container for end in agent.client.objects("endpoints")} >= {one.name})  # type: ignore[attr-defined]
        assert one.pings("10.50.0.1"), "what was not forgotten comes back whole, for as long as its namespace is there"
        assert cni(node, "DEL", one, USED) == (0, {})
        disk.empty()
        eventually(lambda: agent.client.status().pending == 0, what="forgotten")
        assert used(agent) == 2
        assert len(disk.rows) == 2
        assert cni(node, "ADD", one, USED)[0] == 0
    assert not agent.drift()


def test_a_vanished_container_is_detached_on_a_full_disk(agent: Agent, disk: Disk, containers: Containers) -> None:
    one = containers.new("one")
    agent.attach(one, "blue")
    disk.fill()
    one.remove()
    eventually(lambda: not agent.client.objects("endpoints"))
    eventually(lambda: agent.client.status().pending == 1, what="the kernel has let go, the store has not")
    disk.empty()
    eventually(lambda: agent.client.status().pending == 0)
    assert not disk.rows


def refuses(agent: Agent) -> str:
    """Starting it fails; what it said."""
    said = agent.node.attempt(*agent.under, *agent.command)
    assert said.returncode == 1
    assert "Traceback" not in said.stderr
    return said.stderr


def test_a_corrupt_store_is_refused_with_what_to_do_and_nothing_is_touched(
    agent: Agent, disk: Disk, node: Node, containers: Containers
) -> None:
    with traffic(agent, containers):
        agent.stop()
        before, file = picture(node), disk.path / "store.db"
        good = file.read_bytes()
        for bad in (
            b"no store at all" * 1000,
            good[:4096] + bytes(len(good) - 4096),
            good[: len(good) // 2],
            b"\0" * len(good),
        ):
            file.write_bytes(bad)
            said = refuses(agent)
            assert f"{node.state_dir}/store.db" in said
            assert "move it with its -wal and -shm files to another directory" in said
            assert file.read_bytes() == bad, "left as it was"
            assert picture(node) == before
        file.write_bytes(good)
        agent.start()
        assert agent.client.status().repairs == 0
        assert not agent.drift()


def test_a_store_moved_aside_is_begun_anew(agent: Agent, disk: Disk, node: Node, containers: Containers) -> None:
    """Containers that it does not know any more lose their network, and are attached again by whoever started them."""
    one = containers.new("one")
    assert cni(node, "ADD", one, {**USED, "network": "default"})[0] == 0
    agent.stop()
    (disk.path / "store.db").write_bytes(b"no store at all" * 1000)
    refuses(agent)
    for file in disk.path.glob("store.db*"):
        file.unlink()
    agent.start()
    assert {network.name for network in agent.client.objects("networks")} == {"default", "host", "none"}
    assert not agent.drift()
    assert cni(node, "DEL", one, USED) == (0, {})
    assert cni(node, "ADD", one, {**USED, "network": "default"})[0] == 0
    assert one.pings("10.208.0.1")


def test_a_store_that_is_damaged_under_a_running_agent(agent: Agent, disk: Disk, node: Node, containers: Containers) -> None:
    one, two = containers.new("one"), containers.new("two")
    with traffic(agent, containers):
        assert cni(node, "ADD", one, USED)[0] == 0
        with (disk.path / "store.db").open("r+b") as file:
            file.write(b"\xff" * (disk.path / "store.db").stat().st_size)
        with (disk.path / "store.db-wal").open("r+b") as file:
            file.write(b"\xff" * 100)
        status, said = cni(node, "ADD", two, {**USED, "runtimeConfig": {}})
        assert status == 0 or f"{node.state_dir}/store.db" in said["msg"], said
        assert cni(node, "DEL", one, USED) == (0, {})
        eventually(lambda: "eth0" not in one.run("ip", "-br", "link"))
        assert agent.client.status().ready
        assert "Traceback" not in agent.log


def test_a_store_that_cannot_be_written_is_refused(agent: Agent, disk: Disk, node: Node, containers: Containers) -> None:
    with traffic(agent, containers):
        agent.stop()
        before = picture(node)
        disk.mount("remount", "ro")
        said = refuses(agent)
        assert f"{node.state_dir}/store.db cannot be" in said
        assert "writable" in said
        assert picture(node) == before
        disk.mount("remount", "rw")
        agent.start()
        assert agent.client.status().repairs == 0


def test_the_disk_is_full_when_the_agent_starts(agent: Agent, disk: Disk, containers: Containers, node: Node) -> None:
    """It starts, for reading is enough to keep every container connected, or it says why not and leaves all as it is."""
    one = containers.new("one")
    agent.attach(one, "blue")
    agent.kill()
    disk.fill()
    before = picture(node)
    agent.start()
    assert picture(node) == before
    assert one.pings("10.50.0.1")
    with pytest.raises(errors.Unavailable, match="disk is full"):
        agent.attach(containers.new("two"), "blue")
