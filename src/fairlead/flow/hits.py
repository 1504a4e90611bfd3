"""Hits: how often each rule has decided, counted from the events that the collector takes anyway.

A plane that counts in the kernel answers with the same values, and better: it misses no event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol


class Hit(NamedTuple):
    """Of one rule: connections that it let begin, drops that it made, and when it last did one of these; 0: it never did."""

    connections: int = 0
    drops: int = 0
    last: float = 0.0


class Counted(Protocol):
    """Who knows how often rules have decided."""

    def hits(self) -> Mapping[int, Hit]:
        """By the number of the rule; 0 is the default denial of whom a policy isolates. Rules that never decided may lack."""


class Tally:
    """Counts event by event."""

    def __init__(self) -> None:
        self._hits: dict[int, Hit] = {}

    def connection(self, rule: int, moment: float) -> None:
        """A connection began because of a rule."""
        before = self._hits.get(rule, Hit())
        self._hits[rule] = Hit(before.connections + 1, before.drops, moment)

    def drop(self, rule: int, moment: float) -> None:
        """A packet was dropped because of one."""
        before = self._hits.get(rule, Hit())
        self._hits[rule] = Hit(before.connections, before.drops + 1, moment)

    def hits(self) -> Mapping[int, Hit]:
        """All so far."""
        return dict(self._hits)
