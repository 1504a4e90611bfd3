"""An agent whose name another machine has does not start: both would give out the same addresses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack

import pytest

from fairlead.model.errors import Conflict, Unavailable
from fairlead.store.memory import Memory
from fairlead.store.presence import sole
from tests.contracts.stores import awaited


class Away(Memory):
    """A store that nobody reaches."""

    async def present(self) -> AsyncGenerator[Mapping[str, str]]:
        raise Unavailable("nobody answers")
        yield {}


class Mute(Memory):
    """A store that takes the question and says nothing."""

    async def present(self) -> AsyncGenerator[Mapping[str, str]]:
        await asyncio.Event().wait()
        yield {}


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.store.presence._SOON", 0.2)


@awaited
async def test_who_lives_is_not_doubled() -> None:
    store = Memory()
    async with store.hold("one", "another boot", 1):
        with pytest.raises(Conflict, match=r"another machine is node one and gives signs of life; .* --node NAME"):
            await sole(store, "one", "this boot", 1)


@awaited
async def test_an_earlier_boot_is_outlived() -> None:
    store = Memory()
    async with AsyncExitStack() as earlier:
        await earlier.enter_async_context(store.hold("one", "another boot", 1))
        asking = asyncio.create_task(sole(store, "one", "this boot", 1))
        await asyncio.sleep(0)
        assert not asking.done()
    await asking


@pytest.mark.parametrize("holder", ["", "this boot"])
@awaited
async def test_a_free_name_and_ones_own_cost_no_time(holder: str) -> None:
    store = Memory()
    async with AsyncExitStack() as stack:
        if holder:
            await stack.enter_async_context(store.hold("one", holder, 1))
        async with asyncio.timeout(0.1):
            await sole(store, "one", "this boot", 1)


@pytest.mark.parametrize("store", [Away, Mute])
@awaited
async def test_a_store_that_is_away_keeps_no_agent_from_starting(store: type[Memory]) -> None:
    await sole(store(), "one", "this boot", 1)
