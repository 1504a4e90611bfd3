"""Selection: a policy of any kind taken apart into whom it is for and, rule by rule, which peers and ports it means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from fairlead.model.address import Prefix
from fairlead.model.admin import ACTIONS, AdminNetworkPolicy, AdminRule, BaselineAdminNetworkPolicy
from fairlead.model.broken import Broken
from fairlead.model.cluster import Action, ClusterEgressRule, ClusterIngressRule, ClusterNetworkPolicy, ClusterRule, Tier
from fairlead.model.namespace import DEFAULT, Namespace
from fairlead.model.policy import EgressRule, IngressRule, NetworkPolicy, PolicyType

from .identity import Numbers, canonical
from .lens import Feature, Kind
from .ports import Ports
from .terms import Block, Having, Labelled, Outside, Term, of_peers, of_subject

DIRECTIONS = (PolicyType.INGRESS, PolicyType.EGRESS)

Policy = NetworkPolicy | ClusterNetworkPolicy | AdminNetworkPolicy | BaselineAdminNetworkPolicy
Key = tuple[str, str, str]
"""(plural of the kind, namespace, name)."""


class Layer(IntEnum):
    """The order in which policies are asked."""

    ADMIN = 0
    NETWORK = 1
    BASELINE = 2


LAYERS = {Tier.ADMIN: Layer.ADMIN, Tier.BASELINE: Layer.BASELINE}


class Rule(NamedTuple):
    """One rule: the title of its policy, "ingress" or "egress", its place in the list, what it does, the name it was given."""

    policy: str
    direction: str
    index: int  # type: ignore[assignment]  # the method of tuples of that name gives way
    action: Action = Action.ACCEPT
    name: str = ""

    @property
    def title(self) -> str:
        """How it is called wherever people read of it: ``shop/allow-web ingress[0]``, ``Admin/no-db egress[2] "backups"``."""
        return f"{self.policy} {self.direction}[{self.index}]" + (f' "{self.name}"' if self.name else "")


class Clause(NamedTuple):
    """One rule, ready to be judged by. ``everybody``: it needs no ``terms``. No ``ports``: every protocol and port.

    A term that means every endpoint is not matched against each of them: ``every_endpoint`` says it of all, ``watched`` finds
    those who are none, and those for whom a rule for so many means something of their own.
    """

    number: int
    rule: Rule
    layer: Layer
    everybody: bool
    terms: tuple[Term, ...]
    ports: tuple[Ports, ...]

    @property
    def names(self) -> set[str]:
        """The ports' names that it uses."""
        return {one.name for one in self.ports if one.name}

    @property
    def every_endpoint(self) -> bool:
        """Whether one of its terms means every endpoint."""
        return any(isinstance(one, Labelled) and one.everywhere for one in self.terms)

    @property
    def of_fronts(self) -> bool:
        """Whether it speaks of a service's own address too, if it means that, and not alone of whom one is led to from there.

        A rule for everybody at some ports means the ports of whoever is reached, unless it denies.
        """
        return not self.everybody or not self.ports or self.rule.action is Action.DENY

    @property
    def matched(self) -> Iterator[Term]:
        """The terms that mean some and not others."""
        return (one for one in self.terms if not (isinstance(one, Labelled) and one.everywhere))

    def watched(self, direction: PolicyType) -> Iterator[Term]:
        """Terms that mean nobody, but find those for whom it means something of their own."""
        if self.every_endpoint:
            yield Outside()
        if (self.everybody or self.every_endpoint) and direction is PolicyType.EGRESS:
            yield from (Having.by(name) for name in sorted(self.names))


class Direction(NamedTuple):
    """What a policy says of one direction; ``text`` is all of it, to be hashed."""

    text: str
    clauses: tuple[Clause, ...]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Prepared:
    """A policy, taken apart. ``directions`` holds those of which it says something, ``wrong`` why it cannot be read whole."""

    key: Key
    title: str
    layer: Layer
    priority: int = 0
    subject: Labelled
    directions: Mapping[PolicyType, Direction]
    wrong: str = ""

    @property
    def order(self) -> tuple[Layer, int, str]:
        """The order in which policies are asked: those of one priority by their titles."""
        return (self.layer, self.priority, self.title)

    @property
    def clauses(self) -> Iterator[Clause]:
        """Those of every direction."""
        return (clause for one in self.directions.values() for clause in one.clauses)

    @property
    def features(self) -> set[Feature]:
        """What it looks at."""
        found = set(self.subject.features())
        for way, one in self.directions.items():
            kind = Kind.OWN_PORT if way is PolicyType.INGRESS else Kind.PORT
            for clause in one.clauses:
                found.update(feature for term in clause.terms for feature in term.features())
                found.update((kind, name, "") for name in clause.names)
        return found

    @property
    def cidrs(self) -> set[Prefix]:
        """The CIDRs that it uses."""
        blocks = (term for clause in self.clauses for term in clause.terms if isinstance(term, Block))
        return {cidr for one in blocks for cidr in (one.cidr, *one.excluded)}


def prepare(policy: Policy, numbers: Numbers) -> Prepared:
    """Take a policy apart; ``numbers`` those of its rules."""
    if isinstance(policy, NetworkPolicy):
        home = policy.metadata.namespace or DEFAULT
        part = Part(f"{home}/{policy.name}", Layer.NETWORK, numbers, home)
        return Prepared(
            key=key_of(policy),
            title=part.title,
            layer=part.layer,
            subject=Labelled.by(home, policy.spec.pod_selector, None),
            directions={one: part.direction(one, policy.spec.rules(one)) for one in DIRECTIONS if one in policy.spec.types},
        )
    part = Part(title_of(policy), LAYERS[policy.tier], numbers)
    return Prepared(
        key=key_of(policy),
        title=part.title,
        layer=part.layer,
        priority=policy.priority,
        subject=of_subject(policy.subject),
        directions={one: part.direction(one, rules) for one in DIRECTIONS if (rules := policy.rules(one))},
    )


def key_of(thing: Policy | Namespace | Broken) -> Key:
    """What tells it from every other policy. Of a namespace, that of what stands for one that cannot be read."""
    namespaced = thing.plural == NetworkPolicy.plural
    return (thing.plural, thing.metadata.namespace or DEFAULT if namespaced else "", thing.name)


TITLES = {AdminNetworkPolicy.plural: "ANP", BaselineAdminNetworkPolicy.plural: "BANP"}
"""What the titles of the older kinds begin with; those of a ClusterNetworkPolicy begin with its tier."""


def title_of(policy: ClusterNetworkPolicy | AdminNetworkPolicy | BaselineAdminNetworkPolicy) -> str:
    """How it is called beside others: no namespace has capitals, so that no NetworkPolicy is called the same."""
    return f"{TITLES.get(policy.plural, policy.tier)}/{policy.name}"


AnyRule = IngressRule | EgressRule | ClusterRule | AdminRule


class Part(NamedTuple):
    """What all rules of a policy have in common: its title, its layer, what gives them numbers, the namespace it is in."""

    title: str
    layer: Layer
    numbers: Numbers
    home: str = ""

    def number(self, word: str, at: int) -> int:
        """The number of a rule, by its direction and its place."""
        return self.numbers.of("rule", self.title, word, at)

    def direction(self, way: PolicyType, rules: Iterable[AnyRule]) -> Direction:
        """Rules of one direction, taken apart."""
        rules = tuple(rules)
        return Direction(canonical(rules).decode(), tuple(self.clause(way, at, rule) for at, rule in enumerate(rules)))

    def clause(self, way: PolicyType, at: int, rule: AnyRule) -> Clause:
        """One rule, taken apart."""
        word = way.value.lower()
        if isinstance(rule, (IngressRule, EgressRule)):
            called, ports = Rule(self.title, word, at), [Ports.of(one) for one in rule.ports]
        elif isinstance(rule, (ClusterIngressRule, ClusterEgressRule)):
            called = Rule(self.title, word, at, rule.action, rule.name)
            ports = [Ports.of(one) for one in rule.protocols or ()]
        else:
            called = Rule(self.title, word, at, ACTIONS[rule.action], rule.name)
            ports = [Ports.of(one) for one in rule.ports]
        terms = tuple(of_peers(rule.peers, self.home))
        return Clause(self.number(word, at), called, self.layer, not rule.peers, terms, tuple(ports))
