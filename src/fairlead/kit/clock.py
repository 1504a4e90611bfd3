"""Time as a value that is handed in, so that a test decides what time it is."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds since 1970, such as ``time.time``."""


def rfc3339(seconds: float) -> str:
    """A moment as Kubernetes writes it: ``2026-01-31T12:00:00Z``, in UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
