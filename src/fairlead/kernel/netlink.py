"""Netlink: messages to the kernel and its answers, as bytes. Every other module here builds on it.

One ``Netlink`` is one socket of one protocol in one namespace. The kernel works through a netlink message while the process is
still in ``sendmsg``, so every answer lies ready when that call returns, and nothing here ever waits.

::

    do(messages)   →  [m1 m2 m3 ...] in one system call   →  an acknowledgement each; all are tried, the first refusal is raised
    ask(message)   →  answers, then the acknowledgement
    dump(message)  →  a listing, read again if it changed meanwhile

Made for few, short calls on a path that somebody waits for: attributes are packed with ``struct``, nothing is described in
tables, nothing is parsed that nobody asked for. Not thread safe: one instance a thread, or one lock around it.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import NamedTuple, Self

from fairlead.kernel import netns as namespaces
from fairlead.kernel.errors import KernelError, translated

ROUTE = 0
NETFILTER = 12

REQUEST, ACK, ECHO = 0x1, 0x4, 0x8
REPLACE, EXCL, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800
DUMP = 0x300
_DUMP_INTR = 0x10
_CAPPED, _ACK_TLVS = 0x100, 0x200

ERROR = 2
"""The type of an acknowledgement, of a refusal or none."""
_DONE = 3
_SOL_NETLINK = 270
_CAP_ACK, _EXT_ACK, _STRICT = 10, 11, 12
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_NESTED = 0x8000
_TYPE = 0x3FFF

_RECEIVE = 65536
"""The kernel builds no longer answer than 32 KiB unless one object alone is longer."""
_BUFFER = 4 << 20
_BATCH = 256
"""Messages a system call. Their acknowledgements, 768 bytes of kernel memory each, must fit into the receive buffer."""
_TRIES = 24
_LAST = 1 << 31

_header = struct.Struct("=IHHII")
_attribute = struct.Struct("=HH")
_number = struct.Struct("=i")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


class Message(NamedTuple):
    """A request that has not been sent: type, flags beyond REQUEST and ACK, payload, and what it does, for errors."""

    type: int
    flags: int
    body: bytes
    doing: str
    accept: tuple[int, ...] = ()

    def accepting(self, *numbers: int) -> Message:
        """The same request, for which these error numbers are success."""
        return self._replace(accept=(*self.accept, *numbers))


class Reply(NamedTuple):
    """One message from the kernel."""

    type: int
    flags: int
    seq: int
    pid: int
    body: bytes


def attr(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    length = len(value)
    return _attribute.pack(length + 4, kind) + value + _PADDING[length & 3]


def u8(kind: int, value: int) -> bytes:
    """An attribute of one byte."""
    return struct.pack("=HHBxxx", 5, kind, value)


def u16(kind: int, value: int) -> bytes:
    """An attribute of two bytes in the machine's order."""
    return struct.pack("=HHHxx", 6, kind, value)


def u32(kind: int, value: int) -> bytes:
    """An attribute of four bytes in the machine's order."""
    return struct.pack("=HHI", 8, kind, value)


def be32(kind: int, value: int) -> bytes:
    """An attribute of four bytes in network order, as netfilter has it."""
    return _attribute.pack(8, kind) + value.to_bytes(4, "big")


def text(kind: int, value: str) -> bytes:
    """An attribute that is a string with its final zero."""
    return attr(kind, value.encode() + b"\0")


