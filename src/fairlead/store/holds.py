"""Holds: presence in an SQLite file. A row says until when a name is held, on a clock that the whole machine shares.

The clock is CLOCK_BOOTTIME: every process reads the same, nobody can set it, and it goes on while the machine sleeps. It begins
anew with a boot, so a row also names the boot, and those of another one are nobody's.

Being alive need not outlive a power cut: these rows are written without waiting for the disk, by a connection of their own.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path

from .presence import Claim, claimed
from .schema import connect, transaction


def now() -> float:
    """The time that ``Claim.until`` is measured in."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Holds:
    """The table of holds. Knows no threads: one at a time."""

    def __init__(self, path: Path, busy: float) -> None:
        self.connection: sqlite3.Connection = connect(path, busy)
        self.connection.execute("PRAGMA synchronous = NORMAL")
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def claims(self) -> Mapping[str, Claim]:
        """Every row of this boot."""
        rows = self.connection.execute("SELECT name, holder, token, until FROM holds WHERE boot = ?", (self._boot,))
        return {name: Claim(holder, token, until) for name, holder, token, until in rows}

    def take(self, name: str, claim: Claim) -> None:
        """Write a row, unless the name is another's; remove those that ran out long ago or belong to another boot."""
        with transaction(self.connection, "IMMEDIATE"):
            moment = now()
            claimed(name, self.claims().get(name), claim, moment)
            self.connection.execute("DELETE FROM holds WHERE boot != ? OR until <= ?", (self._boot, moment))
            self.connection.execute("INSERT OR REPLACE INTO holds VALUES (?, ?, ?, ?, ?)", (name, *claim, self._boot))

    def renew(self, name: str, token: str, until: float) -> bool:
        """Whether the row is still this hold's; then it is for longer."""
        change = "UPDATE holds SET until = ? WHERE name = ? AND token = ? AND boot = ?"
        with transaction(self.connection, "IMMEDIATE"):
            return self.connection.execute(change, (until, name, token, self._boot)).rowcount > 0

    def release(self, name: str, token: str) -> None:
        """Remove the row, if it is still this hold's."""
        with transaction(self.connection, "IMMEDIATE"):
            self.connection.execute("DELETE FROM holds WHERE name = ? AND token = ?", (name, token))
