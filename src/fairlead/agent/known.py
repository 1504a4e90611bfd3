"""Known: what the shared store holds, as far as it is known here, and what changes in it, in order, to whoever takes it.

A node alone has the store to itself: it is read once, and every change goes through this agent. Where nodes share one, it is
followed, and a copy of what was known lies on this machine: so an agent that starts while the store is away knows its
networks, policies, blocks and neighbours as they were.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path

from fairlead.kit.tasks import forever
from fairlead.model.errors import Unavailable
from fairlead.store.base import Event, Store, Stored
from fairlead.store.cache import Cache, State
from fairlead.store.snapshot import Snapshot

log = logging.getLogger(__name__)

Take = Callable[[Sequence[Event]], Awaitable[None]]

_PATIENCE = 3.0
"""Seconds that a start waits for the store, where a copy says how it was."""
_LONGER = 12.0
"""The same where there is no copy: without the store this node knows nothing."""


class Known:
    """Some kinds of a store."""

    def __init__(self, store: Store, plurals: Collection[str], source: str = "", copy: Path | None = None) -> None:
        """``source`` names a store that others share, ``copy`` is the file for what was known of it."""
        self._store, self._plurals, self._source, self._copy = store, plurals, source, copy
        self._listed: dict[str, list[Stored]] = {}
        self._cache: Cache | None = None
        self._snapshot: Snapshot | None = None
        self._following: asyncio.Task[None] | None = None
        self._waiting: list[Event] = []
        self._news, self._left = asyncio.Event(), asyncio.Event()

    @property
    def state(self) -> State:
        """How far it can be trusted."""
        return self._cache.state if self._cache else State(synced=True, away=None, why="")

    async def begin(self, *, endless: bool = False) -> None:
        """Know what there is; ``Unavailable`` if the store cannot be reached and nothing was known before.

        ``endless``: that is waited for instead.
        """
        if self._copy is None:
            for plural in self._plurals:
                listing = await self._store.list(plural)
                self._listed[plural] = [*listing.objects, *listing.broken]
            return
        self._snapshot = await Snapshot.open(self._copy, self._source)
        self._cache = Cache(self._store, self._plurals, self._heard, snapshot=self._snapshot)
        await self._cache.load()
        familiar = any(self._cache.all(plural) for plural in self._plurals)
        self._following = asyncio.create_task(forever("following the store", self._cache.run))
        if not await self._synced(_PATIENCE if familiar else None if endless else _LONGER):
            if not familiar:
                raise Unavailable(f"the store does not answer, and this node has never known it: {self.state.why}")
            log.warning("the store does not answer; this node goes on with what it knew: %s", self.state.why)
        self._waiting.clear()  # whoever asks for all now has these

    def leave(self) -> None:
        """Wait no longer for the store."""
        self._left.set()

    async def _synced(self, patience: float | None) -> bool:
        """Wait until everything was listed; whether it was, before patience ended, or whoever waits had to leave."""
        assert self._cache
        waits = [asyncio.create_task(self._cache.synced()), asyncio.create_task(self._left.wait())]
        await asyncio.wait(waits, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        done = waits[0].done()
        for one in waits:
            one.cancel()
        return done

    def all(self, plural: str) -> list[Stored]:
        """Everything of a kind."""
        return list(self._cache.all(plural).values()) if self._cache else self._listed.get(plural, [])

    async def follow(self, take: Take) -> None:
        """Hand on what changes, as long as this runs."""
        while True:
            await self._news.wait()
            self._news.clear()
            events, self._waiting = self._waiting, []
            if events:
                await take(events)

    async def close(self) -> None:
        """Stop, and write what is to be remembered."""
        if self._following:
            self._following.cancel()
            await asyncio.wait([self._following])
        if self._snapshot:
            await self._snapshot.close()

    def _heard(self, events: Sequence[Event]) -> None:
        self._waiting += events
        self._news.set()
