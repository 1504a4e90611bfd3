"""Whether the other nodes are there and reached."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.api.schema import Finding

from .base import Facts, error, ok


def check(facts: Facts) -> Iterable[Finding]:
    """Nodes that are not."""
    yield from (
        error("nodes", one, "see that node and the way to it; one that is gone for good: fairlead delete node NAME")
        for one in facts.unreached
    )
    if facts.nodes > 1 and not facts.unreached:
        yield ok("nodes", f"{facts.nodes - 1} other nodes are there, and there is a way to each")
