"""A sign of life on anything that takes longer than a moment: a spinner on stderr, on a terminal only."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MOMENT = 0.5
"""Seconds before the spinner shows."""


@contextmanager
def working(message: str) -> Iterator[None]:
    """Show ``message`` with a spinner while the body runs, if it takes longer than a moment."""
    if not sys.stderr.isatty():
        yield
        return
    shown: list[Any] = []
    lock = threading.Lock()

    def show() -> None:
        from rich.console import Console  # noqa: PLC0415  # only when there is something to wait for
        from rich.status import Status  # noqa: PLC0415

        with lock:
            if not timer.finished.is_set():
                shown.append(Status(message, console=Console(stderr=True), spinner="dots"))
                shown[0].start()

    timer = threading.Timer(MOMENT, show)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            timer.cancel()
        timer.join()
        for status in shown:
            status.stop()
