"""From the programs to whoever asks: events are read in batches, named, kept for a while and handed to followers.

::

    ring buffer ── readable ──> 50 ms later, all that lies there ──.
                                                                    >── named ──> the last 16,384 ──> queries
    table of connections ── every few seconds, a chunk at a time ──'                 '──> followers, each with a bounded queue

One wake-up serves all events of 50 ms, and each turn of the loop takes a bounded number of them, so that a container start
never waits for flows. What a slow follower has no room for is lost to it alone, and it is told how much.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress

from fairlead.api.schema import Flow, FlowStatus
from fairlead.datapath.ebpf.layout import REASONS, Kind, Reason, Seen
from fairlead.datapath.ebpf.layout import Counter as Count
from fairlead.datapath.ebpf.observe import Observer
from fairlead.kernel.errors import KernelError
from fairlead.model.errors import Exhausted
from fairlead.policy.hits import Hit

from .enrich import Names
from .filter import LIMIT, Query
from .hits import Tally
from .record import Record, protocol, stamp, verdict

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
        self._kept: deque[Record] = deque(maxlen=LIMIT)
        self._followers: set[Follower] = set()
        self._seen = self._opened = self._missed = self._connections = 0
        self._tally = Tally()
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
        for at, record in enumerate(reversed(tuple(self._kept))):
            if len(found) == query.limit:
                break
            if query.matches(record):
                found.append(record.flow())
            if at % _SLICE == 0:
                await asyncio.sleep(0)
        return found[::-1]

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

    def status(self) -> FlowStatus:
        """In numbers."""
        counted = self._observer.counters()
        return FlowStatus(
            seen=self._seen,
            opened=self._opened,
            lost=counted[Count.NEW_LOST] + counted[Count.CLOSE_LOST] + counted[Count.DROP_LOST],
            lost_new=counted[Count.NEW_LOST],
            missed=self._missed,
            connections=self._connections,
            followers=len(self._followers),
            malformed=counted[Count.MALFORMED],
            not_tracked=counted[Count.NOT_TRACKED],
            fragments_unmatched=counted[Count.FRAGMENT_UNMATCHED],
            table_full=counted[Count.TABLE_FULL],
            dropped={REASONS[reason]: count for reason, count in self._observer.dropped().items() if count},
        )

    def _wake(self) -> None:
        """Not yet: what comes in the next moment is read along."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._observer.fd)
        self._later = loop.call_later(_GATHER, self._drain)

    def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        before = self._seen
        self._take(self._observer.events(_MOST))
        if self._seen - before == _MOST:
            self._later = loop.call_later(0, self._drain)
        else:
            self._later = None
            loop.add_reader(self._observer.fd, self._wake)

    def _take(self, found: Iterable[Seen]) -> None:
        self._names.refresh()
        since_boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        of = self._names.of
        for seen in found:
            self._seen += 1
            self._opened += seen.kind == Kind.NEW
            moment = (seen.first if seen.kind == Kind.NEW else seen.last) / 1e9 + since_boot
            rule = self._rule(seen.rule) if seen.rule else ""
            self._count(seen, moment)
            record = Record.of(moment, seen, of(seen.source), of(seen.destination), rule)
            self._kept.append(record)
            for follower in self._followers:
                follower.offer(record)

    def _count(self, seen: Seen, moment: float) -> None:
        """What begins and what is dropped, by rule and by protocol."""
        if seen.kind == Kind.DROP:
            if seen.rule or seen.reason == Reason.POLICY:
                self._tally.drop(seen.rule, moment)
        elif seen.rule:
            key = (seen.source, seen.destination, seen.source_port, seen.destination_port, seen.protocol, seen.first)
            self._tally.connection(key, seen.rule, moment, ends=seen.kind == Kind.CLOSE)
        if seen.kind in {Kind.NEW, Kind.DROP}:
            self.counted[verdict(seen), protocol(seen)] += 1

    def hits(self) -> Mapping[int, Hit]:
        """How often each rule has decided, since the agent started."""
        return self._tally.hits()

    def recent(self) -> list[Record]:
        """What is kept, the oldest first."""
        return list(self._kept)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                total = 0
                for chunk, size in self._observer.sweep():
                    total += size
                    self._take(chunk)
                    await asyncio.sleep(0)  # others' turn
                self._connections = total
            except KernelError as error:
                log.warning("reading the table of connections: %s", error)
