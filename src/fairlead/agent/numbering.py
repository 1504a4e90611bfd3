"""Numbering: the key under which this node gives numbers to peers, sets and rules, which nobody but root reads.

``RUN/numbers.key`` holds 32 random bytes in hex. It lies where the kernel's maps are pinned and gets as old as they do: an
agent that starts again finds them right by it, and after a reboot both are made anew. Where it is lost, or others may have read
it, another is made: all numbers are others then, and what they stand for is programmed beside what is there.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from fairlead.kernel.errors import translated
from fairlead.kit import durable
from fairlead.policy.identity import Numbers

log = logging.getLogger(__name__)

_FILE = "numbers.key"
_SIZE = 32


class Numbering:
    """The key of a run directory, which one agent has at a time."""

    def __init__(self, run: Path) -> None:
        """Read it, or make one, which is on disk when this returns."""
        self._path = run / _FILE
        key = self._read()
        self.is_new = key is None
        """Whether the numbers are others than those of the agent before, if there was one."""
        self.numbers = Numbers(key or self._make())

    def _read(self) -> bytes | None:
        try:
            with os.fdopen(os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                about, text = os.fstat(file.fileno()), file.read(4 * _SIZE)
            return _checked(about, text)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as problem:
            log.warning("the key in %s is not used, another is made: %s", self._path, problem)
            return None

    def _make(self) -> bytes:
        key = os.urandom(_SIZE)
        with translated(f"keep the key of this node's numbers in {self._path}"):
            durable.keep(durable.draft(self._path, f"{key.hex()}\n".encode()), self._path)
        return key


def _checked(about: os.stat_result, text: bytes) -> bytes:
    """The key in a file's text, if it is whole and nobody else has read it."""
    if about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) & 0o077:
        raise ValueError("others than the agent can read it")
    key = bytes.fromhex(text.decode())
    if len(key) != _SIZE:
        raise ValueError(f"it has {len(key)} bytes and not {_SIZE}")
    return key
