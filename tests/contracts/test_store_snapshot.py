"""A node's copy of a shared store: what is noted is there again, whatever became of the process, the file or the disk."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from fairlead.model.broken import Broken
from fairlead.model.meta import Object
from fairlead.store import snapshot as module
from fairlead.store.base import KEEP, Event, EventKind
from fairlead.store.snapshot import Kept, Snapshot
from tests.contracts.stores import ENDPOINTS, NETWORKS, awaited, endpoint, network

ADDED, MODIFIED, DELETED = EventKind.ADDED, EventKind.MODIFIED, EventKind.DELETED


def event(kind: EventKind, thing: Object) -> Event:
    return Event(kind, thing, 1)


def names(kept: Kept | None) -> tuple[list[str], list[str], float]:
    assert kept is not None
    return [one.name for one in kept.objects], [one.name for one in kept.deleted], kept.at


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shared.db"


@awaited
async def test_what_was_noted_is_there_again(path: Path) -> None:
    copy = await Snapshot.open(path, "here")
    assert await copy.load(NETWORKS) is None
    odd = network("a", uid="u", resource_version="77", labels={"tier": "web"}, annotations={"x": "\0\n"})
    copy.note(NETWORKS, [event(ADDED, odd), event(ADDED, network("b"))], 1.0)
    copy.note(NETWORKS, [event(MODIFIED, network("b", internal=True)), event(ADDED, network("c"))], 2.0)
    copy.note(ENDPOINTS, [event(ADDED, endpoint("x"))], 3.0)
    copy.note(NETWORKS, [event(DELETED, network("c"))], 4.0)
    await copy.close()
    await copy.close()
    copy = await Snapshot.open(path, "here")
    kept = await copy.load(NETWORKS)
    assert names(kept) == (["a", "b"], ["c"], 4.0)
    assert kept is not None
    assert kept.objects == (odd, network("b", internal=True))
    assert names(await copy.load(ENDPOINTS)) == (["x:eth0"], [], 3.0)
    copy.note(NETWORKS, (), 9.0)
    await copy.close()
    copy = await Snapshot.open(path, "here")
    assert names(await copy.load(NETWORKS)) == (["a", "b"], ["c"], 9.0)
    await copy.close()
    assert path.stat().st_mode & 0o777 == 0o600


@awaited
async def test_a_kind_of_which_there_is_nothing_is_known_to_be_empty(path: Path) -> None:
    copy = await Snapshot.open(path, "here")
    copy.note(NETWORKS, (), 5.0)
    await copy.close()
    copy = await Snapshot.open(path, "here")
    assert names(await copy.load(NETWORKS)) == ([], [], 5.0)
    assert await copy.load(ENDPOINTS) is None
    await copy.close()


@awaited
async def test_the_copy_of_another_store_is_not_this_ones(path: Path) -> None:
    copy = await Snapshot.open(path, "here")
    copy.note(NETWORKS, [event(ADDED, network("a")), event(DELETED, network("b"))], 1.0)
    await copy.close()
    for source in ("elsewhere", "here"):
        copy = await Snapshot.open(path, source)
        assert await copy.load(NETWORKS) is None
        await copy.close()


@awaited
async def test_the_oldest_deletions_are_forgotten(path: Path) -> None:
    copy = await Snapshot.open(path, "here")
    for at in range(3):
        for one in range(KEEP // 2):
            copy.note(ENDPOINTS, [event(DELETED, endpoint(f"e{at}.{one}"))], 1.0)
        await copy.load(ENDPOINTS)  # comes after what was begun, so that it is not all written at once
    await copy.close()
    copy = await Snapshot.open(path, "here")
    _, deleted, _ = names(await copy.load(ENDPOINTS))
    assert deleted == [f"e{at}.{one}:eth0" for at in (1, 2) for one in range(KEEP // 2)]
    await copy.close()


def text(path: Path) -> None:
    path.write_text("no database\n" * 1000)


def torn(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * 4096)


def headless(path: Path) -> None:
    path.unlink()
    path.with_name(f"{path.name}-wal").write_bytes(b"\x37\x7f\x06\x82" + bytes(4096))


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
        db.commit()


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [text, torn, headless, foreign, newer, directory])
@awaited
async def test_a_file_of_no_use_is_moved_away_and_the_copy_begins_anew(path: Path, spoil: Callable[[Path], None]) -> None:
    copy = await Snapshot.open(path, "here")
    copy.note(NETWORKS, [event(ADDED, network(f"n{at}")) for at in range(200)], 1.0)
    await copy.close()
    spoil(path)
    copy = await Snapshot.open(path, "here")
    assert await copy.load(NETWORKS) is None
    copy.note(NETWORKS, [event(ADDED, network("a"))], 2.0)
    await copy.close()
    copy = await Snapshot.open(path, "here")
    assert names(await copy.load(NETWORKS)) == (["a"], [], 2.0)
    await copy.close()
    assert path.with_name("shared.db.unusable").exists() == (spoil is not headless)


@awaited
async def test_what_cannot_be_read_is_kept_as_it_is(path: Path) -> None:
    data = b'{"kind":"Network","metadata":{"name":"a"},"later":1}'
    broken = Broken.of(NETWORKS, data, "later: there is no such field; there are metadata, apiVersion, spec", ("", "a"))
    copy = await Snapshot.open(path, "here")
    copy.note(NETWORKS, [Event(ADDED, broken, 1), event(ADDED, network("b"))], 1.0)
    await copy.close()
    copy = await Snapshot.open(path, "here")
    kept = await copy.load(NETWORKS)
    assert kept is not None
    assert kept.objects == (broken, network("b"))
    copy.note(NETWORKS, [Event(DELETED, broken, 2)], 2.0)
    await copy.close()
    copy = await Snapshot.open(path, "here")
    assert names(await copy.load(NETWORKS)) == (["b"], [], 2.0)
    await copy.close()


@awaited
async def test_what_cannot_be_written_now_is_written_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = await Snapshot.open(path, "here")
    save, full = module._save, True

    def sometimes(db: sqlite3.Connection, pending: dict[str, module._Pending]) -> None:
        if full:
            raise sqlite3.OperationalError("database or disk is full")
        save(db, pending)

    monkeypatch.setattr(module, "_save", sometimes)
    copy.note(NETWORKS, [event(ADDED, network("a")), event(ADDED, network("b"))], 1.0)
    assert await copy.load(NETWORKS) is None
    copy.note(NETWORKS, [event(MODIFIED, network("a", internal=True)), event(DELETED, network("b"))], 2.0)
    copy.note(ENDPOINTS, [event(ADDED, endpoint("x"))], 2.0)
    assert await copy.load(NETWORKS) is None
    full = False
    copy.note(NETWORKS, [event(ADDED, network("c"))], 3.0)
    await copy.close()
    monkeypatch.undo()
    copy = await Snapshot.open(path, "here")
    kept = await copy.load(NETWORKS)
    assert names(kept) == (["a", "c"], ["b"], 3.0)
    assert kept is not None
    assert kept.objects[0] == network("a", internal=True)
    assert names(await copy.load(ENDPOINTS)) == (["x:eth0"], [], 2.0)
    await copy.close()


@awaited
async def test_a_killed_process_leaves_a_whole_copy(path: Path) -> None:
    """Of each step of the store, all or nothing: a and b change together."""
    program = """
import asyncio, sys
from pathlib import Path
from fairlead.store.base import Event, EventKind
from fairlead.store.snapshot import Snapshot
from tests.contracts.stores import ENDPOINTS, endpoint
async def main():
    copy = await Snapshot.open(Path(sys.argv[1]), "here")
    for at in range(1, 1000000):
        events = [Event(EventKind.MODIFIED, endpoint(name, at), at) for name in "ab"]
        copy.note(ENDPOINTS, events, float(at))
        if at % 50 == 0:
            print(at, flush=True)
        await asyncio.sleep(0.0001)
asyncio.run(main())
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", program, str(path)], env=env, stdout=subprocess.PIPE, text=True) as writing:
        assert writing.stdout is not None
        for _ in range(10):
            writing.stdout.readline()
        writing.kill()
    copy = await Snapshot.open(path, "here")
    kept = await copy.load(ENDPOINTS)
    assert kept is not None
    first, second = kept.objects
    assert first == endpoint("a", int(kept.at))
    assert second == endpoint("b", int(kept.at))
    await copy.close()
