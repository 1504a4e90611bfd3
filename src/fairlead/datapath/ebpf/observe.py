"""What the programs saw: events as they come, the whole table of connections now and then, what was lost.

The table is swept because a program runs only when a packet comes: that a connection is silent is for user space to notice.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator

from fairlead.datapath.seen import Counts, Kind, Reason, Seen, State
from fairlead.desired.state import NodeState
from fairlead.kernel.bpf import Ring

from .asked import Asked
from .layout import EVENT, Counter, seen
from .programs import Programs, forgot

_NANO = 1_000_000_000
_TCP = 6
IDLE = {State.OPENING: 30, State.ESTABLISHED: 60, State.CLOSING: 10, State.CLOSED: 10}
"""Seconds of silence after which a connection is over."""
IDLE_TCP = 7440
"""The same for an established TCP connection: two hours and four minutes, as RFC 5382 has it."""


class Observer:
    """Reads the maps of ``programs``; the only one to do so."""

    table = "connections"

    def __init__(self, programs: Programs, state: Callable[[], NodeState]) -> None:
        """``state`` answers with the node's state as it is."""
        self._maps = programs.maps
        self._ring = Ring(self._maps["events"])
        self._asked = Asked(self._maps["connections"], state)
        self._swept = 0
        self.held = 0
        """Connections that are remembered, closed ones too, as the last sweep found them."""
        self.capacity = self._maps["connections"].info.max_entries
        self.fd = self._ring.fd
        """Readable when there are events."""

    def events(self, most: int) -> bytes:
        """What happened since the last call, at most so many: one ``RECORD`` after another, as the programs wrote them."""
        return self._asked.complete(self._ring.take(EVENT.size, most))

    def sweep(self) -> Iterator[tuple[list[Seen], int]]:
        """The table, a chunk at a time: what there is to tell, and how many live connections the chunk held.

        To tell of are connections that are over by silence, which are removed, and those that began before the last sweep and
        had traffic since. What was reset or closed is removed silently: an event has told of it. What was cut stays longer, so
        that what its parties still send is not taken for a new connection.
        """
        since, self._swept = self._swept, time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        table, held, removed = self._maps["connections"], 0, 0
        key_size, value_size = table.info.key_size, table.info.value_size
        for keys, values, count in table.chunks():
            found, live = [], 0
            held += count
            for at in range(count):
                key = keys[at * key_size : (at + 1) * key_size]
                one, denied = seen(key + values[at * value_size : (at + 1) * value_size], Kind.ACTIVE)
                if self._swept - one.last > (IDLE_TCP if denied else _patience(one)) * _NANO:
                    if table.delete(key):
                        removed += 1
                        if one.state != State.CLOSED:
                            found.append(one._replace(kind=Kind.CLOSE))
                elif one.state != State.CLOSED:
                    live += 1
                    if one.first < since < one.last:
                        found.append(one)
            yield found, live
        forgot(self._maps["counters"], removed)
        self.held = held - removed

    def evicted(self) -> int:
        """How many made room for others before they ended, since the programs were first loaded, as of the last sweep."""
        counted = self.counters()
        return max(0, counted[Counter.REMEMBERED] - counted[Counter.FORGOTTEN] - self.held)

    def counters(self) -> dict[Counter, int]:
        """Each counter, all CPUs together, since the programs were first loaded."""
        found = {}
        for counter in Counter:
            values = self._maps["counters"].lookup(struct.pack("=I", counter)) or b""
            found[counter] = sum(value for (value,) in struct.iter_unpack("=Q", values))
        return found

    def counts(self) -> Counts:
        """The counters as every plane tells them."""
        counted = self.counters()
        return Counts(
            lost_new=counted[Counter.NEW_LOST],
            lost_close=counted[Counter.CLOSE_LOST],
            lost_drop=counted[Counter.DROP_LOST],
            malformed=counted[Counter.MALFORMED],
            not_tracked=counted[Counter.NOT_TRACKED],
            fragments_unmatched=counted[Counter.FRAGMENT_UNMATCHED],
            table_full=counted[Counter.TABLE_FULL],
        )

    def dropped(self) -> dict[Reason, int]:
        """Packets that were dropped for each reason, all CPUs together, since the programs were first loaded."""
        found: dict[Reason, int] = {}
        for reason in [one for one in Reason if Reason.NONE < one < Reason.STRAY]:
            values = self._maps["drop_counters"].lookup(struct.pack("=I", reason)) or b""
            found[reason] = sum(value for (value,) in struct.iter_unpack("=Q", values))
        return found

    def close(self) -> None:
        """Let go of the shared memory."""
        self._ring.close()


def _patience(one: Seen) -> int:
    if one.protocol == _TCP and one.state == State.ESTABLISHED:
        return IDLE_TCP
    return IDLE[State(one.state)]
