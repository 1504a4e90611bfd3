"""Wanted: something that is done whenever somebody wants it, and again until it has worked.

It may look at all there is, so it is done at once, but not at every turn of a burst: of two hundred containers that come within
a second each would pay for looking at all the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from .backoff import Backoff

_PAUSE = 0.05
"""Seconds from one time to the next."""


class Wanted:
    """What is wanted many times before it is begun is done once; what is wanted meanwhile, once more."""

    def __init__(self, first: float, most: float) -> None:
        """Seconds to wait after the first attempt that did not work, and at most."""
        self._asked = asyncio.Event()
        self._backoff = Backoff(first, most)

    def want(self) -> None:
        """Have it done soon."""
        self._asked.set()

    async def serve(self, act: Callable[[], Awaitable[bool]]) -> None:
        """Do it for ever; ``act`` answers whether it worked."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            if await act():
                self._backoff.reset()
                await asyncio.sleep(_PAUSE)
            else:
                self.want()
                await asyncio.sleep(self._backoff.next())
