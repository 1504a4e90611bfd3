"""Station: a node as others reach it. What it says of itself in annotations, else what its status says."""

from __future__ import annotations

from typing import NamedTuple

from fairlead.model.address import Address, Family, Interface
from fairlead.model.node import MTU, PUBLIC_KEY, UNDERLAY, Node

_DEFAULT_MTU = 1500


class Station(NamedTuple):
    """One node: its addresses with their subnets, the largest packet that its uplink carries, its WireGuard key."""

    name: str
    addresses: tuple[Interface, ...]
    mtu: int = _DEFAULT_MTU
    key: str = ""

    @classmethod
    def of(cls, node: Node) -> Station:
        """The station of a node. Annotations that make no sense count as absent: another program may have written them."""
        said = node.metadata.annotations
        mtu = said.get(MTU, "")
        return cls(
            node.name,
            _interfaces(said.get(UNDERLAY, "")) or tuple(Interface.of(one, one.host()) for one in node.internal),
            int(mtu) if mtu.isascii() and mtu.isdigit() and len(mtu) < 6 else _DEFAULT_MTU,
            said.get(PUBLIC_KEY, ""),
        )

    def address(self, family: Family) -> Address | None:
        """Its first address of a family."""
        return next((one.address for one in self.addresses if one.family == family), None)

    @property
    def underlay(self) -> Address | None:
        """The address by which tunnels reach it: IPv4 where it has one."""
        return self.address(4) or self.address(6)

    def beside(self, other: Station, family: Family) -> Address | None:
        """The address of ``other`` through which it is the next hop for packets of ``family``: on a common subnet.

        IPv4 can be routed through an IPv6 neighbour too (RFC 8950), IPv6 through no IPv4 one.
        """
        for near in (4, 6) if family == 4 else (6,):
            theirs = [one.address for one in other.addresses if one.family == near]
            for mine in (one for one in self.addresses if one.family == near):
                if found := next((one for one in theirs if mine.prefix.holds(one)), None):
                    return found
        return None


def _interfaces(text: str) -> tuple[Interface, ...]:
    found = []
    for word in text.split(","):
        try:
            found.append(Interface(word.strip()))
        except ValueError:
            return ()
    return tuple(found)
