"""A node that is a whole machine to what runs on it: its own network, files and processes, for real daemons as installed.

Daemons of container runtimes keep sockets, state and rules in places that cannot all be configured, and leave processes behind
on purpose. On a ``Host`` they are started as on any machine; when it is removed, nothing of them is left.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.net import PYTHON, Node, Outside, end, machine
from tests.wait import eventually

PID1 = Path(__file__).with_name("pid1.py")
ROOT = Path(__file__).parents[2]
CGROUPS = Path("/sys/fs/cgroup")
TOOLS = "/run/host/bin"
BUSYBOX = "/opt/busybox"
"""A root file system for containers, made of busybox-static."""

UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private")

_PARENTS = ("default", "docker", "k8s.io", "libpod_parent", "machine.slice")
"""Where containerd (for CRI too), Docker and podman put their containers' control groups."""


class Host(Node):
    """A node with mount and PID namespaces of its own. Commands run there, ``files`` is its root as seen from outside."""

    pid = 0
    """Its first process, as the machine counts."""

    def __init__(self, directory: Path, outside: Outside) -> None:
        super().__init__(directory)
        self.logs = directory
        self._groups: set[Path] = set()
        try:
            self._groups.update(_groups())
            with (directory / "host.log").open("w") as log:
                self._outer = subprocess.Popen(
                    ("nsenter", f"--net={self.path}", *UNSHARE, *PYTHON, PID1),
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
                )  # fmt: skip
            self._started.append(self._outer)
            assert self._outer.stdout
            assert self._outer.stdout.readline() == "ready\n", "the host did not start"
            self.pid = child(self._outer.pid)
            self.plug(outside)
            self._equip()
        except BaseException:
            self.remove()
            raise
        self.run_dir, self.state_dir = self.files / "run/fairlead", self.files / "var/lib/fairlead"

    @property
    def files(self) -> Path:
        """The host's root directory."""
        return Path(f"/proc/{self.pid}/root")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the host; its folders are made."""
        file = self.files / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def sh(self, script: str, deadline: float = 60.0) -> str:
        """Run a script as a person would type it, to its end or its first failure."""
        return self.run("sh", "-eu", "-c", script, deadline=deadline)

    def daemon(self, *command: object) -> Daemon:
        """Start a program that is stopped, killed and started again by a test."""
        return Daemon(self, *command)

    def remove(self) -> None:
        """End everything, and take away the control groups that runtimes left."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._outer.wait(20)
        super().remove()
        for group in sorted(set(_groups()) - self._groups, reverse=True):
            with suppress(OSError):
                group.rmdir()

    def _inside(self, command: tuple[object, ...]) -> list[str]:
        spaces = ("--mount", "--pid", "--net") if self.pid else (f"--net={self.path}",)
        target = ("--target", str(self.pid)) if self.pid else ()
        return ["nsenter", *target, *spaces, "--wd=/", *map(str, command)]

    def _equip(self) -> None:
        """``fairlead`` and the other programs as people type them, and a root file system for containers."""
        self.environ = {
            "PATH": f"{TOOLS}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "PYTHONPATH": str(ROOT / "src"),
        }
        self.write(f"{TOOLS}/fairlead", f'#!/bin/sh\nexec {sys.executable} -m fairlead.cli "$@"\n', 0o755)
        for program in ("docker", "podman", "ctr"):
            with suppress(OSError):
                (self.files / TOOLS.lstrip("/") / program).symlink_to(f"/usr/bin/{program}")
        self.sh(
            f"for folder in bin proc sys dev etc tmp; do mkdir -p {BUSYBOX}/$folder; done\n"
            f"cp /bin/busybox {BUSYBOX}/bin/\nchroot {BUSYBOX} /bin/busybox --install -s /bin"
        )


class Daemon:
    """A long-running program of a host; what it prints goes to a log."""

    def __init__(self, host: Host, *command: object) -> None:
        self._host, self._command = host, command
        self._log = host.logs / f"{Path(str(command[0])).name}.log"
        self._outer: subprocess.Popen[str] | None = None
        self.pid = 0
        """Its process id, as the machine counts."""

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def runs(self) -> bool:
        return self._outer is not None and self._outer.poll() is None

    def start(self) -> None:
        """Start it; it need not be ready when this returns."""
        assert not self.runs
        with self._log.open("a") as log:
            self._outer = subprocess.Popen(
                self._host._inside(self._command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True,
                env=self._host._env(),
            )  # fmt: skip
        self._host._started.append(self._outer)
        self.pid = child(self._outer.pid)

    def stop(self, deadline: float = 30.0) -> None:
        """Ask it to end."""
        self._end(signal.SIGTERM, deadline)

    def kill(self) -> None:
        """End it without a word."""
        self._end(signal.SIGKILL, 10)

    def alive(self) -> None:
        """Fail, with the log, if it has ended by itself."""
        if not self.runs:
            raise RuntimeError(f"{self._command[0]} ended:\n{self.log[-4000:]}")

    def _end(self, number: int, deadline: float) -> None:
        assert self._outer
        os.kill(self.pid, number)
        self._outer.wait(deadline)
        self._host._started.remove(self._outer)


def child(pid: int) -> int:
    """The first child of a process: what runs behind ``nsenter`` or ``unshare``."""

    def look() -> int:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(found[0]) if found else 0

    return eventually(look, what=f"a child of {pid}")


def _groups() -> Iterator[Path]:
    for parent in _PARENTS:
        for top in CGROUPS.glob(f"{parent}"), CGROUPS.glob(f"*/{parent}"):
            for group in top:
                yield group
                yield from (found for found in group.rglob("*") if found.is_dir())


__all__ = ["BUSYBOX", "Daemon", "Host", "child", "end", "machine"]
