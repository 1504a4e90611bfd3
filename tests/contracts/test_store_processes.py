"""Stores that several processes share: no update is lost, every event is seen by each, soon, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from fairlead.model.endpoint import Endpoint
from fairlead.store.base import Event, Put
from tests.contracts.stores import ENDPOINTS, InFile, Opened, awaited, current, endpoint, finish, take

INCREMENT = """
for _ in range(40):
    while True:
        now = await store.get(ENDPOINTS, ("", "counter:eth0"))
        try:
            await store.commit(Put(endpoint("counter", now.spec.mtu + 1), expect=now.metadata.resource_version))
            break
        except Conflict:
            pass
"""


@pytest.fixture
def shared(opened: Opened) -> Opened:
    if not opened.elsewhere:
        pytest.skip("it is no other process's")
    return opened


def counts(events: list[Event]) -> list[int]:
    return [event.object.spec.mtu for event in events if isinstance(event.object, Endpoint)]


@awaited
async def test_no_update_of_several_processes_is_lost_and_each_is_seen(shared: Opened) -> None:
    async with shared(shared=True) as store, shared(shared=True) as other:
        (made,) = await store.commit(Put(endpoint("counter")))
        assert made is not None
        since = int(made.metadata.resource_version)
        watching = [asyncio.create_task(take(one, ENDPOINTS, since, 120, patience=50)) for one in (store, other)]
        writers = [shared.spawn(INCREMENT) for _ in range(3)]
        for writer in writers:
            await asyncio.to_thread(finish, writer)
        for told in await asyncio.gather(*watching):
            assert counts(told) == list(range(1, 121))


@awaited
async def test_of_several_processes_one_creates(shared: Opened) -> None:
    text = """
    say("ready")
    await asyncio.to_thread(input)
    for at in range(20):
        try:
            await commit(store, Put(endpoint(f"e{at}"), expect=""), Put(endpoint(f"e{at}.{os.getpid()}"), expect=""))
            say(at)
        except Conflict:
            pass
    """
    makers = [shared.spawn(text) for _ in range(3)]
    for maker in makers:
        assert maker.stdout is not None
        assert await asyncio.to_thread(maker.stdout.readline) == "ready\n"
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("\n")
        maker.stdin.flush()
    won = [int(word) for maker in makers for word in (await asyncio.to_thread(finish, maker)).split()]
    assert sorted(won) == list(range(20))
    async with shared() as store:
        assert len((await store.list(ENDPOINTS)).objects) == 40


@pytest.mark.alone
@awaited
async def test_what_another_process_commits_is_seen_at_once(shared: Opened) -> None:
    """By the median, since other work on the machine makes single ones late; docs/decisions has the percentiles."""
    text = """
    for _ in range(100):
        await asyncio.sleep(0.01)
        await store.commit(Put(endpoint("x", 1 + int(__import__("time").monotonic() * 1e6))))
    """
    late = []
    async with shared(shared=True) as store, aclosing(store.watch(ENDPOINTS, await current(store))) as watch:
        writer = shared.spawn(text)
        while len(late) < 100:
            event = await anext(watch)
            assert isinstance(event.object, Endpoint)
            late.append(time.monotonic() - event.object.spec.mtu / 1e6)
        await asyncio.to_thread(finish, writer)
    assert statistics.median(late) < 0.05


# -- the bell of a file


@pytest.fixture
def file(tmp_path: Path) -> InFile:
    return InFile(tmp_path)


def bells(file: InFile) -> list[str]:
    return [path.name for path in file.path.with_name("store.db-bells").iterdir()]


@awaited
async def test_a_commit_whose_ring_never_came_is_seen_all_the_same(file: InFile) -> None:
    """Its process is killed between the two."""
    async with file(shared=True) as store, aclosing(store.watch(ENDPOINTS, 0)) as watch:
        waiting = asyncio.ensure_future(anext(watch))
        writer = file.spawn('await store.commit(Put(endpoint("x")))', FAIRLEAD_FAULT="store.committed")
        began = time.monotonic()
        assert (await waiting).object.name == "x:eth0"
        assert time.monotonic() - began < 5
        assert await asyncio.to_thread(writer.wait) == -signal.SIGKILL
        writer.communicate()


@awaited
async def test_bells_of_the_dead_are_taken_down_and_the_deaf_are_not_waited_for(file: InFile) -> None:
    text = """
    async for _ in store.watch(None, 0):
        say("heard")
    """
    async with file() as store:
        await store.commit(Put(endpoint("x")))
        dead, deaf = file.spawn(text), file.spawn(text)
        for one in (dead, deaf):
            assert one.stdout is not None
            assert await asyncio.to_thread(one.stdout.readline) == "heard\n"
        assert len(bells(file)) == 2
        deaf.send_signal(signal.SIGSTOP)
        dead.kill()
        await asyncio.to_thread(dead.wait)
        began = time.monotonic()
        for at in range(1000):  # many more than a socket holds
            await store.commit(Put(endpoint("x", at + 1)))
        assert time.monotonic() - began < 30
        assert [name.partition("-")[0] for name in bells(file)] == [str(deaf.pid)]
        deaf.send_signal(signal.SIGCONT)
        await asyncio.to_thread(read_lines, deaf.stdout, 1000)
        for one in (dead, deaf):
            one.kill()
            one.communicate()


def read_lines(stream: object, count: int) -> None:
    for _ in range(count):
        assert stream.readline()  # type: ignore[attr-defined]


@awaited
async def test_who_does_not_watch_has_no_bell(file: InFile) -> None:
    async with file(shared=True) as store:
        await store.commit(Put(endpoint("x")))
        watch = store.watch(None, 0)
        await anext(watch)
        assert [name.partition("-")[0] for name in bells(file)] == [str(os.getpid())]
        await watch.aclose()
        assert bells(file) == []
        await anext(store.watch(None, 0))
    assert bells(file) == []


@awaited
async def test_the_bells_are_for_their_owner_alone_and_their_path_may_be_long(tmp_path: Path) -> None:
    file = InFile(tmp_path / ("x" * 100) / ("y" * 100))
    async with file(shared=True) as store, file(shared=True) as other:
        watching = asyncio.create_task(take(store, None, 0, 1))
        await other.commit(Put(endpoint("x")))
        assert (await watching)[0].object.name == "x:eth0"
        assert file.path.with_name("store.db-bells").stat().st_mode & 0o777 == 0o700
