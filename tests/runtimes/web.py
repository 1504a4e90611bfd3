"""A web server for containers of busybox that says its host name, and a client for whoever asks it."""

from __future__ import annotations

from tests.net import Namespace

SERVE = ("sh", "-c", "hostname >/tmp/index.html; exec httpd -f -p 80 -h /tmp")


def ask(asker: Namespace, address: object, port: int = 80, deadline: int = 1) -> str | None:
    """The host name of the container that answers, or None."""
    host = f"[{address}]" if ":" in str(address) else address
    done = asker.attempt("curl", "--silent", "--fail", "--max-time", deadline, f"http://{host}:{port}/")
    return done.stdout.strip() if done.returncode == 0 else None