def nest(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    body = b"".join(attributes)
    return _attribute.pack(len(body) + 4, kind | _NESTED) + body


def parse(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes from ``offset`` to the end, by type. Of a type that occurs twice the last one stays."""
    found = {}
    end = len(data) - 3
    unpack = _attribute.unpack_from
    while offset < end:
        length, kind = unpack(data, offset)
        if length < 4:
            break
        found[kind & _TYPE] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def each(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """The attributes from ``offset`` to the end in their order, for lists, where one type occurs many times."""
    end = len(data) - 3
    while offset < end:
        length, kind = _attribute.unpack_from(data, offset)
        if length < 4:
            break
        yield kind & _TYPE, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def string(value: bytes) -> str:
    """A string attribute without its final zero."""
    return value.rstrip(b"\0").decode(errors="replace")


def unpack_replies(data: bytes, doing: str = "read from the kernel") -> Iterator[Reply]:
    """The messages in what one ``recv`` returned."""
    offset, end = 0, len(data)
    while offset + 16 <= end:
        length, kind, flags, seq, pid = _header.unpack_from(data, offset)
        if length < 16 or offset + length > end:
            raise KernelError.of(errno.EMSGSIZE, doing, "an answer was cut short")
        yield Reply(kind, flags, seq, pid, data[offset + 16 : offset + length])
        offset += (length + 3) & ~3


def open_socket(protocol: int, netns: int | None = None) -> socket.socket:
    """A raw netlink socket, in the namespace ``netns`` or the calling thread's own."""
    with namespaces.inside(netns) if netns is not None else nullcontext(), translated("open a netlink socket"):
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)


class Netlink:
    """One socket. Use as a context manager, or close it."""

    __slots__ = ("_seq", "socket")

    def __init__(self, protocol: int = ROUTE, netns: int | None = None) -> None:
        self.socket = open_socket(protocol, netns)
        self._seq = 0
        for level, option, value in (
            (_SOL_NETLINK, _CAP_ACK, 1),
            (_SOL_NETLINK, _EXT_ACK, 1),
            (_SOL_NETLINK, _STRICT, 1),
            (socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER),
            (socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER),
        ):
            self._set(level, option, value)

    def _set(self, level: int, option: int, value: int) -> None:
        try:
            self.socket.setsockopt(level, option, value)
        except OSError as error:
            # An old kernel lacks an option, or a user namespace may not enlarge its buffers: all work without.
            if error.errno not in {errno.ENOPROTOOPT, errno.EPERM}:
                raise KernelError.of(error.errno or 0, "set up a netlink socket") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def do(self, *messages: Message) -> None:
        """Send all, have all tried, and raise the first refusal; its ``failures`` lists every one, ``index`` says which."""
        failures: list[KernelError] = []
        for start in range(0, len(messages), _BATCH):
            failures += self._do(messages[start : start + _BATCH], start)
        if failures:
            failures[0].failures = failures
            raise failures[0]

    def ask(self, message: Message) -> list[bytes]:
        """The payloads that answer one request."""
        seq = self.send((message,), ACK)
        answers = []
        while True:
            for reply in self.receive(message.doing):
                if reply.seq != seq:
                    continue
                if reply.type != ERROR:
                    answers.append(reply.body)
                elif error := refusal(reply, message):
                    raise error
                else:
                    return answers

    def dump(self, message: Message) -> list[bytes]:
        """The payloads of a whole listing; if something changed while it was read, it is read again."""
        for _ in range(_TRIES):
            rows = self._dump(message)
            if rows is not None:
                return rows
        raise KernelError.of(errno.EINTR, message.doing, f"it changed during each of {_TRIES} readings")

    def send(self, messages: Sequence[Message], flags: int) -> int:
        """Send ``messages`` in one system call; return the number of the first, the others count on from it."""
        first = self._seq + 1 if self._seq < _LAST else 1
        self._seq = first + len(messages)
        parts: list[bytes] = []
        for seq, message in enumerate(messages, first):
            body = message.body
            parts += (_header.pack(len(body) + 16, message.type, message.flags | flags | REQUEST, seq, 0), body)
            if len(body) & 3:
                parts.append(_PADDING[len(body) & 3])
        data = b"".join(parts)
        if len(data) > _BUFFER:
            self._set(socket.SOL_SOCKET, _SO_SNDBUFFORCE, len(data))
        try:
            self.socket.send(data)
        except OSError as error:
            raise KernelError.of(error.errno or 0, messages[0].doing) from error
        return first

    def receive(self, doing: str) -> Iterator[Reply]:
        """The next messages; an error if there are none, as all answers lie ready once ``send`` has returned."""
        try:
            data = self.socket.recv(_RECEIVE, socket.MSG_DONTWAIT)
        except BlockingIOError as error:
            raise KernelError.of(errno.ENOBUFS, doing, "the kernel's answer was lost") from error
        except OSError as error:
            raise KernelError.of(error.errno or 0, doing) from error
        return unpack_replies(data, doing)

    def _do(self, messages: Sequence[Message], start: int) -> list[KernelError]:
        first = self.send(messages, ACK)
        failures: list[KernelError] = []
        pending = len(messages)
        while pending:
            for reply in self.receive(messages[0].doing):
                position = reply.seq - first
                if reply.type != ERROR or position < 0:  # an echo, or what an abandoned dump left
                    continue
                pending -= 1
                if error := refusal(reply, messages[position]):
                    error.index = start + position
                    failures.append(error)
        return failures

    def _dump(self, message: Message) -> list[bytes] | None:
        seq = self.send((message,), DUMP)
        rows: list[bytes] = []
        steady = True
        while True:
            for reply in self.receive(message.doing):
                if reply.seq != seq:
                    continue
                steady = steady and not reply.flags & _DUMP_INTR
                if reply.type == _DONE:
                    if error := refusal(reply, message):
                        raise error
                    return rows if steady else None
                if reply.type == ERROR:
                    if error := refusal(reply, message):
                        if error.errno == errno.EINTR:
                            return None
                        raise error
                    return rows
                rows.append(reply.body)


def refusal(reply: Reply, message: Message) -> KernelError | None:
    """The error that an acknowledgement or the end of a dump carries, if it does."""
    number = -_number.unpack_from(reply.body)[0] if len(reply.body) >= 4 else 0
    if number <= 0 or number in message.accept:
        return None
    return KernelError.of(number, message.doing, _explanation(reply))


def _explanation(reply: Reply) -> str:
    """The words and the missing attribute of an extended acknowledgement."""
    if not reply.flags & _ACK_TLVS:
        return ""
    if reply.type == _DONE:
        offset = 4
    elif reply.flags & _CAPPED:
        offset = 20
    else:
        offset = 4 + (_header.unpack_from(reply.body, 4)[0] + 3 & ~3)
    return string(parse(reply.body, offset).get(1, b""))
