"""WireGuard's cross-platform protocol, by which implementations outside the kernel are asked: lines of ``key=value``.

::

    get=1              set=1
    (empty line)       private_key=… listen_port=… public_key=… endpoint=… allowed_ip=… public_key=… …
                       (empty line)
    answer: key=value …, errno=0, and an empty line

Keys are hexadecimal. A line ``public_key=`` begins a peer; what follows is that peer's.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from dataclasses import replace

from fairlead.kernel.errors import KernelError

from .base import Device, Peer, from_key, to_key

GET = b"get=1\n\n"
END = b"\n\n"


def to_set(have: Device, *, private: str = "", port: int = 0, peers: Iterable[Peer] = (), remove: Iterable[str] = ()) -> bytes:
    """The request that changes ``have``; a peer's addresses are only all taken away first where it must lose one."""
    lines = ["set=1"]
    if private:
        lines.append(f"private_key={to_key(private).hex()}")
    if port:
        lines.append(f"listen_port={port}")
    for public in remove:
        lines += [f"public_key={to_key(public).hex()}", "remove=true"]
    for peer in peers:
        lines += _peer(peer, have.peers)
    return "\n".join([*lines, "", ""]).encode()


def _peer(peer: Peer, there: Mapping[str, Peer]) -> list[str]:
    before = there.get(peer.public)
    had = before.allowed if before else frozenset[str]()
    lines = [f"public_key={to_key(peer.public).hex()}"]
    if peer.endpoint:
        host, port = peer.endpoint
        lines.append(f"endpoint=[{host}]:{port}" if ":" in host else f"endpoint={host}:{port}")
    loses = bool(had - peer.allowed)
    if loses:
        lines.append("replace_allowed_ips=true")
    lines += [f"allowed_ip={one}" for one in sorted(peer.allowed if loses else peer.allowed - had)]
    lines.append(f"persistent_keepalive_interval={peer.keepalive}")  # last: turned on, it has something sent at once
    return lines


def from_get(name: str, answer: bytes) -> Device:
    """The device of an answer to ``GET``; an error if it says that it failed."""
    device = Device(name)
    peer: Peer | None = None
    peers: dict[str, Peer] = {}
    for key, value in _lines(answer, f"read the WireGuard device {name}"):
        if key == "private_key":
            device = replace(device, private=from_key(bytes.fromhex(value)))
        elif key == "listen_port":
            device = replace(device, port=int(value))
        elif key == "public_key":
            peer = Peer(from_key(bytes.fromhex(value)))
        elif peer:
            peer = _told(peer, key, value)
        if peer:
            peers[peer.public] = peer
    return replace(device, peers=peers)


def _told(peer: Peer, key: str, value: str) -> Peer:
    if key == "endpoint":
        host, _, port = value.rpartition(":")
        return replace(peer, endpoint=(host.strip("[]"), int(port)))
    if key == "allowed_ip":
        return replace(peer, allowed=peer.allowed | {value})
    if key == "persistent_keepalive_interval":
        return replace(peer, keepalive=int(value))
    if key == "last_handshake_time_sec":
        return replace(peer, handshake=peer.handshake + int(value))
    if key == "last_handshake_time_nsec":
        return replace(peer, handshake=peer.handshake + int(value) / 1e9)
    if key == "rx_bytes":
        return replace(peer, received=int(value))
    if key == "tx_bytes":
        return replace(peer, sent=int(value))
    return peer


def check(answer: bytes, doing: str) -> None:
    """Raise what an answer refuses."""
    for _ in _lines(answer, doing):
        pass


def _lines(answer: bytes, doing: str) -> Iterable[tuple[str, str]]:
    said = None
    for line in answer.decode(errors="replace").splitlines():
        key, _, value = line.partition("=")
        if key == "errno":
            said = int(value)
        elif key:
            yield key, value
    if said is None:
        raise KernelError.of(errno.EPROTO, doing, "the answer was cut short")
    if said:
        raise KernelError.of(abs(said), doing)
