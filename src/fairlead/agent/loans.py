"""Loans: single addresses of one node's block that another node gives out.

::

    who borrows            in the block                    whose block it is
    takes an offer         spare ─────────────► lent       offers some that it does not use, where no block is left
    asks for one           asked                           is told by the store, and lends what nobody has there
                           asked ─────────────► lent       (or strikes the question: it has none, or not that one)
    gives it back          lent ──────────────► nothing    may give it out itself again

Every step is one compare and swap. What a node offers or lends it keeps from its own containers before anybody can read of it,
and takes back by the same swap. So no address is given twice, whoever is cut off from whom. An offer can be taken while the
agent that made it is away; an answer needs it to be there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from fairlead.ipam.ledger import Ledger
from fairlead.ipam.pool import Holder, Pool
from fairlead.model.address import Address, Prefix
from fairlead.model.block import Block
from fairlead.model.errors import Conflict, Problem
from fairlead.model.network import Network

from .deeds import Deeds

log = logging.getLogger(__name__)

_OFFER = 8
"""Addresses of one block that a node offers at most, and never more than half of those that it does not use."""
_ANSWER, _ANSWERS = 1.0, 3.0
"""Seconds that one node, and that all together, may take to answer."""
_TRIES = 8
_SPARE, _LENT = "spare/", "lent/"


class Loans:
    """What this node lends and borrows."""

    def __init__(self, deeds: Deeds, ledger: Ledger, me: str) -> None:
        self._deeds, self._ledger, self._me = deeds, ledger, me
        self._answering = asyncio.Lock()
        self._pledged: dict[str, int] = {}  # what is being written: the revision of the block that it is to come after

    # ---- whose block it is ----

    def reserve(self, block: Block) -> None:
        """Have the ledger keep from everybody what this node offers of a block, and what others have borrowed of it.

        What is being written stays kept until the block is another: then it was written, or cannot be any more.
        """
        pool = self._pool(block)
        if pool is None:
            return
        wanted = {f"{_SPARE}{one}": one for one in block.spec.spare}
        wanted |= {f"{_LENT}{one}": Address(one) for one in block.spec.lent}
        for address, holder in pool.holders.items():
            ours = holder.name.startswith((_SPARE, _LENT)) and wanted.get(holder.name) != address
            if ours and self._pledged.get(holder.name, 0) < _revision(block):
                self._ledger.release(holder.name)
                self._pledged.pop(holder.name, None)
        for name, address in wanted.items():
            try:
                self._keep(block, name, address, block.spec.lent.get(address, ""))
            except Conflict as problem:
                log.error("block %s: %s", block.spec.cidr, problem)  # noqa: TRY400  # a person reads this

    async def offer(self, blocks: Iterable[Block], *, exhausted: bool) -> None:
        """Where no block is left, offer addresses of ours that are not used; where one is, take the offer back."""
        for block in blocks:
            pool, spare = self._pool(block), block.spec.spare
            if not exhausted and spare:
                await self._deeds.swap(block, spare=())
            if not exhausted or pool is None:
                continue
            count = min(_OFFER, (pool.free + len(spare)) // 2) - len(spare)
            if count > 0:
                await self._promise(block, pool, count)

    async def answer(self, name: str) -> None:
        """Lend what other nodes ask for of a block of ours, if nobody here has it. Either way it is not asked for any more."""
        async with self._answering:
            block = self._deeds.all.get(name)
            pool = self._pool(block) if block and block.spec.node == self._me else None
            if block is None or pool is None or not block.spec.asked:
                return
            lent, spare = dict(block.spec.lent), list(block.spec.spare)
            for node, text in sorted(block.spec.asked.items()):
                if (address := self._found(pool, spare, text)) and address not in lent:
                    if address in spare:
                        spare.remove(address)
                        self._ledger.release(f"{_SPARE}{address}")
                    self._pledge(block, f"{_LENT}{address}", address, node)
                    lent[address] = node
            if not await self._deeds.swap(block, asked={}, lent=lent, spare=tuple(spare)) and name in self._deeds.all:
                self.reserve(self._deeds.all[name])  # what it is now is answered when the store tells of it

    # ---- who borrows ----

    async def recover(self, blocks: Iterable[Block], wish: Address | None) -> bool:
        """Take back what this node offered itself."""
        for block in blocks:
            if block.spec.node == self._me and (spare := block.spec.spare) and (wish is None or wish in spare):
                left = tuple(one for one in spare if one != wish) if wish else ()
                return await self._deeds.swap(block, spare=left)
        return False

    async def borrow(self, network: Network, within: Sequence[Prefix], wish: Address | None) -> bool:
        """Take what another node offers in these prefixes, or ask one after another; whether this node has an address more."""
        now = asyncio.get_running_loop().time()
        for _ in range(_TRIES):
            offers = [one for one in self._theirs(network, within, wish) if one.spec.spare and wish in {None, *one.spec.spare}]
            if not offers:
                break
            if await self._accept(offers[0], wish or offers[0].spec.spare[0]):
                return True
        for block in self._theirs(network, within, wish):
            left = now + _ANSWERS - asyncio.get_running_loop().time()
            if left > 0 and await self._ask(block.name, wish, min(left, _ANSWER)):
                return True
        return False

    def borrowed(self, network: str) -> dict[Address, str]:
        """What this node has borrowed of a network, and of which block."""
        lent = ((text, node, one.name) for one in self._deeds.of(network) for text, node in one.spec.lent.items())
        return {Address(text): name for text, node, name in lent if node == self._me}

    async def give_back(self, network: str, address: Address) -> None:
        """Nobody here uses what was borrowed."""
        for _ in range(_TRIES):
            block = self._deeds.all.get(self.borrowed(network).get(address, ""))
            if block is None:
                return
            left = {text: node for text, node in block.spec.lent.items() if text != address}
            if await self._deeds.swap(block, lent=left):
                return

    # ---- steps ----

    async def _promise(self, block: Block, pool: Pool, count: int) -> None:
        """Offer so many more."""
        fresh = []
        for _ in range(count):
            address = pool.pick()
            self._pledge(block, f"{_SPARE}{address}", address)
            fresh.append(address)
        if not await self._deeds.swap(block, spare=(*block.spec.spare, *fresh)):
            for address in fresh:
                self._ledger.release(f"{_SPARE}{address}")

    async def _accept(self, block: Block, address: Address) -> bool:
        left = tuple(one for one in block.spec.spare if one != address)
        if not await self._deeds.swap(block, spare=left, lent={**block.spec.lent, address: self._me}):
            return False
        log.info("network %s: borrowed %s of %s", block.spec.network, address, block.spec.node)
        return True

    async def _ask(self, name: str, wish: Address | None, patience: float) -> bool:
        """Ask the node that has a block, and wait for what it does; whether it lends."""
        before = self._lent(name)
        asked = await self._set(name, lambda asked: {**asked, self._me: wish or ""})
        deadline = asyncio.get_running_loop().time() + patience
        while asked and self._asked(name) and await self._deeds.news(deadline):
            pass
        if asked and self._asked(name):  # it does not answer; what it lends while we say so is ours all the same
            await self._set(name, lambda asked: {node: text for node, text in asked.items() if node != self._me})
        return bool(self._lent(name) - before)

    async def _set(self, name: str, change: Callable[[Mapping[str, str]], Mapping[str, str]]) -> bool:
        for _ in range(_TRIES):
            block = self._deeds.all.get(name)
            if block is None:
                return False
            if await self._deeds.swap(block, asked=change(block.spec.asked)):
                return True
        return False

    def _asked(self, name: str) -> bool:
        block = self._deeds.all.get(name)
        return block is not None and self._me in block.spec.asked

    def _lent(self, name: str) -> set[str]:
        block = self._deeds.all.get(name)
        return {text for text, node in block.spec.lent.items() if node == self._me} if block else set()

    def _theirs(self, network: Network, within: Sequence[Prefix], wish: Address | None) -> list[Block]:
        """Blocks of other nodes, of which one address may be borrowed, or the one that is wished for."""
        theirs = [one for one in self._deeds.of(network.name) if one.spec.node != self._me]
        if wish is not None:
            return [one for one in theirs if one.spec.cidr.holds(wish)]
        # One that is asked for is looked for among many; one block of a single address has none to spare.
        large = [one for one in theirs if one.spec.cidr.length < (32 if one.spec.cidr.family == 4 else 128)]
        return [one for one in large if any(cidr.overlaps(one.spec.cidr) for cidr in within)]

    def _pool(self, block: Block) -> Pool | None:
        if block.spec.node != self._me:
            return None
        return next((one for one in self._ledger.pools(block.spec.network) if one.cidr == block.spec.cidr), None)

    def _found(self, pool: Pool, spare: Sequence[Address], text: str) -> Address | None:
        """The address to lend: the one that is asked for or any, of those that nobody has, or that are offered already."""
        if not text:
            return spare[0] if spare else pool.pick() if pool.free else None
        wish = Address(text)
        if wish in spare:
            return wish
        try:
            return pool.wish(wish, Holder(f"{_LENT}{wish}"))
        except Problem:
            return None

    def _pledge(self, block: Block, name: str, address: Address, borrower: str = "") -> None:
        """Keep what is about to be written into a block."""
        self._pledged[name] = _revision(block)
        self._keep(block, name, address, borrower)

    def _keep(self, block: Block, name: str, address: Address, borrower: str = "") -> None:
        holder = Holder(name, f"node {borrower}" if borrower else name, yields=name.startswith(_SPARE))
        self._ledger.hold(block.spec.network, address, holder)


def _revision(block: Block) -> int:
    return int(block.metadata.resource_version or 0)
