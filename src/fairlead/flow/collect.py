"""From the programs to whoever asks: events are read in batches, named, kept for a while and handed to followers.

::

    ring buffer ── readable ──> 50 ms later, all that lies there ──.
                                                                    >──> the last 16,384 or so, unread ──> queries: read, named
    table of connections ── every few seconds, a chunk at a time ──'        '── if anybody follows: read, named ──> followers

One wake-up serves all events of 50 ms, and each turn of the loop takes a bounded number of them, so that a container start
never waits for flows. While nobody asks an event costs no more than its copy: so thousands of connections a second are seen
for some thousandths of a CPU. Each follower has a bounded queue; what a slow one has no room for is lost to it alone, and it
is told how much.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from fairlead.api.schema import Flow, FlowStatus
from fairlead.datapath.seen import REASONS, RECORD, UNTOLD, Observer
from fairlead.kernel.errors import KernelError
from fairlead.model.errors import Exhausted

from .enrich import Names
from .filter import LIMIT, Query
from .record import Batch, Record, raw, real, stamp

log = logging.getLogger(__name__)

_GATHER = 0.05
_MOST = 2048
"""Events a turn of the loop."""
_FOLLOWERS = 16
_QUEUE = 4096
_SLICE = 256
"""Flows that are looked at before others have their turn."""
_SIGN_OF_LIFE = 1.0
_SWEEPS = 10.0


def _no_rule(_: int) -> str:
    return ""


class Follower:
    """One reader of what comes: a bounded queue, and how much found no room in it."""

    def __init__(self, query: Query) -> None:
        self.query = query
        self.waiting: deque[Record] = deque()
        self.lost = 0
        self.wake = asyncio.Event()
        self.ended = False

    def offer(self, record: Record) -> None:
        """Queue what is wanted."""
        if self.query.matches(record):
            if len(self.waiting) < _QUEUE:
                self.waiting.append(record)
            else:
                self.lost += 1
            self.wake.set()


class Collector:
    """Runs between ``start`` and ``stop`` in the agent's loop."""

    def __init__(
        self, observer: Observer, names: Names, *, rule: Callable[[int], str] = _no_rule, interval: float = _SWEEPS
    ) -> None:
        """``rule`` names the rule of a number; ``interval``: seconds between two sweeps of the table."""
        self._observer, self._names, self._rule, self._interval = observer, names, rule, interval
        self.table = observer.table
        """What the kernel's table of connections is called."""
        self._kept: deque[Batch] = deque()
        self._followers: set[Follower] = set()
        self.evicted = 0
        """Connections that were forgotten before they ended, as of the last sweep."""
        self._held = self._seen = self._opened = self._missed = self._connections = 0
        self.counted: Counter[tuple[str, str]] = Counter()
        """By verdict and protocol: connections that began, and drops that were told."""
        self._task: asyncio.Task[None] | None = None
        self._later: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to read."""
        asyncio.get_running_loop().add_reader(self._observer.fd, self._wake)
        self._task = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        """Stop, and end every follower; what comes now waits in the kernel for the next start."""
        asyncio.get_running_loop().remove_reader(self._observer.fd)
        for follower in self._followers:
            follower.ended = True
            follower.wake.set()
        if self._later:
            self._later.cancel()
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._observer.close()

    async def query(self, query: Query) -> list[Flow]:
        """The last flows that match, oldest first. Others have their turn meanwhile."""
        found: list[Flow] = []
        async for record in self._records():
            if len(found) == query.limit:
                break
            if query.matches(record):
                found.append(record.flow())
        return found[::-1]

    async def recent(self) -> list[Record]:
        """All that is kept, the oldest first."""
        return [record async for record in self._records()][::-1]

    async def _records(self) -> AsyncIterator[Record]:
        records = (record for batch in reversed(tuple(self._kept)) for record in batch.records())
        for at, record in enumerate(records):
            yield record
            if at % _SLICE == 0:
                await asyncio.sleep(0)

    def follow(self, query: Query) -> AsyncIterator[list[Flow]]:
        """What matches as it comes, in batches, until ``stop``; a flow of event ``lost`` says what found no room.

        A batch is empty where nothing came for a second, so that the caller can see whether its reader is still there.
        """
        if len(self._followers) >= _FOLLOWERS:
            raise Exhausted(f"{_FOLLOWERS} others follow flows already; end one of them", field="follow")
        return self._batches(Follower(query))

    async def _batches(self, follower: Follower) -> AsyncIterator[list[Flow]]:
        self._followers.add(follower)
        try:
            while not follower.ended:
                with suppress(TimeoutError):
                    await asyncio.wait_for(follower.wake.wait(), _SIGN_OF_LIFE)
                follower.wake.clear()
                batch = [follower.waiting.popleft().flow() for _ in range(min(len(follower.waiting), _MOST))]
                if follower.lost:
                    batch.append(Flow(time=stamp(time.time()), event="lost", lost=follower.lost))
                    self._missed += follower.lost
                    follower.lost = 0
                if follower.waiting:
                    follower.wake.set()
                yield batch
        finally:
            self._followers.discard(follower)

    @property
    def room(self) -> tuple[int, int]:
        """How many connections are remembered, closed ones too, and how many can be."""
        return self._observer.held, self._observer.capacity

    def status(self) -> FlowStatus:
        """In numbers."""
        counted, dropped = self._observer.counts(), self._observer.dropped()
        return FlowStatus(
            seen=self._seen,
            opened=self._opened,
            lost=counted.lost_new + counted.lost_close + counted.lost_drop,
            lost_new=counted.lost_new,
            missed=self._missed,
            connections=self._connections,
            capacity=self._observer.capacity,
            evicted=self.evicted,
            followers=len(self._followers),
            malformed=counted.malformed,
            not_tracked=counted.not_tracked,
            fragments_unmatched=counted.fragments_unmatched,
            table_full=counted.table_full,
            drops=sum(count for reason, count in dropped.items() if reason not in UNTOLD),
            dropped={REASONS[reason]: count for reason, count in dropped.items() if count},
        )

    def _wake(self) -> None:
        """Not yet: what comes in the next moment is read along."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._observer.fd)
        self._later = loop.call_later(_GATHER, self._drain)

    def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        if self._take(self._observer.events(_MOST)) >= _MOST:
            self._later = loop.call_later(0, self._drain)
        else:
            self._later = None
            loop.add_reader(self._observer.fd, self._wake)

    def _take(self, found: bytes) -> int:
        """Keep what was seen, and hand it to whoever follows; how many it was."""
        turn = self._names.refresh()
        taken, found = len(found) // RECORD.size, real(found)
        if not found:
            return taken
        batch = Batch(found, time.time() - time.clock_gettime(time.CLOCK_MONOTONIC), (self._names, turn), self._rule)
        self._seen += batch.count
        self._opened += batch.opened
        self.counted += batch.counted
        self._held += batch.count
        self._kept.append(batch)
        while self._held - self._kept[0].count >= LIMIT:
            self._held -= self._kept.popleft().count
        if self._followers:
            for record in reversed(tuple(batch.records())):
                for follower in self._followers:
                    follower.offer(record)
        return taken

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                total = 0
                for chunk, size in self._observer.sweep():
                    total += size
                    self._take(raw(chunk))
                    await asyncio.sleep(0)  # others' turn
                self._connections = total
                self.evicted = self._observer.evicted()
            except KernelError as error:
                log.warning("reading the table of connections: %s", error)
