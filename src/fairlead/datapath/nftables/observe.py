"""What the kernel tells on this plane: connections by its tracker, drops by nflog, and what was lost of either.

The tracker knows every connection of the machine. Those of containers are told, as the container sees them that has a part in
it: what it opened by the addresses it asked for, what it was asked by those that reached it. Of a large send it counts as one
packet what goes out as many, and it counts from the network header on.

A policy drops a packet of a connection that the tracker has: so it is cut, and that is told at once, as of one that is over.
The tracker keeps it for as long as its parties try. If policies allow it again meanwhile it goes on, and is told of as before.
"""

from __future__ import annotations

import logging
import select
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator

from fairlead.datapath.seen import RECORD, Counts, Direction, Kind, Reason, Seen, State
from fairlead.desired.state import NodeState
from fairlead.kernel import tracking
from fairlead.kernel.tracking import CLOSE, ENDED, NEW, SYN_SENT, TIME_WAIT, Ends, Tracked, Tracking

from .drops import Drops
from .rules import Rules
from .ruleset import NAME, TABLES

log = logging.getLogger(__name__)

_MAPPED = bytes(10) + b"\xff\xff"
_REMEMBERED = 1 << 16
_TCP = 6
_SYN, _SYN_ACK = 0x02, 0x12
_ASKED = 256
"""How many dropped packets' connections are looked up at a time."""
_OVER = {TIME_WAIT, CLOSE}
_CUTTING = {Reason.POLICY, Reason.NO_RULING}
"""Why packets of connections are dropped that were allowed once."""


