"""Deeds: who has which block, as the store says, and how that is changed: by compare and swap, so that who is second learns it.

What this node wrote itself it knows before the store's events tell of what was before that: these are passed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from fairlead.kit import fault
from fairlead.model.block import Block
from fairlead.model.errors import Conflict, Missing
from fairlead.store.base import Delete, Put, Store, Stored


class Deeds:
    """Every block there is, as far as is known."""

    def __init__(self, store: Store) -> None:
        self.all: dict[str, Block] = {}
        self.heard: Callable[[Block | None, Block | None], None] = lambda *_: None
        """Is told what a block was and what it is now, of each that is new, another or gone."""
        self._store = store
        self._seen: dict[str, int] = {}
        self._of: dict[str, dict[str, Block]] = {}
        self._news = asyncio.Event()

    def load(self, stored: Iterable[Stored]) -> None:
        """Take what is stored; nobody is told."""
        for thing in stored:
            if isinstance(thing, Block):
                self.note(thing, gone=False)

    def of(self, network: str) -> list[Block]:
        """The blocks of one network, whoever has them."""
        return list(self._of.get(network, {}).values())

    def learn(self, block: Block, *, gone: bool) -> None:
        """A block is new, another or gone."""
        before = self.all.get(block.name)
        if self.note(block, gone=gone):
            self._news.set()
            self._news.clear()
            self.heard(before, None if gone else block)

    def note(self, block: Block, *, gone: bool) -> bool:
        """Remember a block; whether it is news. Nobody is told."""
        revision = int(block.metadata.resource_version or 0)
        if revision < self._seen.get(block.name, 0):
            return False
        self._seen[block.name] = revision
        if before := self.all.pop(block.name, None):
            self._of[before.spec.network].pop(before.name, None)
        if not gone:
            self.keep(block)
        return True

    def keep(self, block: Block) -> None:
        """Hold on to a block, whatever the store said."""
        self.all[block.name] = block
        self._of.setdefault(block.spec.network, {})[block.name] = block

    async def news(self, deadline: float) -> bool:
        """Wait until anything is heard of any block; whether it was before the loop's clock says so."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def claim(self, made: Block) -> Block | None:
        """Make a block; None if somebody else was faster, of whom is known from then on."""
        try:
            (stored,) = await self._store.commit(Put(made, ""))
        except Conflict:
            await self._look(made)
            return None
        fault.point("block.claimed")
        assert isinstance(stored, Block)
        self.learn(stored, gone=False)
        return stored

    async def swap(self, block: Block, **changes: object) -> bool:
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

    async def erase(self, block: Block) -> bool:
        """Have a block be nobody's if it is still what we know; else learn what it is."""
        try:
            (gone,) = await self._store.commit(Delete(Block.plural, block.key, block.metadata.resource_version))
        except Missing:
            gone = block
        except Conflict:
            await self._look(block)
            return False
        fault.point("block.erased")
        self.learn(gone if isinstance(gone, Block) else block, gone=True)
        return True

    async def _look(self, block: Block) -> None:
        found = await self._store.get(Block.plural, block.key)
        if isinstance(found, Block):
            self.learn(found, gone=False)
        elif known := self.all.get(block.name):
            self.learn(known, gone=True)
