"""Waiting for what happens in its own time: poll a condition until a deadline, never sleep on a guess."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

INTERVAL = 0.02


def eventually(condition: Callable[[], T], deadline: float = 5.0, what: str = "") -> T:
    """The first true value of ``condition``, asked every 20 ms for ``deadline`` seconds.

    An ``AssertionError`` inside the condition counts as not yet, so that it may itself be a few asserts that end in ``return
    True``. The failure names ``what`` was awaited and what the condition said last.
    """
    end = time.monotonic() + deadline
    while True:
        said: object
        try:
            said = value = condition()
        except AssertionError as problem:
            said, value = problem, None
        if value:
            return value
        if time.monotonic() >= end:
            raise AssertionError(f"not within {deadline:g} s: {what or condition!r}; last: {said!r}")
        time.sleep(INTERVAL)
