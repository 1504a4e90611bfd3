"""Addresses on interfaces."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from fairlead.kernel.netlink import CREATE, EXCL, Message, Netlink, attr, parse, u32
from fairlead.kernel.route.text import AF, AF_INET, FAMILY, from_address, named, to_prefix

_NEW, _DEL, _GET = 20, 21, 22
_ADDRESS, _LOCAL, _FLAGS = 1, 2, 8
_NODAD, _NOPREFIXROUTE = 0x02, 0x200
_header = struct.Struct("=BBBBi")

TENTATIVE, DAD_FAILED, PERMANENT = 0x40, 0x08, 0x80
"""Bits of ``AddressInfo.flags``."""


@dataclass(frozen=True, slots=True)
class AddressInfo:
    """One address: ``address`` without its length. ``scope`` 0 is global, 253 link, 254 host."""

    index: int
    address: str
    length: int
    family: int
    scope: int
    flags: int

    @property
    def interface(self) -> str:
        """The address with its length, as ``new_address`` takes it."""
        return f"{self.address}/{self.length}"


def addresses(nl: Netlink, index: int = 0, family: int = 0) -> list[AddressInfo]:
    """Every address, or those of one interface or family."""
    doing = f"list the addresses of interface {index}" if index else "list the addresses"
    return [parse_address(row) for row in nl.dump(Message(_GET, 0, _header.pack(AF[family], 0, 0, 0, index), doing))]


def parse_address(data: bytes) -> AddressInfo:
    """The row of one address message, as dumps and events carry it."""
    family, length, flags, scope, index = _header.unpack_from(data)
    found = parse(data, 8)
    if wide := found.get(_FLAGS):
        flags = int.from_bytes(wide, "little")
    # On a point-to-point interface ADDRESS is the other end's and LOCAL is this one's; IPv6 has LOCAL only there.
    return AddressInfo(
        index, from_address(found.get(_LOCAL) or found[_ADDRESS]), length, FAMILY.get(family, family), scope, flags
    )


LINK = 253
"""A scope: an address that is used on its own link alone."""


def new_address(index: int, interface: str, *, nodad: bool = True, prefix_route: bool = True, scope: int = 0) -> Message:
    """Add ``10.0.0.1/24`` to an interface. ``nodad``: usable at once, without asking the neighbours whether it is taken."""
    flags = (_NODAD if nodad else 0) | (0 if prefix_route else _NOPREFIXROUTE)
    return Message(
        _NEW, CREATE | EXCL, _body(index, interface, scope) + u32(_FLAGS, flags), f"add address {interface} to {named(index)}"
    )


def del_address(index: int, interface: str) -> Message:
    """Remove ``10.0.0.1/24`` from an interface."""
    return Message(_DEL, 0, _body(index, interface), f"remove address {interface} from {named(index)}")


def _body(index: int, interface: str, scope: int = 0) -> bytes:
    family, value, length = to_prefix(interface)
    local = attr(_LOCAL, value) if family == AF_INET else b""
    return _header.pack(family, length, 0, scope, index) + local + attr(_ADDRESS, value)
