"""Traffic that counts what it loses. Run as a program inside a network namespace until SIGTERM; then it prints its figures.

    load.py ping ADDRESS SECONDS          ICMP echo requests, one each SECONDS
    load.py send ADDRESS PORT SECONDS     numbered blocks over one TCP connection, one each SECONDS
    load.py sink PORT                     takes them and looks at each; prints ``ready`` once it listens, ends with the sender

The figures are one line of JSON: packets sent and lost, or bytes and TCP segments sent again; and ``gap``, the longest time in
seconds in which nothing came.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import struct
import sys
import time

BLOCK = 8192
_NUMBER = struct.Struct("!Q")
_ECHO = struct.Struct("!BBHHH")
_TOTAL_RETRANS = 100
_STRAGGLERS = 2.0

_stopped = False


def ping(address: str, pause: float) -> None:
    """Count the echo requests that nobody answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.connect((address, 0))
        identity, number, waiting, gap, last = time.monotonic_ns() & 0xFFFF, 0, set(), 0.0, time.monotonic()
        stop_at, following = float("inf"), time.monotonic()
        while waiting or stop_at == float("inf"):
            now = time.monotonic()
            if _stopped and stop_at == float("inf"):
                stop_at = now + _STRAGGLERS
            if now > stop_at:
                break
            if now >= following and not _stopped:
                number += 1
                waiting.add(number)
                _send(sock, identity, number)
                following = max(following + pause, now - 10 * pause)
            if select.select([sock], [], [], max(0.0, min(following - now, 0.05)))[0]:
                answered = _answered(sock.recv(2048), identity)
                if answered in waiting:
                    waiting.remove(answered)
                    gap, last = max(gap, time.monotonic() - last), time.monotonic()
        _say(sent=number, lost=len(waiting), gap=round(gap, 4))


def _send(sock: socket.socket, identity: int, number: int) -> None:
    data = _NUMBER.pack(number)
    head = _ECHO.pack(8, 0, 0, identity, number & 0xFFFF)
    total = sum(struct.unpack(f"!{(len(head) + len(data)) // 2}H", head + data))
    total = (total >> 16) + (total & 0xFFFF)
    try:
        sock.send(_ECHO.pack(8, 0, ~(total + (total >> 16)) & 0xFFFF, identity, number & 0xFFFF) + data)
    except OSError:
        return  # it counts as lost


def _answered(packet: bytes, identity: int) -> int:
    """The number of the request that ``packet`` answers; 0 if none of ours."""
    start = (packet[0] & 0xF) * 4
    kind, _, _, whose, _ = _ECHO.unpack_from(packet, start)
    return _NUMBER.unpack_from(packet, start + _ECHO.size)[0] if kind == 0 and whose == identity else 0


def send(address: str, port: int, pause: float) -> None:
    """Send numbered blocks until stopped."""
    number = 0
    with socket.create_connection((address, port), timeout=30) as sock:
        while not _stopped:
            number += 1
            sock.sendall(_NUMBER.pack(number).ljust(BLOCK, b"."))
            time.sleep(pause)
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
        _say(bytes=number * BLOCK, retransmitted=struct.unpack_from("=I", info, _TOTAL_RETRANS)[0])


def sink(port: int) -> None:
    """Take one connection's blocks; each must be the one after the last."""
    with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True) as listening:
        _print("ready")
        connection, _ = listening.accept()
    number, gap, data, last = 0, 0.0, b"", time.monotonic()
    while more := connection.recv(1 << 16):
        gap, last = max(gap, time.monotonic() - last), time.monotonic()
        data += more
        while len(data) >= BLOCK:
            number += 1
            assert _NUMBER.unpack_from(data)[0] == number, "a block is missing"
            data = data[BLOCK:]
    assert not data, "half a block"
    _say(bytes=number * BLOCK, gap=round(gap, 4))


def _say(**figures: float) -> None:
    _print(json.dumps(figures))


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _stop(*_: object) -> None:
    global _stopped  # noqa: PLW0603  # a signal has no other way to tell
    _stopped = True


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    what, *words = sys.argv[1:]
    if what == "ping":
        ping(words[0], float(words[1]))
    elif what == "send":
        send(words[0], int(words[1]), float(words[2]))
    else:
        sink(int(words[0]))
