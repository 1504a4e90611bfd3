"""Station: a node as others reach it. What it says of itself in annotations, else what its status says."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import NamedTuple

from fairlead.model.address import Address, Family, Interface
from fairlead.model.node import MTU, PUBLIC_KEY, UNDERLAY, Node

_DEFAULT_MTU = 1500
_GENERATIONS = 1 << 31
_SIZE = 32


class Station(NamedTuple):
    """One node: its addresses with their subnets, the largest packet that its uplink carries, what it published of its keys."""

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

    @property
    def keys(self) -> dict[int, str]:
        """Its WireGuard public keys by generation, the oldest first: one, and while it is being replaced two.

        What makes no sense counts as absent. There is one for even generations and one for odd ones.
        """
        found: dict[int, str] = {}
        for word in self.key.split(","):
            number, _, key = word.strip().partition(":")
            if number.isascii() and number.isdigit() and 0 < int(number[:11]) < _GENERATIONS and _is_key(key):
                found[int(number)] = key
        latest = {number & 1: number for number in sorted(found)}
        return {number: found[number] for number in sorted(latest.values())}

    def between(self, other: Station) -> tuple[Address, Address] | None:
        """The addresses by which this node and another speak: of a family that both have, IPv4 before IPv6."""
        for family in (4, 6):
            mine, theirs = self.address(family), other.address(family)
            if mine and theirs:
                return mine, theirs
        return None

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


def published(keys: Mapping[int, str]) -> str:
    """Keys by generation as ``Station.keys`` reads them."""
    return ",".join(f"{number}:{keys[number]}" for number in sorted(keys))


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == _SIZE
    except (binascii.Error, ValueError):
        return False


def _interfaces(text: str) -> tuple[Interface, ...]:
    found = []
    for word in text.split(","):
        try:
            found.append(Interface(word.strip()))
        except ValueError:
            return ()
    return tuple(found)
