"""Node: core/v1, as much of it as policies speak of: a machine's labels and its addresses.

What shares a node's network, a container on the host's network too, is the node: it has the node's addresses.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from .address import Address, Prefix
from .meta import Object, Value

HOSTNAME_LABEL = "kubernetes.io/hostname"
"""The label that every node has: its name."""

NodeAddressType = Literal["InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS"]


class NodeAddress(Value, frozen=True, kw_only=True):
    """An address of the node, or a name of it."""

    type: NodeAddressType
    address: str

    def __post_init__(self) -> None:
        if self.type.endswith("IP"):
            try:
                Address(self.address)
            except ValueError as problem:
                raise ValueError(f"address: {problem}") from None


class NodeSpec(Value, frozen=True, kw_only=True):
    """The blocks that its containers' addresses are of."""

    pod_cidrs: tuple[Prefix, ...] = msgspec.field(default=(), name="podCIDRs")


class NodeStatus(Value, frozen=True, kw_only=True):
    """What it is reached by."""

    addresses: tuple[NodeAddress, ...] = ()


class Node(Object, frozen=True, kw_only=True, tag="Node"):
    """A machine."""

    plural: ClassVar[str] = "nodes"

    api_version: Literal["v1"] = "v1"
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def labels(self) -> dict[str, str]:
        """Its labels with the one that names it, unless it has another there."""
        return {HOSTNAME_LABEL: self.name, **self.metadata.labels}

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Its IP addresses."""
        return tuple(dict.fromkeys(Address(one.address) for one in self.status.addresses if one.type.endswith("IP")))
