"""How often rules decided, by the kernel's counters. They know no time: a rule decided when its counter was seen to have grown.

So that is late by as much as lies between two readings, never early. What had been counted before the first reading was counted
at a time that nobody knows: ``last`` is 0.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from fairlead.datapath.base import UNALLOWED, Hits
from fairlead.kernel import nft

from . import words


class Reading:
    """Remembers what was read last."""

    def __init__(self) -> None:
        self._known: dict[int, Hits] | None = None

    def read(self, counters: Mapping[str, nft.Tally]) -> dict[int, Hits]:
        """By rule; those that never decided are missing."""
        now = 0.0 if self._known is None else time.time()
        before, found = self._known or {}, dict[int, Hits]()
        for name, tally in counters.items():
            said = words.counted(name)
            rule = (said.rule or UNALLOWED.get(said.direction or "", 0)) if said else 0
            if said and rule and tally.packets:  # what nobody decided about is nobody's
                was = found.get(rule, Hits(0, 0, now))
                more = (tally.packets, 0) if said.allows else (0, tally.packets)
                found[rule] = Hits(was.connections + more[0], was.drops + more[1], now)
        for rule, one in found.items():
            known = before.get(rule)
            if known and known[:2] == one[:2]:
                found[rule] = known
        self._known = found
        return dict(found)
