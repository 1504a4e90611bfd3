"""One suite for every store: what a watch promises, and what is remembered of the deleted."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import aclosing

import pytest

from fairlead.model.endpoint import Endpoint
from fairlead.model.network import Network
from fairlead.store.base import Compacted, Delete, Event, EventKind, Put, Store
from tests.contracts.stores import (
    ENDPOINTS,
    NETWORKS,
    Opened,
    awaited,
    commit,
    current,
    endpoint,
    everything,
    idle,
    network,
    revision,
    take,
)

# -- watching


def _can_forget(opened: Opened) -> None:
    if opened.deaf:
        pytest.skip(opened.deaf)


@awaited
async def test_a_watch_tells_what_happened_in_order(opened: Opened) -> None:
    async with opened() as store:
        since = await current(store)
        await store.commit(Put(network()))
        await store.commit(Put(endpoint("x")))
        await store.commit(Put(network(internal=True)))
        await store.commit(Delete(NETWORKS, ("", "blue")))
        among = everything(store, NETWORKS)
        events = await take(store, among, since, 3 if among else 4)
        assert [(event.kind, event.object.name) for event in events] == [
            (EventKind.ADDED, "blue"),
            *([] if among else [(EventKind.ADDED, "x:eth0")]),
            (EventKind.MODIFIED, "blue"),
            (EventKind.DELETED, "blue"),
        ]
        assert all(revision(event.object) == event.revision == event.since for event in events)
        assert [event.revision for event in events] == sorted({event.revision for event in events})
        last = events[-1].object
        assert isinstance(last, Network)
        assert last.spec.internal
        assert await take(store, NETWORKS, events[0].since, 2) == events[-2:]


@awaited
async def test_a_commit_of_many_is_told_whole_and_in_its_order(opened: Opened) -> None:
    async with opened() as store:
        since = await current(store)
        await commit(store, *(Put(network(name)) for name in "cab"), Put(endpoint("x")))
        await commit(store, Delete(NETWORKS, ("", "a")), Put(network("b", internal=True)), Delete(NETWORKS, ("", "c")))
        events = await take(store, NETWORKS, since, 6)
        assert [(event.kind.value, event.object.name) for event in events] == [
            *(("added", name) for name in "cab"),
            ("deleted", "a"),
            ("modified", "b"),
            ("deleted", "c"),
        ]
        assert await take(store, NETWORKS, events[2].since, 3) == events[3:]


@awaited
async def test_a_watch_left_anywhere_goes_on_without_a_gap(opened: Opened) -> None:
    """Whoever leaves off inside of a commit whose events share a revision hears them again, and misses none."""
    async with opened() as store:
        since = await current(store)
        for at in range(4):
            await commit(store, *(Put(network(f"n{at}.{k}")) for k in range(3)))
        events = await take(store, NETWORKS, since, 12)
        for at, left in enumerate(events[:-1]):
            again = [event for event in events[: at + 1] if left.more and event.revision == left.revision]
            rest = await take(store, NETWORKS, left.since, len(again) + 11 - at)
            assert rest == [*again, *events[at + 1 :]]


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
    total = 300

    async def write(store: Store, who: int) -> None:
        for at in range(total // 6):
            await store.commit(Put(endpoint(f"w{who}", at + 1)))

    async def follow(store: Store, piece: int, start: int) -> list[Event]:
        seen: list[Event] = []
        while len(seen) < total:
            seen += await take(
                store, everything(store, ENDPOINTS), seen[-1].since if seen else start, min(piece, total - len(seen))
            )
        return seen

    async with opened() as store:
        start = await current(store)
        followers = [asyncio.create_task(follow(store, piece, start)) for piece in (12, 37, 1000)]
        await asyncio.gather(*(write(store, who) for who in range(6)))
        for follower in followers:
            events = await follower
            assert [event.revision for event in events] == sorted({event.revision for event in events})
            for who in range(6):
                mine = [event.object for event in events if event.object.name == f"w{who}:eth0"]
                assert [one.spec.mtu for one in mine if isinstance(one, Endpoint)] == list(range(1, total // 6 + 1))


@awaited
async def test_listing_then_watching_misses_nothing(opened: Opened) -> None:
    """Also where the watch is left and taken up again all the time."""
    async with opened() as store:
        writing = asyncio.create_task(_write_many(store, 200))
        listing = await store.list(ENDPOINTS)
        mirror, since = {one.name: revision(one) for one in listing.objects}, listing.revision
        while "last:eth0" not in mirror:
            async with aclosing(store.watch(ENDPOINTS, since)) as watch:
                for _ in range(17):
                    event = await anext(watch)
                    since = event.since
                    if event.kind is EventKind.DELETED:
                        del mirror[event.object.name]
                    else:
                        mirror[event.object.name] = event.revision
                    if event.object.name == "last:eth0":
                        break
        await writing
        assert mirror == {one.name: revision(one) for one in (await store.list(ENDPOINTS)).objects}


async def _write_many(store: Store, times: int) -> None:
    for at in range(times):
        await store.commit(Put(endpoint(f"e{at}")))
        await store.commit(Delete(ENDPOINTS, ("", f"e{at - 5}:eth0")) if at >= 5 else Put(endpoint(f"e{at}", 1500)))
    await store.commit(Put(endpoint("last")))


@awaited
async def test_closing_ends_a_watch(opened: Opened) -> None:
    async with opened() as store:
        watching = asyncio.create_task(take(store, NETWORKS, await current(store), 1))
        await idle(store)
        await store.close()
        assert await watching == []


@awaited
async def test_a_revision_too_old_is_compacted(opened: Opened) -> None:
    _can_forget(opened)
    async with opened(keep=10) as store:
        start = await current(store)
        for at in range(100):
            await store.commit(Put(endpoint("x", at + 1)))
        await opened.forget(store, keep=10)
        with pytest.raises(Compacted, match="list again"):
            await take(store, ENDPOINTS, start, 1)
        since = (await store.list(ENDPOINTS)).revision
        assert since >= start + 100
        if opened.alone:
            assert since == start + 100
            told = await take(store, everything(store, ENDPOINTS), since - 10, 10)
            assert [event.revision for event in told] == list(range(since - 9, since + 1))


@awaited
async def test_a_revision_that_never_was_is_compacted(opened: Opened) -> None:
    async with opened() as store:
        await store.commit(Put(network()))
        for never in (await current(store) + (1 if opened.alone else 1000), 1 << 40, -1):
            with pytest.raises(Compacted):
                await take(store, NETWORKS, never, 1)


@awaited
async def test_a_watch_of_a_quiet_kind_is_not_compacted_by_a_busy_one(opened: Opened) -> None:
    _can_forget(opened)
    async with opened(keep=10) as store, aclosing(store.watch(NETWORKS, await current(store))) as watch:
        await store.commit(Put(network("first")))
        assert (await anext(watch)).object.name == "first"
        second = asyncio.ensure_future(anext(watch))
        for at in range(50):
            await store.commit(Put(endpoint("x", at + 1)))
            await idle(store)
            if at % 10 == 9:
                await opened.forget(store, keep=5)
        await store.commit(Put(network("second")))
        assert (await second).object.name == "second"


@awaited
async def test_a_watch_that_sleeps_too_long_is_compacted_not_wrong(opened: Opened) -> None:
    """It may also be told all, where something on the way has kept it; it is never told a part."""
    _can_forget(opened)
    async with opened(keep=10) as store, aclosing(store.watch(ENDPOINTS, await current(store))) as watch:
        await store.commit(Put(endpoint("x", 1)))
        told = [await anext(watch)]
        for at in range(100):
            await store.commit(Put(endpoint("x", at + 2)))
        await opened.forget(store, keep=10)
        with contextlib.suppress(Compacted):
            told += [await anext(watch) for _ in range(100)]
        assert len(told) in {1, 101}
        assert [event.object.spec.mtu for event in told if isinstance(event.object, Endpoint)] == list(range(1, len(told) + 1))


@awaited
async def test_many_watches_at_once(opened: Opened) -> None:
    async with opened() as store:
        since = await current(store)
        watching = [
            asyncio.create_task(take(store, (everything(store, NETWORKS), NETWORKS)[at % 2], since, 30)) for at in range(40)
        ]
        await idle(store)
        for at in range(30):
            await store.commit(Put(network(f"n{at}")))
        told = await asyncio.gather(*watching)
        assert all(one == told[0] for one in told)


# -- the deleted


@awaited
async def test_the_deleted_are_remembered_in_order(opened: Opened) -> None:
    async with opened(keep=10) as store:
        for name in ("a", "b", "c"):
            await store.commit(Put(endpoint(name)))
        gone = [await store.commit(Delete(ENDPOINTS, ("", f"{name}:eth0"))) for name in ("b", "c", "a")]
        await commit(store, Put(endpoint("b")), Put(network()))
        for at in range(100):
            await store.commit(Put(network(internal=at % 2 == 0)))
        assert await store.deleted(ENDPOINTS) == (tuple(one for (one,) in gone) if opened.remembers_deleted else ())
        assert await store.deleted(NETWORKS) == ()


@awaited
async def test_the_oldest_deleted_are_forgotten(opened: Opened) -> None:
    if not opened.remembers_deleted:
        pytest.skip("it remembers none of the deleted")
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
