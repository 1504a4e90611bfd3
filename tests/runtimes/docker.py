"""Docker from Debian's package, as it is when installed; only its store is one that works on any file system."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.runtimes.host import BUSYBOX, Host
from tests.wait import eventually

PROGRAMS = ("dockerd", "docker", "containerd", "runc", "busybox", "curl")
CONFIGURATION = {"storage-driver": "vfs", "live-restore": True}


class Docker:
    """A daemon on a host; ``docker("network", "create", ...)`` is the command line."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.daemon = host.daemon("dockerd")
        host.write("/etc/docker/daemon.json", json.dumps(CONFIGURATION))

    def __call__(self, *command: object, deadline: float = 60.0) -> str:
        """Run a command; the test fails if it does."""
        return self.host.run("docker", *command, deadline=deadline).strip()

    def attempt(self, *command: object) -> subprocess.CompletedProcess[str]:
        """Run a command and return how it went."""
        return self.host.attempt("docker", *command, deadline=60.0)

    def start(self) -> None:
        """Start the daemon and wait until it answers; the image is made the first time."""
        self.daemon.start()
        eventually(self._answers, deadline=30, what="dockerd answers")
        if not self("images", "--quiet", "busybox"):
            self.host.sh(f"tar --create --directory={BUSYBOX} . | docker import - busybox")

    def stop(self) -> None:
        self.daemon.stop()

    def kill(self) -> None:
        self.daemon.kill()

    def container(self, name: str, *options: object, command: tuple[object, ...] = ("sleep", "3600")) -> str:
        """Start a container; its id."""
        return self("run", "--detach", "--name", name, *options, "busybox", *command)

    def inside(self, name: str, *command: object) -> subprocess.CompletedProcess[str]:
        """Run a command in a container."""
        return self.attempt("exec", name, *command)

    def inspect(self, name: str) -> Any:
        """What Docker says of a container or a network."""
        (found,) = json.loads(self("inspect", name))
        return found

    def address(self, name: str, network: str) -> str:
        """A container's IPv4 address on a network."""
        return str(self.inspect(name)["NetworkSettings"]["Networks"][network]["IPAddress"])

    def _answers(self) -> bool:
        self.daemon.alive()
        return self.host.attempt("docker", "version").returncode == 0
