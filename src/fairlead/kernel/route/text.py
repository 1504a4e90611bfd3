"""Between the text people write and the bytes rtnetlink carries: addresses, prefixes, MAC addresses, families.

``socket.inet_pton`` is the parser: it is ten times faster than ``ipaddress``, and what reaches this package is valid already.
"""

from __future__ import annotations

import errno
import socket

from fairlead.kernel.errors import KernelError

AF_INET, AF_INET6, AF_BRIDGE = 2, 10, 7
FAMILY = {AF_INET: 4, AF_INET6: 6}
AF = {0: 0, 4: AF_INET, 6: AF_INET6}


def to_address(text: str) -> tuple[int, bytes]:
    """AF_INET or AF_INET6, and the bytes."""
    family = AF_INET6 if ":" in text else AF_INET
    try:
        return family, socket.inet_pton(family, text)
    except OSError:
        raise KernelError.of(errno.EINVAL, f"use {text!r} as an IP address") from None


def to_prefix(text: str) -> tuple[int, bytes, int]:
    """AF_INET or AF_INET6, the bytes, and the length: the whole address if ``text`` has none."""
    head, slash, tail = text.partition("/")
    family, value = to_address(head)
    if slash and not (tail.isdecimal() and int(tail) <= len(value) * 8):
        raise KernelError.of(errno.EINVAL, f"use {text!r} as an IP prefix")
    return family, value, int(tail) if slash else len(value) * 8


def from_address(value: bytes) -> str:
    """The text of four or sixteen bytes."""
    return socket.inet_ntop(AF_INET if len(value) == 4 else AF_INET6, value)


def to_mac(text: str) -> bytes:
    """The six bytes of ``02:42:0a:00:00:05``."""
    try:
        value = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        value = b""
    if len(value) != 6:
        raise KernelError.of(errno.EINVAL, f"use {text!r} as a MAC address")
    return value


def from_mac(value: bytes) -> str:
    """The text of six bytes; empty for none."""
    return value.hex(":") if value else ""


def named(link: int | str) -> str:
    """An interface as errors name it."""
    return link if isinstance(link, str) else f"interface {link}"
