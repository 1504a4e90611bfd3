"""NetworkPolicy: networking.k8s.io/v1, with the meaning that its API reference gives it.

An endpoint that some policy selects for a direction is isolated in it: only what one of those policies allows passes, and
answers to it. What no policy selects is open. Policies add up; none takes away what another allows.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Literal

import msgspec

from .address import PortName, Prefix, check_unmapped
from .meta import Object, Value
from .selector import Selector


class PolicyType(StrEnum):
    """The direction that a policy isolates, as seen from the endpoint."""

    INGRESS = "Ingress"
    EGRESS = "Egress"


class PolicyProtocol(StrEnum):
    """A protocol with ports, as policies spell it (core/v1 Protocol)."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


class PolicyPort(Value, frozen=True, kw_only=True):
    """Ports of one protocol: a number, a run up to ``endPort``, a name, or all of them where ``port`` is left out.

    What a name stands for the container says that is asked (``EndpointSpec.named_ports``).
    """

    protocol: PolicyProtocol = PolicyProtocol.TCP
    port: int | str | None = None
    end_port: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.port, str):
            _check_name(self.port, ranged=self.end_port is not None)
            return
        if self.port is not None and not 1 <= self.port <= 65535:
            raise ValueError(f"port: {self.port} is not a port; ports are 1 to 65535")
        if self.end_port is not None:
            if self.port is None:
                raise ValueError("endPort: a run of ports needs its first one in port")
            if not self.port <= self.end_port <= 65535:
                raise ValueError(f"endPort: {self.end_port} must be from port, {self.port}, to 65535")


def _check_name(text: str, *, ranged: bool) -> None:
    try:
        PortName(text)
    except ValueError as problem:
        raise ValueError(f"port: {problem}") from None
    if ranged:
        raise ValueError(f"endPort: a run of ports begins with a number, not with the name {text!r}")


def check_block(cidr: Prefix, field: str) -> None:
    """Raise ``ValueError`` for a block that holds no address, by the name of its field."""
    try:
        check_unmapped(cidr)
    except ValueError as problem:
        raise ValueError(f"{field}: {problem}") from None


class IpBlock(Value, frozen=True, kw_only=True):
    """Addresses of ``cidr`` that are in none of ``except``."""

    cidr: Prefix
    excluded: tuple[Prefix, ...] = msgspec.field(default=(), name="except")

    def __post_init__(self) -> None:
        check_block(self.cidr, "cidr")
        for at, one in enumerate(self.excluded):
            check_block(one, f"except[{at}]")
            inside = one.family == self.cidr.family and one.length > self.cidr.length and one.overlaps(self.cidr)
            if not inside:
                raise ValueError(f"except[{at}]: {one} must lie strictly within {self.cidr}")


class PolicyPeer(Value, frozen=True, kw_only=True):
    """Who. ``podSelector`` alone: of the policy's own namespace; ``namespaceSelector`` alone: all endpoints of those."""

    pod_selector: Selector | None = None
    namespace_selector: Selector | None = None
    ip_block: IpBlock | None = None

    def __post_init__(self) -> None:
        selects = self.pod_selector is not None or self.namespace_selector is not None
        if self.ip_block is not None and selects:
            raise ValueError("ipBlock: cannot stand beside podSelector or namespaceSelector; make it a peer of its own")
        if self.ip_block is None and not selects:
            raise ValueError("one of podSelector, namespaceSelector and ipBlock is required")


class IngressRule(Value, frozen=True, kw_only=True):
    """Allows what comes from any of ``from`` to any of ``ports``; an empty list is everybody, or every port and protocol."""

    peers: tuple[PolicyPeer, ...] = msgspec.field(default=(), name="from")
    ports: tuple[PolicyPort, ...] = ()


class EgressRule(Value, frozen=True, kw_only=True):
    """Allows what goes to any of ``to``, at any of ``ports``; an empty list is everybody, or every port and protocol."""

    peers: tuple[PolicyPeer, ...] = msgspec.field(default=(), name="to")
    ports: tuple[PolicyPort, ...] = ()


class NetworkPolicySpec(Value, frozen=True, kw_only=True):
    """Whom it selects in its namespace, and what it allows them."""

    pod_selector: Selector = Selector()
    ingress: tuple[IngressRule, ...] = ()
    egress: tuple[EgressRule, ...] = ()
    policy_types: tuple[PolicyType, ...] = ()

    @property
    def types(self) -> tuple[PolicyType, ...]:
        """The directions it isolates: as written, else Ingress, and Egress where there is an egress rule."""
        if self.policy_types:
            return self.policy_types
        return (PolicyType.INGRESS, PolicyType.EGRESS) if self.egress else (PolicyType.INGRESS,)

    def rules(self, direction: PolicyType) -> tuple[IngressRule, ...] | tuple[EgressRule, ...]:
        """Its rules of one direction, in order."""
        return self.ingress if direction is PolicyType.INGRESS else self.egress


class NetworkPolicy(Object, frozen=True, kw_only=True, tag="NetworkPolicy"):
    """A NetworkPolicy of one namespace."""

    plural: ClassVar[str] = "networkpolicies"
    namespaced: ClassVar[bool] = True

    api_version: Literal["networking.k8s.io/v1"] = "networking.k8s.io/v1"
    spec: NetworkPolicySpec = NetworkPolicySpec()
