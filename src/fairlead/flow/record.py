"""One thing that was seen, with the names that its addresses had then, and how it is shown to others; and many, kept unread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from fairlead.api.schema import DEFAULT_DENY, Amount, Flow, Peer
from fairlead.datapath.seen import (
    DENIED_AT,
    EGRESS_AT,
    FIRST_AT,
    INGRESS_AT,
    KIND_AT,
    PROTOCOL_AT,
    REASON_AT,
    REASONS,
    RECORD,
    Direction,
    Kind,
    Reason,
    Seen,
)

from .enrich import SERVICE, Names, Party, address

PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
WITHOUT_PORTS = {0, 1, 58}
_EVENTS = {Kind.NEW: "new", Kind.CLOSE: "close", Kind.ACTIVE: "active", Kind.DROP: "drop"}
FORWARDED, DROPPED = "forwarded", "dropped"
_HEADER = 8
_AT_ONCE = 50_000_000
"""Nanoseconds within which a packet has passed both ends, or one."""


class Record(NamedTuple):
    """What was seen, and when and whose it was."""

    time: float
    seen: Seen
    source: Party
    destination: Party
    egress_policy: str = ""
    ingress_policy: str = ""
    """The rules that decided at either end, by name."""

    @property
    def verdict(self) -> str:
        """What became of it."""
        return verdict(self.seen)

    def flow(self) -> Flow:
        """As it is sent."""
        seen = self.seen
        denied, egress, ingress = self._rules()
        ports = seen.protocol not in WITHOUT_PORTS
        return Flow(
            time=stamp(self.time),
            event=_EVENTS[Kind(seen.kind)],
            verdict=verdict(seen),
            direction="egress" if (seen.direction == Direction.FROM_POD if self._cut else seen.outgoing) else "ingress",
            protocol=protocol(seen),
            source=_peer(self.source, seen.source, seen.source_port if ports else 0),
            destination=_peer(self.destination, seen.destination, seen.destination_port if ports else 0),
            sent=Amount(packets=seen.forth_packets, bytes=seen.forth_bytes),
            received=Amount(packets=seen.back_packets, bytes=seen.back_bytes),
            duration=round((seen.last - seen.first) / 1e9, 6),
            midway=bool(seen.midway),
            reason=self._reason(seen),
            policy=denied,
            egress_policy=egress,
            ingress_policy=ingress,
        )

    @property
    def _cut(self) -> bool:
        return self.seen.kind == Kind.CLOSE and self.seen.reason != Reason.NONE

    def _rules(self) -> tuple[str, str, str]:
        """Which denied it; which let it out at the one end, and in at the other."""
        seen, egress, ingress = self.seen, self.egress_policy, self.ingress_policy
        nobody = DEFAULT_DENY if seen.reason == Reason.POLICY else ""
        if seen.kind == Kind.DROP:
            return egress or ingress or nobody, "", ""
        if not self._cut:
            return "", egress, ingress
        if seen.direction == Direction.FROM_POD:
            return egress or nobody, "", ingress
        return ingress or nobody, egress, ""

    def _reason(self, seen: Seen) -> str:
        """In words, with the address that was claimed where it is not one of the container's."""
        found, claimed = REASONS.get(Reason(seen.reason), ""), address(seen.source)
        if seen.kind != Kind.DROP:
            return found
        own = () if isinstance(self.source, str) else (one.address for one in self.source.spec.addresses)
        if isinstance(self.source, str) or seen.direction != Direction.FROM_POD or claimed in {"::", *own}:
            return found
        return f"{found}: {claimed}"


