"""Log lines on stderr: with the time for whoever reads a file or a terminal, with a priority for systemd's journal.

The journal has a time of its own, and reads "<4>" at a line's beginning as sd-daemon(3) says: so `journalctl -p warning` finds
what is worth a look. Whether stderr is the journal systemd says in $JOURNAL_STREAM.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG = 7


class Prioritised(logging.Formatter):
    """Every line of a record with its priority, for each becomes an entry of its own."""

    def __init__(self) -> None:
        super().__init__("%(levelname)-7s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        number = next((number for level, number in _PRIORITIES if record.levelno >= level), _DEBUG)
        return "\n".join(f"<{number}>{line}" for line in super().format(record).splitlines())


def to_stderr(level: str) -> None:
    """Have everything from ``level`` on written to stderr, as whoever reads it there wants it."""
    handler = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(Prioritised() if is_journal(2, os.environ) else plain)
    logging.basicConfig(level=level.upper(), handlers=[handler])


def is_journal(fd: int, environment: Mapping[str, str]) -> bool:
    """Whether ``fd`` leads to the journal. A service's children inherit the variable, wherever their own stderr leads."""
    try:
        there = os.fstat(fd)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"
