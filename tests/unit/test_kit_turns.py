"""A thread does one thing after another; what is quick goes before what is patient, and before nothing else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fairlead.kit.turns import Turn, Turns

WAYS = {"plain": Turn.PLAIN, "patient": Turn.PATIENT, "quick": Turn.QUICK}


@contextmanager
def turns() -> Iterator[Turns]:
    made = Turns("test")
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize(
    ("asked", "done"),
    [
        ("patient1 patient2 patient3", "patient1 patient2 patient3"),
        ("patient1 plain1 quick1 plain2", "patient1 plain1 quick1 plain2"),
        ("patient1 patient2 quick1 quick2 patient3", "quick1 quick2 patient1 patient2 patient3"),
        ("patient1 plain1 patient2 patient3 quick1", "patient1 plain1 quick1 patient2 patient3"),
        ("quick1 patient1 quick2", "quick1 quick2 patient1"),
    ],
)
def test_only_what_is_quick_passes_and_only_what_is_patient(asked: str, done: str) -> None:
    had: list[str] = []

    async def scene() -> None:
        hold = threading.Event()
        with turns() as made:
            held = asyncio.create_task(made.take(hold.wait))
            tasks = [asyncio.create_task(made.take(had.append, one, turn=WAYS[one[:-1]])) for one in asked.split()]
            await asyncio.sleep(0)  # all of them wait by now
            hold.set()
            await asyncio.gather(held, *tasks)

    asyncio.run(scene())
    assert had == done.split()


def test_answers_and_problems_are_for_who_asked() -> None:
    async def scene() -> None:
        with turns() as made:
            assert await made.take(divmod, 7, 2) == (3, 1)
            with pytest.raises(ZeroDivisionError):
                await made.take(divmod, 7, 0)
            assert await made.take(threading.current_thread) is not threading.current_thread()

    asyncio.run(scene())


def test_who_is_cancelled_before_has_no_turn() -> None:
    had: list[int] = []

    async def scene() -> None:
        hold = threading.Event()
        with turns() as made:
            held = asyncio.create_task(made.take(hold.wait))
            gone, stays = (asyncio.create_task(made.take(had.append, one)) for one in (1, 2))
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.sleep(0)
            hold.set()
            await asyncio.gather(held, stays)

    asyncio.run(scene())
    assert had == [2]


def test_what_waits_is_done_before_the_end() -> None:
    had: list[int] = []

    async def scene() -> None:
        hold = threading.Event()
        made = Turns("test")
        tasks = [asyncio.create_task(made.take(hold.wait)), asyncio.create_task(made.take(had.append, 1))]
        await asyncio.sleep(0)
        hold.set()
        await asyncio.to_thread(made.close)
        await asyncio.gather(*tasks)

    asyncio.run(scene())
    assert had == [1]


def test_it_is_quiet_when_nothing_patient_was_asked_for_lately() -> None:
    async def scene() -> None:
        with turns() as made:
            assert made.quiet(1000)
            await made.take(int, turn=Turn.QUICK)
            await made.take(int)
            assert made.quiet(1000)
            hold = threading.Event()
            held = asyncio.create_task(made.take(hold.wait))
            waits = asyncio.create_task(made.take(int, turn=Turn.PATIENT))
            await asyncio.sleep(0)
            assert not made.quiet(0), "it waits"
            hold.set()
            await asyncio.gather(held, waits)
            assert not made.quiet(1000)
            assert made.quiet(0)

    asyncio.run(scene())
