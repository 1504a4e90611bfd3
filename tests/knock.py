"""Listens on many doors and knocks on others', all at once. Run as a program inside a network namespace.

    knock.py tcp=22,80 udp=53 sctp=80       prints ``ready`` when it listens; ICMP is answered by the kernel

Each line of its input is JSON, ``[patience, [[protocol, address, port], ...]]``: it knocks on all of them together and prints,
when all have answered or the patience (seconds) is over, which did, as a list of booleans. Meanwhile it answers others. SCTP
needs no support in the kernel: INIT and INIT ACK are made by hand (RFC 9260). Only Python's standard library is needed.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import struct
import sys
import time
from typing import Any

AF = {4: socket.AF_INET, 6: socket.AF_INET6}
ICMP = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}
ECHO, ECHO_REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}
SCTP = socket.IPPROTO_SCTP
INIT, INIT_ACK = 1, 2


class Knocker:
    """Every socket in one selector; a number tells a knock from others."""

    def __init__(self, doors: dict[str, list[int]]) -> None:
        self._selector = selectors.DefaultSelector()
        self._doors = doors
        self._waiting: dict[tuple[str, int], int] = {}
        self._answered: list[bool] = []
        self._number = os.getpid() & 0x7FFF
        for port in doors.get("tcp", []):
            self._listen(socket.SOCK_STREAM, port, self._accept)
        for port in doors.get("udp", []):
            self._listen(socket.SOCK_DGRAM, port, self._echo)
        self._raw: dict[tuple[str, int], socket.socket] = {}
        for family in (4, 6):
            for protocol, number, hear in (("sctp", SCTP, self._hear_sctp), ("icmp", ICMP[family], self._hear_icmp)):
                raw = socket.socket(AF[family], socket.SOCK_RAW, number)
                raw.setblocking(False)
                self._raw[protocol, family] = raw
                self._selector.register(raw, selectors.EVENT_READ, (hear, family))

    def serve(self) -> None:
        """Until the input ends."""
        self._selector.register(sys.stdin, selectors.EVENT_READ, (self._order, None))
        self._going = True
        while self._going:
            self._turn(None)

    def _turn(self, timeout: float | None) -> None:
        for key, _ in self._selector.select(timeout):
            act, data = key.data
            act(key.fileobj, data)

    def _order(self, _: Any, __: Any) -> None:
        line = sys.stdin.readline()
        if not line:
            self._going = False
            return
        patience, knocks = json.loads(line)
        self._answered, self._waiting = [False] * len(knocks), {}
        held = [one for at, knock in enumerate(knocks) if (one := self._knock(at, *knock))]
        end = time.monotonic() + patience
        while not all(self._answered) and (left := end - time.monotonic()) > 0:
            self._turn(left)
        for one in held:
            with contextlib.suppress(KeyError):
                self._selector.unregister(one)
            one.close()
        say(json.dumps(self._answered))

    def _knock(self, at: int, protocol: str, address: str, port: int) -> socket.socket | None:
        family = 6 if ":" in address else 4
        self._number = self._number % 0xFFFF + 1
        self._waiting[protocol, self._number] = at
        try:
            match protocol:
                case "tcp":
                    sock = socket.socket(AF[family], socket.SOCK_STREAM)
                    sock.setblocking(False)
                    sock.connect_ex((address, port))
                    self._selector.register(sock, selectors.EVENT_WRITE, (self._connected, at))
                    return sock
                case "udp":
                    sock = socket.socket(AF[family], socket.SOCK_DGRAM)
                    sock.setblocking(False)
                    sock.connect((address, port))
                    sock.send(b"hello")
                    self._selector.register(sock, selectors.EVENT_READ, (self._heard, at))
                    return sock
                case "sctp":
                    chunk = struct.pack("!BBHIIHHI", INIT, 0, 20, 7, 65536, 1, 1, 1)
                    self._raw["sctp", family].sendto(sctp(self._number, port, 0, chunk), (address, 0))
                case "icmp":
                    self._raw["icmp", family].sendto(echo(family, self._number), (address, 0))
        except OSError:
            pass  # what cannot be sent is not answered
        return None

    def _connected(self, sock: socket.socket, at: int) -> None:
        self._answered[at] = not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._selector.unregister(sock)

    def _heard(self, sock: socket.socket, at: int) -> None:
        with contextlib.suppress(OSError):
            self._answered[at] = bool(sock.recv(64))
        self._selector.unregister(sock)

    def _listen(self, kind: int, port: int, act: Any) -> None:
        sock = socket.socket(socket.AF_INET6, kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        sock.setblocking(False)
        sock.bind(("::", port))
        if kind == socket.SOCK_STREAM:
            sock.listen(256)
        self._selector.register(sock, selectors.EVENT_READ, (act, None))

    @staticmethod
    def _accept(sock: socket.socket, _: Any) -> None:
        with contextlib.suppress(OSError):
            sock.accept()[0].close()

    @staticmethod
    def _echo(sock: socket.socket, _: Any) -> None:
        """From the address that was asked: a host with several would choose by its routes."""
        with contextlib.suppress(OSError):
            message, about, _, peer = sock.recvmsg(64, socket.CMSG_SPACE(20))
            back = [(level, kind, data[:16] + bytes(4)) for level, kind, data in about if kind == socket.IPV6_PKTINFO]
            sock.sendmsg([message], back, 0, peer)

    def _hear_sctp(self, sock: socket.socket, family: int) -> None:
        with contextlib.suppress(OSError):
            packet, peer = sock.recvfrom(2048)
            own = socket.inet_ntop(AF[4], packet[16:20]) if family == 4 else ""
            packet = packet[(packet[0] & 15) * 4 :] if family == 4 else packet
            source, target = struct.unpack_from("!HH", packet)
            if packet[12] == INIT_ACK and (at := self._waiting.get(("sctp", target))) is not None:
                self._answered[at] = True
            elif packet[12] == INIT and target in self._doors.get("sctp", []):
                (tag,) = struct.unpack_from("!I", packet, 16)
                cookie = struct.pack("!HHI", 7, 8, 1)
                chunk = struct.pack("!BBHIIHHI", INIT_ACK, 0, 28, 9, 65536, 1, 1, 1) + cookie
                with socket.socket(AF[family], socket.SOCK_RAW, SCTP) as answer:
                    if own:
                        answer.bind((own, 0))
                    answer.sendto(sctp(target, source, tag, chunk), (*peer[:1], 0, *peer[2:]))

    def _hear_icmp(self, sock: socket.socket, family: int) -> None:
        with contextlib.suppress(OSError):
            packet, _ = sock.recvfrom(2048)
            packet = packet[(packet[0] & 15) * 4 :] if family == 4 else packet
            kind, _, _, number = struct.unpack_from("!BBHH", packet)
            if kind == ECHO_REPLY[family] and (at := self._waiting.get(("icmp", number))) is not None:
                self._answered[at] = True


def echo(family: int, number: int) -> bytes:
    """An echo request; of IPv6 the kernel fills the checksum in."""
    packet = struct.pack("!BBHHH", ECHO[family], 0, 0, number, 1) + bytes(8)
    if family == 6:
        return packet
    total = sum(struct.unpack("!8H", packet))
    total = (total & 0xFFFF) + (total >> 16)
    return packet[:2] + struct.pack("!H", ~total & 0xFFFF) + packet[4:]


def sctp(source: int, target: int, tag: int, chunk: bytes) -> bytes:
    """A packet with its checksum, without which the kernel does not track it."""
    bare = struct.pack("!HHII", source, target, tag, 0) + chunk
    crc = 0xFFFFFFFF
    for byte in bare:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return bare[:8] + struct.pack("<I", crc ^ 0xFFFFFFFF) + bare[12:]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    knocker = Knocker(
        {name: [int(port) for port in ports.split(",")] for name, _, ports in (w.partition("=") for w in sys.argv[1:])}
    )
    say("ready")
    knocker.serve()
