"""Frames on a real wire: a raw socket at an interface, and the checksum that a bridge looks at."""

from __future__ import annotations

import socket
import struct
from typing import Self

from tests.bpf.packets import ETHERNET

_EVERYTHING = 3


class End:
    """Everything that arrives at an interface of the calling thread's namespace, and a way to send from it."""

    def __init__(self, name: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERYTHING))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind((name, 0))
        self._socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, frame: bytes) -> None:
        """What is sent over veths and a bridge has arrived, or has not, when this returns."""
        self._socket.send(frame)

    def heard(self) -> set[bytes]:
        """What arrived since the last call, without its MACs."""
        found = set()
        while True:
            try:
                data, (_, _, kind, *_) = self._socket.recvfrom(2048)
            except BlockingIOError:
                return found
            if kind != socket.PACKET_OUTGOING:
                found.add(data[12:])


def checked(frame: bytes) -> bytes:
    """With the checksum of the IPv4 header; any other frame as it is."""
    if frame[12:14] != b"\x08\0":
        return frame
    head = frame[ETHERNET : ETHERNET + 20]
    total = sum(struct.unpack("!10H", head[:10] + bytes(2) + head[12:]))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return frame[: ETHERNET + 10] + struct.pack("!H", ~total & 0xFFFF) + frame[ETHERNET + 12 :]
