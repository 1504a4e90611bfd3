"""The structs of bpf/shared as Python reads them. tests/bpf compares each field with the compiled programs' BTF."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

ENTRY = struct.Struct("=16s16s2s2sB3xQQQQQQIIBBBBBBBxQ16x")
"""A connection's key and its value, one after the other: what ``Seen`` has of it, who denies it, the rule that allowed it."""
EVENT = struct.Struct("=16s16s2s2sB3xQQQQQQIIBBBBB27xIBB2xQ")
RECORD = struct.Struct(f"=8x{EVENT.format[1:]}")
"""An event as it lies in the ring buffer, its header before it."""
ENDPOINT = struct.Struct("=QQ")
"""Policy sets: ingress, egress."""
ADDRESS = struct.Struct("=16s")
BLOCK_KEY = struct.Struct("=I16s")
NUMBER = struct.Struct("=Q")
JUDGEMENT_KEY = struct.Struct("=QQ")
RULING_KEY = struct.Struct("=IQBx2s")
"""Prefix length, ruling, protocol, port in network order."""
PORT_KEY = struct.Struct("=QI2s2x")
"""Ruling, protocol, port in network order."""
RULING_VALUE = struct.Struct("=QB7x")
CONFIG = struct.Struct("=QI4x")
GUARD = struct.Struct("=16s16s6s2xQ6s2xII")
"""First address of IPv4 and of IPv6, MAC, network, the gateway's MAC, whether it is checked, whether it is routed."""
OWNED_KEY = struct.Struct("=16sI4x")
OWNED = struct.Struct("=I")
LOCAL = struct.Struct("=Q6s2x6s2xII")
"""Network, MAC, the gateway's MAC, interface, MTU."""
HITS = struct.Struct("=QQQ")
"""Connections, dropped packets, when the last was."""
INDEX = struct.Struct("=I")
"""An interface, or the place in an array."""


class Kind(IntEnum):
    """``enum event_kind``; ``ACTIVE`` is said by the sweep, never by a program."""

    NEW = 1
    CLOSE = 2
    ACTIVE = 3
    DROP = 4


class State(IntEnum):
    """``enum state``."""

    OPENING = 1
    ESTABLISHED = 2
    CLOSING = 3
    CLOSED = 4


class Counter(IntEnum):
    """``enum counter``."""

    NEW_LOST = 0
    CLOSE_LOST = 1
    NOT_TRACKED = 2
    MALFORMED = 3
    FRAGMENT_UNMATCHED = 4
    TABLE_FULL = 5
    DROP_LOST = 6
    HITS_LOST = 7
    REMEMBERED = 8
    FORGOTTEN = 9


class Direction(IntEnum):
    """``enum direction``: the hook, from the container's point of view."""

    FROM_POD = 0
    TO_POD = 1


class Reason(IntEnum):
    """``enum reason``: why a packet is dropped."""

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
}
"""Why a packet is dropped, in words."""


class Ownership(IntEnum):
    """``enum ownership``: on which of its interfaces a container has an address."""

    ELSEWHERE = 1
    HERE = 2


class Seen(NamedTuple):
    """What was seen of one connection: ``struct event``, flat. Addresses are 16 bytes, ports two, in network order.

    Of ``Kind.DROP`` the opener is who sent the packet, which was dropped at the hook ``direction`` of ``ifindex``. ``rule`` is
    the number of the rule that allowed or dropped it, 0 if none did.
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
    kind: int
    reason: int = Reason.NONE
    direction: int = Direction.FROM_POD
    rule: int = 0

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


def seen(entry: bytes, kind: int) -> tuple[Seen, bool]:
    """A connection's key and value as ``kind`` of sight, and whether one of its sides denies it."""
    *found, one, other, rule = ENTRY.unpack(entry)
    return Seen._make((*found, kind, Reason.NONE, Direction.FROM_POD, rule)), bool(one or other)
