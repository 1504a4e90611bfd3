"""Generic netlink: the kernel's parts that have no protocol number of their own are found by name and given one for now."""

from __future__ import annotations

import struct

from fairlead.kernel.netlink import Message, Netlink, parse, text

GENERIC = 16
"""The protocol of such sockets."""

_CONTROL, _GET_FAMILY = 16, 3
_FAMILY_ID, _FAMILY_NAME = 1, 2
_header = struct.Struct("=BBxx")

HEADER = _header.size
"""Bytes before the attributes of a message."""


def family(nl: Netlink, name: str) -> int:
    """The number of a part of the kernel, which is the type of its messages; ``Gone`` if this kernel has no such part."""
    asked = Message(_CONTROL, 0, _header.pack(_GET_FAMILY, 1) + text(_FAMILY_NAME, name), f"find {name} in the kernel")
    number: int = struct.unpack("=H", parse(nl.ask(asked)[0], HEADER)[_FAMILY_ID])[0]
    return number


def message(number: int, command: int, version: int, attributes: bytes, doing: str) -> Message:
    """A message to the part of that number."""
    return Message(number, 0, _header.pack(command, version) + attributes, doing)
