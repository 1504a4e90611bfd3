"""Whether the kernel's tables for policies and connections have room."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.api.schema import Finding

from .base import Facts, ok, warning

NEARLY = 0.8
"""The part of a map from which on one should do something."""


_PLENTY = {
    "connections": "start the agent with --map-size connections=N: N of them are remembered at a time",
    "tracked connections": "sysctl -w net.netfilter.nf_conntrack_max=N: N of them are remembered at a time",
}
_FEWER = "have fewer policies, or start the agent with --map-size {name}=N"


def check(facts: Facts) -> Iterable[Finding]:
    """Maps that will soon take no more, or that have already let go of what was in use; nothing where there are none."""
    full = {name: (used, most) for name, (used, most) in facts.maps.items() if used > most * NEARLY}
    for name, (used, most) in full.items():
        remedy = _PLENTY.get(name, _FEWER.format(name=name))
        yield warning("policy", f"the kernel's map of {name} is nearly full: {used} of {most}", remedy)
    if facts.evicted:
        what = f"{facts.evicted} connections were forgotten before they ended, to make room for others"
        yield warning("policy", what, next(remedy for name, remedy in _PLENTY.items() if name in facts.maps))
    if facts.maps and not full and not facts.evicted:
        yield ok(
            "policy", f"{facts.maps['endpoints'][0]} endpoints, {facts.maps['peers'][0]} prefixes of peers: maps have room"
        )
