"""Gently: much work in a thread that nobody waits for, beside threads that somebody waits for.

One thread runs Python at a time. While this one rests the others do not have to ask it for their turn, which costs them half a
millisecond whenever they come back from the kernel. And it may rest for as long as there is somebody who waits::

    for thing in gently(things, resting(lambda: nobody_waits, most=30)):
        ...
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

_SOME, _REST, _LOOK = 256, 0.005, 0.05

Rest = Callable[[], None]


def rest() -> None:
    """A short one."""
    time.sleep(_REST)


def resting(quiet: Callable[[], bool], most: float) -> Rest:
    """Rests that last until it is ``quiet``: for ``most`` seconds from now on, then short ones."""
    until = time.monotonic() + most

    def last() -> None:
        rest()
        while not quiet() and time.monotonic() < until:
            time.sleep(_LOOK)

    return last


def gently(things: Iterable[T], rest: Rest = rest) -> Iterator[T]:
    """All of ``things``, with a rest after some of them."""
    for count, thing in enumerate(things, 1):
        yield thing
        if not count % _SOME:
            rest()
