"""A network namespace of a test's own: made for it, entered by its thread, removed after it.

What the package did is checked with ``ip``, ``tc`` and ``nft``, which know nothing of it.
"""

import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.kernel import netns
from fairlead.kernel.netlink import NETFILTER, Netlink

_number = itertools.count()


class Room:
    """The namespace the test's thread is in, with sockets; ``child`` makes more of them."""

    def __init__(self) -> None:
        self._paths: list[str] = []
        self._fds: list[int] = []
        self.path = self.new_path()
        netns.create(self.path)
        self.name = self.path.rpartition("/")[2]
        self.fd = self.hold(self.path)

    def new_path(self) -> str:
        path = f"{netns.NAMED}/fl-{os.getpid()}-{next(_number)}-room"
        self._paths.append(path)
        return path

    def hold(self, path: str) -> int:
        self._fds.append(netns.open_path(path))
        return self._fds[-1]

    def child(self) -> tuple[str, int]:
        """Another namespace: its name and a descriptor."""
        path = self.new_path()
        netns.create(path)
        return path.rpartition("/")[2], self.hold(path)

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)
        for path in self._paths:
            if os.path.lexists(path):
                netns.delete(path)


@pytest.fixture
def room() -> Iterator[Room]:
    """The test runs inside it."""
    made = Room()
    try:
        with netns.inside(made.fd):
            yield made
    finally:
        made.close()


@pytest.fixture
def nl(room: Room) -> Iterator[Netlink]:
    """rtnetlink inside the room."""
    with Netlink(netns=room.fd) as made:
        yield made


@pytest.fixture
def nft_nl(room: Room) -> Iterator[Netlink]:
    """nfnetlink inside the room."""
    with Netlink(NETFILTER, netns=room.fd) as made:
        yield made


def run(*words: str) -> str:
    """A program's output; the test fails with its complaint."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert not done.returncode, f"{words}: {done.stderr}"
    return done.stdout


def ip(*words: str, inside: str = "") -> list[dict[str, Any]]:
    """What ``ip`` says, as rows."""
    rows = json.loads(run("ip", *(("-n", inside) if inside else ()), "-j", "-d", *words) or "[]")
    return [row for row in rows if row]  # ip leaves an empty object for what it filtered out


def tc(*words: str) -> list[dict[str, Any]]:
    """What ``tc`` says, as rows."""
    return json.loads(run("tc", "-j", *words) or "[]")


def nft_list(*words: str) -> list[dict[str, Any]]:
    """What ``nft`` says, as rows without the preamble."""
    return [row for row in json.loads(run("nft", "-j", "list", *words))["nftables"] if "metainfo" not in row]


def descriptors() -> int:
    """How many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))
