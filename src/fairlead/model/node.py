"""Node: core/v1, as much of it as policies speak of: a machine's labels and its addresses.

What shares a node's network, a container on the host's network too, is the node: it has the node's addresses.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from .address import Address, Prefix, check_unmapped
from .meta import Object, Value

HOSTNAME_LABEL = "kubernetes.io/hostname"
"""The label that every node has: its name."""

UNDERLAY = "fairlead.dev/underlay"
"""Annotation: the addresses by which other nodes reach it, with the prefix of their subnet, separated by commas."""
MTU = "fairlead.dev/mtu"
"""Annotation: the largest packet, in bytes, that its uplink carries."""
PUBLIC_KEY = "fairlead.dev/wireguard-key"
"""Annotation: its WireGuard public key, ``GENERATION:BASE64``; while it is being replaced two of them, separated by a comma."""

NodeAddressType = Literal["InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS"]


class NodeAddress(Value, frozen=True, kw_only=True):
    """An address of the node, or a name of it."""

    type: NodeAddressType
    address: str

    def __post_init__(self) -> None:
        if self.type.endswith("IP"):
            try:
                check_unmapped(Address(self.address))
            except ValueError as problem:
                raise ValueError(f"address: {problem}") from None


class NodeSpec(Value, frozen=True, kw_only=True):
    """The blocks that its containers' addresses are of."""

    pod_cidrs: tuple[Prefix, ...] = msgspec.field(default=(), name="podCIDRs")


class NodeCondition(Value, frozen=True, kw_only=True):
    """One thing that is so of the node, is not, or is not known."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str = ""
    message: str = ""


class NodeStatus(Value, frozen=True, kw_only=True):
    """What it is reached by, and how it is."""

    addresses: tuple[NodeAddress, ...] = ()
    conditions: tuple[NodeCondition, ...] = ()


class Node(Object, frozen=True, kw_only=True, tag="Node"):
    """A machine."""

    plural: ClassVar[str] = "nodes"

    api_version: Literal["v1"] = "v1"
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def ready(self) -> bool | None:
        """Whether it gives signs of life; None if nobody can tell."""
        said = next((one.status for one in self.status.conditions if one.type == "Ready"), "Unknown")
        return None if said == "Unknown" else said == "True"

    @property
    def labels(self) -> dict[str, str]:
        """Its labels with the one that names it, unless it has another there."""
        return {HOSTNAME_LABEL: self.name, **self.metadata.labels}

    @property
    def internal(self) -> tuple[Address, ...]:
        """The IP addresses by which other nodes reach it."""
        return tuple(dict.fromkeys(Address(one.address) for one in self.status.addresses if one.type == "InternalIP"))

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Its IP addresses."""
        return tuple(dict.fromkeys(Address(one.address) for one in self.status.addresses if one.type.endswith("IP")))
