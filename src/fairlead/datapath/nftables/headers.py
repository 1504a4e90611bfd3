"""The beginning of a packet, as nflog hands it over: who sends to whom, by which protocol and ports."""

from __future__ import annotations

from typing import NamedTuple

_EXTENSIONS = {0, 43, 60}
_FRAGMENT = 44
_TCP, _FLAGS_AT = 6, 13
_WITH_PORTS = {_TCP, 17, 132}
_ICMP = {1, 58}
_ECHO = {0, 8, 128, 129}
_MOST_EXTENSIONS = 6
_MAPPED = bytes(10) + b"\xff\xff"


class Header(NamedTuple):
    """Addresses of 16 bytes, IPv4 mapped into IPv6; ports as numbers, of ICMP its identifier, or type and code.

    ``flags`` are those of TCP.
    """

    source: bytes
    destination: bytes
    protocol: int
    source_port: int
    destination_port: int
    length: int
    flags: int = 0


def read(packet: bytes) -> Header | None:
    """The header of an IP packet of which perhaps only the beginning is there; None if it is none."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        source, destination = _MAPPED + packet[12:16], _MAPPED + packet[16:20]
        later = int.from_bytes(packet[6:8], "big") & 0x1FFF
        rest = b"" if later else packet[(packet[0] & 0xF) * 4 :]
        return _with_ports(source, destination, packet[9], rest, int.from_bytes(packet[2:4], "big"))
    if version == 6 and len(packet) >= 40:
        protocol, rest = _upper(packet[6], packet[40:])
        return _with_ports(packet[8:24], packet[24:40], protocol, rest, 40 + int.from_bytes(packet[4:6], "big"))
    return None


def _upper(protocol: int, rest: bytes) -> tuple[int, bytes]:
    for _ in range(_MOST_EXTENSIONS):
        if protocol == _FRAGMENT and len(rest) >= 8:
            later = int.from_bytes(rest[2:4], "big") & 0xFFF8
            protocol, rest = rest[0], b"" if later else rest[8:]
        elif protocol in _EXTENSIONS and len(rest) >= 8:
            protocol, rest = rest[0], rest[rest[1] * 8 + 8 :]
        else:
            break
    return protocol, rest


def _with_ports(source: bytes, destination: bytes, protocol: int, rest: bytes, length: int) -> Header:
    ports = (0, 0)
    if protocol in _WITH_PORTS and len(rest) >= 4:
        ports = int.from_bytes(rest[:2], "big"), int.from_bytes(rest[2:4], "big")
    elif protocol in _ICMP and len(rest) >= 6:
        number = int.from_bytes(rest[4:6] if rest[0] in _ECHO else rest[:2], "big")
        ports = number, number
    flags = rest[_FLAGS_AT] if protocol == _TCP and len(rest) > _FLAGS_AT else 0
    return Header(source, destination, protocol, *ports, length, flags)
