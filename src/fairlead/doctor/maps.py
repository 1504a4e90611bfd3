"""Whether the kernel's tables for policies have room."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.api.schema import Finding

from .base import Facts, ok, warning

_NEARLY = 0.8


def check(facts: Facts) -> Iterable[Finding]:
    """Maps that will soon take no more; nothing where there are none."""
    full = {name: (used, most) for name, (used, most) in facts.maps.items() if used > most * _NEARLY}
    for name, (used, most) in full.items():
        yield warning("policy", f"the kernel's map of {name} is nearly full: {used} of {most}", "have fewer policies or peers")
    if facts.maps and not full:
        yield ok(
            "policy", f"{facts.maps['endpoints'][0]} endpoints, {facts.maps['peers'][0]} prefixes of peers: maps have room"
        )
