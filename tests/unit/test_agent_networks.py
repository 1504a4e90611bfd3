"""Networks whose ranges overlap, as nodes make them, hear of them and find them stored. Everything is real but the kernel."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from fairlead.agent.blocks import Blocks
from fairlead.agent.networks import Networks
from fairlead.agent.unreadable import Unreadable
from fairlead.ipam.ledger import Ledger
from fairlead.model.address import InterfaceName, Prefix
from fairlead.model.errors import Conflict
from fairlead.model.meta import Meta
from fairlead.model.network import SUBS, Driver, Network, NetworkSpec, Subnet
from fairlead.store.base import Put
from fairlead.store.memory import Memory


def network(name: str, cidr: str, driver: Driver = Driver.VXLAN, size: int | None = None) -> Network:
    parent = InterfaceName("eth0") if driver in SUBS else None
    spec = NetworkSpec(driver=driver, parent=parent, subnets=(Subnet(cidr=Prefix(cidr), block_size=size),))
    return Network(metadata=Meta(name=name), spec=spec)


class Bare:
    """A node without a kernel: what it is told to do is done, and it has no routes."""

    async def put(self, *_: object) -> None: ...

    async def drop(self, *_: object) -> None: ...

    def adopt(self, *_: object) -> None: ...

    def mtu(self, *_: object) -> int:
        return 1500

    def routes(self) -> list[object]:
        return []

    def device(self, _: str) -> bool:
        return True

    async def capabilities(self) -> list[object]:
        return []


def made(store: Memory, name: str) -> Networks:
    bare = Bare()
    blocks = Blocks(store, Ledger(), name, dict, clustered=True)
    return Networks(store, bare, blocks, bare, Unreadable(store))  # type: ignore[arg-type]  # as much of each as is asked for


def nodes(act: Callable[[Memory, Networks, Networks], Awaitable[None]]) -> None:
    async def run() -> None:
        store = Memory()
        await act(store, made(store, "a"), made(store, "b"))

    asyncio.run(run())


async def names(store: Memory) -> list[str]:
    return [one.name for one in (await store.list(Network.plural)).objects]


def test_of_two_that_are_made_at_once_the_later_goes() -> None:
    async def act(store: Memory, one: Networks, other: Networks) -> None:
        await one.apply(network("red", "10.1.0.0/16"), ())
        with pytest.raises(Conflict, match=r"10.1.2.0/24 overlaps 10.1.0.0/16 of network red"):
            await other.apply(network("blue", "10.1.2.0/24"), ())
        assert await names(store) == ["red"]
        assert "blue" not in other.all
        await other.apply(network("blue", "10.2.0.0/16"), ())
        with pytest.raises(Conflict):
            await other.apply(network("blue", "10.1.0.0/16"), ())
        stored = await store.get(Network.plural, ("", "blue"))
        assert isinstance(stored, Network)
        assert [one.cidr for one in stored.spec.subnets] == ["10.2.0.0/16"], "what it was before is back"

    nodes(act)


def test_both_stay_where_they_may_share_addresses() -> None:
    async def act(store: Memory, one: Networks, other: Networks) -> None:
        await one.apply(network("lan", "10.1.0.0/16", Driver.MACVLAN), ())
        await other.apply(network("cam", "10.1.2.0/24", Driver.MACVLAN), ())
        assert await names(store) == ["cam", "lan"]
        for each, name in ((one, "cam"), (other, "lan")):
            found = await store.get(Network.plural, ("", name))
            assert isinstance(found, Network)
            assert found.spec.subnets[0].block_size == 32, "address by address, where nodes share a store"
            await each.hear(found, gone=False)
            assert {*each.all} == {"lan", "cam"}

    nodes(act)


def test_what_another_wrote_is_not_used_beside_what_it_cannot_be_beside() -> None:
    async def act(store: Memory, one: Networks, other: Networks) -> None:
        await one.hear(network("red", "10.1.0.0/16"), gone=False)
        with pytest.raises(Conflict):
            await one.hear(network("blue", "10.1.0.0/16"), gone=False)
        assert ({*one.all}, {*one.refused}) == ({"red"}, {"blue"})
        await one.hear(network("blue", "10.1.0.0/16"), gone=True)
        assert not one.refused
        stored = [
            network("blue", "10.1.0.0/16"),
            network("red", "10.1.0.0/16"),
            network("lan", "10.3.0.0/16", Driver.MACVLAN, 32),
            network("cam", "10.3.0.0/16", Driver.MACVLAN, 32),
        ]
        other.load(stored)
        assert {*other.all} == {"blue", "lan", "cam"}, "the older, or the first by name"
        assert {*other.refused} == {"red"}
        await store.commit(Put(stored[1], ""))
        assert (await other.delete("red", ())).name == "red", "it can be removed all the same"
        assert not other.refused
        assert not await names(store)

    nodes(act)
