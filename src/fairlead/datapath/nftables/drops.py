"""Drops: what tables of ours drop, as nflog tells it, and what they counted."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator

from fairlead.datapath.seen import Direction, Kind, Reason, Seen, State
from fairlead.kernel import nft
from fairlead.kernel.errors import Gone, KernelError
from fairlead.kernel.netlink import NETFILTER, Netlink
from fairlead.kernel.nflog import Log, Logged

from . import headers, words
from .ruleset import GROUP, SNAPLEN, UNTOLD

log = logging.getLogger(__name__)

_STRAY = {"stray-denied": Reason.STRAY, "many-denied": Reason.MANY, "nobody": Reason.NO_ENDPOINT}


class Drops:
    """Reads the socket of nflog; the only one to do so."""

    def __init__(self, table: str, families: Iterable[str]) -> None:
        """``table`` is what the tables are called, each of one of the ``families``."""
        self._table, self._families = table, tuple(families)
        self._nft, self._log = Netlink(NETFILTER), _listen()
        self.fd = self._log.fileno() if self._log else -1
        """Readable when there are some; -1: they are counted, not told."""

    def read(self, most: int) -> Iterator[Seen]:
        """Drops since the last call, at most so many."""
        for one in self._log.read(most) if self._log else ():
            if seen := _drop(one):
                yield seen

    def untold(self) -> int:
        """How many were one too many to be told."""
        lost = self._log.lost if self._log else 0
        return lost + sum(self._counted(family).get(UNTOLD, 0) for family in self._families)

    def stray(self) -> int:
        """How many were part of no connection."""
        return sum(self._counted(family).get("stray-denied", 0) for family in self._families)

    def dropped(self) -> dict[Reason, int]:
        """The counters of the chains that drop."""
        found: dict[Reason, int] = {}
        for family in self._families:
            for name, packets in self._counted(family).items():
                rule = words.counted(name)
                reason = _STRAY.get(name)
                if name.endswith("-unknown"):
                    reason = Reason.NO_RULING
                elif rule and not rule.allows:
                    reason = Reason.POLICY
                if reason:
                    found[reason] = found.get(reason, 0) + packets
        return found

    def close(self) -> None:
        """Close the sockets; the kernel goes on."""
        self._nft.close()
        if self._log:
            self._log.close()

    def _counted(self, family: str) -> dict[str, int]:
        try:
            return {name: tally.packets for name, tally in nft.counters(self._nft, family, self._table).items()}
        except Gone:
            return {}


def _listen() -> Log | None:
    try:
        return Log(GROUP, snaplen=SNAPLEN)
    except KernelError as error:
        log.warning("drops are counted, not told: %s", error)
        return None


def _drop(one: Logged) -> Seen | None:
    told, header = words.told(one.prefix), headers.read(one.payload)
    if told is None or header is None:
        return None
    high = (header.source, header.source_port) > (header.destination, header.destination_port)
    low_port, high_port = (
        (header.destination_port, header.source_port) if high else (header.source_port, header.destination_port)
    )
    egress = told.direction is words.Direction.EGRESS
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    return Seen(
        low=header.destination if high else header.source,
        low_port=low_port.to_bytes(2, "big"),
        high=header.source if high else header.destination,
        high_port=high_port.to_bytes(2, "big"),
        protocol=header.protocol,
        first=now,
        last=now,
        forth_packets=1,
        forth_bytes=header.length,
        back_packets=0,
        back_bytes=0,
        state=State.CLOSED,
        ifindex=one.arrived if egress else one.leaves,
        forth_flags=header.flags,
        back_flags=0,
        opener_is_high=high,
        outgoing=egress,
        midway=False,
        denied=False,
        ingress_rule=0 if egress else told.rule,
        egress_rule=told.rule if egress else 0,
        kind=Kind.DROP,
        reason=told.reason,
        direction=Direction.FROM_POD if egress else Direction.TO_POD,
    )
