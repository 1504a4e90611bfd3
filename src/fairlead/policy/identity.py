"""Identity: what policies see of a peer, and the numbers by which the kernel knows peers, sets, rulings and rules.

A number is a hash of what it stands for. So it is the same after a restart and on every node, and nobody hands numbers out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from fairlead.model.address import NamedPort, Prefix

Labels = tuple[tuple[str, str], ...]
FrontPorts = tuple[tuple[int, int], ...]
"""Ports of a service: (IP's number of the protocol, port), sorted."""
Drawer = tuple[str, ...]
"""A property by which terms and those whom they may mean find each other without looking at all."""


def canonical(*parts: object) -> bytes:
    """One spelling of ``parts``: JSON with sorted keys."""
    return msgspec.json.encode(parts, enc_hook=str, order="deterministic")


def number(*parts: object) -> int:
    """64 bits that stand for ``parts``; never 0, which means none, and no smaller number than 3: those stand for no rule."""
    return max(3, int.from_bytes(blake2b(canonical(*parts), digest_size=8).digest(), "big"))


class Profile(NamedTuple):
    """What policies see of an endpoint: its namespace, its labels, the namespace's, its named ports, each sorted."""

    namespace: str
    labels: Labels
    around: Labels
    ports: Labels = ()


class Class(NamedTuple):
    """All peers that no policy in use tells apart: what is seen of them, and the CIDRs in use that hold them.

    ``profile`` is that of endpoints, ``node`` the labels of nodes, which an address of a node has. ``outside``: addresses that
    nobody and no CIDR holds, where policies tell them from endpoints. ``front``: of services' addresses their ports.
    """

    profile: Profile | None
    blocks: tuple[Prefix, ...]
    node: Labels | None = None
    outside: bool = False
    front: FrontPorts = ()

    @property
    def number(self) -> int:
        """Its number; 0 for everybody of whom policies know nothing."""
        if self.front:
            return number("front", self.front, self.blocks, self.node, self.outside)
        if self.profile is None and not self.blocks and self.node is None:
            return number("peer", "outside") if self.outside else 0
        return number("peer", self.profile, self.blocks, self.node)


class Face(NamedTuple):
    """A class as terms look at it. ``namespace`` is empty if it has no endpoints, ``node`` None if it is no node.

    ``front``: of services' addresses their ports.
    """

    namespace: str
    labels: Mapping[str, str]
    around: Mapping[str, str]
    ports: Mapping[str, NamedPort]
    blocks: frozenset[str]
    node: Mapping[str, str] | None
    front: FrontPorts = ()

    @classmethod
    def of(cls, one: Class) -> Face:
        """The face of a class."""
        blocks, node = frozenset(one.blocks), None if one.node is None else dict(one.node)
        if (who := one.profile) is None:
            return cls("", {}, {}, {}, blocks, node, one.front)
        ports = {name: NamedPort(port) for name, port in who.ports}
        return cls(who.namespace, dict(who.labels), dict(who.around), ports, blocks, node)

    def drawers(self) -> Iterator[Drawer]:
        """Where the terms lie that can mean it; ``Term.drawer`` is the other side."""
        for cidr in self.blocks:
            yield ("block", cidr)
        if self.node is not None:
            yield ("node",)
        if self.front:
            yield ("front",)
        if not self.namespace:
            yield ("outside",)
        else:
            yield ("any",)
            yield ("in", self.namespace)
            for key, value in self.labels.items():
                yield ("label", "", key, value)
                yield ("label", self.namespace, key, value)
            for key, value in self.around.items():
                yield ("around", key, value)
            for name in self.ports:
                yield ("port", name)
