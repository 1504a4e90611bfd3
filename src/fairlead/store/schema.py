"""The file of the SQLite store: how it is opened without harming it, its tables, and SQLite's errors in people's words.

A file that is damaged, foreign or too new is refused and left as it was: nothing here overwrites or repairs.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fairlead.model.errors import Failed, Forbidden, Problem, Unavailable, Unsupported


class Layout(NamedTuple):
    """What a file holds. ``application`` (PRAGMA application_id) tells it from other programs' databases and our other ones.

    ``migrations``: what brings a file of version n (PRAGMA user_version, the place in the tuple) to n + 1. Never changed, only
    added to.
    """

    application: int
    migrations: tuple[str, ...]


_MIGRATIONS = (
    """
    CREATE TABLE objects (
        plural TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL,
        PRIMARY KEY (plural, namespace, name)
    ) WITHOUT ROWID;
    CREATE TABLE history (revision INTEGER PRIMARY KEY, kind TEXT NOT NULL, plural TEXT NOT NULL, data BLOB NOT NULL);
    CREATE INDEX deletions ON history (plural, revision) WHERE kind = 'deleted';
    CREATE TABLE floor (revision INTEGER NOT NULL);
    INSERT INTO floor VALUES (0);
    """,
    """
    CREATE TABLE holds (
        name TEXT PRIMARY KEY, holder TEXT NOT NULL, token TEXT NOT NULL, until REAL NOT NULL, boot TEXT NOT NULL
    );
    """,
)

STORE = Layout(0x66616972, _MIGRATIONS)
"""The file of the store (``sqlite``)."""

_ASIDE = "stop what uses it, move it with its -wal and -shm files to another directory, and start again"
_CACHE_KIB = 1024
_WAL_LIMIT = 4 << 20


def connect(path: Path, busy: float) -> sqlite3.Connection:
    """A connection that commits durably, for one thread at a time; the file must have been opened by ``open_file`` before."""
    with translated(path):
        connection = sqlite3.connect(path, timeout=busy, isolation_level=None, check_same_thread=False)
        for pragma in ("synchronous = FULL", f"cache_size = -{_CACHE_KIB}", f"journal_size_limit = {_WAL_LIMIT}"):
            connection.execute(f"PRAGMA {pragma}")
    return connection


def open_file(path: Path, busy: float, layout: Layout) -> sqlite3.Connection:
    """Open ``path``, make it if it is not there, check it and bring it to the newest version."""
    _prepare(path)
    connection = connect(path, busy)
    try:
        with translated(path):
            _identify(connection, path, layout)
            _wal(connection, path, busy)
            _migrate(connection, path, layout)
    except Problem:
        connection.close()
        raise
    return connection


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """SQLite's errors as problems that name the file and what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise _problem(path, error) from error
    except UnicodeDecodeError as error:  # text of the file, or SQLite's own message quoting it
        raise damaged(path, error.reason) from error


@contextmanager
def transaction(connection: sqlite3.Connection, mode: str = "DEFERRED") -> Iterator[None]:
    """All of it or nothing; ``IMMEDIATE`` takes the write lock at once."""
    connection.execute(f"BEGIN {mode}")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:  # SQLite itself ends the transaction after some errors, such as a full disk
            connection.execute("ROLLBACK")


def value(connection: sqlite3.Connection, query: str) -> Any:
    """The first column of the first row."""
    with closing(connection.execute(query)) as rows:
        return rows.fetchone()[0]


def damaged(path: Path, why: object) -> Failed:
    """The file cannot be read whole."""
    return Failed(f"{path} is damaged ({why}) and was left as it is; {_ASIDE}: `sqlite3 FILE .recover` may read what is left")


def _prepare(path: Path) -> None:
    wal = path.with_name(f"{path.name}-wal")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _size(wal) and not _size(path):
            # SQLite would delete the log as stale, and with it commits that were promised to be durable.
            raise damaged(path, f"it is empty or gone, but its log {wal.name} is not")
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        elif not path.is_file():
            raise Failed(f"{path} is not a file; name another path for the store")
        elif path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except FileExistsError:
        pass  # another process made it just now
    except NotADirectoryError:
        raise Failed(f"{path} cannot be made: {path.parent} is not a directory") from None
    except OSError as error:
        raise Forbidden(f"{path} cannot be made or written: {error.strerror}; make its directory writable") from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _identify(connection: sqlite3.Connection, path: Path, layout: Layout) -> None:
    tables = value(connection, "SELECT count(*) FROM sqlite_master")
    if tables and value(connection, "PRAGMA application_id") != layout.application:
        raise Failed(f"{path} is an SQLite database of another program or purpose and was left as it is; name another path")
    version = value(connection, "PRAGMA user_version")
    if version > len(layout.migrations):
        raise Unsupported(
            f"{path} was written by a newer Fairlead: its schema is version {version}, this one knows up to "
            f"{len(layout.migrations)}; install the newer Fairlead again, or {_ASIDE}"
        )
    if (verdict := value(connection, "PRAGMA quick_check(1)")) != "ok":
        raise damaged(path, verdict)


def _wal(connection: sqlite3.Connection, path: Path, busy: float) -> None:
    """Turn write-ahead logging on. SQLite does not wait when two processes do this at once, so this waits."""
    deadline = time.monotonic() + busy
    while True:
        try:
            mode = value(connection, "PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            break
    if mode != "wal":
        raise Unsupported(f"{path} is on a file system without shared memory maps; put the store on a local disk")


def _migrate(connection: sqlite3.Connection, path: Path, layout: Layout) -> None:
    if value(connection, "PRAGMA user_version") == len(layout.migrations):
        return
    with transaction(connection, "IMMEDIATE"):
        version = value(connection, "PRAGMA user_version")  # another process may have been faster
        if version > len(layout.migrations):
            raise Unavailable(f"{path} was just changed by a newer Fairlead; install that one")
        for script in layout.migrations[version:]:
            for statement in filter(str.strip, script.split(";")):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {layout.application}")
        connection.execute(f"PRAGMA user_version = {len(layout.migrations)}")


def _problem(path: Path, error: sqlite3.Error) -> Problem:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # absent from errors that the module itself raises
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _full(path)):
        return Unavailable(f"{path}: the disk is full and nothing of this was stored; free space on it and try again")
    if code == sqlite3.SQLITE_CORRUPT:
        return damaged(path, error)
    if code == sqlite3.SQLITE_NOTADB:
        return Failed(f"{path} is not a store (not an SQLite database) and was left as it is; {_ASIDE}")
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return Unavailable(f"{path} is held by another process; see who with `fuser -v {path}`, and try again")
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}:
        return Forbidden(f"{path} cannot be written ({error}); make it and its directory writable")
    return Failed(f"{path}: {error} ({getattr(error, 'sqlite_errorname', type(error).__name__)}); look at the disk's health")


def _full(path: Path) -> bool:
    return os.statvfs(path.parent).f_bavail == 0
