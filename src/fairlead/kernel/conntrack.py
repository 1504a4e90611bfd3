"""Tracked connections: list them, and forget those that lead where nothing is any more.

A UDP "connection" that began before a port was published, or outlives it, keeps its old translation as long as packets come.
Only what is provably stale may be deleted: ask for the flows of one port, look, delete those.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass

from fairlead.kernel.netlink import Message, Netlink, attr, be32, nest, parse, u8, u32
from fairlead.kernel.route.text import AF, FAMILY, from_address, to_address

TCP, UDP, SCTP = 6, 17, 132

_SUBSYSTEM = 1
_GET, _DELETE = _SUBSYSTEM << 8 | 1, _SUBSYSTEM << 8 | 2
_ORIGINAL, _REPLY, _STATUS, _ID, _ZONE, _FILTER = 1, 2, 3, 12, 18, 25
_IP, _PROTO = 1, 2
_IPV4_DESTINATION = 2
_PROTO_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_FILTER_ORIGINAL, _FILTER_REPLY = 1, 2
_BY_DESTINATION, _BY_PROTOCOL, _BY_DESTINATION_PORT = 1 << 1, 1 << 3, 1 << 5
_header = struct.Struct("=BxH")
_port = struct.Struct(">H")


@dataclass(frozen=True, slots=True)
class Tuple:
    """One direction of a flow. Ports are 0 where the protocol has none."""

    source: str
    destination: str
    source_port: int
    destination_port: int


@dataclass(frozen=True, slots=True)
class Flow:
    """One tracked connection. ``reply.source`` and its port are what answers: after translation, the container."""

    family: int
    protocol: int
    original: Tuple
    reply: Tuple
    status: int
    zone: int
    id: int
    raw: bytes
    """The original direction as the kernel wrote it: by it the flow is found again."""


def flows(nl: Netlink, family: int = 0, protocol: int = 0, *, destination: str = "", port: int = 0) -> list[Flow]:
    """The flows of a family and protocol whose first packet went to ``destination`` and ``port``, as far as these are given.

    The kernel goes through its whole table once a family, some 10 ms: not on a path that somebody waits for.
    """
    families = (family,) if family else (4, 6)
    asked = (4 if "." in destination else 6,) if destination else families
    return [row for one in asked for row in _flows(nl, one, protocol, destination, port)]


def delete(nl: Netlink, *rows: Flow) -> None:
    """Forget ``rows``; one that has ended meanwhile is no error."""
    nl.do(*(_deletion(row) for row in rows))


def _flows(nl: Netlink, family: int, protocol: int, destination: str, port: int) -> list[Flow]:
    body = _header.pack(AF[family], 0) + _wanted(family, protocol, destination, port)
    rows = (_flow(row) for row in nl.dump(Message(_GET, 0, body, "list the tracked connections")))
    # A kernel before 5.8 does not know the filter and lists everything.
    return [
        row
        for row in rows
        if row.family == family
        and protocol in {0, row.protocol}
        and destination in {"", row.original.destination}
        and port in {0, row.original.destination_port}
    ]


def _wanted(family: int, protocol: int, destination: str, port: int) -> bytes:
    """A filter for the kernel: to read a hundred thousand flows here would take a second."""
    port = port if protocol else 0  # the kernel takes no port without its protocol,
    destination = destination if family == 4 else ""  # and finds the IPv6 addresses that differ from the wanted one
    if not (protocol or destination):
        return b""
    flags = (_BY_DESTINATION if destination else 0) | (_BY_PROTOCOL if protocol else 0) | (_BY_DESTINATION_PORT if port else 0)
    address = attr(_IPV4_DESTINATION, to_address(destination)[1]) if destination else b""
    proto = (u8(_PROTO_NUMBER, protocol) if protocol else b"") + (attr(_DESTINATION_PORT, _port.pack(port)) if port else b"")
    wanted = nest(_ORIGINAL, nest(_IP, address), nest(_PROTO, proto))
    return wanted + nest(_FILTER, u32(_FILTER_ORIGINAL, flags), u32(_FILTER_REPLY, 0))


def _deletion(row: Flow) -> Message:
    zone = attr(_ZONE, _port.pack(row.zone)) if row.zone else b""
    body = _header.pack(AF[row.family], 0) + nest(_ORIGINAL, row.raw) + be32(_ID, row.id) + zone
    return Message(_DELETE, 0, body, "forget a tracked connection").accepting(errno.ENOENT)


def _flow(data: bytes) -> Flow:
    found = parse(data, 4)
    protocol, original = _tuple(found[_ORIGINAL])
    return Flow(
        FAMILY.get(data[0], data[0]),
        protocol,
        original,
        _tuple(found[_REPLY])[1],
        int.from_bytes(found.get(_STATUS, b""), "big"),
        int.from_bytes(found.get(_ZONE, b""), "big"),
        int.from_bytes(found.get(_ID, b""), "big"),
        found[_ORIGINAL],
    )


def _tuple(data: bytes) -> tuple[int, Tuple]:
    found = parse(data)
    ip, proto = parse(found[_IP]), parse(found[_PROTO])
    first = min(ip)  # 1 and 2 are the IPv4 addresses, 3 and 4 the IPv6 ones
    return proto[_PROTO_NUMBER][0], Tuple(
        from_address(ip[first]),
        from_address(ip[first + 1]),
        int.from_bytes(proto.get(_SOURCE_PORT, b""), "big"),
        int.from_bytes(proto.get(_DESTINATION_PORT, b""), "big"),
    )
