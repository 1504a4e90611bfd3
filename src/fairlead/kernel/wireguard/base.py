"""What a WireGuard device and its peers are, and what both implementations promise."""

from __future__ import annotations

import base64
import binascii
import errno
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from fairlead.kernel.errors import KernelError

SIZE = 32
"""Bytes of a key."""

KEEPALIVE = 25
"""Seconds after which an idle peer is sent something, so that one that lost its session is found out, and found, by itself."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer: who it is, where it is, and what addresses are behind it.

    ``handshake``: when the last one was, in seconds since 1970; 0 if there was none. It, and the counters, are only read.
    """

    public: str
    endpoint: tuple[str, int] | None = None
    allowed: frozenset[str] = frozenset()
    keepalive: int = 0
    handshake: float = field(default=0.0, compare=False)
    received: int = field(default=0, compare=False)
    sent: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Device:
    """One device. ``private`` never shows in a text."""

    name: str
    private: str = field(default="", repr=False)
    port: int = 0
    peers: dict[str, Peer] = field(default_factory=dict)


class Wireguard(Protocol):
    """Devices by the names of their interfaces, in the namespace of the thread that calls. Keys are texts in base64."""

    name: str
    """How people know it: ``kernel`` or ``wireguard-go``."""

    def make(self, name: str) -> None:
        """Make a device that has no key yet; nothing happens if there is one that answers."""

    def get(self, name: str) -> Device | None:
        """A device as it is; None if there is none, and an error if there is one that does not answer."""

    def set(
        self, name: str, *, private: str = "", port: int = 0, peers: Iterable[Peer] = (), remove: Iterable[str] = ()
    ) -> None:
        """Change what is given. A peer gets the addresses of ``allowed``, and loses others that it had."""

    def remove(self, name: str) -> None:
        """Remove a device; nothing happens if there is none."""


def to_key(text: str) -> bytes:
    """The bytes of a key in base64, as ``wg`` prints it."""
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != SIZE:
        raise KernelError.of(errno.EINVAL, "use a WireGuard key", "it is not 32 bytes in base64")
    return key


def from_key(key: bytes) -> str:
    """A key in base64."""
    return base64.b64encode(key).decode()
