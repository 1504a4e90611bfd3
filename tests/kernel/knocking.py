"""A program in a namespace that knocks at many doors at once, and listens at its own (``tests/knock.py``)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tests.net import PYTHON, Namespace

_PROGRAM = Path(__file__).parent.parent / "knock.py"

HOLD = """
import socket, sys
address, port = sys.argv[1], int(sys.argv[2])
sock = socket.create_connection((address, port), 2)
sock.settimeout(0.5)
for line in sys.stdin:
    sock.sendall(b"hello")
    try:
        print("answered" if sock.recv(65535) else "closed", flush=True)
    except TimeoutError:
        print("silence", flush=True)
"""
"""A connection that stays open: one message for each line of its input."""

KNOCKS = """
import socket, sys
while True:
    try:
        socket.create_connection((sys.argv[1], 80), 0.05).close()
        print("let in", flush=True)
    except TimeoutError:
        pass
"""
"""Somebody who tries again and again."""


class Door(NamedTuple):
    """Where to knock: protocol, address, port."""

    protocol: str
    address: str
    port: int


class Knocker:
    """The program, running until the clean-up."""

    def __init__(self, cleanup: ExitStack, namespace: Namespace, doors: Mapping[str, Iterable[int]]) -> None:
        """``doors``: the ports that it listens on, by protocol."""
        words = [f"{protocol}={','.join(map(str, sorted(ports)))}" for protocol, ports in doors.items()]
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", namespace.name, *PYTHON, _PROGRAM, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        cleanup.callback(lambda: (self._process.kill(), self._process.communicate()))
        assert self._hear() == "ready"

    def tell(self, patience: float, doors: Iterable[Door]) -> None:
        """Knock at all of them; whoever has not answered after so many seconds does not."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps([patience, [list(one) for one in doors]]) + "\n")
        self._process.stdin.flush()

    def answered(self) -> list[bool]:
        """At which of them somebody answered, in the order they were told."""
        found: list[bool] = json.loads(self._hear())
        return found

    def _hear(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()


def knock(at: Mapping[Knocker, Iterable[Door]], patience: float) -> dict[tuple[Knocker, Door], bool]:
    """Everybody knocks at the same time: who was answered where."""
    doors = {who: list(theirs) for who, theirs in at.items()}
    for who, theirs in doors.items():
        who.tell(patience, theirs)
    return {(who, one): yes for who, theirs in doors.items() for one, yes in zip(theirs, who.answered(), strict=True)}
