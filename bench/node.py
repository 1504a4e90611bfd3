"""A node to measure in: private network and mount namespaces, containers in it, and plugins run as a runtime runs them.

::

    this process ── stdin / stdout ── drive (C) ── spawns ── plugin, plugin, ...
                                        '-- holds the node: when it ends, the kernel takes everything back

The node's namespaces belong to the ``drive`` process alone and ``/run`` in it is a tmpfs of its own: nothing of it can be
left behind, whatever ends the benchmark. An ``Agent`` is started into a node and ends with the benchmark, even a killed one.
Nothing here may touch the namespaces that the benchmark was started in.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from lib import BUILD, ROOT

DRIVE = ROOT / "bench" / "drive.c"

_WORLD = """
mount -t tmpfs tmpfs /run
mount -t sysfs sysfs /sys
mkdir /run/netns
ip link set lo up
ip link add up0 type veth peer name wire0
ip link set up0 up
ip link set wire0 up
ip address add 192.0.2.2/24 dev up0
ip route add default via 192.0.2.1
exec "$0"
"""
"""The node as a freshly booted host: an uplink with a default route, which leads to nobody."""

_ANSWER_SECONDS = 150.0
_READY_SECONDS = 20.0
_SETTLE_SECONDS = 30.0


class Broken(Exception):
    """The benchmark itself cannot go on; the message is for the person who runs it."""


@dataclass(frozen=True)
class Call:
    """One chain of plugins run for one container. ``error`` is empty if every plugin succeeded."""

    slot: int
    ms: float
    error: str


@dataclass(frozen=True)
class Run:
    """What one ``Node.run`` did: each container's call, and the time all of it took."""

    calls: tuple[Call, ...]
    seconds: float

    @property
    def ms(self) -> list[float]:
        """The duration of each call that succeeded."""
        return took(self.calls)

    @property
    def rate(self) -> float:
        """Containers a second, counting those that succeeded."""
        return len(self.ms) / self.seconds


