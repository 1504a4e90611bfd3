"""Here: this node as policies see it, an object that nobody stores: its name, and the addresses that the host has now.

What is stored of a node of this name gives it labels and no more.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from fairlead.model.address import Address
from fairlead.model.meta import Meta
from fairlead.model.node import HOSTNAME_LABEL, Node, NodeAddress, NodeStatus


def here(name: str, addresses: Iterable[Address], stored: Node | None) -> Node:
    """The node; ``stored`` is what people wrote of it."""
    told = tuple(NodeAddress(type="InternalIP", address=one) for one in sorted(addresses))
    status = NodeStatus(addresses=(*told, NodeAddress(type="Hostname", address=name)))
    if stored is not None:
        return replace(stored, status=status)
    return Node(metadata=Meta(name=name), status=status)


def labelled(node: Node) -> Node:
    """The node with the label that every node has, to be shown."""
    labels = {HOSTNAME_LABEL: node.name, **node.metadata.labels}
    return replace(node, metadata=replace(node.metadata, labels=labels))
