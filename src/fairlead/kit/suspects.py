"""Suspects: what is missing from a list is not gone yet. It must be missing twice, a while apart, and all the time between.

A list can be older than what it is compared with: what was made after it was written is not on it, and yet alive.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Suspects(Generic[K]):
    """Who is missing from which list, and since when."""

    def __init__(self, wait: float, clock: Callable[[], float] = time.monotonic) -> None:
        """``wait``: seconds between the first time that somebody is missing and the one that counts."""
        self._wait, self._clock = wait, clock
        self._since: dict[Hashable, dict[K, float]] = {}

    def confirmed(self, scope: Hashable, missing: Collection[K]) -> frozenset[K]:
        """Note that these, and no others, are missing in ``scope``; return those that have been for long enough."""
        now, before = self._clock(), self._since.pop(scope, {})
        if missing:
            self._since[scope] = {one: before.get(one, now) for one in missing}
        return frozenset(one for one in missing if one in before and now - before[one] >= self._wait)

    def acquit(self, scope: Hashable, one: K) -> None:
        """``one`` has just been seen alive: what was noted of it before does not count."""
        self._since.get(scope, {}).pop(one, None)
