"""Whether there are addresses left."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.api.schema import Finding

from .base import Facts, error, ok, warning

_LITTLE = 0.1


def check(facts: Facts) -> Iterable[Finding]:
    """Pools that are full or nearly so."""
    fine = True
    for pool in facts.pools:
        elsewhere = f", {pool.elsewhere} elsewhere (fairlead get blocks)" if pool.elsewhere else ""
        if not pool.left:
            fine = False
            yield error(
                "pools",
                f"{pool.cidr} of network {pool.network} is exhausted: {pool.used} of {pool.size} in use{elsewhere}",
                f"remove containers, or add a subnet to network {pool.network}",
            )
        elif pool.left < pool.size * _LITTLE:
            fine = False
            yield warning(
                "pools", f"{pool.cidr} of network {pool.network} is nearly full: {pool.used} of {pool.size}{elsewhere}"
            )
    if fine:
        yield ok("pools", f"{len(facts.pools)} pools have addresses left")
