"""Whether there are addresses left."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.api.schema import Finding

from .base import Facts, error, ok, warning

_NEARLY = 0.9


def check(facts: Facts) -> Iterable[Finding]:
    """Pools that are full or nearly so."""
    fine = True
    for pool in facts.pools:
        if pool.used >= pool.size:
            fine = False
            yield error(
                "pools",
                f"{pool.cidr} of network {pool.network} is exhausted: {pool.used} of {pool.size} in use",
                f"remove containers, or add a subnet to network {pool.network}",
            )
        elif pool.used > pool.size * _NEARLY:
            fine = False
            yield warning("pools", f"{pool.cidr} of network {pool.network} is nearly full: {pool.used} of {pool.size}")
    if fine:
        yield ok("pools", f"{len(facts.pools)} pools have addresses left")
