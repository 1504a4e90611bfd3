"""Blocks: the addresses of shared networks that this node may give out by itself, claimed in the store.

::

    a container needs an address ──> own blocks (the ledger; no store needed)
                                        │ full
                                        ▼
                    claim a block: create it; who is second learns who was first, and tries the next
                                        │ none is left
                                        ▼
        take an address that another node offers (compare and swap), or nothing is left and the error says who has it

Where no block is free any more, each node offers some addresses that it does not use. What it offers it does not give out
itself before it has taken it back, so that no address is given twice, whoever is cut off from whom.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from fairlead.ipam import blocks
from fairlead.ipam.ledger import Lacking, Ledger
from fairlead.ipam.pool import Holder, Pool
from fairlead.model.address import Address, Family, Name, Prefix
from fairlead.model.block import Block, BlockSpec, block_name
from fairlead.model.errors import Conflict, Exhausted, Missing, Problem, Unavailable
from fairlead.model.meta import Meta
from fairlead.model.network import CLUSTER, SUBS, Network, Subnet
from fairlead.store.base import Delete, Put, Store, Stored

log = logging.getLogger(__name__)

Fits = Callable[[Subnet], bool]

_TRIES = 64
_OFFER = 8
"""Addresses of one block that a node offers at most, and never more than half of those that it does not use."""
_WAIT = 1.0
"""Seconds in which others may offer something, once nothing is left."""
_SPARE, _LENT = "spare/", "lent/"


class Blocks:
    """Every block there is, as far as is known; those of this node make its pools."""

    def __init__(
        self, store: Store, ledger: Ledger, me: str, labels: Callable[[], Mapping[str, str]], *, clustered: bool
    ) -> None:
        """``labels`` answers with this node's. ``clustered``: other nodes have the same store."""
        self.all: dict[str, Block] = {}
        self.on_change: Callable[[Block | None, Block | None], None] = lambda *_: None
        self._seen: dict[str, int] = {}
        self._store, self._ledger, self._me, self._labels, self._clustered = store, ledger, me, labels, clustered
        self._networks: dict[str, Network] = {}
        self._claiming: dict[tuple[str, Family], asyncio.Lock] = {}
        self._news = asyncio.Event()
        self._idle: set[str] = set()
        self._allotted: dict[str, tuple[Block, ...]] = {}  # by node: what the cluster gave each, which nobody stores
        self._leaving: set[str] = set()
        self._owed: set[asyncio.Task[None]] = set()

    def load(self, stored: Iterable[Stored]) -> None:
        """Take what is stored, before the networks that they are of."""
        for thing in stored:
            if isinstance(thing, Block):
                self._notice(thing, gone=False)

    def allot(self, network: Network, given: Mapping[str, Iterable[Prefix]]) -> None:
        """What the cluster gave to each of these nodes (podCIDRs): their blocks of the network, if it has such addresses."""
        changed: set[str] = set()
        for node, cidrs in given.items():
            before = self._allotted.pop(node, ())
            made = tuple(_allotted(network, node, one) for one in cidrs if _has(network, one))
            if made:
                self._allotted[node] = made
            for block, gone in (*((one, True) for one in before if one not in made), *((one, False) for one in made)):
                if gone or block not in before:
                    changed.add(node)
                    self._notice(block, gone=gone)
        if self._me in changed:
            try:
                self._ledger.define(network, self.mine(network.name))
            except Conflict as problem:
                log.error("the podCIDRs of this node changed: %s", problem)  # noqa: TRY400  # a person reads this

    def _given(self, block: Block) -> bool:
        """Whether the cluster gave it, so that nobody gives it back."""
        return any(one.name == block.name for one in self._allotted.get(block.spec.node, ()))

    def shared(self, network: Network) -> bool:
        """Whether its addresses come from blocks: nobody may give one out that he has not claimed."""
        return network.spec.driver in CLUSTER or (self._clustered and network.spec.driver in SUBS)

    def define(self, network: Network) -> None:
        """A network is new or another: have the ledger give out what this node has of it."""
        if self.shared(network):
            self._networks[network.name] = network
            self._ledger.define(network, self.mine(network.name))
            for block in self.of(network.name):
                self._reserve(block)
        else:
            self._ledger.define(network)

    def check(self, network: Network) -> None:
        """Raise what ``define`` would."""
        self._ledger.check(network, self.mine(network.name) if self.shared(network) else None)

    def drop(self, network: str) -> None:
        """A network is no more; so are this node's blocks of it."""
        gone = [block for block in self.of(network) if block.spec.node == self._me and not self._given(block)]
        self._ledger.drop(network)
        self._networks.pop(network, None)
        for block in gone:
            self._later(self._erase(block))

    def of(self, network: str) -> list[Block]:
        """The blocks of one network, whoever has them."""
        return [one for one in self.all.values() if one.spec.network == network]

    def mine(self, network: str) -> list[Prefix]:
        """What this node may give out of a network: its blocks, and what others lent it."""
        found = [one.spec.cidr for one in self.of(network) if one.spec.node == self._me and one.name not in self._leaving]
        lent = (Address(text) for one in self.of(network) for text, node in one.spec.lent.items() if node == self._me)
        return found + [one.host() for one in lent if not any(cidr.holds(one) for cidr in found)]

    def learn(self, block: Block, *, gone: bool) -> None:
        """A block is new, another or gone; the ledger follows.

        What this node wrote itself it knows before the store's events tell of what was before that: these are passed over.
        """
        before = self.all.get(block.name)
        if not self._notice(block, gone=gone):
            return
        now = self.all.get(block.name)
        self._news.set()
        self._news.clear()
        for network in {one.spec.network for one in (before, now) if one is not None}:
            if of := self._networks.get(network):
                self._follow(of, before, now)

    def _notice(self, block: Block, *, gone: bool) -> bool:
        """Remember it; whether it is news."""
        revision = int(block.metadata.resource_version or 0)
        if revision < self._seen.get(block.name, 0):
            return False
        self._seen[block.name] = revision
        before = self.all.pop(block.name, None)
        if not gone:
            self.all[block.name] = block
        self.on_change(before, None if gone else block)
        return True

    async def more(self, network: Network, lacking: Lacking, fits: Fits) -> None:
        """Get what may help where the own blocks lack an address; ``Exhausted`` if there is nothing."""
        async with self._claiming.setdefault((network.name, lacking.family), asyncio.Lock()):
            subnets = [one for one in network.spec.subnets if one.family == lacking.family and fits(one) and self._takes(one)]
            if self._free(network, subnets, lacking.wish):
                return  # somebody who waited before us got it
            self._refuse_allotted(network, subnets, lacking)
            if await self._claim(network, subnets, lacking.wish):
                return
            if await self._recover(network, subnets, lacking.wish) or await self._borrow(network, subnets, lacking.wish):
                return
            wish = f"{lacking.wish} is held by another node; " if lacking.wish else ""
            raise Exhausted(wish + blocks.full(network.name, subnets, self.of(network.name)))

    def _refuse_allotted(self, network: Network, subnets: Iterable[Subnet], lacking: Lacking) -> None:
        """Where the cluster gives nodes their addresses, a node has what it was given."""
        given = [block for some in self._allotted.values() for block in some if block.spec.network == network.name]
        for subnet in subnets:
            if any(subnet.cidr.overlaps(one.spec.cidr) for one in given):
                own = (one.spec.cidr for one in given if one.spec.node == self._me)
                mine = ", ".join(one for one in own if subnet.cidr.overlaps(one))
                what = f"{lacking.wish} is not in" if lacking.wish else "no address is left in"
                raise Exhausted(f"network {network.name}: {what} this node's podCIDR {mine or '(it has none)'}")

    async def tidy(self) -> None:
        """Give back what has been of no use since the last call, and offer what others may need. Harmless to repeat."""
        idle = {one.name for network in self._networks.values() for one in self._unused(network)}
        for name in idle & self._idle:
            block = self.all.get(name)
            if block and (not block.spec.spare or await self._swap(block, spare=())):
                await self._release(self.all[name])
        self._idle = idle
        for network in list(self._networks.values()):
            for family in network.spec.families:
                await self._offer(network, family)

    async def collect(self, nodes: Collection[str]) -> list[Block]:
        """Free the blocks of nodes that are in none of ``nodes``, which the caller has confirmed; return them."""
        return [block for block in self.left(nodes) if await self.free(block, nodes)]

    async def free(self, block: Block, nodes: Collection[str]) -> bool:
        """Free the block of a node that is no more, unless one of ``nodes`` lives in it: who has borrowed an address."""
        return not any(node in nodes for node in block.spec.lent.values()) and await self._erase(block)

    def left(self, nodes: Collection[str]) -> list[Block]:
        """The blocks of nodes that are in none of ``nodes``."""
        return [one for one in self.all.values() if one.spec.node not in {*nodes, self._me} and not self._given(one)]

    async def settle(self) -> None:
        """Wait until nothing is on its way to the store."""
        while self._owed:
            await asyncio.wait(self._owed)

    # ---- what is known ----

    def _takes(self, subnet: Subnet) -> bool:
        return subnet.nodes is None or subnet.nodes.matches(self._labels())

    def _pools(self, network: Network) -> list[Pool]:
        return list(self._ledger.pools(network.name))

    def _free(self, network: Network, subnets: Iterable[Subnet], wish: Address | None) -> bool:
        cidrs = [one.cidr for one in subnets]
        for pool in self._pools(network):
            if pool.subnet.cidr in cidrs and (pool.cidr.holds(wish) if wish else pool.free):
                return True
        return False

    def _follow(self, network: Network, before: Block | None, block: Block | None) -> None:
        try:
            self._ledger.define(network, self.mine(network.name))
        except Conflict as problem:
            # Somebody took away a block in which we have containers.
            log.error("%s; claiming it again", problem)  # noqa: TRY400  # a person reads this
            if before is not None and block is None:
                self.all[before.name] = before
                self._later(self._reclaim(before))
            return
        for one in (before, block):
            if one is not None and one.spec.node == self._me:
                self._reserve(one if one is block else replace(one, spec=replace(one.spec, spare=(), lent={})))

    def _reserve(self, block: Block) -> None:
        """Have the ledger keep from everybody what this node offers of a block, and what others have borrowed of it."""
        if block.spec.node != self._me:
            return
        wanted = {f"{_SPARE}{one}": one for one in block.spec.spare} | {
            f"{_LENT}{one}": Address(one) for one in block.spec.lent
        }
        pool = next((one for one in self._pools(self._networks[block.spec.network]) if one.cidr == block.spec.cidr), None)
        if pool is None:
            return
        for address, holder in pool.holders.items():
            if holder.name.startswith((_SPARE, _LENT)) and wanted.get(holder.name) != address:
                self._ledger.release(holder.name)
        for name, address in wanted.items():
            try:
                self._ledger.hold(block.spec.network, address, Holder(name, name))
            except Conflict as problem:
                log.error("block %s: %s", block.spec.cidr, problem)  # noqa: TRY400  # a person reads this

    def _unused(self, network: Network) -> Iterator[Block]:
        """Blocks of this node in which nobody has an address; the last of each family stays, to begin with."""
        mine = {one.spec.cidr: one for one in self.of(network.name) if one.spec.node == self._me and not self._given(one)}
        pools = [pool for pool in self._pools(network) if pool.cidr in mine]
        used = {pool.cidr for pool in pools if pool.used > len(mine[pool.cidr].spec.spare)}
        kept = {pool.family for pool in pools if pool.cidr in used}
        for pool in pools:
            if pool.cidr in used:
                continue
            if pool.family in kept or pool.cidr.length == pool.subnet.bits:
                yield mine[pool.cidr]
            kept.add(pool.family)

    def _exhausted(self, network: Network, family: Family) -> bool:
        subnets = [one for one in network.spec.subnets if one.family == family]
        return blocks.choose(subnets, self._taken(), self._me) is None

    def _taken(self) -> list[Prefix]:
        return [one.spec.cidr for one in self.all.values()]

    # ---- what is done about it ----

    async def _claim(self, network: Network, subnets: list[Subnet], wish: Address | None) -> bool:
        for _ in range(_TRIES):
            cidr = blocks.choose(subnets, self._taken(), self._me, wish)
            if cidr is None:
                return False
            name = block_name(cidr)
            made = Block(metadata=Meta(name=name), spec=BlockSpec(network=Name(network.name), cidr=cidr, node=self._me))
            try:
                (stored,) = await self._store.commit(Put(made, ""))
            except Conflict:
                await self._look(made)
                if wish is not None:
                    return False
                continue
            assert isinstance(stored, Block)
            self.learn(stored, gone=False)
            log.info("network %s: took %s", network.name, cidr)
            return True
        raise Unavailable(f"network {network.name}: {_TRIES} blocks in a row were taken by others first; try again")

    async def _recover(self, network: Network, subnets: list[Subnet], wish: Address | None) -> bool:
        """Take back what this node offered itself."""
        for block in self._within(network, subnets):
            if block.spec.node == self._me and (spare := block.spec.spare) and (wish is None or wish in spare):
                left = tuple(one for one in spare if one != wish) if wish else ()
                return await self._swap(block, spare=left)
        return False

    async def _borrow(self, network: Network, subnets: list[Subnet], wish: Address | None) -> bool:
        deadline = asyncio.get_running_loop().time() + _WAIT
        while True:
            for block in self._within(network, subnets):
                if block.spec.node != self._me and (spare := block.spec.spare) and (wish is None or wish in spare):
                    one = wish or spare[0]
                    left = tuple(other for other in spare if other != one)
                    if await self._swap(block, spare=left, lent={**block.spec.lent, str(one): self._me}):
                        log.info("network %s: borrowed %s of %s", network.name, one, block.spec.node)
                        return True
                    break
            else:
                try:
                    async with asyncio.timeout_at(deadline):
                        await self._news.wait()
                except TimeoutError:
                    return False

    def _within(self, network: Network, subnets: list[Subnet]) -> list[Block]:
        cidrs = [one.cidr for one in subnets]
        return [one for one in self.of(network.name) if any(cidr.overlaps(one.spec.cidr) for cidr in cidrs)]

    async def _offer(self, network: Network, family: Family) -> None:
        """Where no block is left, offer addresses that are not used; where one is, take the offer back."""
        if not any(
            one.spec.node == self._me and one.spec.cidr.family == family and not self._given(one)
            for one in self.of(network.name)
        ):
            return
        exhausted = self._exhausted(network, family)
        for pool in self._pools(network):
            block = self.all.get(block_name(pool.cidr))
            if pool.family != family or block is None or block.spec.node != self._me or self._given(block):
                continue
            if not exhausted:
                if block.spec.spare:
                    await self._swap(block, spare=())
                continue
            count = min(_OFFER, (pool.free + len(block.spec.spare)) // 2) - len(block.spec.spare)
            if count > 0:
                await self._promise(block, pool, count)

    async def _promise(self, block: Block, pool: Pool, count: int) -> None:
        """Offer some addresses. They are kept from everybody here before anybody can read that they are offered."""
        fresh = []
        for _ in range(count):
            address = pool.pick()
            self._ledger.hold(block.spec.network, address, Holder(f"{_SPARE}{address}", f"{_SPARE}{address}"))
            fresh.append(address)
        if not await self._swap(block, spare=(*block.spec.spare, *fresh)):
            for address in fresh:
                self._ledger.release(f"{_SPARE}{address}")

    async def _release(self, block: Block) -> None:
        """Give a block back: from now on nobody gets an address of it, whether the store has heard of it yet or not."""
        network = self._networks.get(block.spec.network)
        if network is None or block.name in self._leaving:
            return
        self._leaving.add(block.name)
        try:
            self._ledger.define(network, self.mine(network.name))
            await self._erase(block)
        except Conflict:
            pass  # somebody got an address of it just now
        finally:
            self._leaving.discard(block.name)
            self._ledger.define(network, self.mine(network.name))

    def returned(self, network: str, addresses: Iterable[Address]) -> None:
        """Nobody here has these any more."""
        if network in self._networks:
            self._later(self.give_back(network, addresses))

    async def give_back(self, network: str, addresses: Iterable[Address]) -> None:
        """Nobody here uses these any more: what was borrowed goes back to its node, a block of one address to all."""
        for address in addresses:
            for block in self.of(network):
                if block.spec.lent.get(str(address)) == self._me:
                    lent = {text: node for text, node in block.spec.lent.items() if text != str(address)}
                    await self._swap(block, lent=lent)
                elif block.spec.node == self._me and block.spec.cidr == address.host():
                    await self._release(block)

    async def _reclaim(self, block: Block) -> None:
        try:
            (stored,) = await self._store.commit(Put(block, ""))
        except Problem as problem:
            log.error("block %s, in which containers of this node live: %s", block.spec.cidr, problem)  # noqa: TRY400
            return
        assert isinstance(stored, Block)
        self.learn(stored, gone=False)

    async def _swap(self, block: Block, **changes: object) -> bool:
        """Change a block if it is still what we know; else learn what it is."""
        wanted = replace(block, spec=replace(block.spec, **changes))
        try:
            (stored,) = await self._store.commit(Put(wanted, block.metadata.resource_version))
        except (Conflict, Missing):
            await self._look(block)
            return False
        assert isinstance(stored, Block)
        self.learn(stored, gone=False)
        return True

    async def _erase(self, block: Block) -> bool:
        try:
            (gone,) = await self._store.commit(Delete(Block.plural, block.key, block.metadata.resource_version))
        except Missing:
            gone = block
        except Conflict:
            await self._look(block)
            return False
        except Unavailable as problem:
            log.warning("block %s is not given back yet: %s", block.spec.cidr, problem)
            return False
        self._notice(gone if isinstance(gone, Block) else block, gone=True)
        return True

    async def _look(self, block: Block) -> None:
        found = await self._store.get(Block.plural, block.key)
        if isinstance(found, Block):
            self.learn(found, gone=False)
        elif known := self.all.get(block.name):
            self.learn(known, gone=True)

    def _later(self, act: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(_quietly(act))
        self._owed.add(task)
        task.add_done_callback(self._owed.discard)


def _has(network: Network, cidr: Prefix) -> bool:
    """Whether all of it lies in one of the network's subnets."""
    return any(one.cidr.overlaps(cidr) and one.cidr.length <= cidr.length for one in network.spec.subnets)


def _allotted(network: Network, node: str, cidr: Prefix) -> Block:
    spec = BlockSpec(network=Name(network.name), cidr=cidr, node=node)
    return Block(metadata=Meta(name=block_name(cidr)), spec=spec)


async def _quietly(act: Coroutine[Any, Any, object]) -> None:
    try:
        await act
    except Problem as problem:
        log.warning("not done, the timer will: %s", problem)
