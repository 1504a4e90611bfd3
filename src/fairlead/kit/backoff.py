"""Backoff: how long to wait before the next attempt. Twice as long each time, up to a limit, and never the same for everybody.

The wait is drawn between half of the present step and all of it, so that many who lost the same thing at the same moment do
not come back at the same moment either.
"""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """The waits of one who tries again and again. Times in seconds."""

    def __init__(self, first: float, most: float, chance: Callable[[], float] = random.random) -> None:
        """``chance`` draws from 0 to 1."""
        self._first, self._most, self._chance = first, most, chance
        self._step = first

    def next(self) -> float:
        """How long to wait now."""
        step, self._step = self._step, min(self._step * 2, self._most)
        return step * (1 + self._chance()) / 2

    def reset(self) -> None:
        """It worked: the next wait is the first again."""
        self._step = self._first
