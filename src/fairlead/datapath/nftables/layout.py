"""How the sets' elements are laid out in bytes, and how they read as text: for the table swap and for people."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import NamedTuple

from fairlead.kernel.nft import Element

_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}
_SIZE = {"ifname": 16, "addr4": 4, "addr6": 16, "proto": 4, "port": 4}


class Layout(NamedTuple):
    """The fields of a set's key and, for a map, of its data."""

    key: tuple[str, ...]
    data: tuple[str, ...] = ()


def _family(n: int) -> dict[str, Layout]:
    address = f"addr{n}"
    return {
        f"port{n}": Layout(("proto", "port"), (address, "port")),
        f"bound{n}": Layout((address, "proto", "port"), (address, "port")),
        f"run{n}": Layout((address, "proto", "port"), (address,)),
        f"reflect{n}": Layout((address, address)),
        f"masquerade{n}": Layout(("ifname", address)),
    }


LAYOUTS: dict[str, Layout] = {
    "bridges": Layout(("ifname",)),
    "internal": Layout(("ifname",)),
    "open": Layout(("ifname",)),
    "routed": Layout(("ifname",)),
    "same": Layout(("ifname", "ifname")),
    "talk": Layout(("ifname", "ifname")),
    **_family(4),
    **_family(6),
}
"""Every set and map of the table; ``ruleset`` declares them in the same order."""


def text(name: str, element: Element) -> str:
    """One element as nft reads and people read it: ``tcp . 8080 : 10.0.0.2 . 80``."""
    layout = LAYOUTS[name]
    first = list(_fields(layout.key, element.key))
    if element.end is not None:
        last = _fields(layout.key, element.end)
        first = [low if low == high else f"{low}-{high}" for low, high in zip(first, last, strict=True)]
    line = " . ".join(first)
    if element.data is not None:
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
    return str(ipaddress.ip_address(data))
