"""Drawers: things laid where others will look for them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from .identity import Drawer

T = TypeVar("T", bound=Hashable)


class Drawers(Generic[T]):
    """Things by drawer; one may lie in several."""

    def __init__(self) -> None:
        self._lying: dict[Drawer, set[T]] = {}

    def lay(self, thing: T, drawers: Iterable[Drawer]) -> None:
        """Put a thing into each of ``drawers``."""
        for one in drawers:
            self._lying.setdefault(one, set()).add(thing)

    def take(self, thing: T, drawers: Iterable[Drawer]) -> None:
        """Take it out of them again."""
        for one in drawers:
            lying = self._lying[one]
            lying.discard(thing)
            if not lying:
                del self._lying[one]

    def near(self, drawers: Iterable[Drawer]) -> set[T]:
        """All that lies in any of them."""
        return set().union(*(self._lying.get(one, ()) for one in drawers))
