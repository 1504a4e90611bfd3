"""Tasks that run as long as the process: one that ends by an error is heard of, and begun again after a while."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

_AGAIN = 1.0
"""Seconds before a task that failed is begun again."""


async def forever(name: str, run: Callable[[], Awaitable[None]], again: float = _AGAIN) -> None:
    """Run it, and again if it fails: what one error in a part of the agent costs is told and over after a moment."""
    while True:
        try:
            await run()
        except Exception:
            log.exception("%s failed; it begins again", name)
        await asyncio.sleep(again)
