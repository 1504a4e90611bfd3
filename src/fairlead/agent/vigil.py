"""Vigil: nodes whose agents give no sign of life. A stopped agent is no dead node: its containers go on without it.

So who falls silent is asked itself. As long as the node answers, everything stays as it is; when it does not, it is taken for
dead, and nothing is sent to it until it answers or its agent is heard again::

    heard ── no sign of life ──► asked, every second ── an answer ──► reached as before
                                    └── none, three times ──► dead ── an answer ──► reached again
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

from fairlead.kernel import echo
from fairlead.model.address import Address

log = logging.getLogger(__name__)

_PAUSE, _MISSES = 1.0, 3
_CALM = 5.0
"""Seconds between two questions to one that answers, or that has long been dead."""

Ask = Callable[[str, float], Awaitable[bool]]


class Vigil:
    """Asks the silent."""

    def __init__(
        self, address: Callable[[str], Address | None], judged: Callable[[str], Awaitable[None]], ask: Ask = echo.answers
    ) -> None:
        """``address`` is where a node is asked; ``judged`` is told of one that is dead, or lives again."""
        self.dead: set[str] = set()
        self.answering: set[str] = set()
        """Those of the silent that answered when they were last asked."""
        self._address, self._judged, self._ask = address, judged, ask
        self._asking: dict[str, asyncio.Task[None]] = {}

    @property
    def silent(self) -> Collection[str]:
        """Nodes whose agents are not heard, dead or not."""
        return self._asking.keys()

    async def hear(self, silent: Collection[str]) -> None:
        """These give no sign of life; all others do."""
        for name in [one for one in self._asking if one not in silent]:
            self._asking.pop(name).cancel()
            self.answering.discard(name)
            if name in self.dead:
                await self._judge(name, dead=False)
        for name in silent:
            if name not in self._asking:
                self._asking[name] = asyncio.create_task(self._watch(name))

    def word(self, name: str) -> str:
        """What is known of a silent one, as the end of a sentence."""
        if name in self.dead:
            return ", and does not answer: nothing is sent to it"
        return ", but answers: its agent is away" if name in self.answering else ": it is being asked"

    async def close(self) -> None:
        """Ask no more."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._asking.clear()

    async def _watch(self, name: str) -> None:
        misses = 0
        log.warning("node %s gives no sign of life: it is asked itself", name)
        while True:
            address = self._address(name)
            answered = address is not None and await self._ask(address, _PAUSE)
            misses = 0 if answered else misses + 1
            (self.answering.add if answered else self.answering.discard)(name)
            if misses == _MISSES and name not in self.dead:
                await self._judge(name, dead=True)
            elif answered and name in self.dead:
                await self._judge(name, dead=False)
            await asyncio.sleep(_CALM if answered or misses > 10 * _MISSES else _PAUSE if misses else 0)

    async def _judge(self, name: str, *, dead: bool) -> None:
        log.warning("node %s %s", name, "does not answer: nothing is sent to it" if dead else "is back")
        (self.dead.add if dead else self.dead.discard)(name)
        await self._judged(name)
