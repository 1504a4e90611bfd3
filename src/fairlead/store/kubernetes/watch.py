"""Watch: what changed of one kind, in order, across connections that break, fall silent, or end as the API server wishes.

::

    since 7 ──► is the API server at 7 at all? ──► watch from 7 ──► 8, 9, bookmark 15, 16 ──► the connection ends
                     │ no: a backup was restored        │ 410: forgotten                          │
                     ▼                                  ▼                                         ▼
                 Compacted                          Compacted                              go on from 16

A revision that the API server has never been at would be waited for without a word, so it is asked for its own one first, and
again whenever a connection broke: what is behind it may have been set up anew.

A connection may also stand and carry nothing. Bookmarks tell that one lives, about every minute; but an API server has none
for a kind in which nothing happens unless its etcd tells it how far it is (--experimental-watch-progress-notify-interval). So
a watch that says nothing is begun anew, and each time in vain it is given twice as long.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple

import msgspec

from fairlead.kit.backoff import Backoff
from fairlead.model.errors import Failed, Unavailable
from fairlead.store.base import Compacted

from .client import Client
from .errors import Again, Silent, Unserved, refusal, status
from .objects import revision
from .resources import Resource

_ENDS = (300, 600)
"""Seconds after which a watch is to end and to be begun anew, so that clients spread over several API servers."""
_LOOK = (45.0, 75.0)
"""Seconds between looks whether a kind is served by now."""


class _Meta(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _Head(msgspec.Struct):
    metadata: _Meta


class _Line(msgspec.Struct):
    type: str
    object: msgspec.Raw


class Change(NamedTuple):
    """One event: ADDED, MODIFIED or DELETED, the object, and the revision."""

    type: str
    data: msgspec.Raw
    revision: int


_lines = msgspec.json.Decoder(_Line)
_heads = msgspec.json.Decoder(_Head)


async def changes(client: Client, of: Resource, path: str, since: int, labels: str = "") -> AsyncGenerator[Change]:
    """Every change after revision ``since``; ends when the client is closed.

    Raises ``Compacted`` if the API server does not remember so far back or never was there, ``Unavailable`` when it could not
    be listened to for ``patience`` seconds.
    """
    if since < 1:
        raise Compacted(f"{since} is no revision; list again")
    course = _Course(client, of, path, since)
    while not client.closed:
        try:
            await course.sure()
            async with aclosing(client.stream(path, _query(course.since, labels), course.quiet)) as lines:
                async for line in lines:
                    change = _read(of, line, course.since)
                    course.heard(change)
                    if change.type != "BOOKMARK":
                        yield change
        except Silent:
            course.silent()
        except (Again, TimeoutError) as problem:
            await course.broke(problem)


class _Course:
    """How a watch goes. ``since``: all up to this revision is told; ``quiet``: seconds for which it may say nothing."""

    def __init__(self, client: Client, of: Resource, path: str, since: int) -> None:
        self.since, self.quiet = since, client.access.quiet
        self._client, self._of, self._path = client, of, path
        self._backoff = Backoff(0.2, 10.0)
        self._doubt = True
        self._lost: float | None = None

    async def sure(self) -> None:
        """Raise ``Compacted`` unless the API server was at this revision; ask only where that is in doubt."""
        if self._doubt:
            answer = await self._client.read(self._path, {"limit": "1"})
            now = revision(self._of, _heads.decode(answer).metadata.resource_version)
            if now < self.since:
                raise Compacted(
                    f"the API server is at revision {now} of {self._of.plural}, never was at {self.since}; list again"
                )
            self._doubt = False

    def heard(self, change: Change) -> None:
        """Something was told."""
        self.since, self.quiet, self._lost = change.revision, self._client.access.quiet, None
        self._backoff.reset()

    def silent(self) -> None:
        """Nothing was told for long, which may be because there is nothing to tell."""
        self.quiet = min(self.quiet * 2, _ENDS[1])

    async def broke(self, problem: Again | TimeoutError) -> None:
        """Wait before the next attempt; ``Unavailable`` when there have been some for ``patience`` seconds."""
        if self._client.closed:
            return
        now, self._doubt = asyncio.get_running_loop().time(), True
        self._lost = now if self._lost is None else self._lost
        if now - self._lost > self._client.access.patience:
            raise Unavailable(f"{self._of.plural} cannot be watched: {str(problem) or 'no answer'}") from None
        await asyncio.sleep(max(self._backoff.next(), getattr(problem, "after", 0.0)))


async def until_served(client: Client, of: Resource) -> None:
    """Wait until a kind that was not served is; returns also when the client is closed."""
    while not client.closed:
        await asyncio.sleep(random.uniform(*_LOOK))  # noqa: S311  # so that not all come at once
        try:
            await client.read(of.everything, {"limit": "1"})
        except (Unserved, Unavailable):
            continue
        return


def _query(since: int, labels: str) -> dict[str, str]:
    seconds = random.randint(*_ENDS)  # noqa: S311  # as above
    query = {
        "watch": "1",
        "resourceVersion": str(since),
        "allowWatchBookmarks": "true",
        "timeoutSeconds": str(seconds),
    }
    return {**query, "labelSelector": labels} if labels else query


def _read(of: Resource, line: bytes, since: int) -> Change:
    """One line, as what comes after ``since``."""
    try:
        told = _lines.decode(line)
        if told.type == "ERROR":
            said = status(bytes(told.object))
            raise refusal(said.code or 500, said, 0.0)
        change = Change(told.type, told.object, revision(of, _heads.decode(told.object).metadata.resource_version))
    except (msgspec.MsgspecError, UnicodeError) as problem:
        raise Failed(f"a watch of {of.plural} tells what is no event: {problem}") from None
    if change.revision < since:
        raise Compacted(f"the API server is at revision {change.revision}, and was at {since}; list again")
    return change
