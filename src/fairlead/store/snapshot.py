"""Snapshot: a node's own copy of what it knew of a shared store, in a file, so that it can start while the store is away.

It is a copy and nothing more. It may be a moment old after a power cut, it is thrown away when it is damaged or of another
store, and nobody takes a revision from it to go on from: what is known is compared with the store as soon as that answers.

It also remembers the last deletions of each kind that this node saw, in order: what ``Store.deleted`` is for a store of one
machine. Writing waits for nobody: changes gather while earlier ones are written, and stay if the disk is full.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

from fairlead.model.broken import Broken
from fairlead.model.codec import encode
from fairlead.model.errors import Failed, Forbidden, Problem, Unsupported
from fairlead.model.meta import Object

from .base import KEEP, Event, EventKind, Key, Stored, read, readable
from .schema import Layout, open_file, transaction, translated

log = logging.getLogger(__name__)

_MIGRATIONS = (
    """
    CREATE TABLE source (name TEXT NOT NULL);
    CREATE TABLE kinds (plural TEXT PRIMARY KEY, at REAL NOT NULL);
    CREATE TABLE objects (
        plural TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL,
        PRIMARY KEY (plural, namespace, name)
    ) WITHOUT ROWID;
    CREATE TABLE deleted (number INTEGER PRIMARY KEY AUTOINCREMENT, plural TEXT NOT NULL, data BLOB NOT NULL);
    CREATE INDEX kind ON deleted (plural, number);
    """,
)

LAYOUT = Layout(0x66616973, _MIGRATIONS)
"""The file of a snapshot."""

_BUSY = 5.0

P = TypeVar("P")
T = TypeVar("T")


class Kept(NamedTuple):
    """What was known of a kind: its objects, the deletions seen last, and until when it is known to have been so."""

    objects: tuple[Stored, ...]
    deleted: tuple[Object, ...]
    at: float


class _Pending:
    """What is not written yet of one kind; of each object the newest."""

    def __init__(self) -> None:
        self.objects: dict[Key, Stored | None] = {}
        self.deleted: deque[Object] = deque(maxlen=KEEP)
        self.at = 0.0


class Snapshot:
    """The copy in one file. Made by ``open``; bound to the event loop that opened it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._path, self._db, self._thread = path, connection, thread
        self._loop = asyncio.get_running_loop()
        self._pending: dict[str, _Pending] = {}
        self._writing: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    async def open(cls, path: Path, source: str) -> Self:
        """Open the copy of the store that ``source`` names, or make an empty one."""
        thread = ThreadPoolExecutor(1, "snapshot")
        try:
            connection = await asyncio.get_running_loop().run_in_executor(thread, _open, path, source)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(path, connection, thread)

    async def load(self, plural: str) -> Kept | None:
        """What was known of a kind; None if nothing ever was."""
        return await self._do(_load, plural)

    def note(self, plural: str, events: Sequence[Event], at: float) -> None:
        """Have these changes written, and that all of it was so at that time."""
        pending = self._pending.setdefault(plural, _Pending())
        pending.at = at
        for event in events:
            there = event.kind is not EventKind.DELETED
            pending.objects[event.object.key] = event.object if there else None
            if not there and not isinstance(event.object, Broken):
                pending.deleted.append(event.object)
        if self._writing is None and not self._closed:
            self._writing = self._loop.create_task(self._write())

    async def close(self) -> None:
        """Write what is left, and let go. Again is no error."""
        if self._closed:
            return
        self._closed = True
        if self._writing is not None:
            await asyncio.wait([self._writing])
        await self._write()
        await self._loop.run_in_executor(self._thread, self._db.close)
        self._thread.shutdown()

    async def _write(self) -> None:
        try:
            while self._pending:
                pending, self._pending = self._pending, {}
                try:
                    await self._do(_save, pending)
                except Problem as problem:
                    log.warning("the copy of the store waits to be written: %s", problem)
                    self._put_back(pending)
                    return
        finally:
            self._writing = None

    def _put_back(self, pending: dict[str, _Pending]) -> None:
        """What could not be written comes before what came meanwhile, and is tried again with the next change."""
        for plural, older in pending.items():
            if newer := self._pending.get(plural):
                older.objects.update(newer.objects)
                older.deleted.extend(newer.deleted)
                older.at = newer.at
            self._pending[plural] = older

    async def _do(self, what: Callable[[sqlite3.Connection, P], T], with_: P) -> T:
        def work() -> T:
            with translated(self._path):
                return what(self._db, with_)

        return await self._loop.run_in_executor(self._thread, work)


def _open(path: Path, source: str) -> sqlite3.Connection:
    """The file, with what it holds if that is of the same source."""
    try:
        connection = open_file(path, _BUSY, LAYOUT)
    except (Failed, Unsupported) as problem:
        log.warning("the copy of the store is made anew: %s", problem)
        _aside(path)
        connection = open_file(path, _BUSY, LAYOUT)
    with translated(path):
        connection.execute("PRAGMA synchronous = NORMAL")
        if [source] != [name for (name,) in connection.execute("SELECT name FROM source")]:
            with transaction(connection, "IMMEDIATE"):
                for table in ("source", "kinds", "objects", "deleted"):
                    connection.execute(f"DELETE FROM {table}")  # noqa: S608  # all constant
                connection.execute("INSERT INTO source VALUES (?)", (source,))
    return connection


def _aside(path: Path) -> None:
    """Move a file that is of no use out of the way, where a person may look at it; one is kept."""
    try:
        with suppress(FileNotFoundError):  # only its log is there
            path.rename(path.with_name(f"{path.name}.unusable"))
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        raise Forbidden(f"{path} is of no use and cannot be moved away: {error.strerror}; remove it") from error


def _load(db: sqlite3.Connection, plural: str) -> Kept | None:
    row = db.execute("SELECT at FROM kinds WHERE plural = ?", (plural,)).fetchone()
    if row is None:
        return None
    objects = db.execute("SELECT data, namespace, name FROM objects WHERE plural = ? ORDER BY namespace, name", (plural,))
    there = tuple(read(plural, data, (namespace, name)) for data, namespace, name in objects)
    deleted = db.execute("SELECT data FROM deleted WHERE plural = ? ORDER BY number", (plural,))
    return Kept(there, readable(read(plural, data) for (data,) in deleted), float(row[0]))


def _save(db: sqlite3.Connection, pending: dict[str, _Pending]) -> None:
    with transaction(db, "IMMEDIATE"):
        for plural, some in pending.items():
            for key, thing in some.objects.items():
                if thing is None:
                    db.execute("DELETE FROM objects WHERE plural = ? AND namespace = ? AND name = ?", (plural, *key))
                else:
                    data = thing.data if isinstance(thing, Broken) else encode(thing)
                    db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", (plural, *key, data))
            for gone in some.deleted:
                db.execute("INSERT INTO deleted (plural, data) VALUES (?, ?)", (plural, encode(gone)))
            oldest = "SELECT number FROM deleted WHERE plural = ? ORDER BY number DESC LIMIT 1 OFFSET ?"
            db.execute(f"DELETE FROM deleted WHERE plural = ? AND number <= ({oldest})", (plural, plural, KEEP))  # noqa: S608
            db.execute("INSERT OR REPLACE INTO kinds VALUES (?, ?)", (plural, some.at))
