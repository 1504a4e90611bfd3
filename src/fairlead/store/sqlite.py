"""SQLite: the embedded store. One file, durable when a commit returns, shared by the processes of one machine.

A commit costs one fsync, and commits that wait together share it (group commit). The asyncio side only awaits; two threads
with a connection each do the work, so that a reader never waits for a disk::

    commit ─► waiting ─┐
    commit ─► waiting ─┼─► one batch ─► writer thread: BEGIN IMMEDIATE; settle and write each; COMMIT ─► futures, watches
    commit ─► waiting ─┘
    get, list, watch ────────────────► reader thread: a snapshot of its own (WAL)

A commit that is refused fails alone, because it is settled before anything of it is written; when the disk fails, the whole
batch fails. A watch keeps no queue: it remembers the revision it has seen and reads the history table from there, so a slow
one costs no memory and ends in ``Compacted`` at worst.

Every commit rings the bell (``bell``), and with ``shared`` a process hears the others' while something watches. Against a ring
that never came, because its process was killed between commit and ring, it also looks once a second whether anybody has
committed (``PRAGMA data_version``: a look into shared memory, no reading of the disk).
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Concatenate, Final, NamedTuple, ParamSpec, Self, TypeVar

from fairlead.kit import fault
from fairlead.kit.clock import Clock
from fairlead.model.errors import Problem
from fairlead.model.meta import Object

from . import holds, presence
from .base import (
    KEEP,
    MAX_CHANGES,
    Change,
    Event,
    EventKind,
    Key,
    Listing,
    Settled,
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
from .bell import Bell
from .presence import TTL, Claim, Hold
from .schema import STORE, connect, damaged, open_file, transaction, translated, value

BUSY = 5.0
"""Seconds to wait for another process's transaction."""

_BATCH = 64
_PAGE = 256
_LOOK = 1.0
_TRIM = 8
"""The history may grow by one part in this many beyond what is kept before it is trimmed, so that few commits pay for it."""

P = ParamSpec("P")
T = TypeVar("T")
Outcome = tuple[Stored | None, ...] | Problem


class _Page(NamedTuple):
    """Some events, and the revision up to which they are complete."""

    events: tuple[Event, ...]
    until: int


class _Waiting(NamedTuple):
    """A commit on its way to the disk."""

    changes: tuple[Change, ...]
    done: asyncio.Future[tuple[Stored | None, ...]]


