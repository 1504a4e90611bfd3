"""A store that fails on command; the suite of all stores checks that it is one while nothing was commanded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

from fairlead.model.errors import Problem
from fairlead.store.base import Change, Event, Key, Listing, Put
from fairlead.store.memory import Memory
from fairlead.store.presence import TTL, Hold
from tests.contracts.stores import endpoint


class Flaky:
    """A memory store behind a connection that can be lost. ``asked`` is what it was asked for, in order."""

    at_once, orders_all = Memory.at_once, Memory.orders_all

    def __init__(self, **options: Any) -> None:
        self.inner = Memory(**options)
        self.asked: list[str] = []
        self._problem: Problem | None = None
        self._breaks = asyncio.Event()

    def fail(self, problem: Problem) -> None:
        """From now on everything fails with this, and watches end with it."""
        self._problem = problem
        self._breaks.set()

    def heal(self) -> None:
        self._problem = None
        self._breaks = asyncio.Event()

    async def forget(self) -> None:
        """Forget all that was so far."""
        for at in range(self.inner._keep + 1):
            await self.inner.commit(Put(endpoint("noise", at + 1)))

    async def get(self, plural: str, key: Key) -> Any:
        self._say("get")
        return await self.inner.get(plural, key)

    async def list(self, plural: str) -> Listing:
        self._say("list")
        return await self.inner.list(plural)

    async def commit(self, *changes: Change) -> Any:
        self._say("commit")
        return await self.inner.commit(*changes)

    async def watch(self, plural: str | None, since: int) -> AsyncGenerator[Event]:
        self._say("watch")
        async with aclosing(self.inner.watch(plural, since)) as watch:
            while True:
                breaks = asyncio.ensure_future(self._breaks.wait())
                event = asyncio.ensure_future(anext(watch, None))
                await asyncio.wait({breaks, event}, return_when=asyncio.FIRST_COMPLETED)
                breaks.cancel()
                if self._problem is not None:
                    event.cancel()
                    await asyncio.wait({event})
                    raise self._problem
                told = await event
                if told is None:
                    return
                yield told

    async def deleted(self, plural: str) -> Any:
        self._say("deleted")
        return await self.inner.deleted(plural)

    def hold(self, name: str, holder: str, ttl: float = TTL) -> AbstractAsyncContextManager[Hold]:
        return self.inner.hold(name, holder, ttl)

    def present(self) -> AsyncGenerator[Mapping[str, str]]:
        return self.inner.present()

    async def close(self) -> None:
        await self.inner.close()

    def _say(self, what: str) -> None:
        self.asked.append(what)
        if self._problem is not None:
            raise self._problem
