"""Hits: how often each rule has decided, as whoever counts them tells.

The collector of flows counts the events that it takes anyway. A plane that counts in the kernel answers with the same values,
and better: it misses no event.
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
