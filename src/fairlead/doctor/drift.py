"""Whether the kernel holds what it should, by the comparison that the agent repairs by."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.api.schema import Finding

from .base import Facts, error, ok


def check(facts: Facts) -> Iterable[Finding]:
    """One finding for each table that differs."""
    if not facts.drift:
        yield ok("drift", "the kernel holds exactly what it should")
        return
    for table in sorted({one.table for one in facts.drift}):
        found = [one for one in facts.drift if one.table == table]
        yield error(
            "drift",
            f"{len(found)} difference{'s' if len(found) > 1 else ''} in {table}",
            "the agent repairs it within a second; if it comes back, another program removes what Fairlead makes",
            found,
        )
