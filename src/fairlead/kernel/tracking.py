"""Tracked connections as they begin and end, told by the kernel; and all that there are, with what they carried.

A socket that never blocks. Of a TCP connection it is told when it is over (both sides closed it, or one reset it), not only
when the kernel forgets it two minutes later: a filter in the kernel lets pass the changes of state that say so, and no others.
What it carried is then asked for. Where the reader is too slow the kernel drops what finds no room, and counts it.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple

from fairlead.kernel import sysctl
from fairlead.kernel.errors import Gone, KernelError, translated
from fairlead.kernel.netlink import DUMP, NETFILTER, Message, Netlink, Reply, attr, nest, open_socket, parse, u8, unpack_replies

NEW, CHANGED, ENDED = "new", "changed", "ended"
SYN_SENT, TIME_WAIT, CLOSE = 1, 7, 8
"""States of TCP, as the kernel's tracker numbers them."""

_SUBSYSTEM = 1
_NEW, _GET, _DELETE, _STATISTICS, _SIZE = (_SUBSYSTEM << 8 | kind for kind in (0, 1, 2, 4, 5))
_GROUPS = (1, 2, 3)  # new, update, destroy
_CREATED = 0x400
_DONE = 3
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_SO_RCVBUFFORCE, _SO_ATTACH_FILTER, _SO_MEMINFO = 33, 26, 55
_DROPS = 8
_BUFFER = 8 << 20
_RECEIVE = 65536
_ORIGINAL, _REPLY, _PROTOINFO, _FORTH, _BACK, _ID, _ZONE, _TIMESTAMP = 1, 2, 4, 9, 10, 12, 18, 20
_IP, _PROTO = 1, 2
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT, _ICMP, _ICMPV6 = 1, 2, 3, 4, 7
_TCP_INFO, _TCP_STATE = 1, 1
_PACKETS, _BYTES = 1, 2
_START, _STOP = 1, 2
_ENTRIES, _MOST = 1, 2
_EARLY_DROP = 11
_ECHO = {8, 0, 128, 129}
_FAMILIES = {4: 2, 6: 10}
_PINGS = {1: (_ICMP, 8), 58: (_ICMPV6, 128)}
"""By protocol: where a ping's identifier stands, and its type."""
_header = struct.Struct("=BxH")

SETTINGS = {
    "net.netfilter.nf_conntrack_acct": "1",
    "net.netfilter.nf_conntrack_timestamp": "1",
    "net.netfilter.nf_conntrack_events": "1",
}
"""What the kernel must be told to tell all of it; of connections that begin from then on."""


class Ends(NamedTuple):
    """Who sends to whom in one direction, as bytes and numbers. The ports of ICMP are its identifier, or type and code."""

    source: bytes
    destination: bytes
    source_port: int
    destination_port: int


class Tracked(NamedTuple):
    """One connection. Times are nanoseconds since 1970, 0 where they are not known."""

    what: str
    id: int
    protocol: int
    original: Ends
    reply: Ends
    tcp: int
    forth_packets: int
    forth_bytes: int
    back_packets: int
    back_bytes: int
    start: int
    stop: int
    key: bytes
    """By it the connection is asked about again."""


