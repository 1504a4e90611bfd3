"""Many nodes take and give back addresses at once, and crash at any moment: none is given twice, none is lost.

Each node is what an agent has of it, ledger and blocks, over one shared store; what its own disk would remember is a
dictionary that outlives its crashes. Every address that anybody holds is noted where no node looks, whichever network it is of.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from fairlead.agent.blocks import Blocks, Fill
from fairlead.ipam.ledger import Lacking, Ledger
from fairlead.ipam.pool import Holder
from fairlead.model.address import Address, Prefix
from fairlead.model.block import Block
from fairlead.model.errors import Conflict, Exhausted, Invalid, Unavailable
from fairlead.model.meta import Meta
from fairlead.model.network import Driver, Network, NetworkSpec, Subnet, excluded
from fairlead.store.base import Change, Delete, EventKind, Put, Store, Stored
from fairlead.store.memory import Memory
from fairlead.store.sqlite import Sqlite
from tests.contracts.stores import Opened, awaited

NODES, ROUNDS, MOST = 8, 60, 24


def network(size: int, cidr: str = "10.60.0.0/26") -> Network:
    subnet = Subnet(cidr=Prefix(cidr), block_size=size)
    return Network(metadata=Meta(name="farm"), spec=NetworkSpec(driver=Driver.HOST_GW, subnets=(subnet,)))


def station(name: str, cidr: str, *exclude: str) -> Network:
    """A network on a host interface's, whose addresses are agreed on one by one."""
    subnet = Subnet(cidr=Prefix(cidr), block_size=32, exclude=exclude)
    return Network(metadata=Meta(name=name), spec=NetworkSpec(driver=Driver.MACVLAN, parent="eth0", subnets=(subnet,)))


RANGES = (station("lan", "10.60.0.0/26", "10.60.0.40/29"), station("cam", "10.60.0.32/27"), station("old", "10.60.0.0/27"))
"""Networks whose ranges share addresses: the first all of its with one of the others."""


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

    def __init__(self, name: str, store: Store, networks: Sequence[Network], witness: Witness, chance: random.Random) -> None:
        self.name, self._store, self._networks, self._witness, self._chance = name, store, networks, witness, chance
        self.kept: dict[str, tuple[str, Address]] = {}
        """What its disk remembers: containers with their networks and addresses."""
        self._number = 0

    async def begin(self) -> None:
        """Start, or start again after a crash."""
        self.ledger = Ledger()
        self.blocks = Blocks(self._store, self.ledger, self.name, dict, clustered=True)
        listing = await self._store.list(Block.plural)
        self.blocks.load(listing.objects)
        for one in self._networks:
            self.blocks.define(one)
        for name, (of, address) in self.kept.items():
            self.ledger.hold(of, address, Holder(name))
        self.blocks.resume()
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
        name, of = f"{self.name}-{self._number}", self._chance.choice(self._networks)
        try:
            address = await self.claim(name, of, self._wish(of))
        except (Exhausted, Conflict, Invalid, Unavailable):
            self._witness.refused += 1
            return
        if self._chance.random() < 0.1:
            await self.crash()  # between the claim and the disk: nobody ever saw the address
            return
        self.kept[name] = of.name, address
        assert not any(excluded(text).holds(address) for text in of.spec.subnets[0].exclude)
        self._witness.give(address, name)
        self._witness.borrowed += any(address in one.spec.lent for one in self.blocks.of(of.name))

    def _wish(self, of: Network) -> Sequence[Address]:
        """Now and then an address by its name, whoever has it."""
        return [Address(self._chance.choice(list(of.spec.subnets[0].cidr.net)))] if self._chance.random() < 0.3 else ()

    async def claim(self, name: str, of: Network | None = None, wishes: Sequence[Address] = ()) -> Address:
        of = of or self._networks[0]
        for _ in range(20):
            try:
                return self.ledger.allocate(of.name, Holder(name), wishes=wishes)[0].address
            except Lacking as lacking:
                await self.blocks.more(of, lacking, lambda _: True)
        raise Exhausted("others were quicker")

    async def remove(self) -> None:
        name = self._chance.choice(list(self.kept))
        of, address = self.kept.pop(name)
        del self._witness.holders[address]
        if self._chance.random() < 0.1:
            await self.crash()
            return
        self.ledger.release(name)
        self.blocks.returned(of, [address])

    async def tidy(self) -> None:
        with suppress(Unavailable):  # as the timer does: the next turn makes up for it
            await self.blocks.tidy()

    async def live(self, rounds: int) -> None:
        """Containers come and go, now and then the timer turns."""
        for _ in range(rounds):
            act = self._chance.random()
            if act < 0.55 and len(self.kept) < MOST:
                await self.add()
            elif act < 0.9 and self.kept:
                await self.remove()
            elif act < 0.97:
                await self.tidy()
            else:
                await self.crash()
            await asyncio.sleep(0)
        await self.blocks.settle()