class Node:
    """A network namespace standing for a machine, with ``spaces`` containers waiting in it. Use it in a ``with``."""

    def __init__(self, scratch: Path, spaces: int, environment: dict[str, str] | None = None) -> None:
        self.made = 0
        self.failures: list[str] = []
        self._log = scratch / "node.log"
        self._heard = bytearray()
        log = self._log.open("ab")
        self._drive = subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-ec", _WORLD, str(built())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            stderr=log,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **(environment or {})},
        )
        log.close()
        try:
            self._ask(f"spaces {spaces}")
        except BaseException:
            self.close()
            raise
        self.mark()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the driver, and the node with it."""
        assert self._drive.stdin
        assert self._drive.stdout
        with contextlib.suppress(BrokenPipeError):
            self._drive.stdin.close()
        try:
            self._drive.wait(1)
        except subprocess.TimeoutExpired:
            self._drive.kill()
            self._drive.wait()
        self._drive.stdout.close()

    def chain(self, name: str, *plugins: tuple[Path, dict[str, object]]) -> None:
        """Define a chain: executables with their network configuration, in the order of ADD."""
        for path, conf in plugins:
            self._ask(f"plugin {name} {path} {json.dumps(conf, separators=(',', ':'))}")

    def run(self, command: str, chain: str, first: int, count: int = 1, width: int = 1) -> Run:
        """Run ``command`` of ``chain`` for ``count`` containers, ``width`` at a time; failures are counted here."""
        lines, seconds = self._ask(f"run {command} {chain} {first} {count} {width}")
        calls = tuple(_call(line) for line in lines)
        self.made += len(calls)
        self.failures += [f"{command} {chain} of container {call.slot}: {call.error}" for call in calls if call.error]
        return Run(calls, seconds)

    def delete(self, chain: str, first: int, count: int, width: int = 1) -> Run:
        """Run DEL, and once more for each container whose DEL failed, as a runtime would; the failure counts all the same."""
        run = self.run("DEL", chain, first, count, width)
        for call in run.calls:
            if call.error:
                self.run("DEL", chain, call.slot)
        return run

    def mark(self) -> None:
        """Take the interfaces that the node has now for those of the node itself."""
        self._own = self._interfaces()

    def extra(self) -> int:
        """How many interfaces the node has for containers."""
        return self._interfaces() - self._own

    def settle(self) -> None:
        """Wait until the node has only its own interfaces again: what was put off at DEL has been done."""
        last = self.failures[-1] if self.failures else "none"
        trouble = f"the kernel still has interfaces of deleted containers; the last failed call: {last}"
        poll(lambda: self.extra() <= 0, _SETTLE_SECONDS, trouble)

    def do(self, *command: str) -> str:
        """Run a command in the node and return what it printed."""
        done = subprocess.run([*self.enter(), *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Broken(f"{' '.join(command)[:80]}: {done.stderr.strip()}")
        return done.stdout

    def enter(self) -> list[str]:
        """The start of a command line that runs a program in this node, and ends it with this process."""
        return ["nsenter", "--target", str(self._drive.pid), "--net", "--mount", "setpriv", "--pdeathsig", "KILL"]

    def _interfaces(self) -> int:
        return len(Path(f"/proc/{self._drive.pid}/net/dev").read_text().splitlines())

    def _ask(self, command: str) -> tuple[list[str], float]:
        assert self._drive.stdin
        try:
            self._drive.stdin.write(f"{command}\n".encode())
        except BrokenPipeError:
            raise Broken(f"the node ended: {last_words(self._log)}") from None
        lines: list[str] = []
        deadline = time.monotonic() + _ANSWER_SECONDS
        while True:
            line = self._line(deadline)
            word, _, rest = line.partition(" ")
            if word == "done":
                return lines, int(rest) / 1e9
            if word == "error":
                raise Broken(f"drive refused {command[:80]!r}: {rest}")
            lines.append(line)

    def _line(self, deadline: float) -> str:
        assert self._drive.stdout
        while b"\n" not in self._heard:
            ready, _, _ = select.select([self._drive.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise Broken(f"no answer from the node within {_ANSWER_SECONDS:.0f} s")
            got = os.read(self._drive.stdout.fileno(), 1 << 16)
            if not got:
                raise Broken(f"the node ended: {last_words(self._log)}")
            self._heard += got
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode(errors="replace")


class Agent:
    """``python -m fairlead.agent`` in a node. Use it in a ``with``; it is ready when the ``with`` is entered."""

    def __init__(self, node: Node, scratch: Path, options: Iterable[str] = ()) -> None:
        self._log = scratch / "agent.log"
        self._socket = scratch / "run" / "agent.sock"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*node.enter(), sys.executable, "-m", "fairlead.agent", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **places(scratch), "PYTHONPATH": str(ROOT / "src")},
            )

    def __enter__(self) -> Self:
        try:
            poll(self._ready, _READY_SECONDS, "the agent is not ready")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the agent."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, method: str, path: str, body: object = None) -> dict[str, object]:
        """One request to the agent; raise ``Broken`` with its refusal."""
        connection = _Connection(self._socket)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            reply = connection.getresponse()
            tree = json.loads(reply.read())
        finally:
            connection.close()
        if reply.status >= 300:
            raise Broken(f"{method} {path}: {reply.status} {tree}; the agent's log ends: {last_words(self._log)}")
        assert isinstance(tree, dict)
        return tree

    def settle(self) -> None:
        """Wait until the agent has nothing pending."""
        poll(lambda: not self.ask("GET", "/v1/status").get("pending"), _SETTLE_SECONDS, "the agent still has work pending")

    def resident(self) -> float:
        """Resident memory of the agent and all its children, in KB."""
        return float(sum(_resident(pid) for pid in self._family()))

    def busy(self) -> float:
        """CPU time that the agent and all its children have used, in seconds."""
        return sum(_busy(pid) for pid in self._family())

    def _family(self) -> list[int]:
        if self._process.poll() is not None:
            raise Broken(f"the agent ended: {last_words(self._log)}")
        found = [self._process.pid]
        for pid in found:
            found += [int(child) for text in tasks(pid, "children") for child in text.split()]
        return found

    def _ready(self) -> bool:
        if self._process.poll() is not None:
            raise Broken(f"the agent ended: {last_words(self._log)}")
        try:
            return bool(self.ask("GET", "/v1/status").get("ready"))
        except OSError:
            return False


class _Connection(http.client.HTTPConnection):
    """HTTP over the agent's socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def took(calls: Iterable[Call]) -> list[float]:
    """The milliseconds of the calls that succeeded."""
    return [call.ms for call in calls if not call.error]


def places(scratch: Path) -> dict[str, str]:
    """The environment that tells the agent and its plugin where their files are."""
    return {"FAIRLEAD_RUN_DIR": str(scratch / "run"), "FAIRLEAD_STATE_DIR": str(scratch / "state")}


def built() -> Path:
    """The driver."""
    return compiled(DRIVE, BUILD / "drive")


def compiled(source: Path, binary: Path) -> Path:
    """A program in C, compiled if its source is newer."""
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(parents=True, exist_ok=True)
        command = ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", str(binary), str(source)]
        subprocess.run(command, check=True)
    return binary


def last_words(log: Path) -> str:
    """The end of a log, for a message about what wrote it."""
    return log.read_text(errors="replace")[-2000:].strip() or "nothing was logged"


def poll(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Wait until ``condition`` holds; raise ``Broken`` with ``otherwise`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Broken(f"after {seconds:.0f} s {otherwise}")
        time.sleep(0.01)


def _call(line: str) -> Call:
    slot, ns, outcome = line.split(" ", 2)
    return Call(int(slot), int(ns) / 1e6, "" if outcome == "ok" else outcome)


def tasks(pid: int, name: str) -> list[str]:
    """The file ``name`` of every thread of a process; nothing of one that has just ended."""
    texts = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            texts.append((task / name).read_text())
    return texts


def _resident(pid: int) -> int:
    """KB; each thread tells the same of its process."""
    lines = [line for text in tasks(pid, "status")[:1] for line in text.splitlines() if line.startswith("VmRSS:")]
    return int(lines[0].split()[1]) if lines else 0


def _busy(pid: int) -> float:
    """Seconds on a CPU, of all threads that the process ever had: its CPU clock, see clock_getcpuclockid(3)."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0
