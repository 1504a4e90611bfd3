"""What only a file can promise: durability, several processes, and clear words when the file or the disk is bad."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Coroutine
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any, TypeVar

import pytest

from fairlead.model.errors import Conflict, Failed, Forbidden, Problem, Unavailable, Unsupported
from fairlead.model.meta import Meta
from fairlead.model.network import Network, NetworkSpec
from fairlead.store import schema, sqlite
from fairlead.store.base import Delete, Put
from fairlead.store.sqlite import Sqlite

T = TypeVar("T")

PRELUDE = """
import asyncio, json, os, sys
from pathlib import Path
from fairlead.model.errors import Conflict, Problem
from fairlead.model.meta import Meta
from fairlead.model.network import Network, NetworkSpec
from fairlead.store.base import Put, Delete
from fairlead.store.sqlite import Sqlite
path = Path(sys.argv[1])
def network(name, mtu=None, text=""):
    return Network(metadata=Meta(name=name, annotations={"text": text}), spec=NetworkSpec(mtu=mtu))
"""

INCREMENT = """
async def main():
    store = await Sqlite.open(path)
    for _ in range(50):
        while True:
            now = await store.get("networks", ("", "counter"))
            try:
                await store.commit(Put(network("counter", now.spec.mtu + 1), expect=now.metadata.resource_version))
                break
            except Conflict:
                pass
    await store.close()
asyncio.run(main())
"""


def network(name: str, mtu: int | None = None) -> Network:
    return Network(metadata=Meta(name=name), spec=NetworkSpec(mtu=mtu))


def run(work: Coroutine[Any, Any, T]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(60):
            return await work

    return asyncio.run(bounded())


def program(path: Path, text: str, *before: str) -> subprocess.Popen[str]:
    """Start Python on ``text`` with a store's path as its argument."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [*before, sys.executable, "-c", PRELUDE + textwrap.dedent(text), str(path)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    try:
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    return out


async def names(path: Path) -> list[str]:
    store = await Sqlite.open(path)
    found = [one.name for one in (await store.list("networks")).objects]
    await store.close()
    return found


async def fill(path: Path, count: int = 1, **options: Any) -> None:
    store = await Sqlite.open(path, **options)
    for at in range(count):
        await store.commit(Put(network(f"n{at}")))
    await store.close()


# -- durability


def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "store.db"
        await fill(path, 3)
        store = await Sqlite.open(path)
        await store.commit(Delete("networks", ("", "n1")))
        before = await store.list("networks"), await store.deleted("networks")
        await store.close()
        store = await Sqlite.open(path)
        assert (await store.list("networks"), await store.deleted("networks")) == before
        assert before[0].revision == 4
        async with aclosing(store.watch(None, 2)) as watch:
            assert [(await anext(watch)).revision for _ in range(2)] == [3, 4]
        (put,) = await store.commit(Put(network("n1")))
        assert put is not None
        assert put.metadata.resource_version == "5"
        await store.close()

    run(main())


@pytest.mark.parametrize("acknowledged", [1, 40, 300])
def test_what_was_acknowledged_survives_sigkill(tmp_path: Path, acknowledged: int) -> None:
    path = tmp_path / "store.db"
    writing = program(
        path,
        """
        async def write(store, who):
            at = 0
            while True:
                await store.commit(Put(network(f"w{who}.{at}"), expect=""))
                os.write(1, f"w{who}.{at}\\n".encode())
                at += 1
        async def main():
            store = await Sqlite.open(path)
            await asyncio.gather(*(write(store, who) for who in range(8)))
        asyncio.run(main())
        """,
    )
    assert writing.stdout is not None
    try:
        seen = [writing.stdout.readline().strip() for _ in range(acknowledged)]
    finally:
        writing.send_signal(signal.SIGKILL)
        seen += writing.stdout.read().split()
        writing.stdout.close()
        writing.wait()
    assert len(seen) >= acknowledged
    assert set(seen) <= set(run(names(path)))


def test_a_commit_is_synced_before_it_is_acknowledged(tmp_path: Path) -> None:
    """A killed process proves nothing about power; that every commit waits for the disk is SQLite's promise in this mode."""

    async def main() -> None:
        store = await Sqlite.open(tmp_path / "store.db")
        writer = store._connections[-1][1]
        assert schema.value(writer, "PRAGMA synchronous") == 2
        assert schema.value(writer, "PRAGMA journal_mode") == "wal"
        await store.close()

    run(main())


# -- several processes


