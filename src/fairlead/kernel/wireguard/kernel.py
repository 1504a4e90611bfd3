"""WireGuard by the kernel, over generic netlink; the messages are described in linux/wireguard.h.

An attribute has at most 64 KiB, a device more peers than fit and a peer more addresses, so that both travel in pieces: a piece
that goes on with a peer repeats its key.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from fairlead.kernel import genetlink, route
from fairlead.kernel.errors import Exists, Gone, KernelError
from fairlead.kernel.netlink import Message, Netlink, attr, each, nest, parse, text, u8, u16, u32

from .base import Device, Peer, from_key, to_key

FAMILY, VERSION = "wireguard", 1
GET, SET = 0, 1

_NAME, _PRIVATE, _PORT, _PEERS = 2, 3, 6, 8
_PUBLIC, _FLAGS, _ENDPOINT, _KEEPALIVE, _HANDSHAKE, _RX, _TX, _ALLOWED = 1, 3, 4, 5, 6, 7, 8, 9
_REMOVE_ME, _REPLACE_ALLOWED = 1, 2
_IP_FAMILY, _IP, _CIDR = 1, 2, 3

_ADDRESSES = 256
"""Addresses in one piece of a peer."""
_PIECE = 24 << 10
"""Bytes of peers in one message, about."""
_EMPTY = 32 * b"\0"

_in4 = struct.Struct("=HH4s8x")
_in6 = struct.Struct("=HHI16sI")
_time = struct.Struct("=qq")
_u64 = struct.Struct("=Q")
_u16 = struct.Struct("=H")


class Kernel:
    """Implements ``Wireguard``."""

    name = "kernel"

    def make(self, name: str) -> None:
        """Make the interface."""
        with Netlink() as nl:
            try:
                nl.do(route.new_link(name, "wireguard"))
            except Exists:
                found = route.link(nl, name)
                if found is None or found.kind != "wireguard":
                    raise

    def get(self, name: str) -> Device | None:
        """List the device."""
        with Netlink(genetlink.GENERIC) as nl:
            try:
                number = genetlink.family(nl, FAMILY)
                return from_rows(name, nl.dump(to_get(number, name)))
            except Gone:
                return None
            except KernelError as error:
                if error.errno == errno.EOPNOTSUPP:  # an interface of another kind
                    return None
                raise

    def set(
        self, name: str, *, private: str = "", port: int = 0, peers: Iterable[Peer] = (), remove: Iterable[str] = ()
    ) -> None:
        """Change the device."""
        have = self.get(name)
        if have is None:
            raise KernelError.of(errno.ENODEV, f"set up the WireGuard device {name}")
        with Netlink(genetlink.GENERIC) as nl:
            number = genetlink.family(nl, FAMILY)
            nl.do(*to_set(number, have, private=private, port=port, peers=peers, remove=remove))

    def remove(self, name: str) -> None:
        """Remove the interface."""
        with Netlink() as nl:
            found = route.link(nl, name)
            if found and found.kind == "wireguard":
                nl.do(route.del_link(found.index).accepting(errno.ENODEV))


def to_get(number: int, name: str) -> Message:
    """The request for a listing of a device."""
    return genetlink.message(number, GET, VERSION, text(_NAME, name), f"read the WireGuard device {name}")


def to_set(
    number: int, have: Device, *, private: str = "", port: int = 0, peers: Iterable[Peer] = (), remove: Iterable[str] = ()
) -> Iterator[Message]:
    """The requests that change ``have``; a peer's addresses are only all taken away first where it must lose one."""
    name, doing = text(_NAME, have.name), f"set up the WireGuard device {have.name}"
    own = (attr(_PRIVATE, to_key(private)) if private else b"") + (u16(_PORT, port) if port else b"")
    if own:
        yield genetlink.message(number, SET, VERSION, name + own, doing)
    pieces = [_named(public, u32(_FLAGS, _REMOVE_ME)) for public in remove]
    pieces += [piece for peer in peers for piece in _pieces(peer, have.peers)]
    for batch in _batches(pieces):
        yield genetlink.message(number, SET, VERSION, name + nest(_PEERS, *batch), doing)


