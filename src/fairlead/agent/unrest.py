"""Who came, went or changed while somebody looked: what was found of them then is no difference.

A comparison takes milliseconds, of many containers longer; meanwhile others are made, fail and are removed. So what is found
while anybody moves is looked for a second time, without them: a difference is what was there both times. Who moves only during
the second look was whole during the first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from fairlead.api.schema import Drift


class Unrest:
    """Tells each who looks of all that moves meanwhile."""

    def __init__(self) -> None:
        self._looking: list[set[str]] = []

    def stir(self, owner: str) -> None:
        """What ``owner`` has is another thing now, or is taken back."""
        for one in self._looking:
            one.add(owner)

    @contextmanager
    def watched(self) -> Iterator[Collection[str]]:
        """Who moves for as long as this lasts."""
        moved: set[str] = set()
        self._looking.append(moved)
        try:
            yield moved
        finally:
            self._looking = [one for one in self._looking if one is not moved]


def lasting(first: Iterable[Drift], second: Iterable[Drift]) -> list[Drift]:
    """What was found both times."""
    again = {(one.table, one.key, one.kind, one.want) for one in second}
    return [one for one in first if (one.table, one.key, one.kind, one.want) in again]