async def play(nodes: Sequence[Node], store: Store, calm: Callable[[], None] = lambda: None) -> list[Block]:
    """Everybody lives, then all is quiet and the timer turns a few times; the blocks that are left."""
    for node in nodes:
        await node.begin()
    await asyncio.gather(*(node.live(ROUNDS) for node in nodes))
    calm()
    for _ in range(4):
        for node in nodes:
            await asyncio.sleep(0.02)
            await node.blocks.tidy()
            await node.blocks.settle()
    for node in nodes:
        held = {one.address for name in node.kept for one in node.ledger.held(name)}
        assert held == {address for _, address in node.kept.values()}
        await node.end()
    return await blocks(store)


def chance(seed: object, at: int) -> random.Random:
    return random.Random(f"{seed}/{at}")  # noqa: S311  # to play again


@pytest.mark.parametrize("size", [29, 32], ids=["blocks of eight", "address by address"])
@pytest.mark.parametrize(("kind", "seed"), [("memory", 0), ("memory", 1), ("sqlite", 2)])
def test_no_address_is_given_twice_and_none_is_lost(
    kind: str, size: int, seed: int, tmp_path: Path, record_figures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairlead.agent.loans._ANSWER", 0.02)
    witness = Witness()

    async def run() -> list[Block]:
        opened: Callable[[], object] = Memory if kind == "memory" else lambda: Sqlite.open(tmp_path / "store.db")
        made = opened()
        store: Store = await made if asyncio.iscoroutine(made) else made  # type: ignore[assignment]
        nodes = [Node(f"node{at}", store, [network(size)], witness, chance(seed, at)) for at in range(NODES)]
        left = await play(nodes, store)
        await store.close()
        return left

    left = asyncio.run(run())
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


class Doubtful:
    """A store whose answers get lost now and then, as long as it is ``windy``: what was asked was done, or was not.

    Those that come may come later than the news of what was done.
    """

    def __init__(self, inner: Store, chance: random.Random, *, often: float = 0.1, done: float = 0.5) -> None:
        self._inner, self._chance, self._often, self._done = inner, chance, often, done
        self.windy, self.lost = True, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    async def commit(self, *changes: Change) -> tuple[Stored | None, ...]:
        lost = self.windy and self._chance.random() < self._often
        said: tuple[Stored | None, ...] = ()
        if not lost or self._chance.random() < self._done:
            said = await self._inner.commit(*changes)
        for _ in range(self._chance.randrange(8)):
            await asyncio.sleep(0)
        if lost:
            self.lost += 1
            raise Unavailable("no answer")
        return said


async def blocks(store: Store) -> list[Block]:
    return [one for one in (await store.list(Block.plural)).objects if isinstance(one, Block)]


@pytest.mark.parametrize("seed", [3, 4])
@awaited
async def test_ranges_of_several_networks_share_addresses_and_none_is_held_twice(
    opened: Opened, seed: int, record_figures: list[str]
) -> None:
    """Whichever network takes one first has it, on any node, also by name, through any crash, and whatever answer is lost."""
    witness = Witness()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(opened(shared=True))
        own = [await stack.enter_async_context(opened(shared=True)) if opened.elsewhere else store for _ in range(NODES)]
        doubtful = [Doubtful(one, chance(f"lost/{seed}", at)) for at, one in enumerate(own)]
        nodes = [
            Node(f"node{at}", one, RANGES, witness, chance(seed, at))  # type: ignore[arg-type]  # the rest it hands on
            for at, one in enumerate(doubtful)
        ]

        def calm() -> None:
            for one in doubtful:
                one.windy = False

        left = await play(nodes, store, calm)
    assert witness.twice == []
    assert witness.given > NODES * 5
    assert witness.crashes > NODES
    assert sum(one.lost for one in doubtful) > NODES
    of = {name: of for node in nodes for name, (of, _) in node.kept.items()}
    assert {one.spec.cidr: one.spec.network for one in left} == {
        address.host(): of[name] for address, name in witness.holders.items()
    }, "what nobody needs went back, whichever network claimed it"
    assert len({*of.values()}) == len(RANGES)
    record_figures.append(
        f"{NODES} nodes, {len(RANGES)} networks of one range, {type(store).__name__}: {witness.given} given, "
        f"{witness.refused} refused, {witness.crashes} crashes, {sum(one.lost for one in doubtful)} answers lost, "
        f"{len(witness.twice)} given twice, 0 lost"
    )


def test_an_address_of_another_nodes_block_is_lent_to_who_asks() -> None:
    """If nobody has it there, and the node that has the block answers; else the error says who is in the way."""

    async def act() -> None:
        store, of, witness = Memory(), network(27), Witness()
        owner, other = (Node(name, store, [of], witness, chance(0, 0)) for name in ("owner", "other"))
        for node in (owner, other):
            await node.begin()
        at = await owner.claim("first")
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

    asyncio.run(act())


@awaited
async def test_what_is_lent_to_one_is_not_lent_to_another() -> None:
    store, of, witness = Memory(), network(32), Witness()
    owner, first, second = (Node(name, store, [of], witness, chance(0, 0)) for name in ("owner", "first", "second"))
    for node in (owner, first, second):
        await node.begin()
    at = await owner.claim("gone")
    owner.ledger.release("gone")  # it is about to give it back
    while not second.blocks.of("farm"):
        await asyncio.sleep(0)
    assert await first.claim("one", wishes=[at]) == at
    with pytest.raises(Conflict, match=f"{at} cannot be had: node first has it, and does not lend it"):
        await second.claim("two", wishes=[at])
    for node in (owner, first, second):
        await node.end()


@awaited
async def test_what_is_being_lent_is_kept_while_nobody_says_whether_it_is() -> None:
    store, of = Memory(), network(27)
    unsure = Doubtful(store, chance(0, 0), often=1, done=1)
    owner = Node("owner", unsure, [of], Witness(), chance(0, 0))  # type: ignore[arg-type]  # the rest it hands on
    unsure.windy = False
    await owner.begin()
    at = await owner.claim("first")
    (block,) = owner.blocks.of("farm")
    free = next(Address(str(one)) for one in block.spec.cidr.net.hosts() if str(one) not in {at, "10.60.0.1"})
    owner._hearing.cancel()
    (asked,) = await store.commit(Put(replace(block, spec=replace(block.spec, asked={"other": free})), expect=None))
    assert isinstance(asked, Block)
    unsure.windy = True
    owner.blocks.learn(asked, gone=False)
    await owner.blocks.settle()
    assert (await blocks(store))[0].spec.lent == {free: "other"}
    owner.blocks.learn(asked, gone=False)  # what it knew already it is told once more
    with pytest.raises(Conflict, match=f"{free} of network farm is held by node other"):
        owner.ledger.allocate("farm", Holder("second"), wishes=[free])
    await owner.end()


@awaited
@pytest.mark.parametrize("done", [True, False])
async def test_what_may_have_been_given_back_is_nobodys_until_the_store_says_so(done: bool) -> None:
    """The store had it done, or not, and its answer was lost: another node may have the address by now."""
    store, witness = Memory(), Witness()
    unsure = Doubtful(store, chance(0, 0), often=1, done=float(done))
    of = RANGES[0]
    one = Node("one", unsure, RANGES, witness, chance(0, 0))  # type: ignore[arg-type]  # the rest it hands on
    unsure.windy = False
    await one.begin()
    at = await one.claim("gone")
    one._hearing.cancel()  # it does not hear of it either
    unsure.windy = True
    one.ledger.release("gone")
    one.blocks.returned(of.name, [at])
    await one.blocks.settle()
    unsure.windy = False
    assert await one.claim("next") != at, "it is not given out here"
    with pytest.raises(Conflict, match=f"{at} cannot be had: node one has it, and does not lend it"):
        await one.claim("named", wishes=[at])
    await one.blocks.tidy()
    assert at.host() not in {block.spec.cidr for block in await blocks(store)}, "the timer sees to it"
    assert await one.claim("named", wishes=[at]) == at
    await one.end()


@awaited
async def test_how_full_a_network_is_tells_this_nodes_from_the_others() -> None:
    """A full block is no full network; what others offer or lend counts as what can still be had, or as had."""
    store, of = Memory(), network(27)  # two blocks of 32, of which the first and the last address are nobody's
    one, other = (Node(name, store, [of], Witness(), chance(0, 0)) for name in ("one", "other"))
    for node in (one, other):
        await node.begin()
    for at in range(31):
        await one.claim(f"one-{at}")
    assert [*one.blocks.fill(of)] == [Fill(Prefix("10.60.0.0/26"), 62, 31)]
    await other.claim("other")
    while len(one.blocks.of("farm")) < 2:
        await asyncio.sleep(0)
    assert [*one.blocks.fill(of)] == [Fill(Prefix("10.60.0.0/26"), 62, 31, 31)]
    await other.tidy()
    while not any(block.spec.spare for block in one.blocks.of("farm")):
        await asyncio.sleep(0)
    assert [*one.blocks.fill(of)] == [Fill(Prefix("10.60.0.0/26"), 62, 31, 31 - 8)], "eight are offered"
    await one.claim("borrowed")
    assert [*one.blocks.fill(of)] == [Fill(Prefix("10.60.0.0/26"), 62, 32, 31 - 8)]
    for node in (one, other):
        await node.end()


@awaited
async def test_what_was_for_a_network_that_went_meanwhile_goes_back() -> None:
    store = Memory()
    await store.commit(Put(RANGES[0], ""))
    one = Node("one", store, RANGES, Witness(), chance(0, 0))
    await one.begin()
    at = await one.claim("gone", RANGES[0])
    await one.end()
    again = Node("one", store, RANGES[1:], Witness(), chance(0, 0))
    await again.begin()
    for _ in range(3):
        await again.tidy()
    assert [one.spec.cidr for one in await blocks(store)] == [at.host()], "the network is there, though not used here"
    await store.commit(Delete(Network.plural, RANGES[0].key))
    for _ in range(2):
        await again.tidy()
    assert not await blocks(store)
    await again.end()


def test_what_was_borrowed_is_not_given_back_under_a_new_container() -> None:
    """A container gets the address that the last one's removal is about to give back."""

    async def act() -> None:
        store, of, witness = Memory(), network(27), Witness()
        owner, other = (Node(name, store, [of], witness, chance(0, 0)) for name in ("owner", "other"))
        for node in (owner, other):
            await node.begin()
        await owner.claim("first")
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

    asyncio.run(act())


def test_what_is_offered_to_others_is_had_back_by_who_names_it() -> None:
    async def act() -> None:
        store, of, witness = Memory(), network(27), Witness()
        owner, other = (Node(name, store, [of], witness, chance(0, 0)) for name in ("owner", "other"))
        for node in (owner, other):
            await node.begin()
            await node.claim(f"{node.name}-first")
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

    asyncio.run(act())
