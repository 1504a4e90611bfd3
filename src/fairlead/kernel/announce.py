"""Telling the neighbours on a link which MAC an address has now: those that remember another learn it at once.

One frame each, and no answer: for IPv4 an ARP announcement (RFC 5227), for IPv6 an unsolicited neighbour advertisement that
overrides what is known (RFC 4861, 7.2.6). The kernel says so only of a device that comes up or gets another MAC, and then only
where ``arp_notify`` asks for it; not of an address that is put on another device.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

from fairlead.kernel.checksum import checksum
from fairlead.kernel.errors import translated
from fairlead.kernel.route import LinkInfo
from fairlead.kernel.route.text import to_address

_ETHERNET = 6
_ARP, _IP6, _ICMP6 = 0x0806, 0x86DD, 58
_EVERYBODY, _ALL_NODES = b"\xff" * 6, b"\x33\x33\x00\x00\x00\x01"
_arp = struct.Struct("!HHBBH6s4s6s4s")
_ip6 = struct.Struct("!IHBB16s16s")
_advert = struct.Struct("!BBHI16sBB6s")
_pseudo = struct.Struct("!16s16sI3xB")
_ADVERT, _OVERRIDE, _TARGET_LINK = 136, 0x20000000, 2
_HOPS = 255


def announce(link: LinkInfo, addresses: Iterable[str]) -> None:
    """Say on an Ethernet link that these addresses are at its MAC; on another nothing, as nobody there remembers MACs."""
    mac = bytes.fromhex(link.mac.replace(":", ""))
    if len(mac) != _ETHERNET:
        return
    with (
        translated(f"announce addresses on {link.name}"),
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0) as sock,
    ):
        sock.bind((link.name, 0))
        for one in addresses:
            sock.send(frame(mac, one))


def frame(mac: bytes, address: str) -> bytes:
    """The frame that says of one address where it is."""
    _, value = to_address(address)
    if len(value) == 4:
        said = _arp.pack(1, 0x0800, _ETHERNET, 4, 1, mac, value, bytes(6), value)
        return _EVERYBODY + mac + _ARP.to_bytes(2, "big") + said
    everybody = socket.inet_pton(socket.AF_INET6, "ff02::1")
    said = _advert.pack(_ADVERT, 0, 0, _OVERRIDE, value, _TARGET_LINK, 1, mac)
    checked = checksum(_pseudo.pack(value, everybody, len(said), _ICMP6) + said)
    said = said[:2] + checked.to_bytes(2, "big") + said[4:]
    head = _ip6.pack(6 << 28, len(said), _ICMP6, _HOPS, value, everybody)
    return _ALL_NODES + mac + _IP6.to_bytes(2, "big") + head + said
