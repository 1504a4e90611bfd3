"""An etcd of three members, each on a machine of its own: what a client notices when members die, hang, or are cut off.

The test is the client's machine. It and the members are on one bridge, so that wires can be cut one by one.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Conflict, Unavailable
from fairlead.store.base import Event, Put
from fairlead.store.etcd.gateway import Access
from fairlead.store.etcd.store import Etcd
from tests.contracts.etcd import Member, serving
from tests.contracts.stores import ENDPOINTS, awaited, current, endpoint
from tests.kernel.room import Room, run
from tests.wait import eventually

pytestmark = pytest.mark.needs("etcd", "ip", "nft", "setpriv")

CLIENT, PATIENCE = "10.99.0.254", 12.0


class Cluster:
    """Three members, their machines, and the wires between them."""

    def __init__(self, room: Room, folder: Path) -> None:
        self._names = [room.child()[0] for _ in range(3)]
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "br0", "type", "bridge")
        run("ip", "address", "add", f"{CLIENT}/24", "dev", "br0")
        run("ip", "link", "set", "br0", "up")
        for at, name in enumerate(self._names):
            run("ip", "link", "add", f"to{at}", "type", "veth", "peer", "name", "eth0", "netns", name)
            run("ip", "link", "set", f"to{at}", "master", "br0", "up")
            run("ip", "-n", name, "address", "add", f"10.99.0.{at + 1}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                run("ip", "-n", name, "link", "set", link, "up")
        run("nft", "add table bridge cut { chain forward { type filter hook forward priority 0; }; }")
        self.members = [
            Member(folder, f"m{at}", (2379, 2380, 2381), host=f"10.99.0.{at + 1}", inside=("ip", "netns", "exec", name))
            for at, name in enumerate(self._names)
        ]

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(member.endpoint for member in self.members)

    def leader(self) -> Member:
        """Who leads, as soon as somebody does."""

        def find() -> Member | None:
            return next((member for member in self.members if member.ready() and member.leads()), None)

        found = eventually(find, deadline=20, what="a leader")
        assert found
        return found

    def cut(self, member: Member) -> None:
        """Keep a member from the others; the client still reaches it."""
        run(
            "nft",
            f"add rule bridge cut forward ip saddr {member.host} drop; add rule bridge cut forward ip daddr {member.host} drop",
        )

    def mend(self) -> None:
        run("nft", "flush chain bridge cut forward")

    def unplug(self, member: Member) -> None:
        """Take a member off the network."""
        run("ip", "link", "set", f"to{self.members.index(member)}", "down")

    def plug(self, member: Member) -> None:
        run("ip", "link", "set", f"to{self.members.index(member)}", "up")


@pytest.fixture
def cluster(room: Room, tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(room, tmp_path / "etcd")
    with serving(tmp_path / "etcd", made.members):
        yield made


class Load:
    """A client at work: it counts by compare and swap, watches what it counts, and holds its name."""

    def __init__(self, store: Etcd) -> None:
        self.store = store
        self.done = 0
        self.seen: list[int] = []
        self.slowest = 0.0
        self.shrunk: list[Any] = []
        self.lost = False

    async def count(self) -> None:
        """One step after another, and no step may fail."""
        while True:
            began = time.monotonic()
            now = await self.store.get(ENDPOINTS, ("", "counter:eth0"))
            assert isinstance(now, Endpoint)
            await self.store.commit(Put(endpoint("counter", self.done + 1), expect=now.metadata.resource_version))
            self.done += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            await asyncio.sleep(0.01)

    async def watch(self, since: int) -> None:
        async with aclosing(self.store.watch(ENDPOINTS, since)) as watch:
            async for event in watch:
                assert isinstance(event.object, Endpoint)
                self.seen.append(event.object.spec.mtu)

    async def hold(self) -> None:
        async with self.store.hold("node-1", "a", 20.0) as hold:
            await hold.lost.wait()
            self.lost = True

    async def present(self) -> None:
        async with aclosing(self.store.present()) as present:
            async for holders in present:
                self.shrunk.append(holders)

    async def more(self, steps: int, within: float) -> None:
        """Wait until it got on by this much."""
        want = self.done + steps
        async with asyncio.timeout(within):
            while self.done < want or len(self.seen) < want:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def loaded(cluster: Cluster, figures: list[str], what: str) -> AsyncIterator[Load]:
    """A client at work; in the end it has lost and repeated nothing, and nobody took it for dead."""
    store = Etcd(Access(endpoints=cluster.endpoints, prefix="/fairlead", patience=PATIENCE))
    await store.commit(Put(endpoint("counter")))
    load = Load(store)
    work = (load.count(), load.watch(await current(store)), load.hold(), load.present())
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await load.more(20, within=20)
        yield load
        await load.more(20, within=30)
        assert [task for task in tasks if task.done()] == []
        last = await store.get(ENDPOINTS, ("", "counter:eth0"))
        assert isinstance(last, Endpoint)
        assert last.spec.mtu - load.done in {0, 1}  # one may be on its way
        assert load.seen == list(range(1, len(load.seen) + 1))
        assert not load.lost
        figures.append(f"etcd of three, {what}: the slowest step took {load.slowest:.1f} s")
        assert [one for one in load.shrunk if one] == [{"node-1": "a"}]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await store.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@awaited
async def test_a_leader_that_dies_or_hangs_costs_a_moment(cluster: Cluster, number: int, record_figures: list[str]) -> None:
    async with loaded(cluster, record_figures, f"leader gets signal {int(number)}") as load:
        for _ in range(2):
            leader = await asyncio.to_thread(cluster.leader)
            leader.send(number)
            await load.more(30, within=20)
            if number == signal.SIGKILL:
                leader.end()
                leader.again()
            else:
                leader.send(signal.SIGCONT)
            await asyncio.to_thread(eventually, leader.ready, 20)
        assert load.slowest < PATIENCE


@awaited
async def test_each_member_may_be_started_anew_one_after_another(cluster: Cluster, record_figures: list[str]) -> None:
    """An upgrade of etcd, as its operators do it."""
    async with loaded(cluster, record_figures, "each member started anew") as load:
        for member in cluster.members:
            member.end()
            await load.more(30, within=20)
            member.again()
            await asyncio.to_thread(eventually, member.ready, 20)


@awaited
async def test_a_member_that_lost_the_others_is_left_also_by_a_watch(cluster: Cluster, record_figures: list[str]) -> None:
    """It answers the client, and could tell it nothing new for ever."""
    async with loaded(cluster, record_figures, "each cut off from the others") as load:
        for member in cluster.members:
            cluster.cut(member)
            await load.more(30, within=30)
            cluster.mend()
            await asyncio.to_thread(eventually, member.ready, 20)


@awaited
async def test_a_member_without_a_network_is_left(cluster: Cluster, record_figures: list[str]) -> None:
    """Nothing breaks, nothing is refused: packets go nowhere."""
    async with loaded(cluster, record_figures, "each without a network") as load:
        for member in cluster.members:
            cluster.unplug(member)
            await load.more(30, within=40)
            cluster.plug(member)
            await asyncio.to_thread(eventually, member.ready, 20)


@awaited
async def test_without_a_majority_everything_fails_in_bounded_time_and_comes_back(cluster: Cluster) -> None:
    store = Etcd(Access(endpoints=cluster.endpoints, prefix="/fairlead", patience=3.0))
    await store.commit(Put(endpoint("before")))
    since = await current(store)
    told: list[Event] = []

    async def watch() -> None:
        async with aclosing(store.watch(ENDPOINTS, since)) as watching:
            told.extend([event async for event in watching])

    watching = asyncio.create_task(watch())
    one, *others = cluster.members
    for member in others:
        member.end()
    for ask in (
        lambda: store.get(ENDPOINTS, ("", "before:eth0")),
        lambda: store.list(ENDPOINTS),
        lambda: store.commit(Put(endpoint("lost"), expect="")),
        lambda: anext(store.present()),
    ):
        began = time.monotonic()
        with pytest.raises(Unavailable, match=r"etcd did not answer within 3 s \(http://10\.99\.0\."):
            await ask()
        assert time.monotonic() - began < 5
    with pytest.raises(Unavailable):
        await asyncio.wait_for(watching, 30)
    for member in others:
        member.again()
    await asyncio.to_thread(eventually, one.ready, 30)
    (put,) = await store.commit(Put(endpoint("after")))
    assert put is not None
    names = {thing.name for thing in (await store.list(ENDPOINTS)).objects}
    assert {"before:eth0", "after:eth0"} <= names <= {"before:eth0", "lost:eth0", "after:eth0"}
    async with aclosing(store.watch(ENDPOINTS, since)) as again:
        seen = [await anext(again) for _ in range(len(names) - 1)]
    assert {event.object.name for event in seen} == names - {"before:eth0"}
    await store.close()


@awaited
async def test_two_clients_count_while_leaders_come_and_go(cluster: Cluster) -> None:
    """No success that did not happen, and no step that nobody knows of."""

    async def count(store: Etcd, times: int) -> None:
        while times:
            now = await store.get(ENDPOINTS, ("", "counter:eth0"))
            assert isinstance(now, Endpoint)
            try:
                await store.commit(Put(endpoint("counter", now.spec.mtu + 1), expect=now.metadata.resource_version))
                times -= 1
            except Conflict:
                pass
            await asyncio.sleep(0.02)

    async def shake() -> None:
        for _ in range(3):
            leader = await asyncio.to_thread(cluster.leader)
            leader.end()
            leader.again()
            await asyncio.to_thread(eventually, leader.ready, 20)

    stores = [Etcd(Access(endpoints=cluster.endpoints, prefix="/fairlead", patience=PATIENCE)) for _ in range(2)]
    await stores[0].commit(Put(endpoint("counter")))
    await asyncio.gather(shake(), *(count(store, 200) for store in stores))
    last = await stores[0].get(ENDPOINTS, ("", "counter:eth0"))
    assert isinstance(last, Endpoint)
    assert last.spec.mtu == 400
    for store in stores:
        await store.close()
