"""How nodes and their blocks of addresses are listed."""

from __future__ import annotations

from fairlead.model.block import Block
from fairlead.model.node import UNDERLAY, Node

from .kinds import label, tree
from .out import Column, Listing, age

NODES: Listing[Node] = Listing(
    columns=(
        Column("NAME", lambda one: one.name, style="bold"),
        Column("STATUS", lambda one: "Unknown" if one.ready is None else "Ready" if one.ready else "NotReady"),
        Column("ADDRESSES", lambda one: one.metadata.annotations.get(UNDERLAY, "").split(","), style="cyan"),
        Column("LABELS", lambda one: [f"{k}={v}" for k, v in one.labels.items()], wide=True),
        Column("AGE", lambda one: age(one.metadata.creation_timestamp), right=True, spare=1),
    ),
    name=label,
    tree=tree,
    empty="No nodes are known.",
)

BLOCKS: Listing[Block] = Listing(
    columns=(
        Column("BLOCK", lambda one: one.spec.cidr, style="bold"),
        Column("NETWORK", lambda one: one.spec.network, style="cyan"),
        Column("NODE", lambda one: one.spec.node),
        Column("OFFERED", lambda one: str(len(one.spec.spare) or ""), right=True),
        Column("LENT", lambda one: [f"{address} to {node}" for address, node in one.spec.lent.items()]),
        Column("AGE", lambda one: age(one.metadata.creation_timestamp), right=True, spare=1),
    ),
    name=label,
    tree=tree,
    empty="No blocks. Nodes take them for networks that reach over nodes, as containers need addresses.",
)