class Tracking:
    """The socket, listening from construction until ``close``, and another to ask with."""

    def __init__(self, netns: int | None = None) -> None:
        self._nl = Netlink(NETFILTER, netns)
        self._socket = open_socket(NETFILTER, netns)
        try:
            with translated("listen to tracked connections"):
                self._socket.setblocking(False)
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
                _attach(self._socket)
                self._socket.bind((0, 0))
                for group in _GROUPS:
                    self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        except KernelError:
            self.close()
            raise

    def fileno(self) -> int:
        """Readable when something happened."""
        return self._socket.fileno()

    def read(self, most: int) -> Iterator[Tracked]:
        """What happened since the last call, at most so much."""
        for _ in range(most):
            try:
                data = self._socket.recv(_RECEIVE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise KernelError.of(error.errno or 0, "read what happens to tracked connections") from error
                continue  # counted in ``lost``
            for reply in unpack_replies(data):
                if reply.type in {_NEW, _DELETE}:
                    yield _tracked(reply)

    @property
    def lost(self) -> int:
        """How many events found no room, since the socket was opened."""
        return dropped(self._socket)

    def ask(self, one: Tracked) -> Tracked | None:
        """The same connection as it is now; None if it is not tracked any more."""
        try:
            answers = self._nl.ask(Message(_GET, 0, one.key, "look up a tracked connection"))
        except Gone:
            return None
        found = _parse(answers[0], one.what)
        return found if found.id == one.id else None

    def find(self, protocol: int, ends: Ends) -> Tracked | None:
        """The connection of a packet that goes like this, in its one direction or its other; None if it is not tracked.

        A packet that was refused as its connection's first has begun none. The port of a ping is its identifier.
        """
        family = 4 if len(ends.source) == 4 else 6
        key = _header.pack(_FAMILIES[family], 0) + _tuple(protocol, ends, family)
        try:
            answers = self._nl.ask(Message(_GET, 0, key, "look up the tracked connection of a packet"))
        except Gone:
            return None
        return _parse(answers[0], CHANGED)

    def room(self) -> tuple[int, int]:
        """How many connections are tracked, and how many can be."""
        (answer,) = self._nl.ask(Message(_SIZE, 0, _header.pack(0, 0), "ask how many connections are tracked"))
        found = parse(answer, 4)
        return _int(found.get(_ENTRIES)), _int(found.get(_MOST))

    def evicted(self) -> int:
        """How many made room for others before they ended, since the kernel began to track."""
        answers = self._nl.dump(Message(_STATISTICS, 0, _header.pack(0, 0), "read the tracker's statistics"))
        return sum(_int(parse(answer, 4).get(_EARLY_DROP)) for answer in answers)

    def all(self) -> Iterator[list[Tracked]]:
        """Every tracked connection, as many at a time as the kernel sends."""
        with Netlink(NETFILTER) as nl:
            seq = nl.send((Message(_GET, 0, _header.pack(0, 0), "list the tracked connections"),), DUMP)
            while True:
                replies = [one for one in nl.receive("list the tracked connections") if one.seq == seq]
                yield [_parse(one.body, NEW) for one in replies if one.type == _NEW]
                if any(one.type == _DONE for one in replies):
                    return

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        self._nl.close()


def enable() -> list[str]:
    """Have the kernel count and time connections that begin from now on; what it would not do, in words."""
    refused = []
    for key, value in SETTINGS.items():
        try:
            if sysctl.read(key) in {"0", ""}:
                sysctl.write(key, value)
        except KernelError as error:
            refused.append(str(error))
    return refused


def dropped(sock: socket.socket) -> int:
    """How many messages found no room in a netlink socket's buffer."""
    counted = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * (_DROPS + 1))
    return int.from_bytes(counted[4 * _DROPS : 4 * _DROPS + 4], sys.byteorder)


def _tracked(reply: Reply) -> Tracked:
    what = ENDED if reply.type == _DELETE else NEW if reply.flags & _CREATED else CHANGED
    return _parse(reply.body, what)


def _parse(body: bytes, what: str) -> Tracked:
    found = parse(body, 4)
    get = found.get
    protocol, original = _ends(found[_ORIGINAL])
    state = 0
    if info := get(_PROTOINFO):
        state = parse(parse(info).get(_TCP_INFO, b"")).get(_TCP_STATE, b"\0")[0]
    forth, back, times = (parse(get(one, b"")) for one in (_FORTH, _BACK, _TIMESTAMP))
    zone = get(_ZONE)
    key = body[:4] + nest(_ORIGINAL, found[_ORIGINAL]) + (nest(_ZONE, zone) if zone else b"")
    return Tracked(
        what,
        _int(get(_ID)),
        protocol,
        original,
        _ends(found[_REPLY])[1],
        state,
        _int(forth.get(_PACKETS)),
        _int(forth.get(_BYTES)),
        _int(back.get(_PACKETS)),
        _int(back.get(_BYTES)),
        _int(times.get(_START)),
        _int(times.get(_STOP)),
        key,
    )


