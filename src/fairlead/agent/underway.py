"""Under way: changes that are in the state, and that the kernel has not got yet because their turn has not come.

A comparison must not take them for things that somebody removed::

    event loop      begin ── adopt ───────────────────────────────┐
    kernel thread              ... other turns, a comparison ...  the change ── end

A comparison has a turn in the kernel thread too, so for it each change has been made altogether or not at all.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping

from fairlead.api.schema import Drift
from fairlead.desired.state import NodeState, Rows
from fairlead.model.errors import Conflict


class UnderWay:
    """What their owners had before, by the number of the change."""

    def __init__(self) -> None:
        """Nothing is."""
        self._before: dict[int, Mapping[str, Rows]] = {}
        self._numbers = itertools.count()

    def begin(self, before: Mapping[str, Rows]) -> int:
        """A change of these owners, from what they had: said before the state is changed."""
        number = next(self._numbers)
        self._before[number] = before
        return number

    def end(self, number: int) -> None:
        """The kernel has it, or it is taken back in the state; saying it twice does nothing."""
        self._before.pop(number, None)

    def without(self, state: NodeState, leaving: Collection[str]) -> NodeState:
        """What the kernel should hold at this moment, in the kernel thread; of those who are ``leaving``, nothing.

        ``state`` was read before this is called.
        """
        before: dict[str, Rows] = {}
        for change in reversed(list(self._before.values())):  # the first of several changes knows what there was
            before |= {owner: rows for owner, rows in change.items() if owner not in leaving}
        try:
            return state.replace_all(before)
        except Conflict:  # one that left has given its place to one that came
            return state


def lasting(first: Iterable[Drift], second: Iterable[Drift]) -> list[Drift]:
    """What was found both times: of what was found while something left, or was taken back, that which somebody broke."""
    again = {(one.table, one.key, one.kind, one.want) for one in second}
    return [one for one in first if (one.table, one.key, one.kind, one.want) in again]
