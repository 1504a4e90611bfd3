"""One suite for every store: what ``store.base`` promises, asked of each implementation."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import pytest

from fairlead.model.address import ContainerID, InterfaceName, Name
from fairlead.model.endpoint import Endpoint, EndpointSpec, Sandbox
from fairlead.model.errors import Conflict, Invalid, Missing, Unavailable
from fairlead.model.meta import Meta, Object
from fairlead.model.network import Network, NetworkSpec
from fairlead.store.base import Compacted, Delete, Event, EventKind, Put, Store
from fairlead.store.memory import Memory
from fairlead.store.sqlite import Sqlite

P = ParamSpec("P")
Opened = Callable[..., AbstractAsyncContextManager[Store]]

PATIENCE = 10.0
NETWORKS, ENDPOINTS = Network.plural, Endpoint.plural


async def memory(_path: Path, **options: Any) -> Store:
    return Memory(**options)


async def sqlite(path: Path, **options: Any) -> Store:
    return await Sqlite.open(path / "store.db", **options)


@pytest.fixture(params=[memory, sqlite], ids=lambda make: str(make.__name__))
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Open an empty store of each kind; close it at the end."""

    @asynccontextmanager
    async def open_(**options: Any) -> AsyncIterator[Store]:
        store: Store = await request.param(tmp_path, **options)
        try:
            yield store
        finally:
            await store.close()

    return open_


def awaited(test: Callable[Concatenate[Opened, P], Awaitable[None]]) -> Callable[Concatenate[Opened, P], None]:
    """Run an async test in an event loop of its own, with a deadline instead of a hang."""

    @functools.wraps(test)
    def run(opened: Opened, *args: P.args, **kwargs: P.kwargs) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(60):
                await test(opened, *args, **kwargs)

        asyncio.run(bounded())

    return run


def network(name: str = "blue", *, internal: bool = False, **meta: Any) -> Network:
    return Network(metadata=Meta(name=name, **meta), spec=NetworkSpec(internal=internal))


def endpoint(name: str, mtu: int = 0) -> Endpoint:
    spec = EndpointSpec(
        container=ContainerID(name), interface=InterfaceName("eth0"), network=Name("blue"), sandbox=Sandbox(path="/p"), mtu=mtu
    )
    return Endpoint(metadata=Meta(name=f"{name}:eth0"), spec=spec)


def revision(thing: Object | None) -> int:
    assert thing is not None
    return int(thing.metadata.resource_version)


async def take(store: Store, plural: str | None, since: int, count: int) -> list[Event]:
    """The next ``count`` events, or fail after a while."""
    events = []
    async with asyncio.timeout(PATIENCE), aclosing(store.watch(plural, since)) as watch:
        async for event in watch:
            events.append(event)
            if len(events) == count:
                break
    return events


async def idle(store: Store) -> None:
    """Let the watches catch up: each read goes behind theirs, and each turn of the loop lets them go on."""
    for _ in range(4):
        await asyncio.sleep(0)
        await store.get(NETWORKS, ("", "none"))


# -- one object


@awaited
async def test_what_was_put_is_there(opened: Opened) -> None:
    async with opened(clock=lambda: 1_700_000_000.0) as store:
        (put,) = await store.commit(Put(network(labels={"tier": "web"})))
        assert put == await store.get(NETWORKS, ("", "blue"))
        assert put is not None
        assert put.metadata.labels == {"tier": "web"}
        assert put.metadata.resource_version == "1"
        assert put.metadata.creation_timestamp == "2023-11-14T22:13:20Z"
        assert len(put.metadata.uid) == 36


@awaited
async def test_what_was_not_put_is_not_there(opened: Opened) -> None:
    async with opened() as store:
        assert await store.get(NETWORKS, ("", "blue")) is None
        listing = await store.list(NETWORKS)
        assert (listing.objects, listing.revision) == ((), 0)


