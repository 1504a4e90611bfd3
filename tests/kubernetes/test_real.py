"""A store over a real kube-apiserver that is ended, killed and started again: where there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from fairlead.model.errors import Unavailable
from fairlead.store.base import Compacted, Delete, EventKind, Put
from fairlead.store.cache import Cache
from fairlead.store.kubernetes.store import Kubernetes
from tests.contracts.stores import NETWORKS, awaited, current, network, take
from tests.kubernetes.server import Real, real

pytestmark = pytest.mark.deadline(240)


@pytest.fixture
def server(tmp_path: Path, assets: Path) -> Iterator[Real]:
    with real(tmp_path, assets) as server:
        yield server


@pytest.mark.parametrize("kill", [False, True], ids=["ended", "killed"])
def test_what_happens_over_restarts_is_known_in_the_end(server: Real, kill: bool) -> None:
    """An agent's cache, and somebody who writes whenever he can; the API server forgets its history each time."""

    @awaited
    async def run() -> None:
        known: dict[str, int] = {}
        store, writer = (Kubernetes(server.access(patience=30.0)) for _ in range(2))
        cache = Cache(store, [NETWORKS], lambda events: known.update({one.object.name: one.revision for one in events}))
        following = asyncio.create_task(cache.run())
        await cache.synced()
        await writer.commit(Put(network("before")))
        await asyncio.to_thread(server.program.end, kill=kill)
        writing = asyncio.create_task(writer.commit(Put(network("during"), expect="")))
        await asyncio.to_thread(server.start)
        await writing
        await writer.commit(Delete(NETWORKS, ("", "before")))
        async with asyncio.timeout(30):
            while {key[1] for key in cache.all(NETWORKS)} != {"during"}:
                await asyncio.sleep(0.05)
        assert cache.state.away is None
        following.cancel()
        await asyncio.wait([following])
        await store.close()
        await writer.close()

    run()


def test_a_revision_from_before_a_restart_is_forgotten_or_gone_on_from(server: Real) -> None:
    @awaited
    async def run() -> None:
        store = Kubernetes(server.access(patience=30.0))
        old = await current(store)
        for at in range(3):
            await store.commit(Put(network(f"n{at}")))
        assert len(await take(store, NETWORKS, old, 3)) == 3
        await asyncio.to_thread(server.program.end)
        await asyncio.to_thread(server.start)
        try:
            told = await take(store, NETWORKS, old, 3)
        except Compacted:
            told = []
        assert len(told) in {0, 3}, "a part is worse than nothing"
        await store.close()

    run()


def test_one_that_is_away_is_said_to_be(server: Real) -> None:
    @awaited
    async def run() -> None:
        store = Kubernetes(server.access(patience=1.0))
        async with aclosing(store.watch(NETWORKS, await current(store))) as told:
            waiting = asyncio.ensure_future(anext(told))
            await asyncio.to_thread(server.program.end)
            with pytest.raises(Unavailable):
                await waiting
        with pytest.raises(Unavailable, match="cannot be asked"):
            await store.commit(Put(network()))
        await asyncio.to_thread(server.start)
        await store.close()
        store = Kubernetes(server.access(patience=30.0))  # it answers long before it has all kinds
        since = await current(store)
        await store.commit(Put(network()))
        (event,) = await take(store, NETWORKS, since, 1)
        assert event.kind is EventKind.ADDED
        await store.close()

    run()