def _ends(data: bytes) -> tuple[int, Ends]:
    found = parse(data)
    ip, proto = parse(found[_IP]), parse(found[_PROTO])
    first = min(ip)  # 1 and 2 are the IPv4 addresses, 3 and 4 the IPv6 ones
    source, destination = _int(proto.get(_SOURCE_PORT)), _int(proto.get(_DESTINATION_PORT))
    for icmp in (_ICMP, _ICMPV6):
        if icmp + 1 in proto:
            kind, code = proto[icmp + 1][0], proto[icmp + 2][0]
            source = destination = _int(proto.get(icmp)) if kind in _ECHO else kind << 8 | code
    return proto[_NUMBER][0], Ends(ip[first], ip[first + 1], source, destination)


def _tuple(protocol: int, ends: Ends, family: int) -> bytes:
    first = 1 if family == 4 else 3
    addresses = nest(_IP, attr(first, ends.source), attr(first + 1, ends.destination))
    if protocol in _PINGS:
        at, kind = _PINGS[protocol]
        ports = _port(at, ends.source_port) + u8(at + 1, kind) + u8(at + 2, 0)
    else:
        ports = _port(_SOURCE_PORT, ends.source_port) + _port(_DESTINATION_PORT, ends.destination_port)
    return nest(_ORIGINAL, addresses, nest(_PROTO, u8(_NUMBER, protocol), ports))


def _port(kind: int, number: int) -> bytes:
    return attr(kind, number.to_bytes(2, "big"))


def _int(value: bytes | None) -> int:
    return int.from_bytes(value, "big") if value else 0


def _attach(sock: socket.socket) -> None:
    """Let the kernel drop what nobody wants to know: changes that are not the end of a TCP connection."""
    code = b"".join(struct.pack("=HBBI", *one) for one in _FILTER)
    buffer = ctypes.create_string_buffer(code, len(code))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(_FILTER), ctypes.addressof(buffer)))


_LOAD_BYTE, _LOAD_AT_X, _TO_X, _SET, _SET_X, _EQUAL, _RETURN = 0x30, 0x50, 0x07, 0x00, 0x01, 0x15, 0x06
_ATTRIBUTE, _NESTED = 0xFFFFF000 + 12, 0xFFFFF000 + 16
_TYPE_AT, _FLAGS_AT = (4, 7) if sys.byteorder == "little" else (5, 6)
_BODY = 20
_FILTER = (
    (_LOAD_BYTE, 0, 0, _TYPE_AT),
    (_EQUAL, 0, 15, 0),  # it is gone: to the end
    (_LOAD_BYTE, 0, 0, _FLAGS_AT),
    (_EQUAL, 0, 13, 0),  # it is new: to the end
    (_SET, 0, 0, _BODY),
    (_SET_X, 0, 0, _PROTOINFO),
    (_LOAD_BYTE, 0, 0, _ATTRIBUTE),
    (_EQUAL, 10, 0, 0),
    (_SET_X, 0, 0, _TCP_INFO),
    (_LOAD_BYTE, 0, 0, _NESTED),
    (_EQUAL, 7, 0, 0),
    (_SET_X, 0, 0, _TCP_STATE),
    (_LOAD_BYTE, 0, 0, _NESTED),
    (_TO_X, 0, 0, 0),
    (_LOAD_AT_X, 0, 0, 4),
    (_EQUAL, 1, 0, TIME_WAIT),
    (_EQUAL, 0, 1, CLOSE),
    (_RETURN, 0, 0, 0xFFFFFFFF),
    (_RETURN, 0, 0, 0),
)
"""For the kernel's old packet filter (linux/filter.h): the message's type and flags, then protocol info, TCP, state."""
