"""Network namespaces that stand for machines and containers, and real servers and clients in them.

A ``Namespace`` owns what it starts: ``remove`` ends every process in it and deletes it, whatever happened before. Tests get
theirs from the fixtures of tests/kernel/conftest.py and need not remove anything.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from tests.wait import eventually

ECHO = Path(__file__).with_name("echo.py")
PYTHON = (sys.executable, "-I", "-S")
NAMES = Path("/run/netns")

_numbers = count(1)

N = TypeVar("N", bound="Namespace")


class Namespace:
    """A network namespace with a name of its own (``path`` is what a CNI runtime would pass). Loopback is up."""

    def __init__(self, role: str) -> None:
        self.name = f"fl-{os.getpid()}-{next(_numbers)}-{role}"
        self.path = NAMES / self.name
        self.environ: dict[str, str] = {}
        """Added to the environment of every command run here."""
        self._started: list[subprocess.Popen[str]] = []
        machine("ip", "netns", "add", self.name)
        try:
            self.run("ip", "link", "set", "lo", "up")
        except BaseException:
            self.remove()
            raise

    def attempt(self, *command: object, deadline: float = 20.0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command inside and return how it went."""
        return subprocess.run(
            self._inside(command), input=stdin, capture_output=True, text=True, timeout=deadline, check=False, env=self._env()
        )

    def run(self, *command: object, deadline: float = 20.0, stdin: str = "") -> str:
        """Run a command inside and return what it printed; the test fails if the command does."""
        return _printed(self.attempt(*command, deadline=deadline, stdin=stdin))

    def json(self, *command: object) -> Any:
        """Run a command inside and read the JSON that it printed."""
        return json.loads(self.run(*command))

    def links(self) -> set[tuple[str, str, int]]:
        """Every interface by name, MAC and MTU; not its state, which the kernel settles in its own time."""
        return {(link["ifname"], link["address"], link["mtu"]) for link in self.json("ip", "-json", "link")}

    def start(self, *command: object) -> subprocess.Popen[str]:
        """Start a program inside that is ended with the namespace. Its output is a pipe."""
        process = subprocess.Popen(
            self._inside(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._env(),
        )
        self._started.append(process)
        return process

    def serve(self, protocol: str, port: int, ports: int = 1, address: str = "::") -> Server:
        """A server on one port, or on as many from there as ``ports`` says; it listens when this returns."""
        return Server(self, protocol, port, ports, address)

    def ask(self, address: object, port: int, protocol: str = "tcp", deadline: float = 1.0) -> Answer | None:
        """Ask a server from here: its answer, or None if there was none within ``deadline`` seconds."""
        asked = self.attempt(*PYTHON, ECHO, "ask", protocol, address, port, deadline, deadline=deadline + 20)
        return Answer(**json.loads(asked.stdout)) if asked.returncode == 0 else None

    def connects(self, address: object, port: int, protocol: str = "tcp", deadline: float = 1.0) -> bool:
        """Whether a server answers from here."""
        return self.ask(address, port, protocol, deadline) is not None

    def pings(self, address: object, deadline: float = 1) -> bool:
        """Whether an echo request is answered."""
        return self.attempt("ping", "-n", "-c", 1, "-W", deadline, address).returncode == 0

    def remove(self) -> None:
        """End every process inside and delete the namespace; nothing happens if that was done before."""
        for process in self._started:
            end(process)
        self._started.clear()
        if self.path.exists():
            for pid in machine("ip", "netns", "pids", self.name).split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            machine("ip", "netns", "delete", self.name)

    def _inside(self, command: tuple[object, ...]) -> list[str]:
        return ["ip", "netns", "exec", self.name, *map(str, command)]

    def _env(self) -> dict[str, str]:
        return {**os.environ, **self.environ}


class Node(Namespace):
    """A machine: an uplink ``eth0`` to ``outside``, which is its default route, and directories of its own for an agent."""

    uplink = "eth0"
    v4 = "203.0.113.1"
    v6 = "2001:db8:113::1"

    def __init__(self, directory: Path) -> None:
        super().__init__("node")
        self.run_dir, self.state_dir = directory / "run", directory / "state"
        self.environ = {"FAIRLEAD_RUN_DIR": str(self.run_dir), "FAIRLEAD_STATE_DIR": str(self.state_dir)}

    def plug(self, outside: Outside) -> None:
        """Lay the cable to ``outside``, with addresses and default routes of both families on the node's side only.

        The outside does not know the way to containers: what it answers to has the node's own address.
        """
        switches = ("net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0", "net.ipv6.conf.eth0.accept_dad=0")
        # Ends with one and the same interface index count as no veth pair to the kernel's link watch, which then takes up to a
        # second to call them up; IPv6 waits for that.
        ends = ("netns", self.name, "type", "veth", "peer", "name", "eth0", "netns", outside.name)
        machine("ip", "link", "add", self.uplink, "index", 1000, *ends)
        for host in (self, outside):
            host.run("sysctl", "-q", "-w", *switches)
            host.run("ip", "address", "add", f"{host.v4}/24", "dev", "eth0")
            host.run("ip", "address", "add", f"{host.v6}/64", "dev", "eth0", "nodad")
            host.run("ip", "link", "set", "eth0", "up")
        for family, via in ((4, outside.v4), (6, outside.v6)):
            self.run("ip", f"-{family}", "route", "add", "default", "via", via, "dev", "eth0", "onlink")


class Outside(Namespace):
    """A host on the other end of the node's uplink."""

    v4 = "203.0.113.2"
    v6 = "2001:db8:113::2"


class Containers:
    """Makes namespaces that stand for containers and are removed with ``cleanup``."""

    def __init__(self, cleanup: ExitStack) -> None:
        self._cleanup = cleanup

    def new(self, role: str = "container") -> Namespace:
        """One more; ``role`` is for people who read a failure."""
        return kept(self._cleanup, Namespace(role))


@dataclass(frozen=True)
class Answer:
    """What a server said: its name, the port it was asked on, and who it saw asking (what source NAT made of the client)."""

    name: str
    port: int
    peer: str
    peer_port: int
    message: str = field(compare=False)


class Server:
    """A real server in a namespace: answers every message with its own name and what it sees of its peer."""

    def __init__(self, namespace: Namespace, protocol: str, port: int, ports: int = 1, address: str = "::") -> None:
        self.name = f"{namespace.name}/{protocol}/{port}"
        self._process = namespace.start(*PYTHON, ECHO, "serve", protocol, address, port, ports, self.name)
        assert self._process.stdout
        said = self._process.stdout.readline()
        if said != "ready\n":
            raise AssertionError(f"{self.name} did not start: {said}{self._process.stdout.read()}")

    def stop(self) -> None:
        """End the server now, before its namespace goes."""
        end(self._process)


def machine(*command: object, deadline: float = 20.0) -> str:
    """Run a command on the machine itself, outside every namespace; the test fails if the command does."""
    words = list(map(str, command))
    return _printed(subprocess.run(words, capture_output=True, text=True, timeout=deadline, check=False))


def end(process: subprocess.Popen[str]) -> None:
    """Kill a program that was started here and take its exit status."""
    process.kill()
    process.wait(10)
    if process.stdout:
        process.stdout.close()


def kept(cleanup: ExitStack, namespace: N) -> N:
    """``namespace``, to be removed when ``cleanup`` closes."""
    cleanup.callback(namespace.remove)
    return namespace


def settled(namespace: Namespace) -> None:
    """Wait until no IPv6 address in the namespace is tentative any more (duplicate address detection takes a second)."""
    eventually(lambda: "tentative" not in namespace.run("ip", "-6", "address"), what=f"addresses of {namespace.name}")


def _printed(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode:
        raise AssertionError(f"{' '.join(done.args)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout
