"""Selection: a network policy taken apart into whom it selects and, rule by rule, which peers it means."""

from __future__ import annotations

from typing import NamedTuple

from fairlead.model.address import Prefix
from fairlead.model.namespace import DEFAULT
from fairlead.model.policy import EgressRule, IngressRule, IpBlock, NetworkPolicy, PolicyPeer, PolicyPort, PolicyType
from fairlead.model.selector import Selector

from .identity import Face, Profile, canonical, number

DIRECTIONS = (PolicyType.INGRESS, PolicyType.EGRESS)


class Rule(NamedTuple):
    """One rule: "namespace/name" of its policy, "ingress" or "egress", and its place in the list."""

    policy: str
    direction: str
    index: int  # type: ignore[assignment]  # the method of tuples of that name gives way


class Term(NamedTuple):
    """One way to mean peers. Terms of the same ``key`` mean the same, whichever policy they stand in.

    ``drawer`` is what a face must have to be meant: a CIDR, a namespace, or for "" any namespace.
    """

    key: bytes
    drawer: str
    pods: Selector
    namespaces: Selector
    block: IpBlock | None

    @classmethod
    def of(cls, peer: PolicyPeer, home: str) -> Term:
        """The term of a peer in a policy of the namespace ``home``."""
        if block := peer.ip_block:
            return cls(canonical("block", block), block.cidr, Selector(), Selector(), block)
        own = "" if peer.namespace_selector is not None else home
        pods, namespaces = peer.pod_selector or Selector(), peer.namespace_selector or Selector()
        return cls(canonical("labels", own, pods, namespaces), own, pods, namespaces, None)

    def matches(self, face: Face) -> bool:
        """Whether it means the peers with that face."""
        if self.block is not None:
            return self.block.cidr in face.blocks and not any(one in face.blocks for one in self.block.excluded)
        if not face.namespace or (self.drawer and self.drawer != face.namespace):
            return False
        return self.pods.matches(face.labels) and self.namespaces.matches(face.around)


class Clause(NamedTuple):
    """One rule, ready to be judged by. No ``terms`` means everybody, no ``ports`` every protocol and port."""

    number: int
    rule: Rule
    terms: tuple[Term, ...]
    ports: tuple[PolicyPort, ...]

    @property
    def everybody(self) -> bool:
        """Whether every peer is meant."""
        return not self.terms


class Direction(NamedTuple):
    """What a policy says of one direction; ``text`` is all of it, to be hashed."""

    text: str
    clauses: tuple[Clause, ...]


class Prepared:
    """A network policy, taken apart. ``directions`` holds those that it isolates."""

    __slots__ = ("cidrs", "directions", "name", "namespace", "selector")

    def __init__(self, policy: NetworkPolicy) -> None:
        self.name = policy.name
        self.namespace = policy.metadata.namespace or DEFAULT
        self.selector = policy.spec.pod_selector
        self.directions = {one: self._direction(policy, one) for one in DIRECTIONS if one in policy.spec.types}
        self.cidrs: set[Prefix] = set()
        for term in (term for one in self.directions.values() for clause in one.clauses for term in clause.terms):
            if term.block:
                self.cidrs.update((term.block.cidr, *term.block.excluded))

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name)."""
        return (self.namespace, self.name)

    @property
    def title(self) -> str:
        """The key as people write it, "namespace/name"."""
        return f"{self.namespace}/{self.name}"

    def selects(self, who: Profile, labels: dict[str, str]) -> bool:
        """Whether it selects endpoints of the profile ``who``, whose labels as a dictionary are ``labels``."""
        return who.namespace == self.namespace and self.selector.matches(labels)

    def _direction(self, policy: NetworkPolicy, way: PolicyType) -> Direction:
        rules: tuple[IngressRule | EgressRule, ...] = policy.spec.rules(way)
        return Direction(
            canonical(rules).decode(),
            tuple(
                Clause(
                    number("rule", self.title, way.value.lower(), at),
                    Rule(self.title, way.value.lower(), at),
                    tuple(Term.of(peer, self.namespace) for peer in rule.peers),
                    rule.ports,
                )
                for at, rule in enumerate(rules)
            ),
        )
