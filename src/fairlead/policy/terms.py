"""Terms: the ways in which rules mean peers, and policies their subjects.

Terms of the same ``key`` mean the same, whichever policy they stand in. ``drawer`` is something that a face must have to be
meant, so that few need to be looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fairlead.model.address import Prefix
from fairlead.model.cluster import ClusterEgressPeer, ClusterIngressPeer, ClusterSubject
from fairlead.model.policy import IpBlock, PolicyPeer
from fairlead.model.selector import Selector

from .identity import Drawer, Face, canonical
from .lens import EVERYWHERE, NODES, Feature, Kind, features

_ALL = Selector()


class Labelled(NamedTuple):
    """Endpoints by labels: those of the namespace ``own``, or if that is empty of the namespaces that are selected."""

    key: bytes
    drawer: Drawer
    own: str
    pods: Selector
    namespaces: Selector

    @classmethod
    def by(cls, own: str, pods: Selector | None, namespaces: Selector | None) -> Labelled:
        """No selector selects all."""
        pods, namespaces = pods or _ALL, namespaces or _ALL
        if pods.match_labels:
            drawer: Drawer = ("label", own, *min(pods.match_labels.items()))
        elif own:
            drawer = ("in", own)
        elif namespaces.match_labels:
            drawer = ("around", *min(namespaces.match_labels.items()))
        else:
            drawer = ("any",)
        return cls(canonical("labels", own, pods, namespaces), drawer, own, pods, namespaces)

    def matches(self, face: Face) -> bool:
        """Whether it means those with that face."""
        if not face.namespace or (self.own and self.own != face.namespace):
            return False
        return self.pods.matches(face.labels) and self.namespaces.matches(face.around)

    @property
    def everywhere(self) -> bool:
        """Whether it means every endpoint there is."""
        return not self.own and self.pods == self.namespaces == _ALL

    def features(self) -> Iterator[Feature]:
        """What it looks at."""
        if self.everywhere:
            yield EVERYWHERE
        yield from features(Kind.POD, self.pods)
        yield from features(Kind.NAMESPACE, self.namespaces)


class Block(NamedTuple):
    """Addresses of a CIDR that are in none of others."""

    key: bytes
    drawer: Drawer
    cidr: Prefix
    excluded: tuple[Prefix, ...]

    @classmethod
    def by(cls, cidr: Prefix, excluded: tuple[Prefix, ...] = ()) -> Block:
        """Those of ``cidr``."""
        return cls(canonical("block", cidr, excluded), ("block", cidr), cidr, excluded)

    def matches(self, face: Face) -> bool:
        """Whether it means those with that face."""
        return self.cidr in face.blocks and not any(one in face.blocks for one in self.excluded)

    def features(self) -> Iterator[Feature]:
        """CIDRs are counted apart (``blocks``)."""
        yield from ()


class Nodes(NamedTuple):
    """Addresses of nodes, by the nodes' labels."""

    key: bytes
    drawer: Drawer
    nodes: Selector

    @classmethod
    def by(cls, nodes: Selector) -> Nodes:
        """Those that are selected."""
        return cls(canonical("nodes", nodes), ("node",), nodes)

    def matches(self, face: Face) -> bool:
        """Whether it means those with that face."""
        return face.node is not None and self.nodes.matches(face.node)

    def features(self) -> Iterator[Feature]:
        """What it looks at."""
        yield NODES
        yield from features(Kind.NODE, self.nodes)


class Outside(NamedTuple):
    """Everybody who is no endpoint. Not a peer of its own: it finds those whom a rule for every endpoint does not mean."""

    key: bytes = canonical("outside")
    drawer: Drawer = ("outside",)

    def matches(self, face: Face) -> bool:  # a term like others
        """Whether it finds those with that face."""
        return not face.namespace

    def features(self) -> Iterator[Feature]:
        """What it looks at."""
        yield EVERYWHERE


class Having(NamedTuple):
    """Endpoints that have a port of some name. Not a peer of its own: it finds those for whom a rule with the name matters."""

    key: bytes
    drawer: Drawer
    name: str

    @classmethod
    def by(cls, name: str) -> Having:
        """Those with that name."""
        return cls(canonical("port", name), ("port", name), name)

    def matches(self, face: Face) -> bool:
        """Whether it finds those with that face."""
        return self.name in face.ports

    def features(self) -> Iterator[Feature]:
        """What it looks at."""
        yield (Kind.PORT, self.name, "")


class Fronting(NamedTuple):
    """Addresses of services. Not a peer of its own: it finds those of whom is said later what they may be reached at."""

    key: bytes = canonical("front")
    drawer: Drawer = ("front",)

    def matches(self, face: Face) -> bool:
        """Whether it finds those with that face."""
        return bool(face.front)

    def features(self) -> Iterator[Feature]:
        """What it looks at."""
        yield from ()


Term = Labelled | Block | Nodes | Outside | Having | Fronting


def of_subject(subject: ClusterSubject) -> Labelled:
    """Whom a cluster's policy is for."""
    if subject.pods:
        return Labelled.by("", subject.pods.pod_selector, subject.pods.namespace_selector)
    return Labelled.by("", None, subject.namespaces)


def of_peers(peers: Iterable[PolicyPeer | ClusterIngressPeer | ClusterEgressPeer], home: str) -> Iterator[Term]:
    """The terms of peers, in a policy of the namespace ``home``; a domain name has none: nobody knows its addresses here."""
    for peer in peers:
        if isinstance(peer, PolicyPeer):
            yield _of_policy(peer, home)
        elif peer.pods:
            yield Labelled.by("", peer.pods.pod_selector, peer.pods.namespace_selector)
        elif peer.namespaces is not None:
            yield Labelled.by("", None, peer.namespaces)
        elif isinstance(peer, ClusterEgressPeer):
            yield from (Block.by(one) for one in peer.networks or ())
            if peer.nodes is not None:
                yield Nodes.by(peer.nodes)


def _of_policy(peer: PolicyPeer, home: str) -> Term:
    if isinstance(peer.ip_block, IpBlock):
        return Block.by(peer.ip_block.cidr, peer.ip_block.excluded)
    return Labelled.by("" if peer.namespace_selector is not None else home, peer.pod_selector, peer.namespace_selector)
