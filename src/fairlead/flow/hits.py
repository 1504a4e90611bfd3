"""Hits: how often each rule has decided, counted from the events that the collector takes anyway."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from fairlead.policy.hits import Hit

_MOST = 65536
"""Connections of which it is remembered that they were counted: as many as are followed at once."""


class Tally:
    """Counts event by event. Of a connection the two ends may tell two rules, the one when it begins and the other later on."""

    def __init__(self) -> None:
        self._hits: dict[int, Hit] = {}
        self._told: dict[Hashable, int] = {}

    def connection(self, key: Hashable, rule: int, moment: float, *, ends: bool) -> None:
        """An event of the connection ``key`` tells the rule that let it pass; ``ends``: there will be no other."""
        if rule and self._told.get(key) != rule:
            before = self._hits.get(rule, Hit())
            self._hits[rule] = Hit(before.connections + 1, before.drops, moment)
            self._told[key] = rule
        if ends:
            self._told.pop(key, None)
        while len(self._told) > _MOST:
            del self._told[next(iter(self._told))]

    def drop(self, rule: int, moment: float) -> None:
        """A packet was dropped because of one."""
        before = self._hits.get(rule, Hit())
        self._hits[rule] = Hit(before.connections, before.drops + 1, moment)

    def hits(self) -> Mapping[int, Hit]:
        """All so far."""
        return dict(self._hits)
