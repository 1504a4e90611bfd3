"""Packets that rules told of (``log group``), as the kernel sends them: what the rule said, and the packet's beginning.

A socket that never blocks, the only listener of its group in its namespace.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from fairlead.kernel.errors import KernelError, translated
from fairlead.kernel.netlink import ACK, NETFILTER, Message, attr, be32, open_socket, parse, refusal, string, unpack_replies
from fairlead.kernel.tracking import dropped

_SUBSYSTEM = 4
_PACKET, _CONFIG = _SUBSYSTEM << 8, _SUBSYSTEM << 8 | 1
_CMD, _MODE, _TIMEOUT, _THRESHOLD = 1, 2, 4, 5
_BIND, _COPY_PACKET = b"\1", 2
_HEADER, _IN, _OUT, _BRIDGED_IN, _BRIDGED_OUT, _PAYLOAD, _PREFIX = 1, 4, 5, 6, 7, 9, 10
_ERROR = 2
_SO_RCVBUFFORCE = 33
_BUFFER = 4 << 20
_RECEIVE = 65536
_FLUSH = 5
"""Hundredths of a second that the kernel waits for company."""
_TOGETHER = 32
_group = struct.Struct(">BBH")
_header = struct.Struct("=IHHII")


class Logged(NamedTuple):
    """One packet, from its network header on; ``arrived`` and ``leaves`` are interfaces, of a bridged packet its ports."""

    prefix: str
    payload: bytes
    arrived: int
    leaves: int


class Log:
    """Listens to one group from construction until ``close``."""

    def __init__(self, group: int, *, snaplen: int = 128, netns: int | None = None) -> None:
        self._socket = open_socket(NETFILTER, netns)
        try:
            with translated("listen to logged packets"):
                self._socket.setblocking(False)
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
                self._socket.bind((0, 0))
            mode = struct.pack(">IBx", snaplen, _COPY_PACKET)
            self._configure(group, attr(_CMD, _BIND), "take a group of logged packets")
            rest = attr(_MODE, mode) + be32(_TIMEOUT, _FLUSH) + be32(_THRESHOLD, _TOGETHER)
            self._configure(group, rest, "set up a group of logged packets")
        except KernelError:
            self.close()
            raise

    def fileno(self) -> int:
        """Readable when there are packets."""
        return self._socket.fileno()

    def read(self, most: int) -> Iterator[Logged]:
        """What came since the last call, about so much at most."""
        count = 0
        while count < most:
            try:
                data = self._socket.recv(_RECEIVE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise KernelError.of(error.errno or 0, "read logged packets") from error
                continue  # counted in ``lost``
            for reply in unpack_replies(data):
                if reply.type == _PACKET:
                    count += 1
                    yield _logged(reply.body)

    @property
    def lost(self) -> int:
        """How many messages found no room, since the socket was opened."""
        return dropped(self._socket)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def _configure(self, group: int, body: bytes, doing: str) -> None:
        message = Message(_CONFIG, 0, _group.pack(0, 0, group) + body, doing)
        head = _header.pack(16 + len(message.body), _CONFIG, ACK | 1, 1, 0)
        with translated(doing):
            self._socket.send(head + message.body)
            answer = self._socket.recv(_RECEIVE)
        for reply in unpack_replies(answer):
            if reply.type == _ERROR and (error := refusal(reply, message)):
                raise error


def _logged(body: bytes) -> Logged:
    get = parse(body, 4).get
    arrived, leaves = get(_BRIDGED_IN) or get(_IN), get(_BRIDGED_OUT) or get(_OUT)
    return Logged(
        string(get(_PREFIX, b"")),
        get(_PAYLOAD, b""),
        int.from_bytes(arrived or b"", "big"),
        int.from_bytes(leaves or b"", "big"),
    )
