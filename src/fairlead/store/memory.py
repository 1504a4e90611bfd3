"""Memory: the store of tests, the verified fake. The contract suite holds it to what the real ones do.

Objects are kept encoded, as in a file, so that nobody can change one that he handed in or was handed out.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Final, NamedTuple

from fairlead.kit.clock import Clock
from fairlead.model.meta import Object

from . import presence
from .base import (
    KEEP,
    MAX_CHANGES,
    Change,
    Event,
    EventKind,
    Key,
    Listing,
    Stored,
    check,
    closed,
    compacted,
    kind_of,
    known,
    read,
    readable,
    settle,
)
from .presence import TTL, Claim, Hold


class _Past(NamedTuple):
    """One event, its object encoded."""

    kind: EventKind
    plural: str
    data: bytes
    revision: int


class Memory:
    """A store that lives as long as its process; see ``base.Store``."""

    at_once: Final = MAX_CHANGES
    orders_all: Final = True

    def __init__(self, *, keep: int = KEEP, clock: Clock = time.time) -> None:
        self._clock = clock
        self._keep = keep
        self._objects: dict[str, dict[Key, bytes]] = {}
        self._deleted: dict[str, deque[bytes]] = {}
        self._history: deque[_Past] = deque(maxlen=keep)
        self._revision = 0
        self._closed = False
        self._claims: dict[str, Claim] = {}
        self._wakes: set[asyncio.Event] = set()

    async def get(self, plural: str, key: Key) -> Stored | None:
        self._open()
        known(plural, key)
        return self._look(plural, key)

    async def list(self, plural: str) -> Listing:
        self._open()
        kind_of(plural)
        found = self._objects.get(plural, {})
        return Listing.of((read(plural, found[key], key) for key in sorted(found)), self._revision)

    async def commit(self, *changes: Change) -> tuple[Stored | None, ...]:
        self._open()
        check(changes)
        settled = settle(changes, self._look, self._revision, self._clock())
        for one in settled:
            if one.event is not None:
                self._keep_event(one.event, one.data)
        self._wake()
        return tuple(one.result for one in settled)

    async def watch(self, plural: str | None, since: int) -> AsyncGenerator[Event]:
        self._open()
        if plural is not None:
            kind_of(plural)
        wake = asyncio.Event()
        self._wakes.add(wake)
        try:
            while not self._closed:
                wake.clear()
                for past in self._after(since):
                    since = past.revision
                    if plural in {None, past.plural}:
                        yield Event(past.kind, read(past.plural, past.data), past.revision)
                if since == self._revision:
                    await wake.wait()
        finally:
            self._wakes.discard(wake)

    async def deleted(self, plural: str) -> tuple[Object, ...]:
        self._open()
        kind_of(plural)
        return readable(read(plural, data) for data in self._deleted.get(plural, ()))

    @asynccontextmanager
    async def hold(self, name: str, holder: str, ttl: float = TTL) -> AsyncIterator[Hold]:
        self._open()
        presence.check(name, holder, ttl)
        now, token = asyncio.get_running_loop().time, uuid.uuid4().hex
        asked = now()

        async def renew() -> bool:
            self._open()
            held = name in self._claims and self._claims[name].token == token
            if held:
                self._claims[name] = Claim(holder, token, now() + ttl)
            return held

        async def release() -> None:
            if name in self._claims and self._claims[name].token == token:
                del self._claims[name]
                self._wake()

        self._claims[name] = presence.claimed(name, self._claims.get(name), Claim(holder, token, asked + ttl), asked)
        self._wake()
        async with presence.kept(Hold(name, holder), asked, ttl, renew, release) as hold:
            yield hold

    async def present(self) -> AsyncGenerator[Mapping[str, str]]:
        self._open()
        wake = asyncio.Event()
        self._wakes.add(wake)

        async def read() -> Mapping[str, Claim]:
            return self._claims

        following = presence.follow(read, wake, asyncio.get_running_loop().time, lambda: self._closed)
        try:
            async with aclosing(following):
                async for holders in following:
                    yield holders
        finally:
            self._wakes.discard(wake)

    async def close(self) -> None:
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        for wake in self._wakes:
            wake.set()

    def _open(self) -> None:
        if self._closed:
            raise closed()

    def _look(self, plural: str, key: Key) -> Stored | None:
        kind_of(plural)
        data = self._objects.get(plural, {}).get(key)
        return None if data is None else read(plural, data, key)

    def _keep_event(self, event: Event, data: bytes) -> None:
        plural, key = event.object.plural, event.object.key
        if event.kind is EventKind.DELETED:
            del self._objects[plural][key]
            self._deleted.setdefault(plural, deque(maxlen=self._keep)).append(data)
        else:
            self._objects.setdefault(plural, {})[key] = data
        self._history.append(_Past(event.kind, plural, data, event.revision))
        self._revision = event.revision

    def _after(self, since: int) -> tuple[_Past, ...]:
        floor = self._revision - len(self._history)
        if not floor <= since <= self._revision:
            raise compacted(since, floor, self._revision)
        return tuple(self._history)[since - floor :]