def from_rows(name: str, rows: Iterable[bytes]) -> Device:
    """The device of a listing, whose messages may each hold some of its peers and some of a peer's addresses."""
    device = Device(name)
    peers: dict[str, Peer] = {}
    for row in rows:
        found = parse(row, genetlink.HEADER)
        if (key := found.get(_PRIVATE, _EMPTY)) != _EMPTY:
            device = replace(device, private=from_key(key))
        if _PORT in found:
            device = replace(device, port=_u16.unpack(found[_PORT])[0])
        for _, piece in each(found.get(_PEERS, b"")):
            peer = _peer(parse(piece))
            before = peers.get(peer.public)
            peers[peer.public] = replace(before, allowed=before.allowed | peer.allowed) if before else peer
    return replace(device, peers=peers)


def _pieces(peer: Peer, there: Mapping[str, Peer]) -> Iterator[bytes]:
    before = there.get(peer.public)
    had = before.allowed if before else frozenset[str]()
    loses = bool(had - peer.allowed)
    addresses = [_allowed(one) for one in sorted(peer.allowed if loses else peer.allowed - had)]
    first, rest = addresses[:_ADDRESSES], addresses[_ADDRESSES:]
    yield _named(
        peer.public,
        u32(_FLAGS, _REPLACE_ALLOWED) if loses else b"",
        attr(_ENDPOINT, _sockaddr(*peer.endpoint)) if peer.endpoint else b"",
        u16(_KEEPALIVE, peer.keepalive),
        nest(_ALLOWED, *first) if first else b"",
    )
    for start in range(0, len(rest), _ADDRESSES):
        yield _named(peer.public, nest(_ALLOWED, *rest[start : start + _ADDRESSES]))


def _named(public: str, *attributes: bytes) -> bytes:
    return nest(0, attr(_PUBLIC, to_key(public)), *attributes)


def _batches(pieces: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for piece in pieces:
        if batch and size + len(piece) > _PIECE:
            yield batch
            batch, size = [], 0
        batch.append(piece)
        size += len(piece)
    if batch:
        yield batch


def _allowed(prefix: str) -> bytes:
    host, _, length = prefix.partition("/")
    family, packed = _packed(host)
    return nest(0, u16(_IP_FAMILY, family), attr(_IP, packed), u8(_CIDR, int(length)))


def _sockaddr(host: str, port: int) -> bytes:
    family, packed = _packed(host)
    if family == socket.AF_INET:
        return _in4.pack(family, socket.htons(port), packed)
    return _in6.pack(family, socket.htons(port), 0, packed, 0)


def _packed(host: str) -> tuple[int, bytes]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return family, socket.inet_pton(family, host)


def _peer(found: dict[int, bytes]) -> Peer:
    handshake = _time.unpack(found[_HANDSHAKE]) if _HANDSHAKE in found else (0, 0)
    return Peer(
        from_key(found[_PUBLIC]),
        _endpoint(found.get(_ENDPOINT, b"")),
        frozenset(_prefix(parse(one)) for _, one in each(found.get(_ALLOWED, b""))),
        _u16.unpack(found[_KEEPALIVE])[0] if _KEEPALIVE in found else 0,
        handshake[0] + handshake[1] / 1e9,
        _u64.unpack(found[_RX])[0] if _RX in found else 0,
        _u64.unpack(found[_TX])[0] if _TX in found else 0,
    )


def _endpoint(found: bytes) -> tuple[str, int] | None:
    if len(found) < _in4.size:
        return None
    family, port = struct.unpack_from("=HH", found)
    at, length = (4, 4) if family == socket.AF_INET else (8, 16)
    return socket.inet_ntop(family, found[at : at + length]), socket.ntohs(port)


def _prefix(found: dict[int, bytes]) -> str:
    address = found[_IP]
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    return f"{socket.inet_ntop(family, address)}/{found[_CIDR][0]}"