@awaited
async def test_uid_and_birth_stay_whatever_the_caller_writes(opened: Opened) -> None:
    async with opened() as store:
        (first,) = await store.commit(Put(network(uid="mine", creation_timestamp="1999-01-01T00:00:00Z")))
        (second,) = await store.commit(Put(network(internal=True, uid="other", resource_version="77")))
        assert first is not None
        assert second is not None
        assert first.metadata.uid != "mine"
        assert second.metadata.uid == first.metadata.uid
        assert second.metadata.creation_timestamp == first.metadata.creation_timestamp
        assert revision(second) == 2


@awaited
async def test_one_made_again_is_another(opened: Opened) -> None:
    async with opened() as store:
        (first,) = await store.commit(Put(network()))
        await store.commit(Delete(NETWORKS, ("", "blue")))
        (second,) = await store.commit(Put(network()))
        assert first is not None
        assert second is not None
        assert first.metadata.uid != second.metadata.uid
        assert revision(second) == 3


@awaited
async def test_a_put_that_changes_nothing_takes_no_revision(opened: Opened) -> None:
    async with opened() as store:
        (first,) = await store.commit(Put(network()))
        (again,) = await store.commit(Put(network()))
        assert again == first
        assert (await store.list(NETWORKS)).revision == 1


@awaited
async def test_delete_returns_what_was_there(opened: Opened) -> None:
    async with opened() as store:
        (put,) = await store.commit(Put(network()))
        (gone,) = await store.commit(Delete(NETWORKS, ("", "blue")))
        assert put is not None
        assert gone is not None
        assert gone.metadata.uid == put.metadata.uid
        assert revision(gone) == 2
        assert await store.get(NETWORKS, ("", "blue")) is None
        assert await store.commit(Delete(NETWORKS, ("", "blue"))) == (None,)


@awaited
async def test_listing_is_by_key_and_of_one_kind(opened: Opened) -> None:
    async with opened() as store:
        await store.commit(*(Put(network(name)) for name in ("c", "a", "b")), Put(endpoint("x")))
        listing = await store.list(NETWORKS)
        assert [one.name for one in listing.objects] == ["a", "b", "c"]
        assert listing.revision == 4


@awaited
async def test_an_object_handed_out_is_not_the_stored_one(opened: Opened) -> None:
    async with opened() as store:
        mine = network(labels={"tier": "web"})
        (put,) = await store.commit(Put(mine))
        got = await store.get(NETWORKS, ("", "blue"))
        assert put is not None
        assert got is not None
        for thing in (mine, put, got):
            thing.metadata.labels["tier"] = "changed"
        fresh = await store.get(NETWORKS, ("", "blue"))
        assert fresh is not None
        assert fresh.metadata.labels == {"tier": "web"}


# -- what is refused


@awaited
async def test_an_unknown_kind_is_named(opened: Opened) -> None:
    async with opened() as store:
        for ask in (
            store.get("pods", ("", "x")),
            store.list("pods"),
            store.deleted("pods"),
            store.commit(Delete("pods", ("", "x"))),
        ):
            with pytest.raises(Missing, match="pods"):
                await ask
        with pytest.raises(Missing, match="pods"):
            await take(store, "pods", 0, 1)


@awaited
async def test_expectations(opened: Opened) -> None:
    async with opened() as store:
        for absent in ("", 0, "0"):
            (made,) = await store.commit(Put(network(f"n{absent or 'e'}{type(absent).__name__}"), expect=absent))
            assert made is not None
        (first,) = await store.commit(Put(network(), expect=""))
        with pytest.raises(Conflict, match="networks/blue exists already, at revision 4") as taken:
            await store.commit(Put(network(internal=True), expect=""))
        assert int(taken.value.revision) == revision(first)
        (second,) = await store.commit(Put(network(internal=True), expect=revision(first)))
        for stale in (Put(network(), expect=str(revision(first))), Delete(NETWORKS, ("", "blue"), expect=revision(first))):
            with pytest.raises(Conflict, match=f"revision {revision(second)}") as lost:
                await store.commit(stale)
            assert int(lost.value.revision) == revision(second)
        for gone in (Put(network("red"), expect="1"), Delete(NETWORKS, ("", "red"), expect="1")):
            with pytest.raises(Missing, match="networks/red"):
                await store.commit(gone)
        with pytest.raises(Invalid, match="abc"):
            await store.commit(Put(network(), expect="abc"))
        await store.commit(Delete(NETWORKS, ("", "blue"), expect=revision(second)))


