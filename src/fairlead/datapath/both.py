"""Both: eBPF programs that judge, and beside them nftables for what is for services.

A program on a container's link meets a service's address, not yet whom that leads to: it lets pass what goes to a service's
port, and a table of nftables judges it where whoever translates has done so (``nftables.beside``). Between the two nothing
comes through: what is new is in the table before the programs let it pass, and stays there until they do not any more.
"""

from __future__ import annotations

import select
from collections.abc import Iterable, Iterator, Sequence

from fairlead.api.schema import Drift
from fairlead.desired.state import NodeState, Row

from .base import Answer, Hits, Look, Question, at_once
from .ebpf.observe import Observer as Programs
from .ebpf.plane import Ebpf
from .nftables.beside import Beside
from .nftables.drops import Drops
from .seen import RECORD, Counts, Reason, Seen


class Both:
    """A plane of two; not for several threads at once."""

    name = Ebpf.name

    def __init__(self, programs: Ebpf, services: Beside) -> None:
        self._programs, self._services = programs, services

    def change(self, add: Iterable[Row], remove: Iterable[Row]) -> None:
        """What is new first beside the programs, what is not any more last."""
        add, remove = list(add), list(remove)
        self._services.change(add, ())
        self._programs.change(add, remove)
        kept = {(type(row), row.key) for row in add}
        self._services.change((), [row for row in remove if (type(row), row.key) not in kept])
        self._services.rest()

    def ensure(self, rows: Iterable[Row]) -> None:
        """The programs are on a link last of all."""
        rows = list(rows)
        self._services.ensure(rows)
        self._programs.ensure(rows)

    def forget(self, rows: Iterable[Row]) -> None:
        """What no program lets pass is nobody's to judge."""
        self._programs.forget(rows)

    def check(self, state: NodeState) -> list[Drift]:
        """What differs of both."""
        return self._programs.check(state) + self._services.check(state)

    @property
    def looks(self) -> Sequence[Look]:
        """The table is small, and only read again if somebody changed it."""
        return (*self._programs.looks, at_once(self._services.check))

    def check_links(self, rows: Iterable[Row]) -> list[Drift]:
        """The same of some links."""
        rows = list(rows)
        return self._programs.check_links(rows) + self._services.check_links(rows)

    def apply(self, state: NodeState) -> None:
        """Make both what ``state`` says."""
        self._services.apply(state)
        self._programs.apply(state)

    def lead(self, state: NodeState, rows: Iterable[Row]) -> None:
        """Programs alone stand at other devices."""
        self._programs.lead(state, rows)

    def holds(self, index: int) -> bool:
        """Whether programs of ours are to stand at this interface."""
        return self._programs.holds(index)

    def ask(self, question: Question) -> Answer | None:
        """What is for a service is asked about at the link, and then of whom it is led to."""
        if question.front is None or not question.sends:
            return self._programs.ask(question)
        address, port = question.front
        at_link = self._programs.ask(question._replace(destination=address, port=port, front=None))
        return self._services.ask(question) if at_link and at_link.allowed and self._services.awake else at_link

    def hits(self) -> dict[int, Hits]:
        """A rule may have decided at either."""
        found = self._programs.hits()
        for rule, hit in (self._services.hits() if self._services.awake else {}).items():
            had = found.get(rule, Hits(0, 0, 0.0))
            found[rule] = Hits(had.connections + hit.connections, had.drops + hit.drops, max(had.last, hit.last))
        return found

    def forget_hits(self, rules: Iterable[int]) -> None:
        """Counters of nftables go with their rules."""
        self._programs.forget_hits(rules)

    def fill(self) -> dict[str, tuple[int, int]]:
        """The maps of the programs, which have an end."""
        return self._programs.fill()

    def purge(self) -> None:
        """Leave nothing of both."""
        self._programs.purge()
        self._services.purge()

    def close(self) -> None:
        """Let go of both."""
        self._programs.close()
        self._services.close()


class Observer:
    """What programs tell, and what the table beside them drops; the only one to read either."""

    def __init__(self, programs: Programs) -> None:
        self._programs, self._drops = programs, Drops(Beside.table, Beside.families)
        self.table, self.held, self.capacity = programs.table, programs.held, programs.capacity
        self._poll = select.epoll()
        for fd in (programs.fd, self._drops.fd):
            if fd >= 0:
                self._poll.register(fd, select.EPOLLIN)
        self.fd = self._poll.fileno()

    def events(self, most: int) -> bytes:
        """What happened since the last call, at most so many: one ``RECORD`` after another."""
        found = self._programs.events(most)
        left = most - len(found) // RECORD.size
        return found + b"".join(RECORD.pack(*one) for one in self._drops.read(left)) if left else found

    def sweep(self) -> Iterator[tuple[list[Seen], int]]:
        """The connections that the programs remember."""
        yield from self._programs.sweep()
        self.held = self._programs.held

    def evicted(self) -> int:
        """How many made room for others."""
        return self._programs.evicted()

    def counts(self) -> Counts:
        """What was lost of either."""
        counted, untold = self._programs.counts(), self._drops.untold()
        return counted._replace(lost_drop=counted.lost_drop + untold)

    def dropped(self) -> dict[Reason, int]:
        """Packets that either dropped, for each reason."""
        found = self._programs.dropped()
        for reason, packets in self._drops.dropped().items():
            found[reason] = found.get(reason, 0) + packets
        return found

    def close(self) -> None:
        """Let go of both."""
        self._poll.close()
        self._programs.close()
        self._drops.close()
