"""How the sets' elements are laid out in bytes, and how they read as text: for the swap of a table and for people."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import NamedTuple

from fairlead.kernel.nft import Element

_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}
_SIZE = {"ifname": 16, "mac": 8, "addr4": 4, "addr6": 16, "proto": 4, "port": 4, "raw7": 8, "raw8": 8}
"""Bytes in the kernel's registers. ``raw7`` and ``raw8`` are seven and eight bytes that nft knows as a number alone."""


class Layout(NamedTuple):
    """The fields of a set's key and, for a map, of its data."""

    key: tuple[str, ...]
    data: tuple[str, ...] = ()


def text(layout: Layout, element: Element) -> str:
    """One element as nft reads and people read it: ``tcp . 8080 : 10.0.0.2 . 80``."""
    first = list(_fields(layout.key, element.key))
    if element.end is not None:
        last = _fields(layout.key, element.end)
        first = [low if low == high else f"{low}-{high}" for low, high in zip(first, last, strict=True)]
    line = " . ".join(first)
    if isinstance(element.data, bytes):
        line += " : " + " . ".join(_fields(layout.data, element.data))
    return line


def _fields(kinds: tuple[str, ...], data: bytes) -> Iterator[str]:
    at = 0
    for kind in kinds:
        size = _SIZE[kind]
        yield _text(kind, data[at : at + size])
        at += size


def _text(kind: str, data: bytes) -> str:
    if kind == "ifname":
        return '"' + data.rstrip(b"\0").decode() + '"'
    if kind == "proto":
        return _PROTOCOLS.get(data[0], str(data[0]))
    if kind == "port":
        return str(int.from_bytes(data[:2], "big"))
    if kind == "mac":
        return data[:6].hex(":")
    if kind.startswith("raw"):
        return "0x" + data[: int(kind[3:])].hex()
    return str(ipaddress.ip_address(data))
