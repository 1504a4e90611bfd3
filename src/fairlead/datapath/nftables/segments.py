"""Segments: nested prefixes, each with what is said of it, as runs of addresses side by side; the longest prefix counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

L = TypeVar("L")


class Segment(NamedTuple, Generic[L]):
    """Addresses as numbers, first to last, and what is said of them."""

    first: int
    last: int
    label: L


def segments(prefixes: Iterable[Segment[L]]) -> list[Segment[L]]:
    """``prefixes`` are nested or apart, as prefixes are. What touches and says the same is one run."""
    found: list[Segment[L]] = []
    around: list[Segment[L]] = []
    at = 0
    for one in sorted(prefixes, key=lambda one: (one.first, -one.last)):
        while around and around[-1].last < one.first:
            outer = around.pop()
            _append(found, at, outer.last, outer.label)
            at = max(at, outer.last + 1)
        if around:
            _append(found, at, one.first - 1, around[-1].label)
        at = one.first
        around.append(one)
    while around:
        outer = around.pop()
        _append(found, at, outer.last, outer.label)
        at = max(at, outer.last + 1)
    return found


def _append(found: list[Segment[L]], first: int, last: int, label: L) -> None:
    if first > last:
        return
    if found and found[-1].last == first - 1 and found[-1].label == label:
        found[-1] = found[-1]._replace(last=last)
    else:
        found.append(Segment(first, last, label))
