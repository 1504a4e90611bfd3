"""A question to the programs: the smallest packet that begins a connection between two parties."""

from __future__ import annotations

import struct

from fairlead.datapath.base import Question
from fairlead.model.address import Address

_EPHEMERAL = 49152
"""The opener's port; policies do not look at it."""
_MACS = bytes(12)


def packet(asked: Question) -> bytes:
    """An Ethernet frame of ``asked``: a SYN, a datagram, an INIT, an echo request; of any other protocol eight zeros."""
    payload = _payload(asked.protocol, asked.port)
    if asked.source.family == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, asked.protocol, 0)
        return _MACS + b"\x08\0" + head + _parties(asked.source, asked.destination) + payload
    head = struct.pack("!IHBB", 6 << 28, len(payload), asked.protocol, 64)
    return _MACS + b"\x86\xdd" + head + _parties(asked.source, asked.destination) + payload


def _parties(source: Address, destination: Address) -> bytes:
    return source.packed + destination.packed


def _payload(protocol: int, port: int) -> bytes:
    ports = struct.pack("!HH", _EPHEMERAL, port)
    match protocol:
        case 6:
            return ports + struct.pack("!IIBBHHH", 1, 0, 5 << 4, 2, 1000, 0, 0)
        case 17:
            return ports + struct.pack("!HHx", 9, 0)
        case 132:
            return ports + struct.pack("!II", 0, 0) + struct.pack("!BBHIIHHI", 1, 0, 20, 1, 1500, 1, 1, 1)
        case 1:
            return struct.pack("!BBHHH", 8, 0, 0, 1, 1)
        case 58:
            return struct.pack("!BBHHH", 128, 0, 0, 1, 1)
        case _:
            return bytes(8)
