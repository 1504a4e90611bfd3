"""Reports: what is found of objects, written into their status for people, where the store has such a thing.

Whoever finds something says it; one task writes, and tries again while the store is away. What was said before is not
written again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple, Protocol

from fairlead.kit.backoff import Backoff
from fairlead.model.errors import Missing, Problem
from fairlead.store.base import Key
from fairlead.store.kubernetes.status import Condition

log = logging.getLogger(__name__)

_FIRST, _MOST = 0.5, 60.0


class Reporter(Protocol):
    """A store in which objects have conditions."""

    async def report(self, plural: str, key: Key, *conditions: Condition, **facts: str) -> None:
        """Write an object's conditions, and other fields of its status."""


class _Said(NamedTuple):
    condition: Condition
    facts: dict[str, str]


class Reports:
    """Runs beside the agent."""

    def __init__(self, store: Reporter) -> None:
        self._store = store
        self._said: dict[tuple[str, Key], _Said] = {}
        self._owed: dict[tuple[str, Key], _Said] = {}
        self._news = asyncio.Event()

    def say(self, plural: str, key: Key, condition: Condition, **facts: str) -> None:
        """This is so of the object; ``facts`` are other fields of its status."""
        said = _Said(condition, facts)
        if self._said.get((plural, key)) != said:
            self._said[plural, key] = self._owed[plural, key] = said
            self._news.set()

    def forget(self, plural: str, key: Key) -> None:
        """There is no such object any more."""
        self._said.pop((plural, key), None)
        self._owed.pop((plural, key), None)

    async def run(self) -> None:
        """Write what was said."""
        backoff = Backoff(_FIRST, _MOST)
        while True:
            await self._news.wait()
            self._news.clear()
            for (plural, key), said in list(self._owed.items()):
                try:
                    await self._store.report(plural, key, said.condition, **said.facts)
                except Missing:
                    self.forget(plural, key)  # whoever finds it again says so again
                    continue
                except Problem as problem:
                    log.warning("%s of %s %s is not written yet: %s", said.condition.type, plural, key[1], problem)
                    self._news.set()
                    continue
                if self._owed.get((plural, key)) == said:
                    del self._owed[plural, key]
            if self._news.is_set() and self._owed:
                await asyncio.sleep(backoff.next())
            else:
                backoff.reset()
