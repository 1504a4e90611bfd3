"""Functions that only one thread may be in at a time, because what they call was not made for more."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import Lock
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def alone(function: Callable[P, R]) -> Callable[P, R]:
    """Have a thread wait while another is in ``function``. It must not call itself."""
    lock = Lock()

    @wraps(function)
    def waiting(*args: P.args, **kwargs: P.kwargs) -> R:
        with lock:
            return function(*args, **kwargs)

    return waiting
