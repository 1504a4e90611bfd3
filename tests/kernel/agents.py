"""A real agent on a node of its own, asked through its real socket."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from fairlead.api.client import Client
from fairlead.api.schema import Attach, Attached, Detach, Detached
from fairlead.datapath.ebpf import programs
from fairlead.model import codec, errors
from fairlead.model.network import Network
from tests.net import Namespace, Node, end
from tests.wait import eventually


class Agent:
    """Runs ``python -m fairlead.agent`` inside ``node``; ``stop``, ``kill`` and ``start`` as often as a test likes."""

    def __init__(self, node: Node, *options: str) -> None:
        self.node = node
        self.options = options
        self.under: tuple[str, ...] = ()
        """A command that the agent is started by, in place of directly."""
        self._log = node.run_dir.parent / "agent.log"
        self._process: subprocess.Popen[str] | None = None
        self.client = Client(node.run_dir / "agent.sock")

    @property
    def command(self) -> list[str]:
        """What is executed to start it."""
        return [sys.executable, "-m", "fairlead.agent", *self.options]

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        return self._log.read_text()

    def start(self) -> None:
        """Start it and wait until containers may start."""
        self.start_only()
        eventually(self._ready, deadline=20, what=f"the agent is ready; its log: {self._log}")

    def start_only(self) -> None:
        """Start it."""
        self._process = self._spawn()

    def _spawn(self) -> subprocess.Popen[str]:
        with self._log.open("a") as log:
            return subprocess.Popen(
                ["nsenter", f"--net={self.node.path}", *self.under, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
                env=self.node._env(),
            )

    def stop(self) -> None:
        """Ask it to end, and see that it ends in order."""
        assert self._process
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(20) == 0, self.log

    def kill(self) -> None:
        """End it without a word."""
        assert self._process
        end(self._process)

    def remove(self) -> None:
        """End it, and forget what it pinned: a test's agent has no successor."""
        if self._process and self._process.poll() is None:
            end(self._process)
        programs.remove(self.node.run_dir)

    @property
    def reason(self) -> str:
        """Why containers may not start yet; empty if they may."""
        try:
            return self.client.status().reason
        except errors.Unavailable as problem:
            return str(problem)

    def _ready(self) -> bool:
        assert self._process
        if self._process.poll() is not None:
            raise RuntimeError(f"the agent ended:\n{self.log}")
        try:
            return self.client.status().ready
        except errors.Unavailable:
            return False

    # ---- what tests ask for ----

    def network(self, name: str, *subnets: str, **spec: object) -> Network:
        """Create a network; fields of the spec as in YAML."""
        tree = {
            "kind": "Network",
            "apiVersion": "fairlead.dev/v1",
            "metadata": {"name": name},
            "spec": {"subnets": [{"cidr": one} for one in subnets], **spec},
        }
        self.client.apply(codec.from_item(tree))
        return self.client.network(name)

    def attach(self, namespace: Namespace, /, network: str = "default", **fields: object) -> Attached:
        """Attach a container; fields as in JSON."""
        tree = {
            "container": namespace.name,
            "path": str(namespace.path),
            "network": network,
            "interface": "eth0",
            "display": namespace.name.rsplit("-", 1)[-1],
            **fields,
        }
        return self.client.attach(codec.from_tree(tree, Attach))

    def detach(self, namespace: Namespace, interface: str | None = None, *, wait: bool = True) -> Detached:
        """Detach a container."""
        tree = {"container": namespace.name, "wait": wait, **({"interface": interface} if interface else {})}
        return self.client.detach(codec.from_tree(tree, Detach))

    def drift(self) -> list[str]:
        """What doctor finds different, as text."""
        return [f"{d.table} {d.key} {d.kind} {d.want} {d.have}" for f in self.client.doctor().findings for d in f.drift]


def address(attached: Attached, family: int = 4) -> str:
    """The address of one family that an attachment got."""
    return next(str(one.address) for one in attached.endpoint.spec.addresses if one.family == family)


def run_files(node: Node) -> list[Path]:
    """What lies in the run directory."""
    return sorted(node.run_dir.iterdir())
