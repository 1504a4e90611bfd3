"""What a plane sees of connections and drops, whichever plane it is, and where flows get it from."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple, Protocol

RECORD = struct.Struct("=8x16s16s2s2sB3xQQQQQQIIBBBBBxBxQ16xQIBB2x")
"""A ``Seen`` as it is kept: as the eBPF programs write it into their ring buffer, whose header is the first eight bytes."""
PROTOCOL_AT, FIRST_AT, HIGH_OPENS_AT, DENIED_AT = 44, 48, 106, 110
INGRESS_AT, ANSWERED_AT, EGRESS_AT, KIND_AT, REASON_AT = 112, 128, 136, 144, 148
"""Where some of its fields lie; up to ``first`` and with it they say which connection it is. ``ANSWERED_AT``: not
zero if who was asked has decided."""


class Kind(IntEnum):
    """What happened. ``ACTIVE``: a connection goes on."""

    NEW = 1
    CLOSE = 2
    ACTIVE = 3
    DROP = 4


class State(IntEnum):
    """How far a connection is."""

    OPENING = 1
    ESTABLISHED = 2
    CLOSING = 3
    CLOSED = 4


class Direction(IntEnum):
    """The hook, from the container's point of view."""

    FROM_POD = 0
    TO_POD = 1


class Reason(IntEnum):
    """Why a packet is dropped. Those below 64 are the eBPF programs' (bpf/shared/verdict.h)."""

    NONE = 0
    POLICY = 1
    NO_RULING = 2
    NO_ENDPOINT = 3
    NOT_TRACKED = 4
    MALFORMED = 5
    FRAGMENT_UNMATCHED = 6
    RELATED_UNKNOWN = 7
    NO_GUARD = 8
    FOREIGN_MAC = 9
    FOREIGN_ADDRESS = 10
    FOREIGN_ARP = 11
    FOREIGN_NEIGHBOUR = 12
    ROUTER = 13
    DHCP_SERVER = 14
    MEMBERSHIP = 15
    OTHER_PROTOCOL = 16
    UNREADABLE = 17
    NOT_ADDRESSED = 18
    STRAY = 64
    MANY = 65


REASONS = {
    Reason.POLICY: "denied by policy",
    Reason.NO_RULING: "no ruling on this peer is in the kernel",
    Reason.NO_ENDPOINT: "the link has no endpoint",
    Reason.NOT_TRACKED: "isolated, and neither TCP, UDP, SCTP nor ICMP",
    Reason.MALFORMED: "isolated, and its headers contradict themselves",
    Reason.FRAGMENT_UNMATCHED: "isolated, and a fragment whose first one was not seen",
    Reason.RELATED_UNKNOWN: "isolated, and an ICMP error about no known connection",
    Reason.NO_GUARD: "who may send here is not known",
    Reason.FOREIGN_MAC: "a MAC address that is not its own",
    Reason.FOREIGN_ADDRESS: "an IP address that is not its own",
    Reason.FOREIGN_ARP: "ARP for another",
    Reason.FOREIGN_NEIGHBOUR: "neighbour discovery for another",
    Reason.ROUTER: "router advertisement or solicitation, redirect",
    Reason.DHCP_SERVER: "DHCP server",
    Reason.MEMBERSHIP: "multicast membership, which nobody here asks for",
    Reason.OTHER_PROTOCOL: "neither IP nor ARP, or a VLAN tag",
    Reason.UNREADABLE: "headers that cannot be read",
    Reason.NOT_ADDRESSED: "a frame for another container",
    Reason.STRAY: "isolated, and part of no connection",
    Reason.MANY: "isolated, and sent to many or to another address",
}
"""Why a packet is dropped, in words."""


UNTOLD = frozenset((Reason.MEMBERSHIP, Reason.NOT_ADDRESSED))
"""What comes by itself at every start of a container, or to every link: it is counted, and not told."""


class Seen(NamedTuple):
    """What was seen of one connection. Addresses are 16 bytes, ports two, in network order; times are of CLOCK_MONOTONIC.

    Of ``Kind.DROP`` the opener is who sent the packet, which was dropped at the hook ``direction`` of ``ifindex``. The rules,
    by number: which let it out at the opener's end, and in at the other, where these are on this node; or which dropped it;
    0 is none. ``denied``: who was asked for the connection has it cut. Of ``Kind.CLOSE`` with a reason policies cut it: those
    of the opener if ``direction`` is ``FROM_POD``, else those of who was asked, by the rule that stands for that end.
    """

    low: bytes
    high: bytes
    low_port: bytes
    high_port: bytes
    protocol: int
    first: int
    last: int
    forth_packets: int
    forth_bytes: int
    back_packets: int
    back_bytes: int
    state: int
    ifindex: int
    forth_flags: int
    back_flags: int
    opener_is_high: int
    outgoing: int
    midway: int
    denied: int
    ingress_rule: int
    egress_rule: int
    kind: int
    reason: int = Reason.NONE
    direction: int = Direction.FROM_POD

    @property
    def source(self) -> bytes:
        """The address of the party that opened the connection."""
        return self.high if self.opener_is_high else self.low

    @property
    def destination(self) -> bytes:
        """The other party's address."""
        return self.low if self.opener_is_high else self.high

    @property
    def source_port(self) -> int:
        """The opener's port; of ICMP its identifier, or type and code."""
        return int.from_bytes(self.high_port if self.opener_is_high else self.low_port, "big")

    @property
    def destination_port(self) -> int:
        """The other party's port."""
        return int.from_bytes(self.low_port if self.opener_is_high else self.high_port, "big")


class Counts(NamedTuple):
    """What was lost on the way to user space, and what was seen that is no connection; each since counting began."""

    lost_new: int = 0
    lost_close: int = 0
    lost_drop: int = 0
    malformed: int = 0
    not_tracked: int = 0
    fragments_unmatched: int = 0
    table_full: int = 0


class Observer(Protocol):
    """Reads what a plane tells; the only one to do so. Lives in the agent's event loop and never waits."""

    fd: int
    """Readable when there are events."""
    table: str
    """What the kernel's table of connections is called here."""
    held: int
    """Connections that are remembered, closed ones too, as the last sweep found them."""
    capacity: int
    """How many can be."""

    def events(self, most: int) -> bytes:
        """What happened since the last call, at most so many: one ``RECORD`` after another."""

    def sweep(self) -> Iterator[tuple[list[Seen], int]]:
        """The connections there are, a chunk at a time: what there is to tell, and how many live ones the chunk held."""

    def evicted(self) -> int:
        """How many made room for others before they ended, as of the last sweep."""

    def counts(self) -> Counts:
        """What was lost, and what is no connection."""

    def dropped(self) -> dict[Reason, int]:
        """Packets that were dropped, for each reason."""

    def close(self) -> None:
        """Let go of the kernel, which goes on."""
