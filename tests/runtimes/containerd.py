"""containerd from Debian's package, driven by ``ctr``, which calls CNI plugins itself."""

from __future__ import annotations

import subprocess
from itertools import count

from tests.runtimes.host import BUSYBOX, Host
from tests.wait import eventually

PROGRAMS = ("containerd", "ctr", "runc", "busybox", "curl")


class Containerd:
    """A daemon on a host; ``ctr("task", "ls")`` is the command line."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.daemon = host.daemon("containerd")
        self._execs = count()

    def __call__(self, *command: object, deadline: float = 60.0) -> str:
        """Run ``ctr``; the test fails if it does."""
        return self.host.run("ctr", *command, deadline=deadline).strip()

    def attempt(self, *command: object) -> subprocess.CompletedProcess[str]:
        """Run ``ctr`` and return how it went."""
        return self.host.attempt("ctr", *command, deadline=60.0)

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        self.daemon.start()
        eventually(self._answers, deadline=30, what="containerd answers")

    def container(self, name: str, *options: object, command: tuple[object, ...] = ("sleep", "3600")) -> None:
        """Start a container, as long as whose life ``ctr`` stays: when it ends, the network is taken away."""
        running = self.host.daemon("ctr", *self._run(name, "--rm", *options), *command)
        running.start()

        def runs() -> bool:
            running.alive()
            return self.inside(name, "true").returncode == 0

        eventually(runs, deadline=20, what=f"{name} runs")

    def detached(self, name: str, *options: object, command: tuple[object, ...] = ("sleep", "3600")) -> None:
        """Start a container and leave it alone."""
        self(*self._run(name, "--detach", *options), *command)

    def inside(self, name: str, *command: object) -> subprocess.CompletedProcess[str]:
        """Run a command in a container."""
        return self.attempt("task", "exec", "--exec-id", f"exec{next(self._execs)}", name, *command)

    def remove(self, name: str) -> None:
        """End a container; ``ctr`` does the rest."""
        self("task", "kill", "--signal", "SIGKILL", name)
        eventually(lambda: name not in self("containers", "ls", "--quiet").split(), deadline=20)

    def address(self, name: str, family: int = 4) -> str:
        """A container's address, as it sees it."""
        word = "inet" if family == 4 else "inet6"
        lines = [line.split() for line in self.inside(name, "ip", "address", "show", "eth0").stdout.splitlines()]
        return next(words[1].partition("/")[0] for words in lines if words[0] == word and "global" in words)

    def _run(self, name: str, *options: object) -> tuple[object, ...]:
        files = f"/run/roots/{name}"
        self.host.sh(f"mkdir -p {files} && cp -a {BUSYBOX}/. {files}")
        return ("run", "--cni", "--env", "PATH=/bin", *options, "--rootfs", files, name)

    def _answers(self) -> bool:
        self.daemon.alive()
        return self.attempt("version").returncode == 0
