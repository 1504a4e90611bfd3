"""Identity: what policies see of a peer, and the numbers by which the kernel knows peers, sets, rulings and rules.

A number is a hash of what it stands for. So it is the same after a restart and on every node, and nobody hands numbers out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from fairlead.model import namespace
from fairlead.model.address import Prefix
from fairlead.model.endpoint import Endpoint
from fairlead.model.namespace import Namespace

Labels = tuple[tuple[str, str], ...]


def canonical(*parts: object) -> bytes:
    """One spelling of ``parts``: JSON with sorted keys."""
    return msgspec.json.encode(parts, enc_hook=str, order="deterministic")


def number(*parts: object) -> int:
    """64 bits that stand for ``parts``; never 0, which means none."""
    return int.from_bytes(blake2b(canonical(*parts), digest_size=8).digest(), "big") or 1


class Profile(NamedTuple):
    """What selectors see of an endpoint: its namespace, its labels and the namespace's, each sorted."""

    namespace: str
    labels: Labels
    around: Labels


def profile(endpoint: Endpoint, namespaces: Mapping[str, Namespace]) -> Profile:
    """The profile of ``endpoint``; a namespace that nobody made has its name as its label."""
    name = endpoint.metadata.namespace or namespace.DEFAULT
    around = namespace.labels(name, namespaces.get(name))
    return Profile(name, tuple(sorted(endpoint.metadata.labels.items())), tuple(sorted(around.items())))


class Class(NamedTuple):
    """All peers that no policy tells apart: the profile they have, if endpoints, and the CIDRs in use that hold them."""

    profile: Profile | None
    blocks: tuple[Prefix, ...]

    @property
    def number(self) -> int:
        """Its number; 0 for everybody of whom policies know nothing."""
        return number("peer", self.profile, self.blocks) if self.profile or self.blocks else 0


class Face(NamedTuple):
    """A class as terms look at it. ``namespace`` is empty if it has no endpoints."""

    namespace: str
    labels: Mapping[str, str]
    around: Mapping[str, str]
    blocks: frozenset[str]

    @classmethod
    def of(cls, one: Class) -> Face:
        """The face of a class."""
        who = one.profile
        blocks = frozenset(one.blocks)
        return cls(who.namespace, dict(who.labels), dict(who.around), blocks) if who else cls("", {}, {}, blocks)

    def drawers(self) -> Iterator[str]:
        """Where the terms lie that can match it; ``Term.drawer`` is the other side."""
        yield from self.blocks
        if self.namespace:
            yield self.namespace
            yield ""
