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


def read(run: Path) -> Numbers:
    """Numbers under the key in the run directory of the only agent there; one that is made is on disk when this returns."""
    path = run / _FILE
    return Numbers(_found(path) or _made(path))


def _found(path: Path) -> bytes | None:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            about, text = os.fstat(file.fileno()), file.read(4 * _SIZE)
        return _checked(about, text)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as problem:
        log.warning("the key in %s is not used, another is made: %s", path, problem)
        return None


def _made(path: Path) -> bytes:
    key = os.urandom(_SIZE)
    with translated(f"keep the key of this node's numbers in {path}"):
        durable.keep(durable.draft(path, f"{key.hex()}\n".encode()), path)
    return key


def _checked(about: os.stat_result, text: bytes) -> bytes:
    """The key in a file's text, if it is whole and nobody else has read it."""
    if about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) & 0o077:
        raise ValueError("others than the agent can read it")
    key = bytes.fromhex(text.decode())
    if len(key) != _SIZE:
        raise ValueError(f"it has {len(key)} bytes and not {_SIZE}")
    return key
