"""A server that answers who is asking, and a client that asks. Run as a program inside a network namespace.

    echo.py serve tcp|udp|sctp ADDRESS PORT COUNT NAME    prints ``ready`` once all COUNT ports listen
    echo.py ask   tcp|udp|sctp ADDRESS PORT SECONDS       prints the answer, or fails and says why

The answer to each message is one line of JSON: the server's name, the port that was asked, the peer's address and port as
the server sees them, and the message. It needs nothing but Python's standard library, and a connection stays open for as many
messages as the client likes.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import selectors
import socket
import struct
import sys
from typing import Any

KINDS = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}


def serve(protocol: str, address: str, port: int, count: int, name: str) -> None:
    """Answer on ``count`` ports until killed. The address ``::`` takes both families."""
    waiting = selectors.DefaultSelector()
    for one in range(port, port + count):
        listening = _listening(protocol, address, one)
        waiting.register(listening, selectors.EVENT_READ, "datagram" if protocol == "udp" else "listener")
    _say("ready")
    while True:
        for key, _ in waiting.select():
            sock: Any = key.fileobj
            if key.data == "datagram":
                _answer_datagram(sock, name)
            elif key.data == "listener":
                connection, _ = sock.accept()
                waiting.register(connection, selectors.EVENT_READ, "connection")
            elif not _answer(sock, name):
                waiting.unregister(sock)
                sock.close()


def ask(protocol: str, address: str, port: int, seconds: float) -> None:
    """Send one message and print the answer."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, *KINDS[protocol]) as sock:
        sock.settimeout(seconds)
        try:
            sock.connect((address, port))
            sock.send(b"hello")
            _say(sock.recv(65535).decode().strip())
        except OSError as problem:
            sys.exit(f"{protocol} {address} port {port}: {problem}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _listening(protocol: str, address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, *KINDS[protocol])
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    sock.bind((address, port))
    if protocol != "udp":
        sock.listen(128)
    return sock


def _answer(sock: socket.socket, name: str) -> bool:
    try:
        message = sock.recv(65535)
        if message:
            sock.sendall(_line(name, sock.getsockname()[1], sock.getpeername(), message))
    except OSError:
        return False
    return bool(message)


def _answer_datagram(sock: socket.socket, name: str) -> None:
    """From the address that was asked (IPV6_PKTINFO): a host with several would choose by its routes."""
    with contextlib.suppress(OSError):  # one client that is gone must not end the server
        message, about, _, peer = sock.recvmsg(65535, socket.CMSG_SPACE(20))
        back = [(level, kind, data[:16] + struct.pack("i", 0)) for level, kind, data in about if kind == socket.IPV6_PKTINFO]
        sock.sendmsg([_line(name, sock.getsockname()[1], peer, message)], back, 0, peer)


def _line(name: str, port: int, peer: tuple[Any, ...], message: bytes) -> bytes:
    address = ipaddress.ip_address(peer[0].partition("%")[0])
    plain = getattr(address, "ipv4_mapped", None) or address
    said = {"name": name, "port": port, "peer": str(plain), "peer_port": peer[1], "message": message.decode(errors="replace")}
    return json.dumps(said).encode() + b"\n"


if __name__ == "__main__":
    what, protocol, address, port, *rest = sys.argv[1:]
    if what == "serve":
        serve(protocol, address, int(port), int(rest[0]), rest[1])
    else:
        ask(protocol, address, int(port), float(rest[0]))