@awaited
async def test_all_or_nothing(opened: Opened) -> None:
    async with opened() as store:
        await store.commit(Put(network("a")), Put(network("b")))
        before = await store.list(NETWORKS)
        fine = (Put(network("a", internal=True)), Delete(NETWORKS, ("", "b")), Put(network("c")))
        for refused in (Put(endpoint("x"), expect="7"), Delete(ENDPOINTS, ("", "x"), expect="7")):
            for changes in ((*fine, refused), (refused, *fine)):
                with pytest.raises(Missing):
                    await store.commit(*changes)
        assert await store.list(NETWORKS) == before
        assert await store.commit(*fine) != (None, None, None)
        assert [event.revision for event in await take(store, None, 2, 3)] == [3, 4, 5]
        assert [one.name for one in (await store.list(NETWORKS)).objects] == ["a", "c"]


@awaited
async def test_an_empty_commit_is_nothing(opened: Opened) -> None:
    async with opened() as store:
        assert await store.commit() == ()
        assert (await store.list(NETWORKS)).revision == 0


@awaited
async def test_one_object_twice_in_a_commit_is_refused(opened: Opened) -> None:
    async with opened() as store:
        with pytest.raises(Invalid, match="networks/blue"):
            await store.commit(Put(network()), Delete(NETWORKS, ("", "blue")))
        assert await store.get(NETWORKS, ("", "blue")) is None


@awaited
async def test_what_cannot_be_kept_is_refused_alone(opened: Opened) -> None:
    huge = Network(metadata=Meta(name="huge", annotations={"text": "x" * (2 << 20)}))
    broken = Network(metadata=Meta(name="broken", annotations={"text": "\udcff"}))
    async with opened() as store:
        asked = (
            store.commit(Put(network("a"))),
            store.commit(Put(huge)),
            store.commit(Put(broken)),
            store.commit(Put(network("b"))),
        )
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(answer) for answer in answers] == [tuple, Invalid, Invalid, tuple]
        assert [one.name for one in (await store.list(NETWORKS)).objects] == ["a", "b"]


@awaited
async def test_a_closed_store_says_so(opened: Opened) -> None:
    async with opened() as store:
        await store.commit(Put(network()))
        await store.close()
        await store.close()
        for ask in (
            store.get(NETWORKS, ("", "blue")),
            store.list(NETWORKS),
            store.commit(Put(network())),
            store.deleted(NETWORKS),
        ):
            with pytest.raises(Unavailable, match="closed"):
                await ask
        with pytest.raises(Unavailable, match="closed"):
            await take(store, None, 0, 1)


# -- many at once


@awaited
async def test_no_update_is_lost(opened: Opened) -> None:
    async def bump(store: Store, times: int) -> int:
        conflicts = 0
        while times:
            now = await store.get(ENDPOINTS, ("", "x:eth0"))
            assert isinstance(now, Endpoint)
            try:
                await store.commit(Put(endpoint("x", now.spec.mtu + 1), expect=now.metadata.resource_version))
                times -= 1
            except Conflict:
                conflicts += 1
                await asyncio.sleep(0)
        return conflicts

    async with opened() as store:
        await store.commit(Put(endpoint("x")))
        await asyncio.gather(*(bump(store, 20) for _ in range(8)))
        last = await store.get(ENDPOINTS, ("", "x:eth0"))
        assert isinstance(last, Endpoint)
        assert last.spec.mtu == 160
        assert revision(last) == 161


@awaited
async def test_of_many_who_create_one_wins(opened: Opened) -> None:
    async with opened() as store:
        asked = (store.commit(Put(endpoint("x", at), expect=""), Put(endpoint(f"own{at}"))) for at in range(32))
        answers = await asyncio.gather(*asked, return_exceptions=True)
        won = [at for at, answer in enumerate(answers) if isinstance(answer, tuple)]
        assert len(won) == 1
        assert all(isinstance(answer, tuple | Conflict) for answer in answers)
        names = {one.name for one in (await store.list(ENDPOINTS)).objects}
        assert names == {"x:eth0", f"own{won[0]}:eth0"}


