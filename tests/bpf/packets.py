"""Packets made by hand, byte for byte. ``Side`` is an address and a port of either family."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132
FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
ETHERNET = 14


@dataclass(frozen=True)
class Side:
    address: str
    port: int = 0

    @property
    def packed(self) -> bytes:
        return ipaddress.ip_address(self.address).packed

    @property
    def mapped(self) -> bytes:
        raw = self.packed
        return raw if len(raw) == 16 else bytes(10) + b"\xff\xff" + raw

    @property
    def family(self) -> int:
        return 6 if ":" in self.address else 4


def frame(source: Side, target: Side, protocol: int, payload: bytes, *, extra: bytes = b"", first: int | None = None) -> bytes:
    """Ethernet and IP around ``payload``; ``extra`` are IPv6 extension headers, ``first`` the first one's number."""
    ethernet = b"\x02\0\0\0\0\1\x02\0\0\0\0\2"
    if source.family == 4:
        return ethernet + b"\x08\0" + ipv4(source, target, protocol, payload)
    body = extra + payload
    head = struct.pack("!IHBB", 6 << 28, len(body), protocol if first is None else first, 64)
    return ethernet + b"\x86\xdd" + head + source.packed + target.packed + body


def ipv4(source: Side, target: Side, protocol: int, payload: bytes, *, ident: int = 1, fragment: int = 0) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), ident, fragment, 64, protocol, 0)
    return head + source.packed + target.packed + payload


def tcp(source: Side, target: Side, flags: int, data: bytes = b"") -> bytes:
    head = struct.pack("!HHIIBBHHH", source.port, target.port, 1, 1, 5 << 4, flags, 1000, 0, 0)
    return frame(source, target, TCP, head + data)


def udp(source: Side, target: Side, data: bytes = b"x") -> bytes:
    return frame(source, target, UDP, struct.pack("!HHHH", source.port, target.port, 8 + len(data), 0) + data)


def sctp(source: Side, target: Side) -> bytes:
    return frame(source, target, SCTP, struct.pack("!HHII", source.port, target.port, 7, 0) + bytes(16))


def echo(source: Side, target: Side, ident: int, *, reply: bool = False) -> bytes:
    if source.family == 4:
        return frame(source, target, ICMP, struct.pack("!BBHHH", 0 if reply else 8, 0, 0, ident, 1) + bytes(8))
    return frame(source, target, ICMPV6, struct.pack("!BBHHH", 129 if reply else 128, 0, 0, ident, 1) + bytes(8))


def unreachable(source: Side, target: Side, about: bytes) -> bytes:
    """An ICMP error that quotes the frame ``about``."""
    kind, protocol = (3, ICMP) if source.family == 4 else (1, ICMPV6)
    return frame(source, target, protocol, struct.pack("!BBHI", kind, 1, 0, 0) + about[ETHERNET:])


def fragments(source: Side, target: Side, ident: int) -> tuple[bytes, bytes]:
    """A UDP datagram in two pieces of 24 and 16 bytes of payload."""
    data = struct.pack("!HHHH", source.port, target.port, 40, 0) + bytes(32)
    pieces = []
    for start, more in ((0, 1), (24, 0)):
        piece = data[start : start + 24]
        if source.family == 4:
            at = start // 8 | more << 13
            pieces.append(b"\x02\0\0\0\0\1\x02\0\0\0\0\2\x08\0" + ipv4(source, target, UDP, piece, ident=ident, fragment=at))
        else:
            header = struct.pack("!BBHI", UDP, 0, start | more, ident)
            pieces.append(frame(source, target, UDP, piece, extra=header, first=44))
    return pieces[0], pieces[1]
