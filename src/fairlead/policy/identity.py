"""Identity: what policies see of a peer, and the numbers by which the kernel knows peers, sets, rulings and rules.

A number is a digest of what it stands for, under a key that this node alone has. So it is the same after a restart, nobody
hands numbers out, and whoever may write labels or policies cannot look for others that come to the number of somebody else.
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
Content = tuple[object, ...]
"""What a number stands for."""


def canonical(*parts: object) -> bytes:
    """One spelling of ``parts``: JSON with sorted keys."""
    return msgspec.json.encode(parts, enc_hook=str, order="deterministic")


class Numbers:
    """What gives numbers."""

    __slots__ = ("_begun",)

    def __init__(self, key: bytes = b"") -> None:
        """``key``: 32 bytes. Without one anybody can compute the same: for numbers that no kernel judges by."""
        self._begun = blake2b(digest_size=8, key=key)

    def of(self, *parts: object) -> int:
        """64 bits that stand for ``parts``; never 0, which means none, and none smaller than 3: those stand for no rule."""
        digest = self._begun.copy()
        digest.update(canonical(*parts))
        return max(3, int.from_bytes(digest.digest(), "big"))


class Register:
    """What has which number. Of two that come to the same, which chance brings about once in ages, the later has another."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._contents: dict[int, Content] = {}
        self._contested: set[int] = set()

    def number(self, content: Content) -> int:
        """The number that ``content`` has, or would have."""
        own, turn = self._numbers.of(*content), 0
        while self._contents.get(own, content) != content:
            self._contested.add(own)
            turn += 1
            own = self._numbers.of(turn, *content)
        return own

    def take(self, content: Content) -> int:
        """Its number, which it has until that is dropped."""
        own = self.number(content)
        self._contents[own] = content
        return own

    def drop(self, own: int) -> None:
        """Nobody has the number any more. One that was contested stays whose it was, so that the other keeps its own."""
        if own not in self._contested:
            del self._contents[own]


UNKEYED = Numbers()
"""Of a book that is only asked."""


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
    def content(self) -> Content:
        """What its number stands for; nothing for everybody of whom policies know nothing."""
        if self.front:
            return ("front", self.front, self.blocks, self.node, self.outside)
        if self.profile is None and not self.blocks and self.node is None:
            return ("peer", "outside") if self.outside else ()
        return ("peer", self.profile, self.blocks, self.node)


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