class Rows:
    """The tables, read and written as objects. Knows no threads: one at a time."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._db = connection

    def get(self, plural: str, key: Key) -> Stored | None:
        """One object, or None."""
        query = "SELECT CAST(data AS BLOB) FROM objects WHERE plural = ? AND namespace = ? AND name = ?"
        row = self._db.execute(query, (plural, *key)).fetchone()
        return read(plural, row[0], key) if row else None

    def listing(self, plural: str) -> Listing:
        """Every object of a kind."""
        with transaction(self._db):
            query = "SELECT CAST(data AS BLOB), namespace, name FROM objects WHERE plural = ? ORDER BY namespace, name"
            rows = self._db.execute(query, (plural,))
            return Listing.of((read(plural, data, (namespace, name)) for data, namespace, name in rows), self.revision())

    def deleted(self, plural: str) -> tuple[Object, ...]:
        """The deletions that are remembered, oldest first."""
        query = "SELECT CAST(data AS BLOB) FROM history WHERE kind = 'deleted' AND plural = ? ORDER BY revision"
        return readable(read(plural, data) for (data,) in self._db.execute(query, (plural,)))

    def revision(self) -> int:
        """The revision of the last change; it is always in the history."""
        return int(value(self._db, "SELECT coalesce(max(revision), 0) FROM history"))

    def page(self, plural: str | None, since: int) -> _Page:
        """The first events after ``since``."""
        with transaction(self._db):
            floor, revision = value(self._db, "SELECT revision FROM floor"), self.revision()
            if not floor <= since <= revision:
                raise compacted(since, floor, revision)
            query = (
                "SELECT kind, plural, CAST(data AS BLOB), revision FROM history WHERE revision > ? ORDER BY revision LIMIT ?"
            )
            rows = self._db.execute(query, (since, _PAGE)).fetchall()
        events = tuple(self._event(*row) for row in rows if plural in {None, row[1]})
        return _Page(events, rows[-1][3] if rows else since)

    def write(self, settled: Iterable[Settled]) -> int:
        """Store what was decided; return how many revisions it took."""
        taken = 0
        for _, event, data in settled:
            if event is None:
                continue
            taken += 1
            at = (event.object.plural, *event.object.key)
            if event.kind is EventKind.DELETED:
                self._db.execute("DELETE FROM objects WHERE plural = ? AND namespace = ? AND name = ?", at)
            else:
                self._db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", (*at, data))
            self._db.execute("INSERT INTO history VALUES (?, ?, ?, ?)", (event.revision, event.kind.value, at[0], data))
        return taken

    def commit(self, batch: Iterable[tuple[Change, ...]], now: float) -> tuple[Sequence[Outcome], int]:
        """Do each commit of the batch that may be done, in one transaction; what became of each, and the revision."""
        outcomes: list[Outcome] = []
        with transaction(self._db, "IMMEDIATE"):
            fault.point("store.begun")
            revision = self.revision()
            for changes in batch:
                try:
                    settled = settle(changes, self.get, revision, now)
                except Problem as problem:
                    outcomes.append(problem)
                    continue
                revision += self.write(settled)
                outcomes.append(tuple(one.result for one in settled))
            fault.point("store.written")
        fault.point("store.committed")
        return outcomes, revision

    def trim(self, keep: int) -> int:
        """Forget all but the last ``keep`` revisions, and ``keep`` deletions of each kind; return the new floor."""
        with transaction(self._db, "IMMEDIATE"):
            floor = max(value(self._db, "SELECT revision FROM floor"), self.revision() - keep)
            self._db.execute("UPDATE floor SET revision = ?", (floor,))
            self._db.execute("DELETE FROM history WHERE revision <= ? AND kind != 'deleted'", (floor,))
            kinds = self._db.execute("SELECT DISTINCT plural FROM history WHERE kind = 'deleted'").fetchall()
            for (plural,) in kinds:
                oldest = (
                    "SELECT revision FROM history WHERE kind = 'deleted' AND plural = ? ORDER BY revision DESC LIMIT 1 OFFSET ?"
                )
                self._db.execute(
                    f"DELETE FROM history WHERE kind = 'deleted' AND plural = ? AND revision <= min(?, ({oldest}))",  # noqa: S608  # all constant
                    (plural, floor, plural, keep),
                )
        return int(floor)

    def floor(self) -> int:
        """The revision up to which the history may be incomplete."""
        return int(value(self._db, "SELECT revision FROM floor"))

    def _event(self, kind: str, plural: str, data: bytes, revision: int) -> Event:
        try:
            return Event(EventKind(kind), read(plural, data), revision)
        except ValueError as problem:
            raise damaged(self._path, problem) from None


class _Pulse:
    """Looks at intervals whether any connection of any process has committed, and calls ``changed`` if so."""

    def __init__(self, connection: sqlite3.Connection, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]) -> None:
        self._connection = connection
        self._loop = loop
        self._changed = changed
        self._seen = -1
        self._next: asyncio.TimerHandle | None = None

    @property
    def beating(self) -> bool:
        """Whether it looks."""
        return self._next is not None

    def start(self) -> None:
        """Begin, unless it has begun."""
        if self._next is None:
            self._beat()

    def stop(self) -> None:
        """Rest."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _beat(self) -> None:
        # On the event loop's own thread: it takes microseconds, waits for nothing (busy 0) and reads no disk.
        with suppress(sqlite3.Error):  # an error means not now; what is really wrong the reader will say
            seen = value(self._connection, "PRAGMA data_version")
            if seen != self._seen:
                self._seen = seen
                self._changed()
        self._next = self._loop.call_later(_LOOK, self._beat)