class Observer:
    """Reads both sockets as one; the only one to do so."""

    table = "tracked connections"

    def __init__(self, state: Callable[[], NodeState]) -> None:
        """``state`` answers with the node's state as it is."""
        self._rules = Rules(state)
        self._tracking = Tracking()
        self._drops = Drops(NAME, TABLES)
        self._told: OrderedDict[int, bool] = OrderedDict()
        """Of what the tracker still has, what was told as over; and whether it was cut."""
        self._carried: dict[int, int] = {}  # packets of each connection at the last sweep
        self._swept = 0
        self.held, self.capacity = self._tracking.room()
        """Connections of the whole machine, as the last sweep found them, and how many there can be."""
        self._evicted = self._tracking.evicted()
        self._poll = select.epoll()
        for fd in (self._tracking.fileno(), self._drops.fd):
            if fd >= 0:
                self._poll.register(fd, select.EPOLLIN)
        self.fd = self._poll.fileno()
        for words_ in tracking.enable():
            log.warning("flows are told without what they carry: %s", words_)

    def events(self, most: int) -> bytes:
        """What happened since the last call, about so many at most: one ``RECORD`` after another."""
        self._rules.refresh()
        found = [*self._dropped(most)]
        found += self._connections(most - len(found))
        return b"".join(RECORD.pack(*one) for one in found)

    def sweep(self) -> Iterator[tuple[list[Seen], int]]:
        """The tracker's table: those that began before the last sweep and carried something since."""
        self._rules.refresh()
        since, self._swept = self._swept, time.time_ns()
        before, self._carried = self._carried, {}
        for several in self._tracking.all():
            found, live = [], 0
            for one in several:
                if one.tcp in _OVER or not (seen := self._seen(one, Kind.ACTIVE)):
                    continue
                packets = one.forth_packets + one.back_packets
                if len(self._carried) < _REMEMBERED:
                    self._carried[one.id] = packets
                if self._stays_cut(one):
                    continue
                live += 1
                if one.start < since and before.get(one.id, packets) != packets:
                    found.append(self._ruled(one, seen))
            yield found, live
        self.held, self.capacity = self._tracking.room()

    def evicted(self) -> int:
        """How many connections of the whole machine made room for others before they ended, since this began to read."""
        return self._tracking.evicted() - self._evicted

    def counts(self) -> Counts:
        """What the sockets had no room for, and drops that were one too many to be told."""
        return Counts(lost_close=self._tracking.lost, lost_drop=self._drops.untold(), not_tracked=self._drops.stray())

    def dropped(self) -> dict[Reason, int]:
        """The counters of the chains that drop."""
        return self._drops.dropped()

    def close(self) -> None:
        """Close the sockets; the kernel goes on."""
        self._poll.close()
        self._tracking.close()
        self._drops.close()

    def _connections(self, most: int) -> Iterator[Seen]:
        for one in self._tracking.read(most):
            if one.what == NEW:
                seen = self._seen(one, Kind.NEW)
            elif one.what == ENDED:
                seen = None if self._recall(one.id) else self._seen(one, Kind.CLOSE)
            else:
                seen = self._over(one)
            if seen:
                yield self._ruled(one, seen)

    def _over(self, one: Tracked) -> Seen | None:
        """Both sides closed it, or one reset it: told now, with what it carried."""
        if one.tcp not in _OVER or one.id in self._told or not self._seen(one, Kind.CLOSE):
            return None
        self._tell(one.id, cut=False)
        return self._seen(self._tracking.ask(one) or one, Kind.CLOSE)

    def _dropped(self, most: int) -> Iterator[Seen]:
        """Packets that were dropped, each after what it says of its connection."""
        asked = 0
        for drop in self._drops.read(most):
            # One that opens has no connection yet. Others are many where somebody looks for open doors: there is a next packet.
            if drop.reason in _CUTTING and drop.forth_flags & _SYN_ACK != _SYN and asked < _ASKED:
                asked += 1
                if cut := self._cut(drop):
                    yield cut
            yield drop

    def _cut(self, drop: Seen) -> Seen | None:
        """The connection that a packet was part of, as cut by what dropped the packet; None if there is nothing to tell."""
        if not (one := self._connection(drop)) or one.id in self._told:
            return None
        if not (seen := self._seen(one, Kind.CLOSE)):
            return None
        self._tell(one.id, cut=True)
        cut = self._ruled(one, seen)._replace(reason=drop.reason, direction=drop.direction, last=drop.last)
        rule = drop.egress_rule or drop.ingress_rule
        return cut._replace(egress_rule=rule) if drop.direction == Direction.FROM_POD else cut._replace(ingress_rule=rule)

    def _connection(self, packet: Seen) -> Tracked | None:
        """Whose packet it is, perhaps one that was translated on its way: then it goes as answers come, turned about."""
        source, destination = _plain(packet.source), _plain(packet.destination)
        ends = Ends(source, destination, packet.source_port, packet.destination_port)
        found = self._tracking.find(packet.protocol, ends)
        return found or self._tracking.find(packet.protocol, _turned(ends))

    def _stays_cut(self, one: Tracked) -> bool:
        """Whether it was cut, and policies have not changed their mind."""
        cut = self._told.get(one.id, False)
        if cut and self._rules.allow(one):
            del self._told[one.id]
            return False
        return cut

    def _tell(self, number: int, *, cut: bool) -> None:
        self._told[number] = cut
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)

    def _recall(self, number: int) -> bool:
        """Whether it was told already that this one is over."""
        return self._told.pop(number, None) is not None

    def _seen(self, one: Tracked, kind: Kind) -> Seen | None:
        """As one of our containers sees it; None if none has a part in it."""
        opener, asked = _mapped(one.original.source), _mapped(one.reply.source)
        outgoing = self._rules.knows(opener)
        if not outgoing and not self._rules.knows(asked):
            return None
        ends = one.original if outgoing else _turned(one.reply)
        source, destination = _mapped(ends.source), _mapped(ends.destination)
        high = (source, ends.source_port) > (destination, ends.destination_port)
        lower, upper = (ends.destination_port, ends.source_port) if high else (ends.source_port, ends.destination_port)
        now, clock = time.time_ns(), time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        first = (one.start or now) - now + clock
        return Seen(
            low=destination if high else source,
            low_port=lower.to_bytes(2, "big"),
            high=source if high else destination,
            high_port=upper.to_bytes(2, "big"),
            protocol=one.protocol,
            first=max(first, 0),
            last=max((one.stop or now) - now + clock, 0),
            forth_packets=one.forth_packets,
            forth_bytes=one.forth_bytes,
            back_packets=one.back_packets,
            back_bytes=one.back_bytes,
            state=State.CLOSED if kind is Kind.CLOSE else State.ESTABLISHED if one.back_packets else State.OPENING,
            ifindex=0,
            forth_flags=0,
            back_flags=0,
            opener_is_high=high,
            outgoing=outgoing,
            midway=kind is Kind.NEW and one.protocol == _TCP and one.tcp != SYN_SENT,
            denied=False,
            ingress_rule=0,
            egress_rule=0,
            kind=kind,
        )

    def _ruled(self, one: Tracked, seen: Seen) -> Seen:
        """With the rules that let it pass, which take longer to find than all else."""
        egress, ingress = self._rules.of(one)
        return seen._replace(egress_rule=egress, ingress_rule=ingress)


def _turned(ends: Ends) -> Ends:
    return Ends(ends.destination, ends.source, ends.destination_port, ends.source_port)


def _plain(packed: bytes) -> bytes:
    return packed.removeprefix(_MAPPED)


def _mapped(packed: bytes) -> bytes:
    return packed if len(packed) == 16 else _MAPPED + packed
