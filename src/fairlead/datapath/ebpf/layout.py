"""The structs of bpf/shared as Python reads them. tests/bpf compares each field with the compiled programs' BTF."""

from __future__ import annotations

import struct
from enum import IntEnum

from fairlead.datapath.seen import Direction, Reason, Seen

ENTRY = struct.Struct("=16s2s6x16s2s6xB7xQQQQQQIIBBBBBBBxQ16x")
"""A connection's key and its value, one after the other: what ``Seen`` has of it, who denies it, the rule that allowed it."""
EVENT = struct.Struct("=16s2s6x16s2s6xB7xQQQQQQIIBBBBB27xIBB2xQ")
ENDPOINT = struct.Struct("=QQ")
"""Policy sets: ingress, egress."""
PEER_KEY = struct.Struct("=I16s")
NUMBER = struct.Struct("=Q")
JUDGEMENT_KEY = struct.Struct("=QQ")
RULING_KEY = struct.Struct("=IQBx2s")
"""Prefix length, ruling, protocol, port in network order."""
RULING_VALUE = struct.Struct("=QB7x")
CONFIG = struct.Struct("=QI4x")


class Counter(IntEnum):
    """``enum counter``."""

    NEW_LOST = 0
    CLOSE_LOST = 1
    NOT_TRACKED = 2
    MALFORMED = 3
    FRAGMENT_UNMATCHED = 4
    TABLE_FULL = 5
    DROP_LOST = 6


def seen(entry: bytes, kind: int) -> tuple[Seen, bool]:
    """A connection's key and value as ``kind`` of sight, and whether one of its sides denies it."""
    *found, one, other, rule = ENTRY.unpack(entry)
    return Seen._make((*found, kind, Reason.NONE, Direction.FROM_POD, rule)), bool(one or other)
