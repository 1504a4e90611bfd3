"""Real etcd for tests: members on loopback ports, a cluster of them, and a wire to a member that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.wait import eventually

READY = 30.0


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Member:
    """One etcd process. ``host``: its address; ``inside``: the words that start a program where that address is."""

    def __init__(
        self,
        folder: Path,
        name: str,
        ports: Sequence[int],
        *,
        tls: bool = False,
        host: str = "127.0.0.1",
        inside: tuple[str, ...] = (),
    ) -> None:
        self.name, self.host, self._tls, self._inside = name, host, tls, inside
        self.client, self.peer, self.metrics = ports
        self.folder = folder / name
        self._process: subprocess.Popen[bytes] | None = None
        self._words: tuple[str, ...] = ()

    @property
    def endpoint(self) -> str:
        return f"{self.host}:{self.client}"

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.endpoint}"

    @property
    def peer_url(self) -> str:
        return f"http://{self.host}:{self.peer}"

    def start(self, cluster: str, *words: str) -> None:
        """Start it; it is ready when most of its cluster is."""
        self._words = (
            *("--name", self.name, "--data-dir", str(self.folder)),
            *("--listen-client-urls", self.url, "--advertise-client-urls", self.url),
            *("--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url),
            *("--initial-cluster", cluster, "--listen-metrics-urls", f"http://{self.host}:{self.metrics}"),
            *("--logger", "zap", "--log-level", "error", *words),
        )
        self.again()

    def again(self) -> None:
        """Start it as before."""
        log = self.folder.with_suffix(".log").open("ab")
        # Whatever ends the tests, the kernel ends it too.
        command = [*self._inside, "setpriv", "--pdeathsig", "KILL", "etcd", *self._words]
        env = {name: value for name, value in os.environ.items() if not name.startswith("ETCD")}
        with log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)

    def ready(self) -> bool:
        """Whether it serves, which it does only in a majority."""
        assert self._process is not None
        assert self._process.poll() is None, self.folder.with_suffix(".log").read_text()
        try:
            with urllib.request.urlopen(f"http://{self.host}:{self.metrics}/health", timeout=2) as answer:
                return json.loads(answer.read())["health"] in {"true", True}
        except (OSError, urllib.error.URLError):
            return False

    def send(self, number: int) -> None:
        """Send it a signal, such as SIGSTOP: it keeps its connections and says nothing."""
        assert self._process is not None
        self._process.send_signal(number)

    def end(self) -> None:
        """Kill it, if it runs."""
        if self._process is not None:
            self._process.kill()  # also one that is stopped
            self._process.wait()
            self._process = None

    def ask(self, path: str, tree: Any) -> Any:
        """Ask its gateway directly."""
        request = urllib.request.Request(f"{self.url}{path}", json.dumps(tree).encode())  # noqa: S310  # loopback
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return json.loads(answer.read())

    def forget(self, revision: int) -> None:
        """Compact: whatever was before this revision is forgotten."""
        with contextlib.suppress(urllib.error.HTTPError):  # it has forgotten that much already
            self.ask("/v3/kv/compaction", {"revision": str(revision), "physical": True})

    def leads(self) -> bool:
        """Whether it leads its cluster."""
        said = self.ask("/v3/maintenance/status", {})
        return bool(said.get("leader") == said["header"]["member_id"])

    def ctl(self, *words: str) -> str:
        """What etcd's own program says."""
        env = {**os.environ, "ETCDCTL_API": "3"}
        done = subprocess.run(
            ["etcdctl", f"--endpoints={self.url}", *words], capture_output=True, text=True, timeout=20, check=True, env=env
        )
        return done.stdout


@contextlib.contextmanager
def running(folder: Path, count: int = 1, *words: str, tls: bool = False) -> Iterator[list[Member]]:
    """A cluster on loopback that serves, and its end."""
    ports = free_ports(3 * count)
    members = [Member(folder, f"m{at}", ports[3 * at : 3 * at + 3], tls=tls) for at in range(count)]
    with serving(folder, members, *words):
        yield members


@contextlib.contextmanager
def serving(folder: Path, members: Sequence[Member], *words: str) -> Iterator[None]:
    """Start these members as one cluster, wait until it serves, and end them."""
    folder.mkdir(exist_ok=True)
    cluster = ",".join(f"{one.name}={one.peer_url}" for one in members)
    try:
        for one in members:
            one.start(cluster, *words)
        for one in members:
            eventually(one.ready, deadline=READY, what=f"{one.name} of etcd serves")
        yield
    finally:
        for one in members:
            one.end()
        shutil.rmtree(folder, ignore_errors=True)


class Wire:
    """A TCP relay before a member, which can be cut: connections break, or stay and carry nothing."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._up = True
        self.port = 0
        self.accepted = 0

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @contextlib.asynccontextmanager
    async def laid(self) -> AsyncIterator[Wire]:
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self._flows.set()
            ends = tuple(self._open)
            self.cut()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=5)
            await asyncio.gather(*(one.wait_closed() for one in ends), return_exceptions=True)

    def cut(self) -> None:
        """Break every connection there is."""
        for one in tuple(self._open):
            one.transport.abort()

    def down(self) -> None:
        """Break every connection, and refuse new ones."""
        self._up = False
        self.cut()

    def up(self) -> None:
        self._up = True

    def stall(self) -> None:
        """Keep connections, and carry nothing any more."""
        self._flows.clear()

    def flow(self) -> None:
        self._flows.set()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._up:
            writer.transport.abort()
            return
        self.accepted += 1
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        self._open |= {writer, back}
        ways = [asyncio.create_task(self._carry(reader, back)), asyncio.create_task(self._carry(there, writer))]
        self._tasks.update(ways)
        await asyncio.wait(ways)
        await asyncio.gather(writer.wait_closed(), back.wait_closed(), return_exceptions=True)
        self._tasks.difference_update(ways)
        self._open -= {writer, back}

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
