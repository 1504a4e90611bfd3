"""What the shared store holds is followed for as long as the agent runs, whatever goes wrong on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from fairlead.agent.known import Known
from fairlead.model.block import Block, BlockSpec
from fairlead.model.meta import Meta
from fairlead.store.base import Event, Listing, Put
from fairlead.store.memory import Memory

BLOCK = Block(metadata=Meta(name="10-0-0-0-24"), spec=BlockSpec(cidr="10.0.0.0/24", network="blue", node="n1"))  # type: ignore[arg-type]


class Faulty(Memory):
    """A store that fails once in a way that nobody has thought of."""

    def __init__(self) -> None:
        super().__init__()
        self.faults = 1

    async def list(self, plural: str) -> Listing:
        if self.faults:
            self.faults -= 1
            raise LookupError("a thing that cannot be")
        return await super().list(plural)


def test_an_error_that_nobody_thought_of_is_told_and_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        store = Faulty()
        known = Known(store, [Block.plural], "memory", tmp_path / "copy.db")
        await known.begin()
        heard: asyncio.Queue[Sequence[Event]] = asyncio.Queue()
        following = asyncio.create_task(known.follow(heard.put))
        await store.commit(Put(BLOCK))
        async with asyncio.timeout(5):
            assert [one.object.name for one in await heard.get()] == [BLOCK.name]
        following.cancel()
        await known.close()

    asyncio.run(run())
    assert "following the store failed; it begins again" in caplog.text
