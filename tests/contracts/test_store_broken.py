"""What a store holds and nobody can read disables nothing else: told beside the rest, replaced and deleted like the rest."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest

from fairlead.model.broken import Broken
from fairlead.model.errors import Conflict
from fairlead.model.meta import Meta
from fairlead.model.network import Network
from fairlead.store.base import Delete, EventKind, Put, Store
from fairlead.store.memory import Memory
from fairlead.store.sqlite import Sqlite

PLURAL = Network.plural
WRITTEN = b'{"kind":"Network","metadata":{"name":"blue","resourceVersion":"2","uid":"u"},"spec":{"colour":"blue"}}'


def blue(name: str = "blue") -> Network:
    return Network(metadata=Meta(name=name))


@pytest.fixture(params=["memory", "sqlite"])
def asked(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Callable[[Callable[[Store, Callable[..., None]], Awaitable[None]]], None]:
    """Run a test with a store and what writes into it behind its back: (data, name, plural)."""

    async def main(test: Callable[[Store, Callable[..., None]], Awaitable[None]]) -> None:
        path = tmp_path / "store.db"
        store: Any = Memory() if request.param == "memory" else await Sqlite.open(path)

        def spoil(data: Any, name: str = "blue", plural: str = PLURAL) -> None:
            if isinstance(store, Memory):
                store._objects.setdefault(plural, {})["", name] = data if isinstance(data, bytes) else str(data).encode()
                return
            with closing(sqlite3.connect(path)) as db:
                db.execute("INSERT OR REPLACE INTO objects VALUES (?, '', ?, ?)", (plural, name, data))
                db.commit()

        try:
            async with asyncio.timeout(60):
                await test(store, spoil)
        finally:
            await store.close()

    return lambda test: asyncio.run(main(test))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (WRITTEN, "spec.colour: there is no such field"),
        (b'{"kind":"Network","metadata":{}}', "metadata.name: is required"),
        (b'{"kind":"Netw', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"", "not JSON"),
        (b"[]", "expected a mapping"),
        (b"[" * 100_000, "expected a mapping"),
        ("text", "not JSON"),
        (7, "expected a mapping"),
        (b'{"kind":"Endpoint","metadata":{"name":"blue"}}', "kind"),
        (b'{"kind":"Network","metadata":{"name":"green"}}', "it is stored as blue, and says that it is green"),
    ],
)
def test_it_is_listed_beside_the_rest_with_the_reason(asked: Any, data: Any, reason: str) -> None:
    async def test(store: Store, spoil: Callable[..., None]) -> None:
        await store.commit(Put(blue("a")), Put(blue("z")))
        spoil(data)
        listing = await store.list(PLURAL)
        assert [one.name for one in listing.objects] == ["a", "z"]
        (broken,) = listing.broken
        assert (broken.plural, broken.key) == (PLURAL, ("", "blue"))
        assert reason in broken.reason
        assert await store.get(PLURAL, ("", "blue")) == broken

    asked(test)


def test_what_can_be_read_of_it_is(asked: Any) -> None:
    async def test(store: Store, spoil: Callable[..., None]) -> None:
        spoil(WRITTEN)
        (broken,) = (await store.list(PLURAL)).broken
        assert broken.metadata == Meta(name="blue", resource_version="2", uid="u")
        assert broken.spec == {"colour": "blue"}
        assert broken.data == WRITTEN

    asked(test)


def test_it_can_be_replaced_and_deleted(asked: Any) -> None:
    async def test(store: Store, spoil: Callable[..., None]) -> None:
        await store.commit(Put(blue("a")))
        for data in (WRITTEN, b"nonsense"):
            spoil(data)
            since = (await store.list(PLURAL)).revision
            with pytest.raises(Conflict, match="exists already"):
                await store.commit(Put(blue(), ""))
            (stored,) = await store.commit(Put(blue()))
            assert isinstance(stored, Network)
            spoil(data)
            (gone,) = await store.commit(Delete(PLURAL, ("", "blue")))
            assert isinstance(gone, Broken)
            assert [one.name for one in (await store.list(PLURAL)).objects] == ["a"]
            assert await store.deleted(PLURAL) == ()
            async with aclosing(store.watch(PLURAL, since)) as events:
                told = [await anext(events), await anext(events)]
            assert [one.kind for one in told] == [EventKind.MODIFIED, EventKind.DELETED]
            assert isinstance(told[1].object, Broken)
            assert told[1].object.data == data

    asked(test)


def test_a_kind_that_is_not_known_is_no_reason_to_stop(asked: Any) -> None:
    async def test(store: Store, spoil: Callable[..., None]) -> None:
        spoil(b"{}", plural="wishes")
        await store.commit(Put(blue()))
        assert len((await store.list(PLURAL)).objects) == 1

    asked(test)
