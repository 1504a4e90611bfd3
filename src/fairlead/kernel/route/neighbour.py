"""Neighbours (which MAC has an address) and the forwarding entries of bridges and tunnels (which port or host has a MAC)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from fairlead.kernel.netlink import APPEND, CREATE, REPLACE, Message, Netlink, attr, parse
from fairlead.kernel.route.text import AF, AF_BRIDGE, FAMILY, from_address, from_mac, named, to_address, to_mac

_NEW, _DEL, _GET = 28, 29, 30
_DST, _LLADDR, _MASTER = 1, 2, 9
_SELF, _ON_MASTER = 0x02, 0x04
_header = struct.Struct("=BxxxiHBB")

PERMANENT, NOARP, REACHABLE, STALE, FAILED = 0x80, 0x40, 0x02, 0x04, 0x20
"""Bits of ``NeighbourInfo.state``."""


@dataclass(frozen=True, slots=True)
class NeighbourInfo:
    """One entry. Of a forwarding entry ``family`` is 0 and ``address`` the remote host, if it has one."""

    index: int
    family: int
    address: str | None
    mac: str
    state: int
    flags: int
    master: int

    @property
    def remote(self) -> bool:
        """Whether it is the forwarding entry of a tunnel: a MAC behind another host."""
        return self.family == 0 and self.address is not None


def neighbours(nl: Netlink, family: int = 0) -> list[NeighbourInfo]:
    """Every neighbour of a family or both."""
    return _listed(nl, AF[family], "list the neighbours")


def fdb(nl: Netlink) -> list[NeighbourInfo]:
    """Every forwarding entry of bridges and tunnels."""
    return _listed(nl, AF_BRIDGE, "list the forwarding entries")


def new_neighbour(index: int, address: str, mac: str) -> Message:
    """Say for good which MAC has ``address``, whatever was known of it before."""
    family, value = to_address(address)
    body = _header.pack(family, index, PERMANENT, 0, 0) + attr(_DST, value) + attr(_LLADDR, to_mac(mac))
    return Message(_NEW, CREATE | REPLACE, body, f"add neighbour {address} on {named(index)}")


def del_neighbour(index: int, address: str) -> Message:
    """Forget a neighbour."""
    family, value = to_address(address)
    return Message(
        _DEL, 0, _header.pack(family, index, 0, 0, 0) + attr(_DST, value), f"remove neighbour {address} on {named(index)}"
    )


def fdb_append(index: int, mac: str, remote: str | None = None) -> Message:
    """Say that ``mac`` lies behind a bridge port, or behind the host ``remote`` of a tunnel. One MAC may have several hosts."""
    return Message(_NEW, CREATE | APPEND, _entry(index, mac, remote), f"add forwarding entry {mac} on {named(index)}")


def fdb_replace(index: int, mac: str, remote: str) -> Message:
    """Say that ``mac`` lies behind the host ``remote`` of a tunnel and nowhere else."""
    return Message(_NEW, CREATE | REPLACE, _entry(index, mac, remote), f"set forwarding entry {mac} on {named(index)}")


def fdb_delete(index: int, mac: str, remote: str | None = None) -> Message:
    """Undo ``fdb_append``."""
    return Message(_DEL, 0, _entry(index, mac, remote), f"remove forwarding entry {mac} on {named(index)}")


def _entry(index: int, mac: str, remote: str | None) -> bytes:
    body = _header.pack(AF_BRIDGE, index, PERMANENT | NOARP, _SELF if remote else _ON_MASTER, 0) + attr(_LLADDR, to_mac(mac))
    return body + attr(_DST, to_address(remote)[1]) if remote else body


def _listed(nl: Netlink, family: int, doing: str) -> list[NeighbourInfo]:
    return [parse_neighbour(row) for row in nl.dump(Message(_GET, 0, _header.pack(family, 0, 0, 0, 0), doing))]


def parse_neighbour(data: bytes) -> NeighbourInfo:
    """The row of one neighbour message, as dumps and events carry it."""
    family, index, state, flags, _ = _header.unpack_from(data)
    found = parse(data, 12)
    dst, master = found.get(_DST), found.get(_MASTER)
    return NeighbourInfo(
        index,
        FAMILY.get(family, 0),
        from_address(dst) if dst else None,
        from_mac(found.get(_LLADDR, b"")),
        state,
        flags,
        int.from_bytes(master, "little") if master else 0,
    )
