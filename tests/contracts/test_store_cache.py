"""A node's knowledge of a shared store while that comes and goes: over the fake that fails on command, with time as a value."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fairlead.model.errors import Forbidden, Missing, Unavailable
from fairlead.model.meta import Object
from fairlead.store.base import Delete, Event, EventKind, Key, Put, Store
from fairlead.store.cache import Cache
from fairlead.store.snapshot import Snapshot
from tests.contracts.flaky import Flaky
from tests.contracts.stores import ENDPOINTS, NETWORKS, InEtcd, InFile, Opened, awaited, commit, endpoint, network

AWAY = Unavailable("the store is on the moon")


class Time:
    """Time that passes on command."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleeping: list[tuple[float, asyncio.Future[None]]] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        waking = asyncio.get_running_loop().create_future()
        self._sleeping.append((self.now + seconds, waking))
        await waking

    async def passes(self, seconds: float) -> None:
        """Wake who slept long enough, in their order, and let everybody act."""
        end = self.now + seconds
        await acts()
        while due := sorted((one for one in self._sleeping if one[0] <= end), key=lambda one: one[0])[:1]:
            self.now = max(self.now, due[0][0])
            self._sleeping.remove(due[0])
            if not due[0][1].done():
                due[0][1].set_result(None)
            await acts()
        self.now = end


async def acts() -> None:
    """Everybody who need not wait for time goes on until he must."""
    for _ in range(50):
        await asyncio.sleep(0)


