"""The kinds of objects on the command line: what they are called, and how each is listed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fairlead.api.schema import Pool
from fairlead.desired import names
from fairlead.model import codec
from fairlead.model.admin import AdminNetworkPolicy, BaselineAdminNetworkPolicy
from fairlead.model.bgp import BGPConfiguration, BGPPeer
from fairlead.model.bgpfilter import BGPFilter
from fairlead.model.block import Block
from fairlead.model.cluster import ClusterNetworkPolicy, ClusterSubject
from fairlead.model.endpoint import Endpoint
from fairlead.model.endpointslice import EndpointSlice
from fairlead.model.errors import Invalid
from fairlead.model.meta import Object, kind
from fairlead.model.namespace import Namespace
from fairlead.model.network import MODES, Driver, Network
from fairlead.model.node import Node
from fairlead.model.policy import NetworkPolicy
from fairlead.model.reservation import Reservation
from fairlead.model.secret import Secret
from fairlead.model.selector import Selector
from fairlead.model.service import Service

from .out import Column, Listing, age

NAMES: dict[str, type[Object]] = {
    "networks": Network,
    "network": Network,
    "net": Network,
    "endpoints": Endpoint,
    "endpoint": Endpoint,
    "ep": Endpoint,
    "reservations": Reservation,
    "reservation": Reservation,
    "res": Reservation,
    "blocks": Block,
    "block": Block,
    "namespaces": Namespace,
    "namespace": Namespace,
    "ns": Namespace,
    "nodes": Node,
    "node": Node,
    "no": Node,
    "services": Service,
    "service": Service,
    "svc": Service,
    "endpointslices": EndpointSlice,
    "endpointslice": EndpointSlice,
    "networkpolicies": NetworkPolicy,
    "networkpolicy": NetworkPolicy,
    "netpol": NetworkPolicy,
    "clusternetworkpolicies": ClusterNetworkPolicy,
    "clusternetworkpolicy": ClusterNetworkPolicy,
    "cnp": ClusterNetworkPolicy,
    "adminnetworkpolicies": AdminNetworkPolicy,
    "adminnetworkpolicy": AdminNetworkPolicy,
    "anp": AdminNetworkPolicy,
    "baselineadminnetworkpolicies": BaselineAdminNetworkPolicy,
    "baselineadminnetworkpolicy": BaselineAdminNetworkPolicy,
    "banp": BaselineAdminNetworkPolicy,
    "bgpconfigurations": BGPConfiguration,
    "bgpconfiguration": BGPConfiguration,
    "bgpconfig": BGPConfiguration,
    "bgppeers": BGPPeer,
    "bgppeer": BGPPeer,
    "bgpfilters": BGPFilter,
    "bgpfilter": BGPFilter,
    "secrets": Secret,
    "secret": Secret,
}
"""Every word that means a kind: plural, singular, short."""


def parse(word: str) -> type[Object]:
    """The kind that ``word`` means."""
    found = NAMES.get(word.lower())
    if found is None:
        plurals = list(dict.fromkeys(NAMES.values()))
        kinds = [
            f"{one.plural} ({', '.join(word for word, of in NAMES.items() if of is one)[len(one.plural) + 2 :]})"
            for one in plurals
        ]
        raise Invalid(f"{word!r} is not a kind; use {', '.join(kinds[:-1])} or {kinds[-1]}", field="kind")
    return found


def label(thing: Object) -> str:
    """``network/front``, ``networkpolicy/shop/db``: how an object is called in messages and by ``-o name``."""
    name = "/".join(filter(None, thing.key)) if thing.namespaced else thing.name
    return f"{kind(thing).lower()}/{name}"


def tree(thing: Object) -> dict[str, Any]:
    """An object as people write it, apiVersion first."""
    return {"apiVersion": thing.api_version, **codec.to_tree(thing)}


def listing(of: type[Object], pools: Sequence[Pool] = ()) -> Listing[Any]:
    """How a kind is listed. ``pools`` tell how full the networks are."""
    from . import bgpkinds, servicekinds  # noqa: PLC0415  # they list with the columns of this module

    fixed: dict[type[Object], Listing[Any]] = {
        Endpoint: ENDPOINTS,
        Reservation: RESERVATIONS,
        Block: BLOCKS,
        BGPConfiguration: bgpkinds.CONFIGURATIONS,
        BGPPeer: bgpkinds.PEERS,
        BGPFilter: bgpkinds.FILTERS,
        Secret: bgpkinds.SECRETS,
        Namespace: NAMESPACES,
        Node: NODES,
        NetworkPolicy: POLICIES,
        Service: servicekinds.SERVICES,
        EndpointSlice: servicekinds.SLICES,
        ClusterNetworkPolicy: CLUSTERS,
        AdminNetworkPolicy: CLUSTERS,
        BaselineAdminNetworkPolicy: CLUSTERS,
    }
    return networks(pools) if of is Network else fixed[of]


def networks(pools: Sequence[Pool]) -> Listing[Network]:
    """Networks, with how full each is."""

    def filled(one: Network) -> list[str]:
        mine = {pool.cidr: pool for pool in pools if pool.network == one.name}
        return [used(mine[s.cidr]) if s.cidr in mine else "" for s in one.spec.subnets]

    return Listing(
        columns=(
            Column("NAME", lambda one: one.name, style="bold"),
            Column("DRIVER", lambda one: str(one.spec.driver)),
            Column("SUBNETS", lambda one: [subnet.cidr for subnet in one.spec.subnets], style="cyan"),
            Column("GATEWAYS", lambda one: [one.spec.gateway(subnet) for subnet in one.spec.subnets], wide=True),
            Column("USED", filled, right=True),
            Column("MODE", mode),
            Column(
                "MTU",
                lambda one: str(one.spec.mtu or "auto") if one.spec.connects else "",
                wide=True,
                right=True,
            ),
            Column(
                "BRIDGE",
                lambda one: names.bridge(one) if one.spec.driver is Driver.BRIDGE else one.spec.parent or "",
                wide=True,
            ),
            Column("LABELS", lambda one: [f"{k}={v}" for k, v in one.metadata.labels.items()], wide=True),
            Column("AGE", lambda one: age(one.metadata.creation_timestamp), right=True, spare=1),
        ),
        name=label,
        tree=tree,
        empty="No networks. Create one: fairlead network create NAME",
    )


def mode(one: Network) -> str:
    """How a network meets what is outside it, in a few words."""
    spec = one.spec
    if spec.parent:
        return f"{spec.mode or MODES[spec.driver][0]} on {spec.parent}"
    if not spec.connects:
        return {Driver.HOST: "shares the host's", Driver.NONE: "loopback only"}[spec.driver]
    words = ["internal" if spec.internal else "nat" if spec.masquerade else "routed"]
    words += [] if spec.isolated else ["not isolated"]
    words += [] if spec.inter_container else ["no icc"]
    words += [] if spec.anti_spoofing else ["no anti-spoofing"]
    words += ["big tcp"] if spec.big_tcp else []
    return ", ".join(words)


def used(pool: Pool, of: str = "/") -> str:
    """``3/254``; where others have addresses of it, ``3/254 (5 elsewhere)``."""
    elsewhere = f" ({count(pool.elsewhere)} elsewhere)" if pool.elsewhere else ""
    return f"{pool.used}{of}{count(pool.size)}{elsewhere}"


def count(number: int) -> str:
    """A number people can read: an IPv6 pool has 18446744073709551614 addresses."""
    return str(number) if number < 10**6 else f"2^{number.bit_length() - (number & (number - 1) == 0)}"


ENDPOINTS: Listing[Endpoint] = Listing(
    columns=(
        Column("NAME", lambda one: f"{one.container[:12]}:{one.spec.interface}", style="bold"),
        Column("ID", lambda one: one.container, wide=True),
        Column("CONTAINER", lambda one: one.display),
        Column("NETWORK", lambda one: one.spec.network, style="cyan"),
        Column("ADDRESSES", lambda one: [str(address) for address in one.spec.addresses]),
        Column("PORTS", lambda one: [str(port) for port in one.spec.ports], style="yellow"),
        Column("MAC", lambda one: one.spec.mac or "", wide=True),
        Column("PORT NAMES", lambda one: [f"{name}={port}" for name, port in one.spec.named_ports.items()], wide=True),
        Column("SANDBOX", lambda one: one.spec.sandbox.path, wide=True),
        Column("LABELS", lambda one: [f"{k}={v}" for k, v in one.metadata.labels.items()], wide=True),
        Column("OWNER", lambda one: one.spec.owner, spare=2),
        Column("AGE", lambda one: age(one.metadata.creation_timestamp), right=True, spare=1),
    ),
    name=label,
    tree=tree,
    empty="No endpoints. Attach a container: fairlead run -- COMMAND",
)


RESERVATIONS: Listing[Reservation] = Listing(
    columns=(
        Column("NAME", lambda one: one.name, style="bold"),
        Column("OWNER", lambda one: one.spec.owner),
        Column("FOR", lambda one: one.spec.holder[:17]),
        Column("NETWORK", lambda one: one.spec.network, style="cyan"),
        Column("ADDRESS", lambda one: one.spec.address or "the network itself"),
        Column("LABELS", lambda one: [f"{k}={v}" for k, v in one.metadata.labels.items()], wide=True),
        Column("AGE", lambda one: age(one.metadata.creation_timestamp), right=True, spare=1),
    ),
    name=label,
    tree=tree,
    empty="No reservations. Docker makes them as it needs them.",
)


def selected(selector: Selector) -> str:
    """A selector as kubectl shows it: ``app=web,tier in (front, back)``."""
    words = [f"{key}={value}" for key, value in selector.match_labels.items()]
    for one in selector.match_expressions:
        listed = f" ({', '.join(one.values)})" if one.values else ""
        word = {"In": " in", "NotIn": " notin", "Exists": "", "DoesNotExist": ""}[one.operator]
        words.append(f"{'!' if one.operator == 'DoesNotExist' else ''}{one.key}{word}{listed}")
    return ",".join(words) or "<all>"


NAMESPACES: Listing[Namespace] = Listing(
    columns=(
        Column("NAME", lambda one: one.name, style="bold"),
        Column("LABELS", lambda one: [f"{k}={v}" for k, v in one.labels.items()]),
        Column("AGE", lambda one: age(one.metadata.creation_timestamp), right=True, spare=1),
    ),
    name=label,
    tree=tree,
    empty="No namespaces were made; one that is only named has its name as its label.",
)


NODES: Listing[Node] = Listing(
    columns=(
        Column("NAME", lambda one: one.name, style="bold"),
        Column("STATUS", lambda one: "Unknown" if one.ready is None else "Ready" if one.ready else "NotReady"),
        Column("ADDRESSES", lambda one: [str(address) for address in one.addresses]),
        Column("LABELS", lambda one: [f"{k}={v}" for k, v in one.labels.items()]),
        Column("AGE", lambda one: age(one.metadata.creation_timestamp), right=True, spare=1),
    ),
    name=label,
    tree=tree,
    empty="No nodes.",
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


def subject(of: ClusterSubject) -> str:
    """Whom a cluster's policy is for: the namespaces, and where it is for some of their containers, these."""
    if of.pods:
        return f"{selected(of.pods.pod_selector)} in {selected(of.pods.namespace_selector)}"
    return f"namespaces {selected(of.namespaces or Selector())}"