class Sqlite:
    """A store in one file; see ``base.Store``. Made by ``open``; bound to the event loop that opened it."""

    at_once: Final = MAX_CHANGES
    orders_all: Final = True

    def __init__(self, path: Path, *, shared: bool, keep: int, busy: float, clock: Clock) -> None:
        self._path = path
        self._shared = shared
        self._keep = keep
        self._busy = busy
        self._clock = clock
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._writer = ThreadPoolExecutor(1, "store-writer")
        self._reader = ThreadPoolExecutor(1, "store-reader")
        self._connections: list[tuple[ThreadPoolExecutor, sqlite3.Connection]] = []
        self._waiting: list[_Waiting] = []
        self._flushing: asyncio.Task[None] | None = None
        self._wakes: set[asyncio.Event] = set()
        self._revision = self._floor = 0

    @classmethod
    async def open(
        cls, path: Path, *, shared: bool = False, keep: int = KEEP, busy: float = BUSY, clock: Clock = time.time
    ) -> Self:
        """Open the file, or make it. ``shared``: watches also see what other processes commit."""
        store = cls(path, shared=shared, keep=max(keep, 1), busy=busy, clock=clock)
        try:
            await store._loop.run_in_executor(store._writer, store._connect)
        except BaseException:
            await store.close()
            raise
        return store

    async def get(self, plural: str, key: Key) -> Stored | None:
        known(plural, key)
        return await self._read(Rows.get, plural, key)

    async def list(self, plural: str) -> Listing:
        kind_of(plural)
        return await self._read(Rows.listing, plural)

    async def deleted(self, plural: str) -> tuple[Object, ...]:
        kind_of(plural)
        return await self._read(Rows.deleted, plural)

    async def commit(self, *changes: Change) -> tuple[Stored | None, ...]:
        if self._closed:
            raise closed()
        check(changes)
        if not changes:
            return ()
        waiting = _Waiting(changes, self._loop.create_future())
        self._waiting.append(waiting)
        if self._flushing is None:
            self._flushing = self._loop.create_task(self._flush())
        return await waiting.done

    async def watch(self, plural: str | None, since: int) -> AsyncGenerator[Event]:
        if self._closed:
            raise closed()
        if plural is not None:
            kind_of(plural)
        with self._listening() as wake:
            while not self._closed:
                wake.clear()
                page = await self._read(Rows.page, plural, since)
                for event in page.events:
                    yield event
                if page.until == since:
                    await wake.wait()
                since = page.until

    @asynccontextmanager
    async def hold(self, name: str, holder: str, ttl: float = TTL) -> AsyncIterator[Hold]:
        presence.check(name, holder, ttl)
        token, asked = uuid.uuid4().hex, self._loop.time()

        async def renew() -> bool:
            return await self._held(self._holds.renew, name, token, holds.now() + ttl)

        async def release() -> None:
            await self._held(self._holds.release, name, token)
            self._tell()

        await self._held(self._holds.take, name, Claim(holder, token, holds.now() + ttl))
        self._tell()
        async with presence.kept(Hold(name, holder), asked, ttl, renew, release) as hold:
            yield hold

    async def present(self) -> AsyncGenerator[Mapping[str, str]]:
        if self._closed:
            raise closed()

        async def read() -> Mapping[str, Claim]:
            return await self._held(self._holds.claims)

        with self._listening() as wake:
            following = presence.follow(read, wake, holds.now, lambda: self._closed)
            async with aclosing(following):
                async for holders in following:
                    yield holders

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._wake()
        if self._connections:
            self._unlisten()
        if self._flushing is not None:
            await asyncio.wait([self._flushing])
        for thread, connection in self._connections:
            await self._loop.run_in_executor(thread, connection.close)
        for thread in (self._reader, self._writer):
            thread.shutdown()  # at once: what it had to do came before the close above

    def _connect(self) -> None:
        writing = open_file(self._path, self._busy, STORE)
        self._connections.append((self._writer, writing))
        self._holds = holds.Holds(self._path, self._busy)
        self._connections.insert(0, (self._writer, self._holds.connection))
        reading = connect(self._path, self._busy)
        self._connections.insert(0, (self._reader, reading))
        looking = connect(self._path, 0)
        self._connections.insert(0, (self._reader, looking))
        self._writing, self._reading = Rows(self._path, writing), Rows(self._path, reading)
        self._pulse = _Pulse(looking, self._loop, self._wake)
        self._bell = Bell(self._path, self._loop, self._wake)
        with translated(self._path):
            self._floor = self._writing.floor()

    async def _read(self, what: Callable[Concatenate[Rows, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closed:
            raise closed()

        def read() -> T:
            with translated(self._path):
                return what(self._reading, *args, **kwargs)

        return await self._loop.run_in_executor(self._reader, read)

    async def _flush(self) -> None:
        """Commit what waits, batch by batch: while one is on its way to the disk, the next one gathers."""
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
                work = self._loop.run_in_executor(self._writer, self._commit, [one.changes for one in batch])
                await asyncio.wait([work])
                error = work.exception()
                outcomes = [error] * len(batch) if error else work.result()
                for one, outcome in zip(batch, outcomes, strict=True):
                    _answer(one.done, outcome)
                self._wake()
                if self._revision - self._floor > self._keep + self._keep // _TRIM:
                    await self._loop.run_in_executor(self._writer, self._trim)
        finally:
            self._flushing = None

    def _commit(self, batch: Sequence[tuple[Change, ...]]) -> Sequence[Outcome]:
        with translated(self._path):
            outcomes, self._revision = self._writing.commit(batch, self._clock())
        self._bell.ring()
        return outcomes

    def _trim(self) -> None:
        # What was committed is committed: if the disk is full just now, the next commit trims.
        with suppress(sqlite3.Error):
            self._floor = self._writing.trim(self._keep)

    async def _held(self, what: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Read or write holds, in the writer's thread."""
        if self._closed:
            raise closed()

        def work() -> T:
            with translated(self._path):
                return what(*args, **kwargs)

        return await self._loop.run_in_executor(self._writer, work)

    @contextmanager
    def _listening(self) -> Iterator[asyncio.Event]:
        """What is set whenever something may have changed."""
        wake = asyncio.Event()
        if self._shared and not self._wakes:
            self._bell.hang()
            self._pulse.start()
        self._wakes.add(wake)
        try:
            yield wake
        finally:
            self._wakes.discard(wake)
            if not self._wakes:
                self._unlisten()

    def _unlisten(self) -> None:
        self._pulse.stop()
        self._bell.take_down()

    def _tell(self) -> None:
        self._wake()
        self._bell.ring()

    def _wake(self) -> None:
        for wake in self._wakes:
            wake.set()


def _answer(done: asyncio.Future[tuple[Stored | None, ...]], outcome: Outcome | BaseException) -> None:
    if done.done():  # its caller was cancelled
        return
    if isinstance(outcome, BaseException):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)
