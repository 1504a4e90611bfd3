"""ClusterNetworkPolicy: policy.networking.k8s.io/v1alpha2, with the meaning that its API reference gives it.

A cluster's policies stand in tiers around the NetworkPolicies. In a tier the first rule that matches counts, by priority, then
by place; ``Pass`` goes on with the next tier. They isolate nobody: what no rule matches goes on too, and passes in the end::

    Admin tier  ──►  NetworkPolicies, of those whom some select  ──►  Baseline tier  ──►  passes
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sized
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

import msgspec

from .address import PortName, Prefix
from .meta import Object, Value
from .policy import PolicyType, check_block
from .selector import Selector

RULES = 25
"""Rules of one direction of a policy, and peers, protocols, networks and domain names of one rule."""

Priority = Annotated[int, msgspec.Meta(ge=0, le=1000)]
PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]
RuleName = Annotated[str, msgspec.Meta(max_length=100)]


class Tier(StrEnum):
    """Before the NetworkPolicies, or after them."""

    ADMIN = "Admin"
    BASELINE = "Baseline"


class Action(StrEnum):
    """What becomes of what a rule matches."""

    ACCEPT = "Accept"
    DENY = "Deny"
    PASS = "Pass"  # noqa: S105  # no password


class NamespacedPod(Value, frozen=True, kw_only=True):
    """Containers in namespaces; an empty selector means all of them."""

    namespace_selector: Selector = Selector()
    pod_selector: Selector


class ClusterSubject(Value, frozen=True, kw_only=True):
    """Whom a policy is for. Containers on the host's network are never meant."""

    namespaces: Selector | None = None
    pods: NamespacedPod | None = None

    def __post_init__(self) -> None:
        exactly_one(namespaces=self.namespaces, pods=self.pods)


class ClusterIngressPeer(Value, frozen=True, kw_only=True):
    """Who asks: all containers of some namespaces, or some of them."""

    namespaces: Selector | None = None
    pods: NamespacedPod | None = None

    def __post_init__(self) -> None:
        exactly_one(namespaces=self.namespaces, pods=self.pods)


_DOMAIN = re.compile(r"(\*\.)?([A-Za-z0-9]([-A-Za-z0-9_]*[A-Za-z0-9])?\.)+[A-Za-z0-9]([-A-Za-z0-9_]*[A-Za-z0-9])?\.?")


class ClusterEgressPeer(Value, frozen=True, kw_only=True):
    """Who is asked: containers, nodes by their addresses, address blocks, or domain names, ``*.`` being any below."""

    namespaces: Selector | None = None
    pods: NamespacedPod | None = None
    nodes: Selector | None = None
    networks: tuple[Prefix, ...] | None = None
    domain_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        exactly_one(
            namespaces=self.namespaces,
            pods=self.pods,
            nodes=self.nodes,
            networks=self.networks,
            domainNames=self.domain_names,
        )
        for field, given in (("networks", self.networks), ("domainNames", self.domain_names)):
            if given is not None:
                some(given, field, RULES)
                for at, one in enumerate(given):
                    if one in given[:at]:
                        raise ValueError(f"{field}[{at}]: {one[:80]} is there twice")
        for at, cidr in enumerate(self.networks or ()):
            check_block(cidr, f"networks[{at}]")
        for at, name in enumerate(self.domain_names or ()):
            if not _DOMAIN.fullmatch(name):
                raise ValueError(f"domainNames[{at}]: {name[:80]!r} is not a domain name such as example.com or *.example.com")

    @property
    def nameless(self) -> str:
        """The field by which it means what has no named ports; empty if there is none."""
        given = {"nodes": self.nodes, "networks": self.networks, "domainNames": self.domain_names}
        return next((field for field, value in given.items() if value is not None), "")


class PortRange(Value, frozen=True, kw_only=True):
    """From ``start`` to ``end``, both included."""

    start: PortNumber
    end: PortNumber

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise ValueError(f"end: {self.end} must be greater than start, {self.start}; one port is a number")


class Port(Value, frozen=True, kw_only=True):
    """A port by its number, or a run of them."""

    number: PortNumber | None = None
    range: PortRange | None = None

    def __post_init__(self) -> None:
        exactly_one(number=self.number, range=self.range)

    @property
    def span(self) -> tuple[int, int]:
        """First and last port."""
        if self.range:
            return (self.range.start, self.range.end)
        return (self.number or 0, self.number or 0)


class Destination(Value, frozen=True, kw_only=True):
    """What is matched of one protocol: the port that is asked."""

    destination_port: Port


