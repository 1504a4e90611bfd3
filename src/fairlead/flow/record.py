"""One thing that was seen, with the names that its addresses had then; and how it is shown to others."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple, Self

from fairlead.api.schema import Amount, Flow, Peer
from fairlead.datapath.ebpf.layout import EVENT, REASONS, Kind, Reason, Seen

from .enrich import Party, address

PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
WITHOUT_PORTS = {0, 1, 58}
_EVENTS = {Kind.NEW: "new", Kind.CLOSE: "close", Kind.ACTIVE: "active", Kind.DROP: "drop"}
FORWARDED, DROPPED = "forwarded", "dropped"
_DEFAULT = "default deny"


class Record(NamedTuple):
    """As it is kept, 300 bytes: most are never asked for, so what was seen stays as the program wrote it."""

    time: float
    event: bytes
    source: Party
    destination: Party
    policy: str = ""

    @classmethod
    def of(cls, moment: float, seen: Seen, source: Party, destination: Party, policy: str = "") -> Self:
        """Pack what was seen. ``policy``: the rule that decided, by name."""
        return cls(moment, EVENT.pack(*seen), source, destination, policy)

    @property
    def seen(self) -> Seen:
        """What was seen, unpacked."""
        return Seen._make(EVENT.unpack(self.event))

    @property
    def verdict(self) -> str:
        """What became of it."""
        return verdict(self.seen)

    def flow(self) -> Flow:
        """As it is sent."""
        seen = self.seen
        dropped = seen.kind == Kind.DROP
        ports = seen.protocol not in WITHOUT_PORTS
        return Flow(
            time=stamp(self.time),
            event=_EVENTS[Kind(seen.kind)],
            verdict=verdict(seen),
            direction="egress" if seen.outgoing else "ingress",
            protocol=protocol(seen),
            source=_peer(self.source, seen.source, seen.source_port if ports else 0),
            destination=_peer(self.destination, seen.destination, seen.destination_port if ports else 0),
            sent=Amount(packets=seen.forth_packets, bytes=seen.forth_bytes),
            received=Amount(packets=seen.back_packets, bytes=seen.back_bytes),
            duration=round((seen.last - seen.first) / 1e9, 6),
            midway=bool(seen.midway),
            reason=REASONS.get(Reason(seen.reason), "") if dropped else "",
            policy=self.policy or (_DEFAULT if dropped and seen.reason == Reason.POLICY else ""),
        )


def verdict(seen: Seen) -> str:
    """``forwarded`` or ``dropped``."""
    return DROPPED if seen.kind == Kind.DROP else FORWARDED


def protocol(seen: Seen) -> str:
    """The protocol's name, or its number where it has none here; of what is no IP, what it is instead."""
    if seen.kind == Kind.DROP and seen.protocol == 0:
        return "arp" if seen.reason == Reason.FOREIGN_ARP else "ethernet"
    return PROTOCOLS.get(seen.protocol) or str(seen.protocol)


def stamp(moment: float) -> str:
    """Seconds since 1970 as RFC 3339, with microseconds."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _peer(party: Party, packed: bytes, port: int) -> Peer:
    shown = address(packed)
    if isinstance(party, str):
        return Peer(kind=party, address=shown, port=port)
    return Peer(
        kind="endpoint",
        endpoint=party.display,
        namespace=party.metadata.namespace,
        network=str(party.spec.network),
        labels=party.metadata.labels,
        address=shown,
        port=port,
    )
