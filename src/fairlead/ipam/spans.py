"""Spans: a set of integers made of runs, so that a /64 is one pair of numbers and is never enumerated."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from fairlead.model.address import Prefix

Run = tuple[int, int]
"""First and last, both included."""


class Spans:
    """An immutable set of integers as sorted runs that do not touch. Asking costs the logarithm of the number of runs."""

    __slots__ = ("_ends", "_starts", "size")

    def __init__(self, runs: Iterable[Run]) -> None:
        starts: list[int] = []
        ends: list[int] = []
        for start, end in sorted(runs):
            if starts and start <= ends[-1] + 1:
                ends[-1] = max(ends[-1], end)
            elif start <= end:
                starts.append(start)
                ends.append(end)
        self._starts, self._ends = tuple(starts), tuple(ends)
        self.size = sum(ends) - sum(starts) + len(starts)

    @classmethod
    def of(cls, prefix: Prefix) -> Spans:
        """Every address of a prefix."""
        net = prefix.net
        return cls([(int(net.network_address), int(net.broadcast_address))])

    def __iter__(self) -> Iterator[Run]:
        return zip(self._starts, self._ends, strict=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spans) and (self._starts, self._ends) == (other._starts, other._ends)

    def __hash__(self) -> int:
        return hash((self._starts, self._ends))

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._starts, number) - 1
        return at >= 0 and number <= self._ends[at]

    def __and__(self, other: Spans) -> Spans:
        return Spans((max(a, c), min(b, d)) for a, b in self for c, d in other if a <= d and c <= b)

    def __or__(self, other: Spans) -> Spans:
        return Spans((*self, *other))

    def __sub__(self, other: Spans) -> Spans:
        return self & other._outside()

    def after(self, number: int) -> int | None:
        """The smallest member that is not below ``number``."""
        at = bisect_right(self._starts, number)
        if at and number <= self._ends[at - 1]:
            return number
        return self._starts[at] if at < len(self._starts) else None

    def _outside(self) -> Spans:
        """What lies around the runs, as far as addresses go."""
        return Spans(
            zip((0, *(end + 1 for end in self._ends)), (*(start - 1 for start in self._starts), 1 << 128), strict=True)
        )
