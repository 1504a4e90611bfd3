"""Rotation: when a node makes a new key, and when it forgets the old one. Pure: what nodes have published, and no clock.

A rotation is everybody's: who sees a newer generation than its own makes a key of it. So a way is never between a key of
yesterday and one of the day before::

    one begins      {7} -> {7, 8}
    the others      {7} -> {7, 8}      as soon as they see it
    everybody       {7, 8} -> {8}      when nobody is left who has not 8, and a while later, for what is on its way

Who cannot follow, as it is away, comes back to a cluster of a newer generation, and follows then. One alone cannot run ahead:
the next rotation waits until nobody has an older key than the last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .station import Station


def wanted(mine: Mapping[int, str], others: Iterable[Station]) -> int:
    """The generation of which this node needs a key; 0 if it has what it needs.

    A node without any begins with the oldest newest one, so that it is understood by everybody.
    """
    newest = [max(one.keys) for one in others if one.keys]
    if not mine:
        return min(newest, default=1)
    return max(newest, default=0) if newest and max(newest) > max(mine) else 0


def spent(mine: Mapping[int, str], others: Iterable[Station]) -> set[int]:
    """The generations that nobody needs any more, as everybody has a newer one."""
    if not mine:
        return set()
    last = max(mine)
    return set() if behind(last, others) else {number for number in mine if number != last}


def behind(generation: int, others: Iterable[Station]) -> list[str]:
    """Who has a key, but none of this generation or a newer one."""
    return sorted(one.name for one in others if one.keys and max(one.keys) < generation)
