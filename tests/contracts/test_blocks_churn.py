"""Many nodes take and give back addresses of one network at once, and crash at any moment: none is given twice, none is lost.

Each node is what an agent has of it, ledger and blocks, over one shared store; what its own disk would remember is a
dictionary that outlives its crashes. Every address that anybody holds is noted where no node looks.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead.agent.blocks import Blocks
from fairlead.ipam.ledger import Lacking, Ledger
from fairlead.ipam.pool import Holder
from fairlead.model.address import Address, Prefix
from fairlead.model.block import Block
from fairlead.model.errors import Conflict, Exhausted, Invalid, Unavailable
from fairlead.model.meta import Meta
from fairlead.model.network import Driver, Network, NetworkSpec, Subnet
from fairlead.store.base import EventKind, Store
from fairlead.store.memory import Memory
from fairlead.store.sqlite import Sqlite

NODES, ROUNDS, MOST = 8, 60, 24


def network(size: int, cidr: str = "10.60.0.0/26") -> Network:
    subnet = Subnet(cidr=Prefix(cidr), block_size=size)
    return Network(metadata=Meta(name="farm"), spec=NetworkSpec(driver=Driver.HOST_GW, subnets=(subnet,)))


class Witness:
    """Who has which address, as an onlooker sees it."""

    def __init__(self) -> None:
        self.holders: dict[Address, str] = {}
        self.twice: list[tuple[Address, str, str]] = []
        self.given = self.refused = self.crashes = self.borrowed = 0

    def give(self, address: Address, who: str) -> None:
        if other := self.holders.get(address):
            self.twice.append((address, other, who))
        self.holders[address] = who
        self.given += 1


class Node:
    """One agent's part in it."""

    def __init__(self, name: str, store: Store, of: Network, witness: Witness, chance: random.Random) -> None:
        self.name, self._store, self._network, self._witness, self._chance = name, store, of, witness, chance
        self.kept: dict[str, Address] = {}
        """What its disk remembers: containers and their addresses."""
        self._number = 0

    async def begin(self) -> None:
        """Start, or start again after a crash."""
        self.ledger = Ledger()
        self.blocks = Blocks(self._store, self.ledger, self.name, dict, clustered=True)
        listing = await self._store.list(Block.plural)
        self.blocks.load(listing.objects)
        self.blocks.define(self._network)
        for name, address in self.kept.items():
            self.ledger.hold("farm", address, Holder(name))
        self._hearing = asyncio.create_task(self._hear(listing.revision))

    async def _hear(self, since: int) -> None:
        async for event in self._store.watch(Block.plural, since):
            assert isinstance(event.object, Block)
            self.blocks.learn(event.object, gone=event.kind is EventKind.DELETED)

    async def end(self) -> None:
        """End without a word to the store, once what was on its way has got there or not."""
        await self.blocks.settle()
        self._hearing.cancel()
        await asyncio.wait([self._hearing])

    async def crash(self) -> None:
        """End, and start again."""
        await self.end()
        self._witness.crashes += 1
        await self.begin()

    async def add(self) -> None:
        self._number += 1
        name = f"{self.name}-{self._number}"
        try:
            address = await self._claim(name)
        except (Exhausted, Unavailable):
            self._witness.refused += 1
            return
        if self._chance.random() < 0.1:
            await self.crash()  # between the claim and the disk: nobody ever saw the address
            return
        self.kept[name] = address
        self._witness.give(address, name)
        self._witness.borrowed += any(address in one.spec.lent for one in self.blocks.of("farm"))

    async def _claim(self, name: str) -> Address:
        for _ in range(20):
            try:
                return self.ledger.allocate("farm", Holder(name))[0].address
            except Lacking as lacking:
                await self.blocks.more(self._network, lacking, lambda _: True)
        raise Exhausted("others were quicker")

    async def remove(self) -> None:
        name = self._chance.choice(list(self.kept))
        address = self.kept.pop(name)
        del self._witness.holders[address]
        if self._chance.random() < 0.1:
            await self.crash()
            return
        self.ledger.release(name)
        self.blocks.returned("farm", [address])

    async def live(self, rounds: int) -> None:
        """Containers come and go, now and then the timer turns."""
        for _ in range(rounds):
            act = self._chance.random()
            if act < 0.55 and len(self.kept) < MOST:
                await self.add()
            elif act < 0.9 and self.kept:
                await self.remove()
            elif act < 0.97:
                await self.blocks.tidy()
            else:
                await self.crash()
            await asyncio.sleep(0)
        await self.blocks.settle()