class Batch:
    """What was seen in one turn, as the programs wrote it: most of it nobody ever asks for, so nothing is read before."""

    __slots__ = ("_boot", "_names", "_raw", "_rules", "count", "counted", "opened")

    def __init__(self, raw: bytes, boot: float, names: tuple[Names, int], rule: Callable[[int], str]) -> None:
        """``raw``: one ``RECORD`` after another. ``boot``: when the clock of the programs was zero. ``names`` in which turn."""
        self._raw, self._boot, self._names = raw, boot, names
        self.count = len(raw) // RECORD.size
        kinds = _column(raw, KIND_AT, "I")
        self.opened = kinds.count(Kind.NEW)
        self.counted = Counter[tuple[str, str]]()
        """By verdict and protocol: connections that began, and drops."""
        told = Counter(zip(kinds, _column(raw, PROTOCOL_AT, "B"), _column(raw, REASON_AT, "B"), strict=True))
        for (kind, number, reason), count in told.items():
            if kind in {Kind.NEW, Kind.DROP}:
                self.counted[_verdict(kind), _protocol(kind, number, reason)] += count
        numbers = {*_column(raw, EGRESS_AT, "Q"), *_column(raw, INGRESS_AT, "Q")}
        self._rules = {number: rule(number) for number in numbers if number}
        """Their names now: rules may be gone when somebody asks."""

    def records(self) -> Iterator[Record]:
        """All of it, the last first."""
        for at in range(self.count - 1, -1, -1):
            yield self._record(Seen._make(RECORD.unpack_from(self._raw, at * RECORD.size)))

    def _record(self, seen: Seen) -> Record:
        names, turn = self._names
        speaks = seen.kind == Kind.DROP and seen.direction == Direction.FROM_POD
        return Record(
            (seen.first if seen.kind == Kind.NEW else seen.last) / 1e9 + self._boot,
            seen,
            # Of what was dropped where it was sent, whose it is says the link and not the address that it claims.
            (names.behind(seen.ifindex, turn) if speaks else None) or names.of(seen.source, turn),
            names.of(seen.destination, turn),
            self._rules.get(seen.egress_rule, ""),
            self._rules.get(seen.ingress_rule, ""),
        )


def _column(raw: bytes, at: int, kind: str) -> list[int]:
    """One number of every record, without a look at the rest."""
    view = memoryview(raw).cast(kind)  # type: ignore[call-overload]  # the two formats there are
    return list(view[at // view.itemsize :: RECORD.size // view.itemsize])


def raw(found: Iterable[Seen]) -> bytes:
    """What the sweep saw, as if the programs had told it."""
    return b"".join(RECORD.pack(*one) for one in found)


def real(raw: bytes) -> bytes:
    """Without the connections that never were: one end let a first packet pass, the other dropped it, and that drop is told."""
    if not any(raw[DENIED_AT :: RECORD.size]):
        return raw
    rows = [raw[at : at + RECORD.size] for at in range(0, len(raw), RECORD.size)]
    seen = [Seen._make(RECORD.unpack(row)) for row in rows]
    refused = {_which(row) for row, one in zip(rows, seen, strict=True) if _is_refused(one)}
    return b"".join(
        row for row, one in zip(rows, seen, strict=True) if one.kind not in {Kind.NEW, Kind.CLOSE} or _which(row) not in refused
    )


def _which(row: bytes) -> bytes:
    return row[_HEADER : FIRST_AT + 8]


def _is_refused(one: Seen) -> bool:
    return bool(one.kind == Kind.CLOSE and one.denied and not one.back_packets and one.last - one.first < _AT_ONCE)


def verdict(seen: Seen) -> str:
    """``forwarded`` or ``dropped``."""
    return _verdict(seen.kind)


def _verdict(kind: int) -> str:
    return DROPPED if kind == Kind.DROP else FORWARDED


def protocol(seen: Seen) -> str:
    """The protocol's name, or its number where it has none here; of what is no IP, what it is instead."""
    return _protocol(seen.kind, seen.protocol, seen.reason)


def _protocol(kind: int, number: int, reason: int) -> str:
    if kind == Kind.DROP and number == 0:
        return "arp" if reason == Reason.FOREIGN_ARP else "ethernet"
    return PROTOCOLS.get(number) or str(number)


def stamp(moment: float) -> str:
    """Seconds since 1970 as RFC 3339, with microseconds."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _peer(party: Party, packed: bytes, port: int) -> Peer:
    shown = address(packed)
    if isinstance(party, str):
        kind, _, node = party.partition("/")
        if kind == SERVICE:
            namespace, _, name = node.partition("/")
            return Peer(kind=kind, service=name, namespace=namespace, address=shown, port=port)
        return Peer(kind=kind, node=node, address=shown, port=port)
    return Peer(
        kind="endpoint",
        endpoint=party.display,
        namespace=party.metadata.namespace,
        network=str(party.spec.network),
        labels=party.metadata.labels,
        address=shown,
        port=port,
    )
