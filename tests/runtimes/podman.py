"""Podman from Debian's package, with CNI networks; what a host must configure for that is one file."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.runtimes.host import BUSYBOX, Host

PROGRAMS = ("podman", "conmon", "runc", "busybox", "curl")

CONFIGURATION = """\
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"

[network]
network_backend = "cni"
default_network = "fairlead"

[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
"""
"""The limits are for machines where nobody may raise them; podman asks for more than such a machine has."""

STORAGE = '[storage]\ndriver = "vfs"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n'


class Podman:
    """``podman("network", "ls")`` is the command line; there is no daemon."""

    def __init__(self, host: Host) -> None:
        self.host = host
        host.write("/etc/containers/containers.conf", CONFIGURATION)
        host.write("/etc/containers/storage.conf", STORAGE)

    def __call__(self, *command: object, deadline: float = 60.0) -> str:
        """Run a command; the test fails if it does."""
        return self.host.run("podman", *command, deadline=deadline).strip()

    def attempt(self, *command: object) -> subprocess.CompletedProcess[str]:
        """Run a command and return how it went."""
        return self.host.attempt("podman", *command, deadline=60.0)

    def container(self, name: str, *options: object, command: tuple[object, ...] = ("sleep", "3600")) -> str:
        """Start a container; its id. Its files are its own: what one writes, another does not see."""
        words = ("run", "--detach", "--name", name, *options, "--rootfs", f"{BUSYBOX}:O")
        return self(*words, *command)

    def inside(self, name: str, *command: object) -> subprocess.CompletedProcess[str]:
        """Run a command in a container."""
        return self.attempt("exec", name, *command)

    def inspect(self, name: str) -> Any:
        """What podman says of a container."""
        (found,) = json.loads(self("inspect", name))
        return found

    def address(self, name: str, network: str) -> str:
        """A container's IPv4 address on a network."""
        return str(self.inspect(name)["NetworkSettings"]["Networks"][network]["IPAddress"])