def test_two_processes_lose_no_update_and_a_third_sees_all(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def main() -> None:
        store = await Sqlite.open(path, shared=True)
        await store.commit(Put(network("counter", 1000)))
        writers = [program(path, INCREMENT) for _ in range(2)]
        seen = []
        async with aclosing(store.watch("networks", 0)) as watch:
            async for event in watch:
                assert isinstance(event.object, Network)
                seen.append((event.revision, event.object.spec.mtu))
                if event.object.spec.mtu == 1100:
                    break
        for writer in writers:
            await asyncio.to_thread(finish, writer)
        assert seen == [(at + 1, 1000 + at) for at in range(101)]
        await store.close()

    run(main())


def test_many_processes_may_make_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "store.db"
    text = """
    async def main():
        store = await Sqlite.open(path)
        await store.commit(Put(network(f"p{os.getpid()}")))
        await store.close()
    asyncio.run(main())
    """
    makers = [program(path, text) for _ in range(4)]
    for maker in makers:
        finish(maker)
    assert sorted(run(names(path))) == sorted(f"p{maker.pid}" for maker in makers)


def test_only_a_shared_store_that_is_watched_polls(tmp_path: Path) -> None:
    async def beats(*, shared: bool) -> list[bool]:
        store = await Sqlite.open(tmp_path / "store.db", shared=shared)
        await store.commit(Put(network("n")))
        found = [store._pulse.beating]
        watch = store.watch(None, 0)
        await anext(watch)
        found.append(store._pulse.beating)
        await watch.aclose()
        found.append(store._pulse.beating)
        await anext(store.watch(None, 0))
        await store.close()
        found.append(store._pulse.beating)
        return found

    assert run(beats(shared=True)) == [False, True, False, False]
    assert not any(run(beats(shared=False)))


def test_a_watch_that_waits_reads_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        store = await Sqlite.open(tmp_path / "store.db")
        statements: list[str] = []
        store._connections[1][1].set_trace_callback(statements.append)
        watch = store.watch(None, 0)
        for at in range(3):
            waiting = asyncio.ensure_future(anext(watch))
            await store.commit(Put(network(f"n{at}")))
            assert (await waiting).revision == at + 1
        waiting = asyncio.ensure_future(anext(watch))
        for _ in range(10):
            await store.get("networks", ("", "n0"))
        assert any("FROM history" in one for one in statements)
        statements.clear()
        for _ in range(10):
            await store.get("networks", ("", "n0"))
        assert not any("FROM history" in one for one in statements)
        await store.commit(Put(network("last")))
        assert (await waiting).revision == 4
        await store.close()

    run(main())


def test_a_lock_held_elsewhere_is_named_and_stops_no_reader(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def main() -> None:
        await fill(path)
        store = await Sqlite.open(path, busy=0.02)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match=r"store\.db is held by another process"):
                await store.commit(Put(network("late")))
            assert len((await store.list("networks")).objects) == 1
            other.execute("ROLLBACK")
        await store.commit(Put(network("late")))
        assert len((await store.list("networks")).objects) == 2
        await store.close()

    run(main())


# -- group commit and size


def test_commits_that_wait_together_share_a_transaction(tmp_path: Path) -> None:
    async def main() -> None:
        store = await Sqlite.open(tmp_path / "store.db")
        statements: list[str] = []
        store._connections[-1][1].set_trace_callback(statements.append)
        asked = [store.commit(Put(network(f"n{at}"))) for at in range(60)]
        refused = store.commit(Put(network("n7")), Put(network("n0"), expect="99"))
        answers = await asyncio.gather(*asked, refused, return_exceptions=True)
        assert isinstance(answers.pop(), Conflict)
        assert all(isinstance(answer, tuple) for answer in answers)
        assert statements.count("COMMIT") == 1
        await store.close()

    run(main())


def test_the_file_does_not_grow_without_end(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "store.db"
        store = await Sqlite.open(path, keep=100)
        sizes = []
        for _ in range(2):
            for at in range(20):
                await asyncio.gather(*(store.commit(Put(network(f"n{k}", 1000 + at))) for k in range(50)))
                await asyncio.gather(*(store.commit(Delete("networks", ("", f"n{k}"))) for k in range(50)))
            sizes.append(path.stat().st_size + path.with_name("store.db-wal").stat().st_size)
        assert sizes[1] < sizes[0] + (8 << 20)
        with closing(sqlite3.connect(path)) as db:
            assert schema.value(db, "SELECT count(*) FROM history") <= 250
            assert schema.value(db, "PRAGMA page_count") * 4096 < 1 << 20
        await store.close()

    run(main())


# -- the file


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "store.db"
    run(fill(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.chmod(0o644)
    run(fill(path))
    assert path.stat().st_mode & 0o777 == 0o600


def _text(path: Path) -> None:
    path.write_text("this is no database, but somebody's text\n" * 100)


def _foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
        db.commit()


def _newer(path: Path) -> None:
    run(fill(path))
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")


def _torn(path: Path) -> None:
    run(fill(path, 200))
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * 8192)


def _cut(path: Path) -> None:
    run(fill(path, 200))
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def _headless(path: Path) -> None:
    path.touch()
    path.with_name(f"{path.name}-wal").write_bytes(b"\x37\x7f\x06\x82" + bytes(4096))


def _directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        (_text, Failed, "not an SQLite database"),
        (_foreign, Failed, "another program"),
        (_newer, Unsupported, "schema is version 99, this one knows up to 2"),
        (_torn, Failed, "damaged"),
        (_cut, Failed, "damaged"),
        (_headless, Failed, "log store.db-wal is not"),
        (_directory, Failed, "is not a file"),
    ],
)
def test_a_bad_file_is_named_and_left_as_it_was(tmp_path: Path, spoil: Any, kind: type[Problem], words: str) -> None:
    path = tmp_path / "store.db"
    spoil(path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    for _ in range(2):
        with pytest.raises(kind) as refused:
            run(Sqlite.open(path))
        assert str(path) in str(refused.value)
        assert words in str(refused.value)
    assert {file: file.read_bytes() for file in before} == before


@pytest.mark.parametrize("seed", range(25))
def test_no_damage_escapes_as_a_raw_error(tmp_path: Path, seed: int) -> None:
    """Whatever bytes change: it works, or it is a ``Problem``."""
    path = tmp_path / "store.db"
    run(fill(path, 60))
    chance = random.Random(seed)  # noqa: S311  # damage must be the same in every run
    with path.open("r+b") as file:
        for _ in range(chance.choice([1, 3, 50])):
            file.seek(chance.randrange(path.stat().st_size))
            file.write(chance.randbytes(chance.choice([1, 4, 100])))

    async def main() -> None:
        try:
            store = await Sqlite.open(path)
        except Problem:
            return
        for ask in (store.list("networks"), store.deleted("networks"), store.commit(Put(network("late"))), _events(store)):
            try:
                await ask
            except Problem as problem:
                assert problem.message  # noqa: PT017  # either outcome is right; a third is not
        await store.close()

    run(main())


async def _events(store: Sqlite) -> None:
    async with aclosing(store.watch(None, 0)) as watch:
        for _ in range(60):
            await anext(watch)


def test_migrations_keep_the_data_and_fail_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    run(fill(path, 2))
    first = sqlite.STORE

    def add(*migrations: str) -> None:
        layout = first._replace(migrations=(*first.migrations, *migrations))
        monkeypatch.setattr(sqlite, "STORE", layout)

    add("CREATE TABLE more (a); CREATE TABLE more (a);")
    with pytest.raises(Failed, match=r"store\.db.*more"):
        run(Sqlite.open(path))
    add("CREATE TABLE more (a); INSERT INTO more VALUES (7)")
    assert run(names(path)) == ["n0", "n1"]
    with closing(sqlite3.connect(path)) as db:
        assert schema.value(db, "PRAGMA user_version") == 3
        assert schema.value(db, "SELECT a FROM more") == 7
    add()
    with pytest.raises(Unsupported, match="version 3"):
        run(Sqlite.open(path))


# -- the disk

IN_TMPFS = (
    "unshare",
    "--mount",
    "--propagation",
    "private",
    "sh",
    "-c",
    'mount -t tmpfs -o "$0" fairlead "$1" && shift && exec "$@"',
)

needs_mount = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare to mount a file system of its own"
)


@needs_mount
def test_a_full_disk_is_named_and_loses_nothing(tmp_path: Path) -> None:
    text = """
    async def main():
        store = await Sqlite.open(path)
        filler = path.with_name("filler")
        filler.write_bytes(bytes(256 << 10))
        said = []
        kept = set()
        for at in range(1000):
            asked = [store.commit(Put(network(f"n{at}.{k}", text="x" * 2000))) for k in range(8)]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            kept |= {f"n{at}.{k}" for k, answer in enumerate(answers) if isinstance(answer, tuple)}
            said += [answer for answer in answers if not isinstance(answer, tuple)]
            if said:
                break
        there = {one.name for one in (await store.list("networks")).objects}
        filler.unlink()
        await store.commit(Put(network("after")))
        await store.close()
        store = await Sqlite.open(path)
        later = {one.name for one in (await store.list("networks")).objects}
        await store.close()
        print(json.dumps({
            "said": sorted({f"{type(one).__name__} {one}" for one in said}),
            "kept": len(kept), "same": there == kept, "later": later == kept | {"after"},
        }))
    asyncio.run(main())
    """
    told = json.loads(finish(program(tmp_path / "store.db", text, *IN_TMPFS, "size=2m", str(tmp_path))))
    assert len(told["said"]) == 1
    assert told["said"][0].startswith(
        f"Unavailable {tmp_path}/store.db: the disk is full and nothing of this was stored; free space"
    )
    assert told["kept"] > 100
    assert told["same"]
    assert told["later"]


@needs_mount
@pytest.mark.parametrize("there", [False, True])
def test_a_read_only_directory_is_named(tmp_path: Path, there: bool) -> None:
    if there:
        run(fill(tmp_path / "store.db"))
    text = """
    try:
        asyncio.run(Sqlite.open(path))
    except Problem as problem:
        print(type(problem).__name__, problem)
    """
    mount = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
    said = finish(program(tmp_path / "store.db", text, *IN_TMPFS[:-1], mount, "-", str(tmp_path)))
    assert said.startswith(f"{Forbidden.__name__} {tmp_path}/store.db cannot be")
    assert "writable" in said
