"""Turns: a thread that does one thing after another, in the order in which they were asked for but for one exception.

What is ``QUICK`` goes before what is ``PATIENT``: a table's entry that takes a tenth of a millisecond does not wait behind
containers that take five each. Everything else keeps its place, and nothing passes it::

    asked for   patient 1   plain   patient 2   patient 3   quick
    done        patient 1   plain   quick   patient 2   patient 3

So what is patient must bear that what was asked for later is done already, and the reverse.
"""

from __future__ import annotations

import asyncio
import enum
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from math import inf
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class Turn(enum.Enum):
    """How something waits."""

    PLAIN = enum.auto()
    PATIENT = enum.auto()
    QUICK = enum.auto()


class Turns:
    """The thread, from its first turn until ``close``."""

    def __init__(self, name: str) -> None:
        self._waiting: deque[tuple[Turn, Callable[[], None]]] = deque()
        self._lock = threading.Lock()
        self._patient = -inf  # when something patient was last asked for
        self._bell: SimpleQueue[None] = SimpleQueue()  # rung once for each that waits, and at the end
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def take(self, act: Callable[..., T], *arguments: object, turn: Turn = Turn.PLAIN) -> T:
        """What ``act`` answers, in its turn. Who is cancelled before has no turn."""
        future: Future[T] = Future()
        self._put(turn, partial(_do, future, act, *arguments))
        return await asyncio.wrap_future(future)

    def quiet(self, seconds: float) -> bool:
        """Whether nothing patient has been asked for lately, nor waits."""
        with self._lock:
            waits = any(turn is Turn.PATIENT for turn, _ in self._waiting)
            return not waits and time.monotonic() - self._patient >= seconds

    def close(self) -> None:
        """Do what waits, and end."""
        self._bell.put(None)
        self._thread.join()

    def _put(self, turn: Turn, act: Callable[[], None]) -> None:
        with self._lock:
            at = len(self._waiting)
            if turn is Turn.PATIENT:
                self._patient = time.monotonic()
            while turn is Turn.QUICK and at and self._waiting[at - 1][0] is Turn.PATIENT:
                at -= 1
            self._waiting.insert(at, (turn, act))
        self._bell.put(None)

    def _work(self) -> None:
        while True:
            self._bell.get()
            with self._lock:
                if not self._waiting:
                    return
                _, act = self._waiting.popleft()
            act()


def _do(future: Future[T], act: Callable[..., T], *arguments: object) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        answer = act(*arguments)
    except BaseException as problem:  # noqa: BLE001  # it is for whoever waits
        future.set_exception(problem)
    else:
        future.set_result(answer)
