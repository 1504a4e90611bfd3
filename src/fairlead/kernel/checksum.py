"""The checksum of the Internet's protocols (RFC 1071)."""

from __future__ import annotations

import struct


def checksum(data: bytes) -> int:
    """Of whole bytes, with a zero behind an odd number of them."""
    data += bytes(len(data) & 1)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