@awaited
async def test_every_change_has_a_revision_of_its_own(opened: Opened) -> None:
    async with opened() as store:
        asked = (store.commit(*(Put(endpoint(f"e{at}.{k}")) for k in range(at + 1))) for at in range(5))
        answers = await asyncio.gather(*asked)
        taken = [[revision(one) for one in answer] for answer in answers]
        assert sorted(one for some in taken for one in some) == list(range(1, 16))
        assert all(one == list(range(one[0], one[0] + len(one))) for one in taken)


@awaited
async def test_a_caller_that_is_cancelled_harms_nobody(opened: Opened) -> None:
    async with opened() as store:
        tasks = [asyncio.create_task(store.commit(Put(endpoint(f"e{at}")))) for at in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(answer, tuple) for answer in answers[1::2])
        names = {one.name for one in (await store.list(ENDPOINTS)).objects}
        assert {f"e{at}:eth0" for at in range(1, 20, 2)} <= names


# -- watching


@awaited
async def test_a_watch_tells_what_happened_in_order(opened: Opened) -> None:
    async with opened() as store:
        await store.commit(Put(network()), Put(endpoint("x")))
        await store.commit(Put(network(internal=True)))
        await store.commit(Delete(NETWORKS, ("", "blue")))
        events = await take(store, None, 0, 4)
        assert [(event.kind, event.object.name, event.revision) for event in events] == [
            (EventKind.ADDED, "blue", 1),
            (EventKind.ADDED, "x:eth0", 2),
            (EventKind.MODIFIED, "blue", 3),
            (EventKind.DELETED, "blue", 4),
        ]
        assert all(revision(event.object) == event.revision for event in events)
        last = events[3].object
        assert isinstance(last, Network)
        assert last.spec.internal
        assert [event.revision for event in await take(store, NETWORKS, 1, 2)] == [3, 4]


@awaited
async def test_a_watch_waits_for_what_comes(opened: Opened) -> None:
    async with opened() as store:
        await store.commit(Put(network("old")))
        since = (await store.list(NETWORKS)).revision
        watching = asyncio.create_task(take(store, NETWORKS, since, 2))
        await asyncio.sleep(0)
        await store.commit(Put(endpoint("x")))
        await store.commit(Put(network("new")))
        await store.commit(Delete(NETWORKS, ("", "old")))
        assert [(event.kind.value, event.object.name) for event in await watching] == [("added", "new"), ("deleted", "old")]


