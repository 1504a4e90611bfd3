"""Feed: what changes in the shared store, in order, to whoever takes it; taken up again whenever the store was away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import aclosing

from fairlead.kit.backoff import Backoff
from fairlead.model.errors import Unavailable
from fairlead.store.base import Compacted, Event, EventKind, Store

log = logging.getLogger(__name__)

Take = Callable[[Sequence[Event]], Awaitable[None]]

_FIRST, _MOST = 0.2, 10.0


class Feed:
    """One watch of all kinds."""

    def __init__(self, store: Store, plurals: Collection[str], take: Take) -> None:
        self._store, self._plurals, self._take = store, plurals, take
        self._since = 0
        self._known: dict[tuple[str, tuple[str, str]], str] = {}

    async def begin(self) -> None:
        """Tell of everything there is."""
        listings = [await self._store.list(plural) for plural in self._plurals]
        self._since = min(listing.revision for listing in listings)
        await self._take([Event(EventKind.ADDED, one, listing.revision) for listing in listings for one in listing.objects])

    async def run(self) -> None:
        """Tell of every change from then on."""
        backoff = Backoff(_FIRST, _MOST)
        while True:
            try:
                async with aclosing(self._store.watch(None, self._since)) as events:
                    async for event in events:
                        backoff.reset()
                        if event.object.plural in self._plurals:
                            await self._take([event])
                        self._since = event.since
            except Compacted:
                await self.begin()
            except Unavailable as problem:
                log.warning("the store is away: %s", problem)
            await asyncio.sleep(backoff.next())
