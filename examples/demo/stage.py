"""The stage of the demo: a node and a host outside it, each a network namespace, and commands on them or on this machine."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.panel import Panel

MACHINE = ""
"""Where a command runs that is in no namespace."""
OUTSIDE, NODE = "203.0.113.2", "203.0.113.1"
FAIRLEAD = Path(sys.executable).with_name("fairlead")

console = Console(highlight=False, width=min(Console().width, 110) if sys.stdout.isatty() else 110)


class Stage:
    """``node`` runs an agent of its own; ``outside`` is at the other end of its uplink. Use as a context manager."""

    def __init__(self) -> None:
        self.node, self.outside = f"fl-demo-{os.getpid()}-node", f"fl-demo-{os.getpid()}-outside"
        self._folder = Path(tempfile.mkdtemp(prefix="fairlead-demo-"))
        self._environ = {
            **os.environ,
            "FAIRLEAD_RUN_DIR": str(self._folder / "run"),
            "FAIRLEAD_STATE_DIR": str(self._folder / "state"),
            "COLUMNS": str(console.width),
            "FORCE_COLOR": "1" if console.is_terminal else "",
        }
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        for name in (self.node, self.outside):
            _run("ip", "netns", "add", name)
            _run("ip", "-n", name, "link", "set", "lo", "up")
        pair = ("type", "veth", "peer", "name", "eth0", "netns", self.outside)
        _run("ip", "-n", self.node, "link", "add", "eth0", "index", "1000", *pair)
        for name, address in ((self.node, NODE), (self.outside, OUTSIDE)):
            _run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            _run("ip", "-n", name, "link", "set", "eth0", "up")
        _run("ip", "-n", self.node, "route", "add", "default", "via", OUTSIDE)
        return self

    def __exit__(self, *_: object) -> None:
        """Whatever happened: end what runs, remove what was made."""
        listed = self.on(self.node, str(FAIRLEAD), "ps", "-o", "name").stdout.split()
        if listed:
            self.on(self.node, str(FAIRLEAD), "rm", "-f", "-t", "1", *listed)
        self.on(self.node, str(FAIRLEAD), "down", "--purge", "--yes")
        self.on(MACHINE, str(FAIRLEAD), "lab", "down", "--all")
        for process in self._started:
            process.kill()
            process.wait()
        for name in (self.node, self.outside):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def on(self, where: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command on one of the two hosts, or on this machine."""
        inside = [*(["nsenter", f"--net=/run/netns/{where}"] if where else []), *command]
        return subprocess.run(inside, env=self._environ, capture_output=True, text=True, check=False, timeout=60)

    def start(self, where: str, *command: str) -> None:
        """Start a server that the end of the demo ends."""
        inside = ["nsenter", f"--net=/run/netns/{where}", *command]
        self._started.append(subprocess.Popen(inside, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def fairlead(self, line: str, *, show: bool = True) -> str:
        """One ``fairlead`` command on the node, as a person would type it, with what it prints; the demo ends if it fails."""
        return self.type(self.node, f"fairlead {line}", [str(FAIRLEAD), *shlex.split(line)], show=show)

    def lab(self, line: str, *, fails: bool = False) -> str:
        """One ``fairlead lab`` command on this machine; ``fails`` says that it must not succeed."""
        return self.type(MACHINE, f"fairlead lab {line}", [str(FAIRLEAD), "lab", *shlex.split(line)], fails=fails)

    def type(self, where: str, shown: str, command: list[str], *, show: bool = True, fails: bool = False) -> str:
        """Run ``command`` on a host, showing what a person would have typed and seen."""
        prompt = {self.outside: "outside", self.node: "node"}.get(where, "machine")
        if show:
            console.print(f"[dim]{prompt}#[/] [bold]{shown}[/]")
        done = self.on(where, *command)
        if show and (said := (done.stdout + done.stderr).rstrip()):
            print("\n".join(f"  {one}" for one in said.splitlines()), flush=True)  # noqa: T201  # coloured by the command
        if bool(done.returncode) is not fails:
            raise SystemExit(f"this failed: {shown}\n{done.stdout}{done.stderr}")
        return done.stdout


def title(number: int, text: str, *, why: str = "") -> None:
    """A new scene."""
    console.print()
    console.print(Panel(f"[bold]{text}[/]" + (f"\n[dim]{why}[/]" if why else ""), title=f" {number} ", title_align="left"))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=20)
