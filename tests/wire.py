"""Ethernet as it is: frames of any kind sent from inside a namespace, and every frame that comes in there, byte for byte."""

from __future__ import annotations

import os
import socket
import struct
from typing import Self

from fairlead.kernel import netns
from tests.net import Namespace
from tests.wait import eventually

_ALL = 0x0003
_SOL_PACKET, _AUXDATA, _IGNORE_OUTGOING = 263, 8, 23
_VLAN_VALID = 1 << 4
_auxiliary = struct.Struct("=IIIHHHH")


class Wire:
    """A packet socket on one interface inside a namespace, listening from construction on. Use as a context manager."""

    def __init__(self, namespace: Namespace, interface: str = "eth0") -> None:
        fd = netns.open_path(str(namespace.path))
        try:
            with netns.inside(fd):
                self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        finally:
            os.close(fd)
        self._socket.setsockopt(_SOL_PACKET, _AUXDATA, 1)
        self._socket.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind((interface, _ALL))
        self._socket.setblocking(False)
        self._kept: list[bytes] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def received(self) -> list[bytes]:
        """Everything that came in so far."""
        while True:
            try:
                data, about, _, _ = self._socket.recvmsg(65535, socket.CMSG_SPACE(_auxiliary.size))
            except BlockingIOError:
                return self._kept
            self._kept.append(_tagged(data, about))

    def gets(self, frame: bytes, deadline: float = 2.0) -> bool:
        """Whether this very frame comes in."""
        try:
            return eventually(lambda: frame in self.received(), deadline)
        except AssertionError:
            return False


def _tagged(data: bytes, about: list[tuple[int, int, bytes]]) -> bytes:
    """The frame with its VLAN tag, which the kernel hands over beside it."""
    for level, kind, told in about:
        if (level, kind) == (_SOL_PACKET, _AUXDATA):
            status, _, _, _, _, tag, protocol = _auxiliary.unpack(told[: _auxiliary.size])
            if status & _VLAN_VALID:
                return data[:12] + struct.pack("!HH", protocol or 0x8100, tag) + data[12:]
    return data