Cluster = ClusterNetworkPolicy | AdminNetworkPolicy | BaselineAdminNetworkPolicy

CLUSTERS: Listing[Cluster] = Listing(
    columns=(
        Column("NAME", lambda one: one.name, style="bold"),
        Column("TIER", lambda one: str(one.tier), style="cyan"),
        Column(
            "PRIORITY", lambda one: "last" if isinstance(one, BaselineAdminNetworkPolicy) else str(one.priority), right=True
        ),
        Column("SUBJECT", lambda one: subject(one.subject)),
        Column("RULES", lambda one: f"{len(one.spec.ingress)} in, {len(one.spec.egress)} out", wide=True),
        Column("AGE", lambda one: age(one.metadata.creation_timestamp), right=True, spare=1),
    ),
    name=label,
    tree=tree,
    empty="No such policies. Write one: fairlead apply -f FILE",
)


POLICIES: Listing[NetworkPolicy] = Listing(
    columns=(
        Column("NAMESPACE", lambda one: one.metadata.namespace, style="cyan"),
        Column("NAME", lambda one: one.name, style="bold"),
        Column("POD-SELECTOR", lambda one: selected(one.spec.pod_selector)),
        Column("TYPES", lambda one: [str(each) for each in one.spec.types]),
        Column("RULES", lambda one: f"{len(one.spec.ingress)} in, {len(one.spec.egress)} out", wide=True),
        Column("AGE", lambda one: age(one.metadata.creation_timestamp), right=True, spare=1),
    ),
    name=label,
    tree=tree,
    empty="No network policies: everybody may talk to everybody. Write one: fairlead apply -f FILE",
)
