"""Faults: what goes wrong on purpose. A fault is told which requests it is for, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .objects import Refused


@dataclass
class Fault:
    """One. ``verb`` and ``plural``: of which requests, empty: of all; ``times``: how often.

    ``code``: refuse with it, and with ``after`` as Retry-After; ``delay``: seconds before anything else; ``cut``: break the
    connection, ``"before"`` the request is carried out or ``"after"``; ``mute``: a watch that says nothing any more.
    """

    verb: str = ""
    plural: str = ""
    times: float = float("inf")
    code: int = 0
    after: str = ""
    delay: float = 0.0
    cut: str = ""
    mute: bool = False
    met: int = 0

    def fits(self, verb: str, plural: str) -> bool:
        return self.met < self.times and self.verb in {"", verb} and self.plural in {"", plural}


@dataclass
class Faults:
    """Those that are in force, and how many requests are under way at once."""

    now: list[Fault] = field(default_factory=list)
    under_way: int = 0
    most: int = 0

    def add(self, fault: Fault) -> Fault:
        self.now.append(fault)
        return fault

    def clear(self) -> None:
        self.now.clear()

    async def meet(self, verb: str, plural: str) -> Fault:
        """What happens to a request; raise what it is refused with."""
        for fault in self.now:
            if fault.fits(verb, plural):
                fault.met += 1
                if fault.delay:
                    await asyncio.sleep(fault.delay)
                if fault.code:
                    raise Refused(fault.code, "refused on purpose", retry=fault.after)
                return fault
        return Fault()

    def muted(self, plural: str) -> bool:
        return any(fault.mute and fault.plural in {"", plural} for fault in self.now)

    @contextmanager
    def counted(self) -> Iterator[None]:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            yield
        finally:
            self.under_way -= 1