class Follower:
    """Who is told what is new, and knows nothing else."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.objects: dict[tuple[str, Key], Object] = {}

    def changed(self, events: Sequence[Event]) -> None:
        for event in events:
            at = (event.object.plural, event.object.key)
            self.words.append(f"{event.kind} {event.object.name}")
            assert (at in self.objects) == (event.kind is not EventKind.ADDED)
            if event.kind is EventKind.DELETED:
                del self.objects[at]
            else:
                self.objects[at] = event.object

    def said(self) -> list[str]:
        """What was told since the last time."""
        words, self.words = self.words, []
        return words


class Node:
    """A cache of networks and endpoints, who is told, and what is kept of it in a file."""

    def __init__(self, store: Store, time: Time, snapshot: Snapshot | None = None) -> None:
        self.time, self.follower = time, Follower()
        kinds = (NETWORKS, ENDPOINTS)
        self.cache = Cache(store, kinds, self.follower.changed, snapshot=snapshot, clock=time.clock, sleep=time.sleep)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Node]:
        await self.cache.load()
        run = asyncio.create_task(self.cache.run())
        try:
            await acts()
            yield self
            assert not run.done()
            known = {(plural, key): one for plural in (NETWORKS, ENDPOINTS) for key, one in self.cache.all(plural).items()}
            assert known == self.follower.objects
        finally:
            run.cancel()
            await asyncio.wait([run])


@awaited
async def test_what_is_there_is_told_and_then_every_change() -> None:
    store, time = Flaky(), Time()
    await store.commit(Put(network("a")), Put(endpoint("x")))
    async with Node(store, time).running() as node:
        assert sorted(node.follower.said()) == ["added a", "added x:eth0"]
        state = node.cache.state
        assert (state.synced, state.away, state.why) == (True, None, "")
        await node.cache.synced()
        await store.commit(Put(network("a", internal=True)), Put(network("b")))
        await store.commit(Delete(NETWORKS, ("", "a")))
        await acts()
        assert node.follower.said() == ["modified a", "added b", "deleted a"]
        assert [one.name for one in node.cache.deleted(NETWORKS)] == ["a"]
        assert node.cache.deleted(ENDPOINTS) == ()


@awaited
async def test_while_the_store_is_away_all_stays_and_it_is_said_since_when() -> None:
    store, time = Flaky(), Time()
    await store.commit(Put(network("a")), Put(network("b")))
    async with Node(store, time).running() as node:
        node.follower.said()
        store.fail(AWAY)
        await time.passes(60)
        assert node.follower.said() == []
        assert [one.name for one in node.cache.all(NETWORKS).values()] == ["a", "b"]
        state = node.cache.state
        assert (state.synced, state.away) == (True, 1000.0)
        assert state.why == "the store is on the moon"
        await store.inner.commit(Put(network("c")), Delete(NETWORKS, ("", "a")), Put(network("b", internal=True)))
        store.heal()
        await time.passes(6)
        assert node.follower.said() == ["added c", "deleted a", "modified b"]
        assert node.cache.state.away is None
        assert "list" not in store.asked[-4:]  # it went on from where it was


@awaited
async def test_attempts_grow_apart_up_to_a_limit() -> None:
    store, time = Flaky(), Time()
    async with Node(store, time).running():
        store.fail(AWAY)
        await acts()
        store.asked.clear()
        await time.passes(5)
        soon = len(store.asked)
        await time.passes(95)
        assert 2 * 4 <= soon <= 2 * 12
        assert 2 * 19 <= len(store.asked) - soon <= 2 * 45  # of each kind one in every 2.5 to 5 seconds


@awaited
async def test_what_was_forgotten_meanwhile_is_told_as_a_difference() -> None:
    store, time = Flaky(keep=10), Time()
    await store.commit(Put(network("a")), Put(network("b")), Put(network("c")))
    async with Node(store, time).running() as node:
        node.follower.said()
        store.fail(AWAY)
        await time.passes(1)
        await store.inner.commit(Delete(NETWORKS, ("", "a")), Put(network("b", internal=True)), Delete(NETWORKS, ("", "c")))
        await store.inner.commit(Put(network("c")), Put(network("d")))
        await store.forget()
        store.heal()
        await time.passes(12)
        words = [word for word in node.follower.said() if "noise" not in word]
        assert words == ["deleted a", "deleted c", "modified b", "added c", "added d"]
        assert [one.name for one in node.cache.deleted(NETWORKS)] == ["a", "c"]


@awaited
async def test_a_store_that_is_away_from_the_start_is_listed_when_it_comes() -> None:
    store, time = Flaky(), Time()
    await store.commit(Put(network("a")))
    store.fail(AWAY)
    async with Node(store, time).running() as node:
        await time.passes(30)
        assert node.follower.said() == []
        state = node.cache.state
        assert (state.synced, state.away) == (False, 1000.0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(node.cache.synced(), 0.01)
        store.heal()
        await time.passes(6)
        await node.cache.synced()
        assert node.follower.said() == ["added a"]


@awaited
async def test_a_store_that_refuses_is_asked_again_and_its_reason_is_kept() -> None:
    store, time = Flaky(), Time()
    store.fail(Forbidden("not you", field="user"))
    async with Node(store, time).running() as node:
        await time.passes(30)
        assert node.cache.state.why == "user: not you"
        store.heal()
        await time.passes(6)
        assert node.cache.state.synced


@awaited
async def test_it_ends_with_the_store_and_not_silently_with_an_error_of_who_is_told() -> None:
    store, time = Flaky(), Time()
    cache = Cache(store, [NETWORKS], lambda _: None, clock=time.clock, sleep=time.sleep)
    run = asyncio.create_task(cache.run())
    await acts()
    await store.close()
    await asyncio.wait_for(run, 5)

    def wrong(_: Sequence[Event]) -> None:
        raise ZeroDivisionError

    store = Flaky()
    await store.commit(Put(network("a")))
    with pytest.raises(ExceptionGroup) as raised:
        await Cache(store, [NETWORKS], wrong, clock=time.clock, sleep=time.sleep).run()
    assert raised.group_contains(ZeroDivisionError)
    with pytest.raises(Missing, match="wishes"):
        Cache(store, ["wishes"], wrong)


# -- over a restart


@awaited
async def test_a_node_starts_while_the_store_is_away_with_what_it_knew(tmp_path: Path) -> None:
    store, time = Flaky(), Time()
    await store.commit(Put(network("a", labels={"tier": "web"})), Put(network("b")), Put(endpoint("x")))
    snapshot = await Snapshot.open(tmp_path / "shared.db", "flaky")
    async with Node(store, time, snapshot).running() as node:
        await store.commit(Delete(ENDPOINTS, ("", "x:eth0")))
        await time.passes(600)
        before = dict(node.follower.objects)
    await snapshot.close()

    store.fail(AWAY)
    time.now += 3600
    snapshot = await Snapshot.open(tmp_path / "shared.db", "flaky")
    async with Node(store, time, snapshot).running() as node:
        assert sorted(node.follower.said()) == ["added a", "added b"]
        assert node.follower.objects == before
        assert [one.name for one in node.cache.deleted(ENDPOINTS)] == ["x:eth0"]
        state = node.cache.state
        assert (state.synced, state.away) == (False, 1600.0)
        await store.inner.commit(Delete(NETWORKS, ("", "a")), Put(network("c")))
        store.heal()
        await time.passes(6)
        assert node.follower.said() == ["deleted a", "added c"]
        assert node.cache.state.synced
    await snapshot.close()


@awaited
async def test_what_is_known_goes_over_real_restarts_too(opened: Opened, tmp_path: Path) -> None:
    """With the store itself, in its own time: what one life of the node left is where the next one begins."""
    followers = []
    async with opened() as store:
        for life in range(3):
            snapshot = await Snapshot.open(tmp_path / "shared.db", "it")
            follower = Follower()
            cache = Cache(store, [NETWORKS], follower.changed, snapshot=snapshot)
            await cache.load()
            loaded = follower.said()
            run = asyncio.create_task(cache.run())
            await cache.synced()
            listed = follower.said()
            await commit(store, Put(network(f"n{life}")), *([Delete(NETWORKS, ("", f"n{life - 1}"))] if life else []))
            await until(lambda: f"added n{life}" in follower.words and len(follower.objects) == 1)  # noqa: B023  # this life's
            run.cancel()
            await asyncio.wait([run])
            await snapshot.close()
            await store.commit(Put(network(f"n{life}", internal=True)))
            followers.append((loaded, listed))
    assert followers == [([], []), (["added n0"], ["modified n0"]), (["added n1"], ["modified n1"])]


async def until(condition: Callable[[], bool], within: float = 20.0) -> None:
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)


@awaited
async def test_a_shared_store_that_goes_away_and_comes_back(opened: Opened) -> None:
    """The same with real connections: etcd behind a wire, and a file."""
    if not isinstance(opened, InEtcd | InFile):
        pytest.skip("it is no other process's")
    async with opened(shared=True) as writer, opened.breakable() as (store, wire):
        follower = Follower()
        cache = Cache(store, [NETWORKS, ENDPOINTS], follower.changed)
        run = asyncio.create_task(cache.run())
        await cache.synced()
        await writer.commit(Put(network("a")), Put(endpoint("x")))
        await until(lambda: len(follower.objects) == 2)
        if wire is not None:
            wire.down()
            await until(lambda: cache.state.away is not None)
        await writer.commit(Delete(NETWORKS, ("", "a")), Put(network("b")))
        if wire is not None:
            await opened.forget(writer, keep=0)
            assert len(follower.objects) == 2
            assert wire.endpoint in cache.state.why
            wire.up()
        await until(lambda: {key for _, key in follower.objects} == {("", "b"), ("", "x:eth0")})
        await until(lambda: cache.state.away is None)
        assert follower.words.count("deleted a") == follower.words.count("added b") == 1
        run.cancel()
        await asyncio.wait([run])
