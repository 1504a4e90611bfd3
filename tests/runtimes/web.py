"""A web server for containers of busybox that says its name, and clients: a host with curl, a container with nc."""

from __future__ import annotations

import subprocess
from typing import Protocol

from tests.net import Namespace


class Runtime(Protocol):
    """What the runtimes have in common here."""

    def inside(self, name: str, *command: object) -> subprocess.CompletedProcess[str]:
        """Run a command in a container."""


def serve(name: str) -> tuple[str, ...]:
    """The command of a container that answers with ``name`` on port 80."""
    return ("sh", "-c", f"echo {name} >/tmp/index.html; exec httpd -f -p 80 -h /tmp")


def ask(asker: Namespace, address: object, port: int = 80, deadline: int = 1) -> str | None:
    """What the container says that answers a host, or None."""
    host = f"[{address}]" if ":" in str(address) else address
    done = asker.attempt("curl", "--silent", "--fail", "--max-time", deadline, f"http://{host}:{port}/")
    return done.stdout.strip() if done.returncode == 0 else None


def hears(runtime: Runtime, name: str, address: object, port: int = 80) -> str | None:
    """What the container says that answers the container ``name``, or None."""
    request = rf"printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 1 {address} {port} | tail -n 1"
    return runtime.inside(name, "sh", "-c", request).stdout.strip() or None


def connects(runtime: Runtime, name: str, address: object, port: int) -> bool:
    """Whether a connection from the container ``name`` is taken."""
    return runtime.inside(name, "sh", "-c", f"nc -w 1 {address} {port} </dev/null").returncode == 0
