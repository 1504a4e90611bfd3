"""Whether every container is still there."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.api.schema import Finding

from .base import Facts, ok, warning


def check(facts: Facts) -> Iterable[Finding]:
    """Containers that ended without telling anybody."""
    if facts.dead:
        shown = ", ".join(facts.dead[:10])
        yield warning("namespaces", f"the namespace of {shown} is gone", "its addresses are given back at the next collection")
    else:
        yield ok("namespaces", "every container's namespace is there")
