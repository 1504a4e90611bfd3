"""Watch: what changed below some keys, in order, across broken connections, restarts of members, and forgotten revisions.

A watch goes on where it was, after the last revision of which all has been told. The answers of one revision belong together,
and etcd cuts only large ones into pieces (``fragment``); a revision is passed on when it is whole.

etcd is asked for one revision more than is wanted. Up to late in 3.5 it lets a watch begin at the very revision up to which it
has forgotten, and what was deleted at that one is then missing without a word; asked for one more, it says that it forgot.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from itertools import groupby

from fairlead.kit.backoff import Backoff
from fairlead.model.errors import Forbidden, Unavailable
from fairlead.store.base import Compacted

from .gateway import Gateway
from .keys import Span
from .messages import Change, Range, Ranged, Watch, WatchCreate, Watched

Batch = tuple[Change, ...]
"""All changes of one revision below the keys that are watched."""


async def batches(gateway: Gateway, span: Span, since: int) -> AsyncGenerator[Batch]:
    """Every change after revision ``since``, a revision at a time; ends when the gateway is closed.

    Raises ``Compacted`` if etcd does not remember so far back or never was there, ``Unavailable`` when no member could be
    listened to for as long as a question may take.
    """
    if since < 0:
        raise Compacted(f"{since} is no revision; list again")
    pieces, attempts = _Pieces(since), _Attempts(gateway)
    while True:
        try:
            async with aclosing(gateway.stream("/v3/watch", pieces.request(span))) as stream:
                async for told in stream:
                    if told.created:
                        await _ever(gateway, span, told, pieces.until)
                        attempts.well()
                    for batch in pieces.take(told):
                        yield batch
        except (Unavailable, Forbidden) as problem:
            if gateway.closed:
                return
            await asyncio.sleep(attempts.wait(problem))


class _Attempts:
    """Whether a watch whose connection is lost is taken up again, and when."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._loop = asyncio.get_running_loop()
        self.well()

    def well(self) -> None:
        """It is taken up."""
        self._backoff = Backoff(0.05, 1.0)
        self._lost: float | None = None
        self._denied = False

    def wait(self, problem: Unavailable | Forbidden) -> float:
        """How many seconds to wait before the next attempt; raises the problem if there is none."""
        if isinstance(problem, Forbidden):
            # etcd 3.5 also says of a token that it no longer knows that its user may not.
            if self._denied or not self._gateway.doubt():
                raise problem
            self._denied = True
            return 0
        now = self._loop.time()
        self._lost = now if self._lost is None else self._lost
        if isinstance(problem, Compacted) or now - self._lost > self._gateway.access.patience:
            raise problem
        return self._backoff.next()


class _Pieces:
    """What was told of a watch: put together, and each revision once. ``until``: all up to this revision was passed on."""

    def __init__(self, since: int) -> None:
        self.until = since
        self._cut: list[Change] = []

    def request(self, span: Span) -> Watch:
        """Ask for all that comes next, and for what was told last."""
        self._cut = []
        create = WatchCreate(
            key=span.first,
            range_end=span.end,
            start_revision=max(self.until, 1),  # 0 would be: from now on
            progress_notify=True,
            prev_kv=True,
            fragment=True,
        )
        return Watch(create_request=create)

    def take(self, told: Watched) -> Iterator[Batch]:
        """The revisions that are whole with this answer."""
        if told.canceled:
            raise Compacted(f"revision {self.until} is forgotten, etcd remembers from {told.compact_revision} on; list again")
        changes, self._cut = [*self._cut, *told.events], []
        for revision, some in groupby(changes, key=lambda one: one.kv.mod_revision):
            batch = tuple(some)
            if told.fragment and revision == changes[-1].kv.mod_revision:
                self._cut = list(batch)
            elif revision > self.until:
                self.until = revision
                yield batch
        if not (told.created or told.events or told.fragment):
            self.until = max(self.until, told.header.revision)


async def _ever(gateway: Gateway, span: Span, told: Watched, since: int) -> None:
    """Raise ``Compacted`` unless etcd was at that revision: a watch would wait for it without a word."""
    if told.header.revision >= since:
        return
    # This member may only be a little behind, so all of them are asked.
    now = await gateway.ask("/v3/kv/range", Range(key=span.first), Ranged)
    if now.header.revision < since:
        raise Compacted(f"etcd is at revision {now.header.revision} and never was at {since}; list again")
