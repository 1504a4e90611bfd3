"""One suite for every store: who holds a name, who sees it, and how it ends."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from fairlead.model.errors import Conflict, Invalid, Unavailable
from fairlead.store.presence import stay
from tests.contracts.stores import Opened, Whole, awaited

TTL = 2.0
"""The shortest that etcd gives with its usual pace of elections."""


class Seen:
    """What one follower of ``present`` was told, with the time."""

    def __init__(self) -> None:
        self.told: list[tuple[float, Mapping[str, str]]] = []
        self._new = asyncio.Event()

    @property
    def last(self) -> Mapping[str, str]:
        return self.told[-1][1]

    async def follow(self, store: Whole) -> None:
        async with aclosing(store.present()) as present:
            async for holders in present:
                self.told.append((time.monotonic(), holders))
                self._new.set()

    async def until(self, want: Mapping[str, str], within: float) -> float:
        """Wait until this is what is held; when it was told."""
        async with asyncio.timeout(within):
            while not self.told or self.last != want:
                self._new.clear()
                await self._new.wait()
        return self.told[-1][0]


@asynccontextmanager
async def seen(store: Whole) -> Any:
    watcher = Seen()
    following = asyncio.create_task(watcher.follow(store))
    try:
        yield watcher
    finally:
        following.cancel()
        await asyncio.wait([following])


async def silence() -> None:
    """Have every hold of this loop give no more signs of life, as if its process were dead."""
    await asyncio.sleep(0)
    for task in asyncio.all_tasks():
        if getattr(task.get_coro(), "__name__", "") == "_keep":
            task.cancel()


@pytest.mark.alone
@awaited
async def test_what_is_held_is_seen_and_let_go_at_once(opened: Opened) -> None:
    async with opened.pair() as (store, other), seen(store) as watcher:
        await watcher.until({}, 5)
        async with store.hold("node-1", "machine a", TTL), other.hold("node/2 ü", "machine b", TTL) as hold:
            assert (hold.name, hold.holder) == ("node/2 ü", "machine b")
            began = time.monotonic()
            assert await watcher.until({"node-1": "machine a", "node/2 ü": "machine b"}, 5) - began < 0.5
            began = time.monotonic()
        assert await watcher.until({}, 5) - began < 0.5
        assert hold.lost.is_set()


@awaited
async def test_what_is_renewed_stays(opened: Opened) -> None:
    async with opened() as store, seen(store) as watcher, store.hold("node-1", "a", TTL) as hold:
        await watcher.until({"node-1": "a"}, 5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5 * TTL):
                await hold.lost.wait()
        assert [one for _, one in watcher.told if one] == [{"node-1": "a"}]


@awaited
async def test_a_name_has_one_holder(opened: Opened) -> None:
    async with opened() as store:
        async with store.hold("leader", "a", TTL):
            for _ in range(2):
                with pytest.raises(Conflict, match="'leader' is held by 'a'"):
                    async with store.hold("leader", "b", TTL):
                        pytest.fail("two hold it")
        async with store.hold("leader", "b", TTL), aclosing(store.present()) as present:
            assert await anext(present) == {"leader": "b"}


@awaited
async def test_the_same_holder_takes_over_from_himself(opened: Opened) -> None:
    """An agent that was killed and starts again does not wait for its own ghost, which learns that it is one."""
    async with opened() as store, store.hold("node-1", "a", TTL) as ghost:
        async with seen(store) as watcher, store.hold("node-1", "a", TTL) as hold:
            await asyncio.wait_for(ghost.lost.wait(), 2 * TTL)
            assert not hold.lost.is_set()
            assert [one for _, one in watcher.told] == [{"node-1": "a"}]
        async with aclosing(store.present()) as present:
            assert await anext(present) == {}


@awaited
async def test_one_who_falls_silent_is_gone_within_the_ttl(opened: Opened) -> None:
    async with opened() as store, seen(store) as watcher, store.hold("node-1", "a", TTL) as hold:
        await watcher.until({"node-1": "a"}, 5)
        await silence()
        began = time.monotonic()
        await hold.lost.wait()
        ended = await watcher.until({}, 3 * TTL)
        assert TTL / 3 < ended - began < TTL + 1.5
        async with store.hold("node-1", "b", TTL):
            await watcher.until({"node-1": "b"}, 5)


@awaited
async def test_a_process_that_is_killed_or_stopped_is_gone_within_seconds(opened: Opened) -> None:
    if not opened.elsewhere:
        pytest.skip("it is no other process's")
    text = f"""
    async with store.hold("node-1", "b", {TTL}) as hold:
        say("held")
        await hold.lost.wait()
        say("lost")
    """
    async with opened(shared=True) as store, seen(store) as watcher:
        for number in (signal.SIGKILL, signal.SIGSTOP):
            holder = opened.spawn(text)
            try:
                assert holder.stdout is not None
                assert await asyncio.to_thread(holder.stdout.readline) == "held\n"
                await watcher.until({"node-1": "b"}, 5)
                began = time.monotonic()
                holder.send_signal(number)
                assert await watcher.until({}, 10) - began < TTL + 1.5
                if number == signal.SIGSTOP:
                    holder.send_signal(signal.SIGCONT)
                    assert await asyncio.to_thread(holder.stdout.readline) == "lost\n"
            finally:
                holder.kill()
                holder.communicate()


@awaited
async def test_stay_takes_a_lost_name_again(opened: Opened) -> None:
    async with opened() as store, seen(store) as watcher:
        staying = asyncio.create_task(stay(store, "node-1", "a", TTL))
        for _ in range(2):
            await watcher.until({"node-1": "a"}, 5 * TTL)
            await silence()
        await watcher.until({"node-1": "a"}, 5 * TTL)
        staying.cancel()
        await asyncio.wait([staying])
        await watcher.until({}, 5)
        async with store.hold("node-1", "b", TTL):
            with pytest.raises(Conflict, match="held by 'b'"):
                await stay(store, "node-1", "a", TTL)


@awaited
async def test_what_cannot_be_held_is_named(opened: Opened) -> None:
    async with opened() as store:
        for name, holder, ttl, field in (
            ("", "a", TTL, "name"),
            ("x" * 254, "a", TTL, "name"),
            ("a\nb", "a", TTL, "name"),
            ("a", "", TTL, "holder"),
            ("a", "\udcff", TTL, "holder"),
            ("a", "b", 0.5, "ttl"),
            ("a", "b", 1e9, "ttl"),
            ("a", "b", float("nan"), "ttl"),
        ):
            with pytest.raises(Invalid) as refused:
                async with store.hold(name, holder, ttl):
                    pytest.fail("held")
            assert refused.value.field == field


@awaited
async def test_of_many_one_holds_it(opened: Opened) -> None:
    async with opened() as store:
        winners = []

        async def want(holder: str) -> None:
            async with store.hold("leader", holder, TTL):
                winners.append(holder)
                await asyncio.sleep(0.2)

        answers = await asyncio.gather(*(want(f"h{at}") for at in range(8)), return_exceptions=True)
        assert len(winners) == 1
        assert sum(isinstance(one, Conflict) for one in answers) == 7


@awaited
async def test_a_closed_store_holds_nothing(opened: Opened) -> None:
    async with opened() as store:
        following = asyncio.create_task(Seen().follow(store))
        await asyncio.sleep(0)
        await store.close()
        with pytest.raises(Unavailable, match="closed"):
            async with store.hold("a", "b", TTL):
                pytest.fail("held")
        with pytest.raises(Unavailable, match="closed"):
            await anext(store.present())
        await asyncio.wait([following], timeout=5)
        assert following.done()
        following.exception()