@pytest.mark.parametrize("size", [29, 32], ids=["blocks of eight", "address by address"])
@pytest.mark.parametrize(("kind", "seed"), [("memory", 0), ("memory", 1), ("sqlite", 2)])
def test_no_address_is_given_twice_and_none_is_lost(
    kind: str, size: int, seed: int, tmp_path: Path, record_figures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairlead.agent.loans._ANSWER", 0.02)
    witness = Witness()

    async def play() -> list[Block]:
        opened: Callable[[], object] = Memory if kind == "memory" else lambda: Sqlite.open(tmp_path / "store.db")
        made = opened()
        store: Store = await made if asyncio.iscoroutine(made) else made  # type: ignore[assignment]
        of = network(size)
        nodes = [
            Node(f"node{at}", store, of, witness, random.Random(f"{seed}/{at}"))  # noqa: S311  # to play again
            for at in range(NODES)
        ]
        for node in nodes:
            await node.begin()
        await asyncio.gather(*(node.live(ROUNDS) for node in nodes))
        for _ in range(4):  # the timer's turns, once all is quiet
            for node in nodes:
                await asyncio.sleep(0.02)
                await node.blocks.tidy()
                await node.blocks.settle()
        for node in nodes:
            assert {one.address for name in node.kept for one in node.ledger.held(name)} == set(node.kept.values())
        for node in nodes:
            await node.end()
        left = [one for one in (await store.list(Block.plural)).objects if isinstance(one, Block)]
        await store.close()
        return left

    left = asyncio.run(play())
    assert witness.twice == []
    assert witness.given > NODES * 5
    assert witness.crashes > NODES
    held = witness.holders.keys()
    if size == 29:
        assert witness.borrowed
    if size == 32:
        assert {one.spec.cidr for one in left} == {one.host() for one in held}, "a claim that nobody needs went back"
    for one in left:
        used = [address for address in held if one.spec.cidr.holds(address)]
        lent = {Address(text) for text in one.spec.lent}
        assert lent <= set(used), "what was borrowed and is of no use went back"
        others = [other for other in left if other.spec.node == one.spec.node and other is not one]
        assert used or not others, "a node keeps one empty block at most"
    record_figures.append(
        f"{NODES} nodes, {'blocks' if size == 29 else 'single addresses'} in {kind}: {witness.given} given, "
        f"{witness.borrowed} of them borrowed, "
        f"{witness.refused} refused, {witness.crashes} crashes, {len(witness.twice)} given twice, 0 lost"
    )


def test_an_address_of_another_nodes_block_is_lent_to_who_asks() -> None:
    """If nobody has it there, and the node that has the block answers; else the error says who is in the way."""

    async def play() -> None:
        store, of, witness = Memory(), network(27), Witness()
        owner, other = (Node(name, store, of, witness, random.Random(0)) for name in ("owner", "other"))  # noqa: S311
        for node in (owner, other):
            await node.begin()
        at = await owner._claim("first")
        (block,) = owner.blocks.of("farm")
        free = next(Address(str(one)) for one in block.spec.cidr.net.hosts() if str(one) not in {at, "10.60.0.1"})
        while not other.blocks.of("farm"):
            await asyncio.sleep(0)

        async def wished(address: Address, name: str) -> Address:
            try:
                return other.ledger.allocate("farm", Holder(name), wishes=[address])[0].address
            except Lacking as lacking:
                await other.blocks.more(of, lacking, lambda _: True)
            return other.ledger.allocate("farm", Holder(name), wishes=[address])[0].address

        assert await wished(free, "second") == free
        with pytest.raises(Conflict, match=f"{free} of network farm is held by node other"):
            owner.ledger.allocate("farm", Holder("third"), wishes=[free])
        with pytest.raises(Conflict, match=f"{at} cannot be had: node owner has {block.spec.cidr}"):
            await wished(at, "third")
        other.ledger.release("second")
        await other.blocks.give_back("farm", [free])
        while owner.blocks.of("farm")[0].spec.lent:
            await asyncio.sleep(0)
        assert owner.ledger.allocate("farm", Holder("third"), wishes=[free])[0].address == free
        with pytest.raises(Invalid, match="own address"):
            await wished(Address("10.60.0.0"), "fourth")
        for node in (owner, other):
            await node.end()

    asyncio.run(play())


def test_what_was_borrowed_is_not_given_back_under_a_new_container() -> None:
    """A container gets the address that the last one's removal is about to give back."""

    async def play() -> None:
        store, of, witness = Memory(), network(27), Witness()
        owner, other = (Node(name, store, of, witness, random.Random(0)) for name in ("owner", "other"))  # noqa: S311
        for node in (owner, other):
            await node.begin()
        await owner._claim("first")
        (block,) = owner.blocks.of("farm")
        free = Address(str(list(block.spec.cidr.net.hosts())[-1]))
        while not other.blocks.of("farm"):
            await asyncio.sleep(0)
        await other.blocks.more(of, Lacking("", 4, free), lambda _: True)
        other.ledger.allocate("farm", Holder("old"), wishes=[free])
        other.ledger.release("old")
        other.blocks.returned("farm", [free])
        other.ledger.allocate("farm", Holder("new"), wishes=[free])
        await other.blocks.settle()
        assert other.blocks.of("farm")[0].spec.lent == {free: "other"}
        for node in (owner, other):
            await node.end()

    asyncio.run(play())


def test_what_is_offered_to_others_is_had_back_by_who_names_it() -> None:
    async def play() -> None:
        store, of, witness = Memory(), network(27), Witness()
        owner, other = (Node(name, store, of, witness, random.Random(0)) for name in ("owner", "other"))  # noqa: S311
        for node in (owner, other):
            await node.begin()
            await node._claim(f"{node.name}-first")
        while len(owner.blocks.of("farm")) < 2:  # all there are
            await asyncio.sleep(0)
        await owner.blocks.tidy()
        offered = next(one for one in owner.blocks.of("farm") if one.spec.node == "owner").spec.spare
        with pytest.raises(Lacking) as lacking:
            owner.ledger.allocate("farm", Holder("named"), wishes=[offered[1]])
        await owner.blocks.more(of, lacking.value, lambda _: True)
        assert owner.ledger.allocate("farm", Holder("named"), wishes=[offered[1]])[0].address == offered[1]
        left = next(one for one in owner.blocks.of("farm") if one.spec.node == "owner").spec.spare
        assert {*left} == {*offered} - {offered[1]}, "the rest is still offered"
        for node in (owner, other):
            await node.end()

    asyncio.run(play())
