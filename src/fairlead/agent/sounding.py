"""Sounding: how large a packet really gets to another node, found by sending one.

What two nodes say of their uplinks says nothing of what lies between: a link with a smaller MTU, a tunnel of the provider's, a
router that drops what is too large and tells nobody. So each node is sent a packet of the size that both claim, not to be
fragmented; only if that is not answered, and a small one is, is the largest looked for that is::

    new, moved, or an hour old ── 1500? ── answered ──► as claimed
                                    └── not ── 576? ── answered ──► halve what is between, ask for it, and for 1500 once more
                                                  └── not ──► nothing is known: ICMP is filtered, or the node is off

What is found limits the routes to that node (``topology``), from which containers and TCP learn it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import NamedTuple

from fairlead.kernel import echo
from fairlead.topology.station import Station

log = logging.getLogger(__name__)

SMALLEST = {4: 576, 6: 1280}
"""What every link carries, or next to every one."""

_PATIENCE = (0.2, 0.3, 0.7)
"""Seconds that each try waits for its answer: what is lost by chance is asked for again soon, what is slow is waited for."""
_SPREAD = 3.0
"""Seconds over which new nodes are asked, so that one that joins is not asked by all others at once."""
_HOUR = 3600.0
_TOGETHER = 8
"""Nodes that are asked at a time."""

Ask = Callable[[str, float, int, str], Awaitable[bool]]


class Depth(NamedTuple):
    """What was found on the way to a node: ``claimed`` is what both ends' uplinks say, ``found`` what gets there.

    ``found`` is 0 where nothing is known.
    """

    address: str
    claimed: int
    found: int


class _Course(NamedTuple):
    """What a sounding is for; with another one it is due again."""

    source: str
    address: str
    claimed: int


class Sounding:
    """Runs beside the agent for as long as it lives."""

    def __init__(
        self,
        me: Callable[[], Station],
        others: Callable[[], Mapping[str, Station]],
        found: Callable[[Iterable[str]], Awaitable[None]],
        interval: float = _HOUR,
        ask: Ask = echo.answers,
    ) -> None:
        """``found`` is told of nodes to which another size gets than before; ``interval``: seconds until one is asked again."""
        self.depths: dict[str, Depth] = {}
        self._me, self._others, self._found, self._interval, self._ask = me, others, found, interval, ask
        self._known: dict[str, tuple[_Course, float]] = {}
        self._wake = asyncio.Event()

    def look(self) -> None:
        """Nodes came, went or changed."""
        self._wake.set()

    def limit(self, other: Station) -> Station:
        """A node with what gets there as its uplink's MTU, if that is less."""
        depth = self.depths.get(other.name)
        return other._replace(mtu=min(other.mtu, depth.found)) if depth and depth.found else other

    def narrow(self) -> dict[str, Depth]:
        """The nodes to which less gets than this node's uplink carries; of one that does not answer what it claims."""
        mine = self._me().mtu
        known = {name: depth._replace(found=depth.found or depth.claimed) for name, depth in sorted(self.depths.items())}
        return {name: depth for name, depth in known.items() if depth.found < mine}

    async def run(self) -> None:
        """Ask whoever is due, and whoever will be."""
        while True:
            self._wake.clear()
            if await self.turn():
                continue  # who changed meanwhile
            try:
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(random.uniform(0, _SPREAD))  # noqa: S311  # no secret

    async def turn(self) -> bool:
        """Ask whoever is due now; whether anybody was."""
        courses = self._courses()
        self._known = {name: known for name, known in self._known.items() if name in courses}
        await self._forget([name for name in self.depths if name not in courses])
        due = [name for name, course in courses.items() if self._is_due(name, course)]
        for start in range(0, len(due), _TOGETHER):
            await self._sound({name: courses[name] for name in due[start : start + _TOGETHER]})
        return bool(due)

    def _courses(self) -> dict[str, _Course]:
        me, found = self._me(), {}
        for name, other in self._others().items():
            if ends := me.between(other):
                found[name] = _Course(ends[0], ends[1], min(me.mtu, other.mtu))
        return found

    def _is_due(self, name: str, course: _Course) -> bool:
        known = self._known.get(name)
        return known is None or known[0] != course or time.monotonic() - known[1] >= self._interval

    def _pause(self) -> float:
        ages = [time.monotonic() - at for _, at in self._known.values()]
        return max(1.0, self._interval - max(ages, default=0.0))

    async def _sound(self, courses: Mapping[str, _Course]) -> None:
        found = await asyncio.gather(*(self._depth(course) for course in courses.values()))
        changed = []
        for (name, course), size in zip(courses.items(), found, strict=True):
            self._known[name] = (course, time.monotonic())
            before, now = self.depths.get(name), Depth(course.address, course.claimed, size)
            if before and not size and before[:2] == now[:2]:
                now = before  # no answer at all is no news
            self.depths[name] = now
            if 0 < size < course.claimed and before != now:
                log.warning(
                    "to node %s (%s) get %d bytes, not the %d that the uplinks say", name, now.address, size, course.claimed
                )
            if _limit(before) != _limit(now):
                changed.append(name)
        if changed:
            await self._found(changed)

    async def _forget(self, names: list[str]) -> None:
        limited = [name for name in names if _limit(self.depths.pop(name))]
        if limited:
            await self._found(limited)

    async def _depth(self, course: _Course) -> int:
        """The largest size that gets there; 0: nothing is known."""
        if await self._answers(course, course.claimed):
            return course.claimed
        low, high = SMALLEST[6 if ":" in course.address else 4], course.claimed
        if low >= high or not await self._answers(course, low):
            return 0
        while high - low > 1:
            middle = (low + high) // 2
            if await self._answers(course, middle):
                low = middle
            else:
                high = middle
        # A packet that was lost by chance would have been taken for one that was too large.
        return course.claimed if await self._answers(course, course.claimed) else low

    async def _answers(self, course: _Course, size: int) -> bool:
        for patience in _PATIENCE:
            if await self._ask(course.address, patience, size, course.source):
                return True
        return False


def _limit(depth: Depth | None) -> int:
    return depth.found if depth and depth.found < depth.claimed else 0
