"""What is wanted is done, once for many who want it, and again until it has worked."""

from __future__ import annotations

import asyncio

from fairlead.kit.wanted import Wanted


def test_many_who_want_it_have_it_done_once_and_until_it_works() -> None:
    outcomes, done = iter([False, False, True, True]), asyncio.Event()
    attempts: list[bool] = []

    async def act() -> bool:
        attempts.append(next(outcomes))
        if attempts[-1]:
            done.set()
        return attempts[-1]

    async def scene() -> None:
        wanted = Wanted(0.001, 0.002)
        wanted.want()
        wanted.want()
        task = asyncio.create_task(wanted.serve(act))
        async with asyncio.timeout(5):
            await done.wait()
            assert attempts == [False, False, True]
            done.clear()
            wanted.want()
            await done.wait()
        task.cancel()

    asyncio.run(scene())
    assert attempts == [False, False, True, True]