@awaited
async def test_a_watch_resumes_without_gap_under_commits(opened: Opened) -> None:
    total = 600

    async def write(store: Store, who: int) -> None:
        for at in range(total // 6):
            await store.commit(Put(endpoint(f"w{who}", at + 1)))

    async def follow(store: Store, piece: int) -> list[Event]:
        seen: list[Event] = []
        while len(seen) < total:
            seen += await take(store, None, seen[-1].revision if seen else 0, min(piece, total - len(seen)))
        return seen

    async with opened() as store:
        followers = [asyncio.create_task(follow(store, piece)) for piece in (1, 7, 1000)]
        await asyncio.gather(*(write(store, who) for who in range(6)))
        for follower in followers:
            events = await follower
            assert [event.revision for event in events] == list(range(1, total + 1))
            for who in range(6):
                mine = [event.object for event in events if event.object.name == f"w{who}:eth0"]
                assert [one.spec.mtu for one in mine if isinstance(one, Endpoint)] == list(range(1, total // 6 + 1))


@awaited
async def test_listing_then_watching_misses_nothing(opened: Opened) -> None:
    async with opened() as store:
        writing = asyncio.create_task(_write_many(store, 200))
        mirror: dict[str, int] = {}
        listing = await store.list(ENDPOINTS)
        mirror = {one.name: revision(one) for one in listing.objects}
        since = listing.revision
        while since < 400:
            (event,) = await take(store, ENDPOINTS, since, 1)
            since = event.revision
            if event.kind is EventKind.DELETED:
                del mirror[event.object.name]
            else:
                mirror[event.object.name] = event.revision
        await writing
        assert mirror == {one.name: revision(one) for one in (await store.list(ENDPOINTS)).objects}


async def _write_many(store: Store, times: int) -> None:
    for at in range(times):
        await store.commit(Put(endpoint(f"e{at}")))
        await store.commit(Delete(ENDPOINTS, ("", f"e{at - 5}:eth0")) if at >= 5 else Put(endpoint(f"e{at}", 1500)))


@awaited
async def test_closing_ends_a_watch(opened: Opened) -> None:
    async with opened() as store:
        watching = asyncio.create_task(take(store, None, 0, 1))
        await idle(store)
        await store.close()
        assert await watching == []


@awaited
async def test_a_revision_too_old_is_compacted(opened: Opened) -> None:
    async with opened(keep=10) as store:
        for at in range(100):
            await store.commit(Put(endpoint("x", at + 1)))
        with pytest.raises(Compacted, match="list again"):
            await take(store, ENDPOINTS, 0, 1)
        since = (await store.list(ENDPOINTS)).revision
        assert since == 100
        assert [event.revision for event in await take(store, None, since - 10, 10)] == list(range(91, 101))


@awaited
async def test_a_revision_that_never_was_is_compacted(opened: Opened) -> None:
    async with opened() as store:
        await store.commit(Put(network()))
        with pytest.raises(Compacted):
            await take(store, None, 2, 1)


@awaited
async def test_a_watch_of_a_quiet_kind_is_not_compacted_by_a_busy_one(opened: Opened) -> None:
    async with opened(keep=10) as store:
        await store.commit(Put(network("first")))
        watching = asyncio.create_task(take(store, NETWORKS, 1, 1))
        for at in range(50):
            await store.commit(Put(endpoint("x", at + 1)))
            await idle(store)
        await store.commit(Put(network("second")))
        assert [event.object.name for event in await watching] == ["second"]


@awaited
async def test_a_watch_that_sleeps_too_long_is_compacted_not_wrong(opened: Opened) -> None:
    async with opened(keep=10) as store, aclosing(store.watch(ENDPOINTS, 0)) as watch:
        await store.commit(Put(endpoint("x", 1)))
        assert (await anext(watch)).revision == 1
        for at in range(100):
            await store.commit(Put(endpoint("x", at + 2)))
        with pytest.raises(Compacted):
            await anext(watch)


# -- the deleted


@awaited
async def test_the_deleted_are_remembered_in_order(opened: Opened) -> None:
    async with opened(keep=10) as store:
        for name in ("a", "b", "c"):
            await store.commit(Put(endpoint(name)))
        for name in ("b", "c", "a"):
            await store.commit(Delete(ENDPOINTS, ("", f"{name}:eth0")))
        await store.commit(Put(endpoint("b")), Put(network()))
        for at in range(100):
            await store.commit(Put(network(internal=at % 2 == 0)))
        deleted = await store.deleted(ENDPOINTS)
        assert [(one.name, revision(one)) for one in deleted] == [("b:eth0", 4), ("c:eth0", 5), ("a:eth0", 6)]
        assert await store.deleted(NETWORKS) == ()


@awaited
async def test_the_oldest_deleted_are_forgotten(opened: Opened) -> None:
    async with opened(keep=10) as store:
        await store.commit(Put(network()))
        await store.commit(Delete(NETWORKS, ("", "blue")))
        for at in range(100):
            await store.commit(Put(endpoint(f"e{at}")))
            await store.commit(Delete(ENDPOINTS, ("", f"e{at}:eth0")))
        remembered = [one.name for one in await store.deleted(ENDPOINTS)]
        assert remembered == [f"e{at}:eth0" for at in range(100 - len(remembered), 100)]
        assert 10 <= len(remembered) <= 12
        assert [one.name for one in await store.deleted(NETWORKS)] == ["blue"]
