"""The structs of bpf/shared as Python reads them. tests/bpf compares each field with the compiled programs' BTF."""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag

from fairlead.datapath.seen import RECORD, Direction, Reason, Seen

ENTRY = struct.Struct("=16s16s2s2sB3xQQQQQQIIBBBBBBBxQ16xQ")
"""A connection's key and its value, one after the other: what ``Seen`` has of it, who denies it, the rules that allowed it."""
EVENT = struct.Struct("=" + RECORD.format.removeprefix("=8x"))
"""A record without the ring buffer's header."""
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
TUNNEL = struct.Struct("=Q6s2xI4s4s2s2x")
"""Number, MAC, interface, the node's own address, identifier and port in network order."""
ARRIVAL_KEY = struct.Struct("=4s2s2x")
"""Identifier and port in network order."""
VTEP_KEY = struct.Struct("=Q6s2x")
"""The tunnel's number, MAC."""
VTEP = struct.Struct("=4s")
HITS = struct.Struct("=QQQ")
"""Connections, dropped packets, when the last was."""
INDEX = struct.Struct("=I")
"""An interface, or the place in an array."""


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


class Ownership(IntEnum):
    """``enum ownership``: on which of its interfaces a container has an address."""

    ELSEWHERE = 1
    HERE = 2


class Uplink(IntFlag):
    """``enum uplink``: what a device is for."""

    ROUTES = 1
    TUNNELS = 2


def seen(entry: bytes, kind: int) -> tuple[Seen, bool]:
    """A connection's key and value as ``kind`` of sight, and whether one of its sides denies it."""
    *found, one, other, ingress, egress = ENTRY.unpack(entry)
    return Seen._make((*found, other, ingress, egress, kind, Reason.NONE, Direction.FROM_POD)), bool(one or other)
