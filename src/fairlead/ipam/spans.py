"""Spans: a set of integers made of runs, so that a /64 is one pair of numbers and is never enumerated."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

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
    def of(cls, *prefixes: Prefix) -> Spans:
        """Every address of some prefixes, which are of one family."""
        return cls(one.run for one in prefixes)

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
        return Spans(_common(tuple(self), tuple(other)))

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

    def around(self, number: int) -> Iterator[int]:
        """Every member, those that are not below ``number`` first."""
        for start, end in self:
            yield from range(max(start, number), end + 1)
        for start, end in self:
            yield from range(start, min(end + 1, number))

    def nth(self, count: int) -> int:
        """The member that ``count`` smaller ones come before."""
        for start, end in self:
            if start + count <= end:
                return start + count
            count -= end - start + 1
        raise IndexError(count)

    def _outside(self) -> Spans:
        """What lies around the runs, as far as addresses go."""
        return Spans(
            zip((0, *(end + 1 for end in self._ends)), (*(start - 1 for start in self._starts), 1 << 128), strict=True)
        )


def _common(one: Sequence[Run], other: Sequence[Run]) -> Iterator[Run]:
    """What two sorted sequences of runs share, each looked at once: in one step the run that ends first is passed."""
    at = beside = 0
    while at < len(one) and beside < len(other):
        (a, b), (c, d) = one[at], other[beside]
        if a <= d and c <= b:
            yield max(a, c), min(b, d)
        if b < d:
            at += 1
        else:
            beside += 1
