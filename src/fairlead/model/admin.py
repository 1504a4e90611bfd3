"""AdminNetworkPolicy and BaselineAdminNetworkPolicy: policy.networking.k8s.io/v1alpha1, as its last release has them.

ClusterNetworkPolicy has taken their place. They are kept as they were written, and mean what a ClusterNetworkPolicy would:

==========================  ==============  ========================================================================
kind                        tier            order
==========================  ==============  ========================================================================
AdminNetworkPolicy          Admin           by its priority, among the ClusterNetworkPolicies
BaselineAdminNetworkPolicy  Baseline        after every ClusterNetworkPolicy of the tier: it has no priority, and what
                                            has one was written knowing that this is there
==========================  ==============  ========================================================================

``Allow`` is their word for ``Accept``. They may hold more rules than a ClusterNetworkPolicy, which is why they are not stored
as one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import ClassVar, Literal

import msgspec

from .address import PortName
from .cluster import (
    Action,
    ClusterEgressPeer,
    ClusterIngressPeer,
    ClusterSubject,
    PortNumber,
    Priority,
    RuleName,
    Tier,
    check_targets,
    exactly_one,
    some,
    unresolved,
)
from .meta import Object, Value
from .policy import PolicyProtocol, PolicyType

RULES = 100
"""Rules of one direction of a policy, and peers and ports of one rule."""
LAST = 1001
"""A priority after all that can be written."""


class AdminAction(StrEnum):
    """What becomes of what a rule matches."""

    ALLOW = "Allow"
    DENY = "Deny"
    PASS = "Pass"  # noqa: S105  # no password


class BaselineAction(StrEnum):
    """The same where nothing comes after."""

    ALLOW = "Allow"
    DENY = "Deny"


class AdminPortNumber(Value, frozen=True, kw_only=True):
    """One port."""

    protocol: PolicyProtocol = PolicyProtocol.TCP
    port: PortNumber


class AdminPortRange(Value, frozen=True, kw_only=True):
    """From ``start`` to ``end``, both included."""

    protocol: PolicyProtocol = PolicyProtocol.TCP
    start: PortNumber
    end: PortNumber

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise ValueError(f"end: {self.end} must be greater than start, {self.start}; one port is a portNumber")


class AdminPort(Value, frozen=True, kw_only=True):
    """A port, a run of them, or one by its name."""

    port_number: AdminPortNumber | None = None
    named_port: str | None = None
    port_range: AdminPortRange | None = None

    def __post_init__(self) -> None:
        exactly_one(portNumber=self.port_number, namedPort=self.named_port, portRange=self.port_range)
        if self.named_port is not None:
            try:
                PortName(self.named_port)
            except ValueError as problem:
                raise ValueError(f"namedPort: {problem}") from None


class _Rule(Value, frozen=True, kw_only=True):
    """What every rule has beside action and peers; no ``ports`` are every protocol and port."""

    ports: tuple[AdminPort, ...] = ()
    name: RuleName = ""

    def _check(self, field: str, peers: Sequence[object]) -> None:
        some(peers, field, RULES)
        if len(self.ports) > RULES:
            raise ValueError(f"ports: {len(self.ports)} entries; at most {RULES}")

    def _check_egress(self, peers: Sequence[ClusterEgressPeer], action: str) -> None:
        self._check("to", peers)
        check_targets(peers, action, "namedPort" if any(one.named_port for one in self.ports) else "")


class AdminIngressRule(_Rule, frozen=True, kw_only=True):
    """What becomes of what comes from any of ``from``, to any of ``ports``."""

    action: AdminAction
    peers: tuple[ClusterIngressPeer, ...] = msgspec.field(name="from")

    def __post_init__(self) -> None:
        self._check("from", self.peers)


class AdminEgressRule(_Rule, frozen=True, kw_only=True):
    """What becomes of what goes to any of ``to``, at any of ``ports``."""

    action: AdminAction
    peers: tuple[ClusterEgressPeer, ...] = msgspec.field(name="to")

    def __post_init__(self) -> None:
        self._check_egress(self.peers, self.action)


class BaselineIngressRule(_Rule, frozen=True, kw_only=True):
    """The same in a BaselineAdminNetworkPolicy, which has no Pass."""

    action: BaselineAction
    peers: tuple[ClusterIngressPeer, ...] = msgspec.field(name="from")

    def __post_init__(self) -> None:
        self._check("from", self.peers)


class BaselineEgressRule(_Rule, frozen=True, kw_only=True):
    """The same in a BaselineAdminNetworkPolicy, which has no Pass."""

    action: BaselineAction
    peers: tuple[ClusterEgressPeer, ...] = msgspec.field(name="to")

    def __post_init__(self) -> None:
        self._check_egress(self.peers, self.action)


AdminRule = AdminIngressRule | AdminEgressRule | BaselineIngressRule | BaselineEgressRule


class AdminNetworkPolicySpec(Value, frozen=True, kw_only=True):
    """Its place, whom it is for, and its rules."""

    priority: Priority
    subject: ClusterSubject
    ingress: tuple[AdminIngressRule, ...] = ()
    egress: tuple[AdminEgressRule, ...] = ()

    def __post_init__(self) -> None:
        _check_rules(self.ingress, self.egress)


class AdminNetworkPolicy(Object, frozen=True, kw_only=True, tag="AdminNetworkPolicy"):
    """A policy before the NetworkPolicies."""

    plural: ClassVar[str] = "adminnetworkpolicies"
    tier: ClassVar[Tier] = Tier.ADMIN

    api_version: Literal["policy.networking.k8s.io/v1alpha1"] = "policy.networking.k8s.io/v1alpha1"
    spec: AdminNetworkPolicySpec

    @property
    def priority(self) -> int:
        """Its place in the tier: the lowest number is asked first."""
        return self.spec.priority

    @property
    def subject(self) -> ClusterSubject:
        """Whom it is for."""
        return self.spec.subject

    def rules(self, direction: PolicyType) -> tuple[AdminRule, ...]:
        """Its rules of one direction, in order."""
        return self.spec.ingress if direction is PolicyType.INGRESS else self.spec.egress

    def warnings(self) -> Iterator[str]:
        """What people should know."""
        yield (
            "AdminNetworkPolicy has become ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2): "
            f"this one is enforced as a ClusterNetworkPolicy of tier Admin, priority {self.priority}, Allow being Accept"
        )
        yield from unresolved(rule.peers for rule in self.spec.egress)


class BaselineAdminNetworkPolicySpec(Value, frozen=True, kw_only=True):
    """Whom it is for, and its rules."""

    subject: ClusterSubject
    ingress: tuple[BaselineIngressRule, ...] = ()
    egress: tuple[BaselineEgressRule, ...] = ()

    def __post_init__(self) -> None:
        _check_rules(self.ingress, self.egress)


class BaselineAdminNetworkPolicy(Object, frozen=True, kw_only=True, tag="BaselineAdminNetworkPolicy"):
    """The one policy after the NetworkPolicies; its name is ``default``."""

    plural: ClassVar[str] = "baselineadminnetworkpolicies"
    tier: ClassVar[Tier] = Tier.BASELINE
    priority: ClassVar[int] = LAST

    api_version: Literal["policy.networking.k8s.io/v1alpha1"] = "policy.networking.k8s.io/v1alpha1"
    spec: BaselineAdminNetworkPolicySpec

    def __post_init__(self) -> None:
        if self.name != "default":
            raise ValueError(f"metadata.name: {self.name[:80]!r} must be default: there is one BaselineAdminNetworkPolicy")

    @property
    def subject(self) -> ClusterSubject:
        """Whom it is for."""
        return self.spec.subject

    def rules(self, direction: PolicyType) -> tuple[AdminRule, ...]:
        """Its rules of one direction, in order."""
        return self.spec.ingress if direction is PolicyType.INGRESS else self.spec.egress

    def warnings(self) -> Iterator[str]:
        """What people should know."""
        yield (
            "BaselineAdminNetworkPolicy has become ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2): "
            "this one is enforced as a ClusterNetworkPolicy of tier Baseline, after all others of it, Allow being Accept"
        )
        yield from unresolved(rule.peers for rule in self.spec.egress)


ACTIONS: dict[AdminAction | BaselineAction, Action] = {
    AdminAction.ALLOW: Action.ACCEPT,
    AdminAction.DENY: Action.DENY,
    AdminAction.PASS: Action.PASS,
    BaselineAction.ALLOW: Action.ACCEPT,
    BaselineAction.DENY: Action.DENY,
}
"""Their words as a ClusterNetworkPolicy's."""


def _check_rules(ingress: Sequence[object], egress: Sequence[object]) -> None:
    for way, rules in (("ingress", ingress), ("egress", egress)):
        if len(rules) > RULES:
            raise ValueError(f"{way}: {len(rules)} rules; at most {RULES}")
