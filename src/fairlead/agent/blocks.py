"""Blocks: the addresses of shared networks that this node may give out by itself, claimed in the store.

::

    a container needs an address ──> own blocks (the ledger; no store needed)
                                        │ full, or another address is wished for
                                        ▼
                    claim a block: create it; who is second learns who was first, and tries the next
                                        │ none is left, or it is another node's
                                        ▼
                    borrow an address of that (loans), or the error says what is exhausted and who has it
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from msgspec.structs import replace

from fairlead.ipam import blocks
from fairlead.ipam.ledger import Lacking, Ledger
from fairlead.ipam.pool import Holder, Pool, runs
from fairlead.model.address import Address, Family, Name, Prefix
from fairlead.model.block import Block, BlockSpec, block_name
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Conflict, Exhausted, Invalid, Problem, Unavailable
from fairlead.model.meta import Meta
from fairlead.model.network import CLUSTER, SUBS, Network, Subnet
from fairlead.store.base import Store, Stored

from .deeds import Deeds
from .loans import Loans

log = logging.getLogger(__name__)

Fits = Callable[[Subnet], bool]

_TRIES = 64


class Fill(NamedTuple):
    """How many addresses a pool has, how many of them this node has given out, and how many others have."""

    cidr: Prefix
    size: int
    used: int
    elsewhere: int = 0


class Blocks:
    """What this node may give out of networks that it shares with others."""

    def __init__(
        self, store: Store, ledger: Ledger, me: str, labels: Callable[[], Mapping[str, str]], *, clustered: bool
    ) -> None:
        """``labels`` answers with this node's. ``clustered``: other nodes have the same store."""
        self.on_change: Callable[[Block | None, Block | None], None] = lambda *_: None
        self.others: Callable[[], Iterable[Endpoint]] = tuple
        """Answers with the containers of other nodes, as far as they are known."""
        self._store = store
        self._deeds = Deeds(store)
        self._deeds.heard = self._heard
        self._loans = Loans(self._deeds, ledger, me)
        self._ledger, self._me, self._labels, self._clustered = ledger, me, labels, clustered
        self._networks: dict[str, Network] = {}
        self._claiming: dict[tuple[str, Family], asyncio.Lock] = {}
        self._idle: set[str] = set()
        self._allotted: dict[str, tuple[Block, ...]] = {}  # by node: what the cluster gave each, which nobody stores
        self._leaving: set[Prefix] = set()
        self._doubted: dict[Prefix, str] = {}  # of these the network: the store did not say whether it has them back
        self._owed: set[asyncio.Task[None]] = set()

    @property
    def all(self) -> Mapping[str, Block]:
        """Every block there is, as far as is known."""
        return self._deeds.all

    def load(self, stored: Iterable[Stored]) -> None:
        """Take what is stored, before the networks that they are of."""
        self._deeds.load(stored)

    def allot(self, network: Network, given: Mapping[str, Iterable[Prefix]]) -> None:
        """What the cluster gave to each of these nodes (podCIDRs): their blocks of the network, if it has such addresses."""
        changed: set[str] = set()
        for node, cidrs in given.items():
            before = self._allotted.pop(node, ())
            made = tuple(_block(network, node, one) for one in cidrs if _has(network, one))
            if made:
                self._allotted[node] = made
            for block, gone in (*((one, True) for one in before if one not in made), *((one, False) for one in made)):
                if gone or block not in before:
                    changed.add(node)
                    known = self.all.get(block.name)
                    self._deeds.note(block, gone=gone)
                    self.on_change(known, None if gone else block)
        if self._me in changed:
            try:
                self._tell(network)
            except Conflict as problem:
                log.error("the podCIDRs of this node changed: %s", problem)  # noqa: TRY400  # a person reads this

    def _given(self, block: Block) -> bool:
        """Whether the cluster gave it, so that nobody gives it back."""
        return any(one.name == block.name for one in self._allotted.get(block.spec.node, ()))

    def _own(self, network: str) -> list[Block]:
        """The blocks of one network that this node took."""
        return [one for one in self.of(network) if one.spec.node == self._me and not self._given(one)]

    def shared(self, network: Network) -> bool:
        """Whether its addresses come from blocks: nobody may give one out that he has not claimed."""
        return network.spec.driver in CLUSTER or (
            network.spec.driver in SUBS and (self._clustered or any(one.block_size for one in network.spec.subnets))
        )

    def define(self, network: Network) -> None:
        """A network is new or another: have the ledger give out what this node has of it."""
        if self.shared(network):
            self._networks[network.name] = network
            self._tell(network)
            for block in self.of(network.name):
                self._loans.reserve(block)
        else:
            self._ledger.define(network)

    def _tell(self, network: Network) -> None:
        """Have the ledger give out what this node has of a network now."""
        given = [one.spec.cidr for one in self._allotted.get(self._me, ()) if one.spec.network == network.name]
        self._ledger.define(network, self.mine(network.name), apart=given)

    def check(self, network: Network) -> None:
        """Raise what ``define`` would, and ``Conflict`` where somebody has what would be a gateway."""
        if not self.shared(network):
            self._ledger.check(network)
            return
        self._ledger.check(network, self.mine(network.name))
        for at, subnet in enumerate(network.spec.subnets):
            if not network.spec.routed and (taken := self.all.get(block_name(subnet.router.host()))):
                raise Conflict(
                    f"{subnet.router} is an address of network {taken.spec.network} on node {taken.spec.node}, and cannot be "
                    f"the gateway of network {network.name}; choose another",
                    field=f"spec.subnets[{at}].gateway",
                )

    def drop(self, network: str) -> None:
        """A network is no more; so are this node's blocks of it."""
        gone = self._own(network)
        self._ledger.drop(network)
        self._networks.pop(network, None)
        for block in gone:
            self._later(self._deeds.erase(block))

    def of(self, network: str) -> list[Block]:
        """The blocks of one network, whoever has them."""
        return self._deeds.of(network)

    def mine(self, network: str) -> list[Prefix]:
        """What this node may give out of a network: its blocks, and what others lent it."""
        found = [one.spec.cidr for one in self.of(network) if one.spec.node == self._me]
        borrowed = (one.host() for one in self._loans.borrowed(network) if not any(cidr.holds(one) for cidr in found))
        return [one for one in (*found, *borrowed) if one not in self._leaving]

    def learn(self, block: Block, *, gone: bool) -> None:
        """A block is new, another or gone; the ledger follows."""
        self._deeds.learn(block, gone=gone)

    async def more(self, network: Network, lacking: Lacking, fits: Fits) -> None:
        """Get what may help where the own blocks lack an address; ``Exhausted`` if there is nothing."""
        wish = lacking.wish
        async with self._claiming.setdefault((network.name, lacking.family), asyncio.Lock()):
            fitting = [one for one in network.spec.subnets if one.family == lacking.family and fits(one)]
            subnets = [one for one in fitting if self._takes(one)]
            self._refuse_unfit(network, fitting, subnets, wish)
            if self._free(network, subnets, lacking):
                return  # somebody who waited before us got it
            useful = blocks.narrowed(subnets, lacking.within)
            self._refuse_allotted(network, useful, wish)
            if subnets and not useful:
                raise Invalid(f"none of the addresses asked for is in {', '.join(one.cidr for one in subnets)}", field="ranges")
            if await self._claim(network, useful, wish):
                return
            if self._owed:  # what this node is about to give back may be it, whichever network's it was
                await self.settle()
                if await self._claim(network, useful, wish):
                    return
            subnets = [one for one in subnets if one.cidr in {each.cidr for each in useful}]
            if any(runs(one) != runs(each) for one, each in zip(subnets, useful, strict=True)):
                raise self._exhausted(network, useful, wish)  # what others lend may be any address
            within = [one.cidr for one in subnets]
            if await self._loans.recover(self._within(network, subnets), wish):
                return
            held = wish and self._holder(self._at(network, wish), wish)
            if not held and await self._loans.borrow(network, within, wish):
                return
            raise self._exhausted(network, subnets, wish)

    def _refuse_allotted(self, network: Network, subnets: Iterable[Subnet], wish: Address | None) -> None:
        """Where the cluster gives nodes their addresses, a node has what it was given."""
        given = [block for some in self._allotted.values() for block in some if block.spec.network == network.name]
        for subnet in subnets:
            sought = wish is None or subnet.cidr.holds(wish)
            if sought and any(subnet.cidr.overlaps(one.spec.cidr) for one in given):
                own = (one.spec.cidr for one in given if one.spec.node == self._me)
                mine = ", ".join(one for one in own if subnet.cidr.overlaps(one))
                what = f"{wish} is not in" if wish else "no address is left in"
                raise Exhausted(f"network {network.name}: {what} this node's podCIDR {mine or '(it has none)'}")

    def resume(self) -> None:
        """Give back single addresses that an earlier life claimed and gave to nobody: it ended between the two."""
        for network in self._networks.values():
            held = {pool.cidr for pool in self._pools(network) if pool.holders}
            for block in self._own(network.name):
                if block.single and block.spec.cidr not in held:
                    self._later(self._release(block))

    async def tidy(self) -> None:
        """Give back what has been of no use since the last call, and offer what others may need. Harmless to repeat."""
        for cidr, network in list(self._doubted.items()):
            await self._leave(network, cidr)
        idle = {name for network in self._networks.values() for name in self._unused(network)} | {*self._ownerless()}
        for name in idle & self._idle:
            await self._let_go(name)
        self._idle = idle
        for each in list(self._networks.values()):
            mine = self._own(each.name)
            for one in mine:
                await self._loans.answer(one.name)
            for family in each.spec.families:
                of = [one for one in mine if one.spec.cidr.family == family]
                await self._loans.offer(of, exhausted=self._is_exhausted(each, family))

    async def collect(self, nodes: Collection[str]) -> list[Block]:
        """Free the blocks of nodes that are in none of ``nodes``, which the caller has confirmed; return them."""
        return [block for block in self.left(nodes) if await self.free(block, nodes)]

    async def free(self, block: Block, nodes: Collection[str]) -> bool:
        """Free the block of a node that is no more, unless one of ``nodes`` lives in it: who has borrowed an address."""
        return not {*block.spec.lent.values()} & {*nodes} and await self._deeds.erase(block)

    def left(self, nodes: Collection[str]) -> list[Block]:
        """The blocks of nodes that are in none of ``nodes``."""
        return [one for one in self.all.values() if one.spec.node not in {*nodes, self._me} and not self._given(one)]

    def returned(self, network: str, addresses: Iterable[Address]) -> None:
        """Nobody here has these any more."""
        if network in self._networks:
            self._later(self.give_back(network, addresses))

    async def give_back(self, network: str, addresses: Iterable[Address]) -> None:
        """Nobody here uses these any more: what was borrowed goes back to its node, a block of one address to all."""
        borrowed = self._loans.borrowed(network)
        for address in addresses:
            if address in borrowed:
                await self._leave(network, address.host())
            elif (block := self.all.get(block_name(address.host()))) and block.spec.network == network:
                await self._release(block)

    async def settle(self) -> None:
        """Wait until nothing is on its way to the store."""
        while self._owed:
            await asyncio.wait(self._owed)

    def fill(self, network: Network) -> Iterator[Fill]:
        """How full the subnets of a network are; where the cluster gives nodes blocks, these."""
        pools = self._pools(network)
        if not self.shared(network):
            yield from (Fill(one.cidr, one.size, one.used) for one in pools)
            return
        given = [block for some in self._allotted.values() for block in some if block.spec.network == network.name]
        own = {one.spec.cidr for one in self.of(network.name) if one.spec.node == self._me}
        for subnet in network.spec.subnets:
            here = [one for one in pools if one.subnet.cidr == subnet.cidr]
            if any(subnet.cidr.overlaps(one.spec.cidr) for one in given):
                yield from (Fill(one.cidr, one.size, one.used) for one in here)
                continue
            there = [one for one in self.all.values() if one.spec.cidr not in own and subnet.cidr.overlaps(one.spec.cidr)]
            size, theirs = blocks.fill(subnet, there, [router for _, router in self._routers()])
            offered = sum(len(one.spec.spare) for one in there)
            borrowed = sum(one.size for one in here if one.cidr not in own)
            yield Fill(subnet.cidr, size, sum(one.used for one in here), theirs - offered - borrowed)

    # ---- what is known ----

    def _heard(self, before: Block | None, now: Block | None) -> None:
        self.on_change(before, now)
        for cidr in _lost(before, now, self._me):
            self._leaving.discard(cidr)
            self._doubted.pop(cidr, None)
        for network in {one.spec.network for one in (before, now) if one is not None and self._concerns(one)}:
            if of := self._networks.get(network):
                self._follow(of, before, now)
        if now and now.spec.asked and now.spec.node == self._me:
            self._later(self._loans.answer(now.name))

    def _concerns(self, block: Block) -> bool:
        """Whether addresses of it are this node's to give out."""
        return block.spec.node == self._me or self._me in block.spec.lent.values()

    def _follow(self, network: Network, before: Block | None, block: Block | None) -> None:
        try:
            self._tell(network)
        except Conflict as problem:
            # Somebody took away a block in which we have containers.
            log.error("%s; claiming it again", problem)  # noqa: TRY400  # a person reads this
            if before is not None and block is None:
                self._deeds.keep(before)
                self._later(self._deeds.claim(before))
            return
        for one in (before, block):
            if one is not None and one.spec.node == self._me:
                self._loans.reserve(one if one is block else replace(one, spec=replace(one.spec, spare=(), lent={})))

    def _takes(self, subnet: Subnet) -> bool:
        return subnet.nodes is None or subnet.nodes.matches(self._labels())

    def _refuse_unfit(self, network: Network, fitting: list[Subnet], subnets: list[Subnet], wish: Address | None) -> None:
        """Refuse what no block could help with: subnets of other nodes, an address that nobody may have."""
        asked = [one for one in fitting if wish is None or one.cidr.holds(wish)]
        if asked and not any(one in subnets for one in asked):
            said = ", ".join(f"{key}={value}" for key, value in sorted(self._labels().items()))
            shown = ", ".join(one.cidr for one in asked)
            raise Invalid(f"network {network.name}: {shown} is not for node {self._me} (its labels: {said})", field="network")
        if wish is None:
            return
        for one in asked:
            Pool(network.name, one, wish.host(), routed=network.spec.routed).wish(wish, Holder(""))
        for other, router in self._routers():
            if router == wish:
                raise Invalid(f"{wish} is the gateway of network {other}; choose another address", field="addresses")

    def _pools(self, network: Network) -> list[Pool]:
        return list(self._ledger.pools(network.name))

    def _free(self, network: Network, subnets: Iterable[Subnet], lacking: Lacking) -> bool:
        cidrs, wish = [one.cidr for one in subnets], lacking.wish
        for pool in self._pools(network):
            has = pool.cidr.holds(wish) and not pool.yields(wish) if wish else pool.has(lacking.within)
            if pool.subnet.cidr in cidrs and has:
                return True
        return False

    def _unused(self, network: Network) -> Iterator[str]:
        """Blocks of this node in which nobody has an address, by name, and what it borrowed: block and address.

        The last block of each family stays, to begin with.
        """
        mine = {one.spec.cidr: one for one in self._own(network.name)}
        pools = {pool.cidr: pool for pool in self._pools(network)}
        used = {cidr for cidr, pool in pools.items() if cidr in mine and pool.used > len(mine[cidr].spec.spare)}
        kept = {cidr.family for cidr in used}
        for cidr, block in mine.items():
            if cidr in used or cidr in self._leaving:
                continue
            if cidr.family in kept or block.single or cidr not in pools:  # of a subnet that the network has no more
                yield block.name
            kept.add(cidr.family)
        for address, name in self._loans.borrowed(network.name).items():
            if (pool := pools.get(address.host())) and not pool.holders:
                yield f"{name}/{address}"

    def _ownerless(self) -> Iterator[str]:
        """Blocks of this node whose network went while nobody could be told that they are free."""
        for one in self.all.values():
            if one.spec.node == self._me and one.spec.network not in self._networks and not self._given(one):
                yield one.name

    def _is_exhausted(self, network: Network, family: Family) -> bool:
        return blocks.choose([one for one in network.spec.subnets if one.family == family], self._taken(), self._me) is None

    def _taken(self) -> list[Prefix]:
        """What no block can be made of: others, and the routers of networks that joined a parent's."""
        return [*(one.spec.cidr for one in self.all.values()), *(router.host() for _, router in self._routers())]

    def _routers(self) -> Iterator[tuple[str, Address]]:
        """The routers of networks that joined a parent's, by network."""
        for each in self._networks.values():
            if not each.spec.routed:
                yield from ((each.name, one.router) for one in each.spec.subnets)

    def _within(self, network: Network, subnets: list[Subnet]) -> list[Block]:
        cidrs = [one.cidr for one in subnets]
        return [one for one in self.of(network.name) if any(cidr.overlaps(one.spec.cidr) for cidr in cidrs)]

    def _at(self, network: Network, address: Address) -> Block | None:
        """The block that has an address: of the network, or of any if it is of that address alone."""
        alone = self.all.get(block_name(address.host()))
        return alone or next((one for one in self.of(network.name) if one.spec.cidr.holds(address)), None)

    def _holder(self, block: Block | None, address: Address) -> tuple[str, str] | None:
        """The container that has an address of a block, as people know it, and its node."""
        there = (one for one in self.others() if any(each.address == address for each in one.spec.addresses))
        if found := next((one for one in there if block and one.spec.network == block.spec.network), None):
            return found.display, found.spec.node
        pools = self._ledger.pools(block.spec.network) if block and block.spec.network in self._networks else ()
        here = (pool.holders[address] for pool in pools if pool.cidr == address.host() and address in pool.holders)
        return next(((str(one), self._me) for one in here), None)

    def _exhausted(self, network: Network, subnets: list[Subnet], wish: Address | None) -> Problem:
        if wish is None:
            return Exhausted(blocks.full(network.name, subnets, self.all.values()), field="network")
        block = self._at(network, wish)
        if block is None:
            return Conflict(f"{wish} has just been taken by another node", field="addresses")
        of = "" if block.spec.network == network.name else f" on network {block.spec.network}, whose range has it too"
        if holder := self._holder(block, wish):
            return Conflict(f"{wish} is the address of {holder[0]} on node {holder[1]}{of}", field="addresses")
        node = block.spec.lent.get(wish, block.spec.node)
        alone = wish in block.spec.lent or block.spec.cidr == wish.host()
        where = f"node {node} has {'it' if alone else block.spec.cidr}{of}"
        return Conflict(f"{wish} cannot be had: {where}, and does not lend it", field="addresses")

    # ---- what is done about it ----

    async def _claim(self, network: Network, subnets: list[Subnet], wish: Address | None) -> bool:
        for _ in range(_TRIES):
            cidr = blocks.choose(subnets, self._taken(), self._me, wish)
            if cidr is None:
                return False
            if await self._deeds.claim(_block(network, self._me, cidr)):
                log.info("network %s: took %s", network.name, cidr)
                return True
            if wish is not None:
                return False
        raise Unavailable(f"network {network.name}: {_TRIES} blocks in a row were taken by others first; try again")

    async def _let_go(self, name: str) -> None:
        """Give back a block, or an address of one that was borrowed."""
        name, _, address = name.partition("/")
        block = self.all.get(name)
        if block and block.spec.network not in self._networks:
            if await self._store.get(Network.plural, ("", block.spec.network)) is None:
                await self._deeds.erase(block)
        elif block and address:
            await self._leave(block.spec.network, Address(address).host())
        elif block and (not block.spec.spare or await self._deeds.swap(block, spare=())):
            await self._release(self.all[name])

    async def _release(self, block: Block) -> None:
        """Give back a block of this node."""
        if block.spec.node == self._me:
            await self._leave(block.spec.network, block.spec.cidr)

    async def _leave(self, name: str, cidr: Prefix) -> None:
        """Give back a block, or an address that was borrowed: from now on nobody here gets an address of it.

        Where the store does not answer, that stays so until it does: it may have it back already, and another node have it.
        """
        network = self._networks.get(name)
        if network is None or (cidr in self._leaving and cidr not in self._doubted):
            return
        self._doubted.pop(cidr, None)
        self._leaving.add(cidr)
        try:
            self._tell(network)
            if block := next((one for one in self._own(name) if one.spec.cidr == cidr), None):
                await self._deeds.erase(block)
            else:
                await self._loans.give_back(name, Address(cidr.partition("/")[0]))
        except Conflict:
            pass  # somebody here has an address of it again
        except Problem as problem:
            log.warning("network %s: %s is not given back yet: %s", name, cidr, problem)
            self._doubted[cidr] = name
            return
        self._leaving.discard(cidr)
        self._tell(network)

    def _later(self, act: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(_quietly(act))
        self._owed.add(task)
        task.add_done_callback(self._owed.discard)


def _has(network: Network, cidr: Prefix) -> bool:
    """Whether all of it lies in one of the network's subnets."""
    return any(one.cidr.overlaps(cidr) and one.cidr.length <= cidr.length for one in network.spec.subnets)


def _block(network: Network, node: str, cidr: Prefix) -> Block:
    return Block(metadata=Meta(name=block_name(cidr)), spec=BlockSpec(network=Name(network.name), cidr=cidr, node=node))


def _lost(before: Block | None, now: Block | None, me: str) -> Iterator[Prefix]:
    """What a node has no more: a block that is nobody's now, addresses that it had borrowed of one."""
    if before is not None and now is None:
        yield before.spec.cidr
    left = now.spec.lent if now else {}
    for text, node in before.spec.lent.items() if before else ():
        if node == me != left.get(text):
            yield Address(text).host()


async def _quietly(act: Coroutine[Any, Any, object]) -> None:
    try:
        await act
    except Problem as problem:
        log.warning("not done, the timer will: %s", problem)
