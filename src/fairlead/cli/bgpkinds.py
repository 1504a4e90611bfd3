"""How the kinds of BGP are listed, and Secrets, of which nobody is shown more than the size."""

from __future__ import annotations

from fairlead.model.bgp import BGPConfiguration, BGPPeer
from fairlead.model.bgpfilter import BGPFilter, Way
from fairlead.model.secret import Secret

from .kinds import label, selected, tree
from .out import Column, Listing, age

CONFIGURATIONS: Listing[BGPConfiguration] = Listing(
    columns=(
        Column("NAME", lambda one: one.name, style="bold"),
        Column("AS", lambda one: str(one.spec.as_number or ""), right=True),
        Column("MESH", lambda one: {None: "", True: "yes", False: "no"}[one.spec.node_to_node_mesh]),
        Column("PORT", lambda one: str(one.spec.listen_port or ""), right=True, wide=True),
        Column("COMMUNITIES", lambda one: [f"{each.name}={each.value}" for each in one.spec.communities]),
        Column("AGE", lambda one: age(one.metadata.creation_timestamp), right=True, spare=1),
    ),
    name=label,
    tree=tree,
    empty="No BGP configurations: nodes speak as AS 64512, each with every other.",
)


def _with(one: BGPPeer) -> str:
    spec = one.spec
    return spec.peer_ip or (f"nodes {selected(spec.peer_selector)}" if spec.peer_selector else "")


def _nodes(one: BGPPeer) -> str:
    return one.spec.node or (selected(one.spec.node_selector) if one.spec.node_selector else "<all>")


PEERS: Listing[BGPPeer] = Listing(
    columns=(
        Column("NAME", lambda one: one.name, style="bold"),
        Column("PEER", _with, style="cyan"),
        Column("AS", lambda one: str(one.spec.as_number or ""), right=True),
        Column("NODES", _nodes),
        Column("PASSWORD", lambda one: str(one.spec.password.secret_key_ref) if one.spec.password else "", wide=True),
        Column("BFD", lambda one: "yes" if one.spec.bfd else ""),
        Column("FILTERS", lambda one: one.spec.filters),
        Column("AGE", lambda one: age(one.metadata.creation_timestamp), right=True, spare=1),
    ),
    name=label,
    tree=tree,
    empty="No BGP peers. Peer with a router: docs/bgp.md shows how.",
)


def _rules(one: BGPFilter) -> list[str]:
    counts = [(f"{way}V{family}", len(one.spec.rules(way, family))) for way in Way for family in (4, 6)]
    return [f"{count} {field}" for field, count in counts if count]


FILTERS: Listing[BGPFilter] = Listing(
    columns=(
        Column("NAME", lambda one: one.name, style="bold"),
        Column("RULES", _rules),
        Column("AGE", lambda one: age(one.metadata.creation_timestamp), right=True, spare=1),
    ),
    name=label,
    tree=tree,
    empty="No BGP filters.",
)

SECRETS: Listing[Secret] = Listing(
    columns=(
        Column("NAMESPACE", lambda one: one.metadata.namespace, style="cyan"),
        Column("NAME", lambda one: one.name, style="bold"),
        Column("DATA", lambda one: [f"{key} ({value.size} bytes)" for key, value in one.data.items()]),
        Column("AGE", lambda one: age(one.metadata.creation_timestamp), right=True, spare=1),
    ),
    name=label,
    tree=tree,
    empty="No secrets.",
)