class ProtocolMatch(Value, frozen=True, kw_only=True):
    """One protocol with its ports, or a port by the name that the container which is asked has for it."""

    tcp: Destination | None = None
    udp: Destination | None = None
    sctp: Destination | None = None
    destination_named_port: str | None = None

    def __post_init__(self) -> None:
        exactly_one(tcp=self.tcp, udp=self.udp, sctp=self.sctp, destinationNamedPort=self.destination_named_port)
        if self.destination_named_port is not None:
            try:
                PortName(self.destination_named_port)
            except ValueError as problem:
                raise ValueError(f"destinationNamedPort: {problem}") from None


class ClusterIngressRule(Value, frozen=True, kw_only=True):
    """What becomes of what comes from any of ``from``, to any of ``protocols``; left out, they are every protocol and port."""

    action: Action
    peers: tuple[ClusterIngressPeer, ...] = msgspec.field(name="from")
    protocols: tuple[ProtocolMatch, ...] | None = None
    name: RuleName = ""

    def __post_init__(self) -> None:
        some(self.peers, "from", RULES)
        if self.protocols is not None:
            some(self.protocols, "protocols", RULES)


class ClusterEgressRule(Value, frozen=True, kw_only=True):
    """What becomes of what goes to any of ``to``, at any of ``protocols``; left out, they are every protocol and port."""

    action: Action
    peers: tuple[ClusterEgressPeer, ...] = msgspec.field(name="to")
    protocols: tuple[ProtocolMatch, ...] | None = None
    name: RuleName = ""

    def __post_init__(self) -> None:
        some(self.peers, "to", RULES)
        if self.protocols is not None:
            some(self.protocols, "protocols", RULES)
        named = "destinationNamedPort" if any(one.destination_named_port for one in self.protocols or ()) else ""
        check_targets(self.peers, self.action, named)


ClusterRule = ClusterIngressRule | ClusterEgressRule


class ClusterNetworkPolicySpec(Value, frozen=True, kw_only=True):
    """Where it stands, whom it is for, and its rules."""

    tier: Tier
    priority: Priority
    subject: ClusterSubject
    ingress: tuple[ClusterIngressRule, ...] = ()
    egress: tuple[ClusterEgressRule, ...] = ()

    def __post_init__(self) -> None:
        for way, rules in (("ingress", self.ingress), ("egress", self.egress)):
            if len(rules) > RULES:
                raise ValueError(f"{way}: {len(rules)} rules; at most {RULES}")


class ClusterNetworkPolicy(Object, frozen=True, kw_only=True, tag="ClusterNetworkPolicy"):
    """A policy of the whole cluster."""

    plural: ClassVar[str] = "clusternetworkpolicies"

    api_version: Literal["policy.networking.k8s.io/v1alpha2"] = "policy.networking.k8s.io/v1alpha2"
    spec: ClusterNetworkPolicySpec

    @property
    def tier(self) -> Tier:
        """Its tier."""
        return self.spec.tier

    @property
    def priority(self) -> int:
        """Its place in the tier: the lowest number is asked first."""
        return self.spec.priority

    @property
    def subject(self) -> ClusterSubject:
        """Whom it is for."""
        return self.spec.subject

    def rules(self, direction: PolicyType) -> tuple[ClusterRule, ...]:
        """Its rules of one direction, in order."""
        return self.spec.ingress if direction is PolicyType.INGRESS else self.spec.egress

    def warnings(self) -> Iterator[str]:
        """What it says that has no effect here."""
        return unresolved(rule.peers for rule in self.spec.egress)


def exactly_one(**given: object) -> None:
    """Raise ``ValueError`` unless one field, by the name people write, has a value."""
    there = [name for name, value in given.items() if value is not None]
    if not there:
        *others, last = given
        raise ValueError(f"one of {', '.join(others)} and {last} is required")
    if len(there) > 1:
        raise ValueError(f"{there[1]}: cannot stand beside {there[0]}; there must be one of them")


def some(given: Sized, field: str, most: int) -> None:
    """Raise ``ValueError`` unless the list ``field`` holds something, and not too much."""
    if not given:
        raise ValueError(f"{field}: must hold at least one")
    if len(given) > most:
        raise ValueError(f"{field}: {len(given)} entries; at most {most}")


def check_targets(peers: Iterable[ClusterEgressPeer], action: str, named: str) -> None:
    """Raise ``ValueError`` if a rule of egress asks of a peer what it cannot have. ``named``: the field that names a port."""
    for at, peer in enumerate(peers):
        if peer.domain_names and action not in {Action.ACCEPT, "Allow"}:
            raise ValueError(f"to[{at}].domainNames: only rules that let pass know domain names, this one says {action}")
        if named and peer.nameless:
            raise ValueError(f"to[{at}].{peer.nameless}: has no named ports, and {named} asks for one")


def unresolved(policy: Iterable[Iterable[ClusterEgressPeer]]) -> Iterator[str]:
    """A warning for each rule of egress, given by its peers, that means domain names."""
    for at, peers in enumerate(policy):
        if any(peer.domain_names for peer in peers):
            yield f"spec.egress[{at}]: domain names are not resolved here: they match nobody"
