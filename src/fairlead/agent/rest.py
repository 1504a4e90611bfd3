"""Rest: for how long an address lies idle before another container of a network that nodes share may have it.

Who had an address other nodes learn a moment late, each by itself. Until then they would judge its next holder by the labels of
the last. So it is not used again before they have had time to hear that the last is gone::

    DEL ── the address is free ──┬─────────── rest ───────────┬── whoever is given it has it at once
                                 └── whoever is given it waits ┘    (a block of one address, or one that was borrowed,
                                                                     goes back to the other nodes only then)

Pools give out what was never used, and then what was freed longest ago. So nobody waits but where nearly all of a pool is in
use, or who wishes for just this address; and nobody longer than the rest.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from fairlead.model.address import Address

Key = tuple[str, Address]


class Rest:
    """When which address of which network was freed, as far as that is still of interest."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """``seconds``: for how long; 0 where no other node has to hear of anything."""
        self.seconds, self._clock = seconds, clock
        self._freed: OrderedDict[Key, float] = OrderedDict()  # the one freed longest ago is the first

    def begin(self, network: str, addresses: Iterable[Address]) -> None:
        """Nobody has these any more, from now on."""
        if not self.seconds:
            return
        now = self._clock()
        while self._freed and now - next(iter(self._freed.values())) >= self.seconds:
            self._freed.popitem(last=False)
        for address in addresses:
            self._freed[network, address] = now
            self._freed.move_to_end((network, address))

    def left(self, network: str, addresses: Iterable[Address]) -> float:
        """Seconds until all of these have rested."""
        freed = [self._freed[network, one] for one in addresses if (network, one) in self._freed]
        return max(0.0, max(freed) + self.seconds - self._clock()) if freed else 0.0

    async def over(self, network: str, addresses: Iterable[Address]) -> None:
        """Wait until all of these have rested."""
        if left := self.left(network, addresses):
            await asyncio.sleep(left)
