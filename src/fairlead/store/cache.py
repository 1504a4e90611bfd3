"""Cache: chosen kinds of a shared store in memory, told to whoever needs them, whatever becomes of the store.

::

    snapshot (a file of this machine) ─► what was known before ─┐
    list ──────────────────────────────► the difference ────────┼─► changed(events), and written to the snapshot
    watch ─────────────────────────────► each event ────────────┘
      ├─ Unavailable: what is known stays, and ``state`` says since when; again and again, until the store answers
      └─ Compacted:   list, and tell the difference

Whoever is told everything that ``changed`` is told has what the store has, or had when it was last reached. The store is asked
first for what came after what is known; only where it has forgotten that is everything listed again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from fairlead.kit.backoff import Backoff
from fairlead.kit.clock import Clock
from fairlead.model.errors import Problem
from fairlead.model.meta import Object

from .base import KEEP, Compacted, Event, EventKind, Key, Store, Stored, kind_of, readable
from .mirror import Mirror
from .snapshot import Kept, Snapshot

log = logging.getLogger(__name__)

Changed = Callable[[Sequence[Event]], None]
"""Is told what is new. It may not wait, and an error of it ends the cache."""

_FIRST, _MOST = 0.2, 5.0
"""Seconds between two attempts to reach the store."""

_NOTE = 60.0
"""Seconds between two notes in the snapshot that all of it is still so."""

_NOBODY = ("", "-")
"""A key that is asked for to see whether the store answers."""


@dataclass(frozen=True, slots=True)
class State:
    """How far what is known can be trusted.

    ``synced``: all kinds were listed since the start. ``away``: since when the store has not been heard, in seconds since 1970;
    None while it is heard. ``why``: what it said last.
    """

    synced: bool
    away: float | None
    why: str


class _Kind:
    """One kind: what is known, and how it stands with the store."""

    def __init__(self, plural: str) -> None:
        self.plural = plural
        self.mirror = Mirror()
        self.deleted: deque[Object] = deque(maxlen=KEEP)
        self.listed = self.current = False
        self.away: float | None = None
        self.why = "not asked yet"
        self.backoff = Backoff(_FIRST, _MOST)


class Cache:
    """Some kinds of a store. ``load`` what was known before, then ``run``."""

    def __init__(
        self,
        store: Store,
        kinds: Iterable[str],
        changed: Changed,
        *,
        snapshot: Snapshot | None = None,
        clock: Clock = time.time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Kinds are by their plural. ``clock`` and ``sleep`` let a test decide what time it is."""
        self._store, self._changed, self._snapshot = store, changed, snapshot
        self._clock, self._sleep = clock, sleep
        self._kinds = {plural: _Kind(plural) for plural in kinds}
        for plural in self._kinds:
            kind_of(plural)
        self._synced = asyncio.Event()

    @property
    def state(self) -> State:
        """How it stands; of several kinds, the one that stands worst."""
        kinds = self._kinds.values()
        away = [(one.away, one.why) for one in kinds if one.away is not None]
        since, why = min(away, default=(None, ""))
        return State(all(one.listed for one in kinds), since, why)

    def all(self, plural: str) -> Mapping[Key, Stored]:
        """Every object of a kind that is known, by key."""
        return self._kinds[plural].mirror.objects

    def deleted(self, plural: str) -> tuple[Object, ...]:
        """The objects of a kind that went away, as far back as is remembered here, oldest first."""
        return tuple(self._kinds[plural].deleted)

    async def synced(self) -> None:
        """Wait until every kind has been listed."""
        await self._synced.wait()

    async def load(self) -> None:
        """Know what was known before, and tell it. Until the store is reached, it counts as away since that moment."""
        for kind in self._kinds.values():
            kind.away = self._clock()
            if kept := await self._kept(kind.plural):
                kind.mirror, kind.away = Mirror(kept.objects), kept.at
                kind.deleted.extend(kept.deleted)
                if kept.objects:
                    self._changed([Event(EventKind.ADDED, one, 0) for one in kept.objects])

    async def run(self) -> None:
        """Follow the store until it is closed."""
        noting = asyncio.create_task(self._keep_noting())
        try:
            async with asyncio.TaskGroup() as following:
                for kind in self._kinds.values():
                    following.create_task(self._follow(kind))
        finally:
            noting.cancel()
            self._note_all()

    async def _kept(self, plural: str) -> Kept | None:
        if self._snapshot is None:
            return None
        try:
            return await self._snapshot.load(plural)
        except Problem as problem:
            log.warning("what was known of %s before cannot be read: %s", plural, problem)
            return None

    async def _follow(self, kind: _Kind) -> None:
        while True:
            began = self._clock()
            try:
                await self._catch_up(kind)
                async with aclosing(self._store.watch(kind.plural, kind.mirror.since)) as watch:
                    async for event in watch:
                        self._tell(kind, kind.mirror.told(event))
            except Compacted as problem:
                log.info("%s: %s", kind.plural, problem)
                kind.current = False
            except Problem as problem:
                self._miss(kind, problem)
            else:
                return  # the store was closed
            if self._clock() - began > _MOST:
                kind.backoff.reset()  # it went well for a while
            await self._sleep(kind.backoff.next())

    async def _catch_up(self, kind: _Kind) -> None:
        """List a kind, unless it can be gone on from what is known. Either way the store has answered."""
        if kind.current:
            await self._store.get(kind.plural, _NOBODY)
        else:
            self._tell(kind, kind.mirror.listed(await self._store.list(kind.plural)))
            kind.listed = kind.current = True
        if kind.away is not None:
            log.info("%s are followed", kind.plural)
        kind.away, kind.why = None, ""
        if self.state.synced:
            self._synced.set()

    def _miss(self, kind: _Kind, problem: Problem) -> None:
        """The store is away, or says that it will not."""
        if kind.why != str(problem):
            log.warning("%s are as they were last known: %s", kind.plural, problem)
        kind.away = self._clock() if kind.away is None else kind.away
        kind.why = str(problem)

    def _tell(self, kind: _Kind, events: Sequence[Event]) -> None:
        if events:
            kind.deleted.extend(readable(event.object for event in events if event.kind is EventKind.DELETED))
            self._changed(events)
            if self._snapshot:
                self._snapshot.note(kind.plural, events, self._clock())

    async def _keep_noting(self) -> None:
        while True:
            await self._sleep(_NOTE)
            self._note_all()

    def _note_all(self) -> None:
        """Note until when the copies were right."""
        for kind in self._kinds.values():
            if self._snapshot and kind.away is None:
                self._snapshot.note(kind.plural, (), self._clock())
