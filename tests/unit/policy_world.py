"""Worlds for hypothesis to invent: policies of every kind, namespaces, nodes and containers, few enough to collide."""

from __future__ import annotations

from itertools import product
from typing import Any

from hypothesis import strategies as st

from fairlead.desired.state import NodeState
from fairlead.model.address import Address, ContainerID, Interface, InterfaceName, Name, NamedPort, Prefix
from fairlead.model.admin import (
    AdminAction,
    AdminEgressRule,
    AdminIngressRule,
    AdminNetworkPolicy,
    AdminNetworkPolicySpec,
    AdminPort,
    AdminPortNumber,
    AdminPortRange,
    BaselineAction,
    BaselineAdminNetworkPolicy,
    BaselineAdminNetworkPolicySpec,
    BaselineEgressRule,
    BaselineIngressRule,
)
from fairlead.model.broken import Broken
from fairlead.model.cluster import (
    Action,
    ClusterEgressPeer,
    ClusterEgressRule,
    ClusterIngressPeer,
    ClusterIngressRule,
    ClusterNetworkPolicy,
    ClusterNetworkPolicySpec,
    ClusterSubject,
    Destination,
    NamespacedPod,
    Port,
    PortRange,
    ProtocolMatch,
    Tier,
)
from fairlead.model.endpoint import Endpoint, EndpointSpec, Sandbox
from fairlead.model.meta import Meta
from fairlead.model.namespace import Namespace
from fairlead.model.node import Node, NodeAddress, NodeStatus
from fairlead.model.policy import (
    EgressRule,
    IngressRule,
    IpBlock,
    NetworkPolicy,
    NetworkPolicySpec,
    PolicyPeer,
    PolicyPort,
    PolicyProtocol,
    PolicyType,
)
from fairlead.model.selector import Operator, Requirement, Selector
from fairlead.policy.book import Delta
from tests.unit.policy_oracle import Cluster, World, replay

NAMESPACES = ("", "default", "red", "blue")
ADDRESSES = [
    Address(one) for one in ("10.0.0.1", "10.0.0.2", "10.0.1.1", "10.1.0.1", "192.0.2.1", "fd00::1", "fd00::1:2", "fe80::9")
]
CIDRS = [
    Prefix(one)
    for one in (
        "0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/16", "10.0.0.0/24", "10.0.0.1/32", "10.0.0.2/31", "192.0.2.0/24", "192.0.2.1/32",
        "::/0", "fd00::/16", "fd00::/112", "fd00::1/128",
    )
]  # fmt: skip
PORTS = (79, 80, 81, 91, 443)
ASKED = [*product(("tcp", "udp", "sctp"), PORTS), ("icmp", 0)]
PORT_NAMES = st.sampled_from(("http", "dns"))

LABELS = st.dictionaries(st.sampled_from(("app", "tier")), st.sampled_from(("a", "b")), max_size=2)
KEYS = st.sampled_from(("app", "tier", "kubernetes.io/metadata.name", "kubernetes.io/hostname"))
VALUES = st.lists(st.sampled_from(("a", "b", "red", "default")), min_size=1, max_size=2, unique=True).map(tuple)
LISTED = st.builds(Requirement, key=KEYS, operator=st.sampled_from((Operator.IN, Operator.NOT_IN)), values=VALUES)
BARE = st.builds(Requirement, key=KEYS, operator=st.sampled_from((Operator.EXISTS, Operator.DOES_NOT_EXIST)))
SELECTORS = st.one_of(
    st.just(Selector()),
    st.builds(Selector, match_labels=LABELS),
    st.builds(Selector, match_expressions=st.lists(LISTED | BARE, max_size=2).map(tuple)),
)


@st.composite
def blocks(draw: Any) -> IpBlock:
    cidr = draw(st.sampled_from(CIDRS))
    inside = [one for one in CIDRS if one.family == cidr.family and one.length > cidr.length and one.overlaps(cidr)]
    excluded = draw(st.lists(st.sampled_from(inside), max_size=2, unique=True)) if inside else []
    return IpBlock(cidr=cidr, excluded=tuple(excluded))


@st.composite
def ports(draw: Any) -> PolicyPort:
    first = draw(st.sampled_from((None, 80, 80, 81, 443, "http", "dns")))
    last = draw(st.sampled_from((None, 90, 65535))) if first in {80, 81} else None
    return PolicyPort(protocol=draw(st.sampled_from(PolicyProtocol)), port=first, end_port=last)


PEERS = st.one_of(
    st.builds(PolicyPeer, pod_selector=SELECTORS),
    st.builds(PolicyPeer, namespace_selector=SELECTORS),
    st.builds(PolicyPeer, pod_selector=SELECTORS, namespace_selector=SELECTORS),
    st.builds(PolicyPeer, ip_block=blocks()),
    st.builds(PolicyPeer, ip_block=blocks()),
)
WHO = st.lists(PEERS, max_size=2).map(tuple)
WHICH = st.lists(ports(), max_size=3).map(tuple)
SPECS = st.builds(
    NetworkPolicySpec,
    pod_selector=SELECTORS,
    ingress=st.lists(st.builds(IngressRule, peers=WHO, ports=WHICH), max_size=2).map(tuple),
    egress=st.lists(st.builds(EgressRule, peers=WHO, ports=WHICH), max_size=2).map(tuple),
    policy_types=st.sampled_from(((), (PolicyType.INGRESS,), (PolicyType.EGRESS,), tuple(PolicyType))),
)
POLICIES = st.builds(
    lambda name, namespace, spec: NetworkPolicy(metadata=Meta(name=name, namespace=namespace), spec=spec),
    st.sampled_from(("p", "q", "r")),
    st.sampled_from(NAMESPACES),
    SPECS,
)

PODS = st.builds(NamespacedPod, namespace_selector=SELECTORS, pod_selector=SELECTORS)
EVERYBODY = st.just(ClusterSubject(namespaces=Selector()))
SUBJECTS = EVERYBODY | st.builds(ClusterSubject, namespaces=SELECTORS) | st.builds(ClusterSubject, pods=PODS)
INGRESS_PEERS = st.builds(ClusterIngressPeer, namespaces=SELECTORS) | st.builds(ClusterIngressPeer, pods=PODS)
NETWORKS = st.lists(st.sampled_from(CIDRS), min_size=1, max_size=2, unique=True).map(tuple)
ADDRESSED = st.builds(ClusterEgressPeer, nodes=SELECTORS) | st.builds(ClusterEgressPeer, networks=NETWORKS)
EGRESS_PEERS = st.builds(ClusterEgressPeer, namespaces=SELECTORS) | st.builds(ClusterEgressPeer, pods=PODS) | ADDRESSED
NUMBERED = st.sampled_from((80, 81, 443)).map(lambda one: Port(number=one))
RANGED = st.sampled_from(((80, 90), (81, 65535), (1, 80))).map(lambda one: Port(range=PortRange(start=one[0], end=one[1])))
MATCHES = st.builds(
    lambda protocol, port: ProtocolMatch(**{protocol: Destination(destination_port=port)}),
    st.sampled_from(("tcp", "udp", "sctp")),
    NUMBERED | RANGED,
)
NAMED = st.builds(ProtocolMatch, destination_named_port=PORT_NAMES)
DOMAINS = st.just(ClusterEgressPeer(domain_names=("*.example.com",)))
RULE_NAMES = st.sampled_from(("", "", "why"))


def listed(of: Any, least: int = 1) -> Any:
    return st.lists(of, min_size=least, max_size=2).map(tuple)


CLUSTER_INGRESS = st.builds(
    ClusterIngressRule,
    action=st.sampled_from(Action),
    peers=listed(INGRESS_PEERS),
    protocols=st.none() | listed(MATCHES | NAMED),
    name=RULE_NAMES,
)
CLUSTER_EGRESS = st.one_of(
    st.builds(
        ClusterEgressRule,
        action=st.sampled_from(Action),
        peers=listed(EGRESS_PEERS),
        protocols=st.none() | listed(MATCHES),
        name=RULE_NAMES,
    ),
    st.builds(
        ClusterEgressRule,
        action=st.sampled_from(Action),
        peers=listed(st.builds(ClusterEgressPeer, namespaces=SELECTORS) | st.builds(ClusterEgressPeer, pods=PODS)),
        protocols=listed(MATCHES | NAMED),
    ),
    st.builds(ClusterEgressRule, action=st.just(Action.ACCEPT), peers=listed(EGRESS_PEERS | DOMAINS)),
)
CLUSTERS = st.builds(
    lambda name, spec: ClusterNetworkPolicy(metadata=Meta(name=name), spec=spec),
    st.sampled_from(("p", "q", "r", "default")),
    st.builds(
        ClusterNetworkPolicySpec,
        tier=st.sampled_from(Tier),
        priority=st.sampled_from((0, 1, 1, 1000)),
        subject=SUBJECTS,
        ingress=st.lists(CLUSTER_INGRESS, max_size=3).map(tuple),
        egress=st.lists(CLUSTER_EGRESS, max_size=3).map(tuple),
    ),
)
ADMIN_PORTS = st.one_of(
    st.builds(
        AdminPort,
        port_number=st.builds(AdminPortNumber, protocol=st.sampled_from(PolicyProtocol), port=st.sampled_from((80, 443))),
    ),
    st.builds(AdminPort, port_range=st.just(AdminPortRange(start=80, end=90))),
)
ADMIN = {"ports": listed(ADMIN_PORTS, 0), "name": RULE_NAMES}
ADMIN_INGRESS = {"peers": listed(INGRESS_PEERS), "ports": listed(ADMIN_PORTS | st.builds(AdminPort, named_port=PORT_NAMES), 0)}
ADMIN_EGRESS = {"peers": listed(EGRESS_PEERS), **ADMIN}
ADMINS = st.builds(
    lambda name, spec: AdminNetworkPolicy(metadata=Meta(name=name), spec=spec),
    st.sampled_from(("p", "q")),
    st.builds(
        AdminNetworkPolicySpec,
        priority=st.sampled_from((0, 1)),
        subject=SUBJECTS,
        ingress=listed(st.builds(AdminIngressRule, action=st.sampled_from(AdminAction), **ADMIN_INGRESS), 0),
        egress=listed(st.builds(AdminEgressRule, action=st.sampled_from(AdminAction), **ADMIN_EGRESS), 0),
    ),
)
BASELINES = st.builds(
    lambda spec: BaselineAdminNetworkPolicy(metadata=Meta(name="default"), spec=spec),
    st.builds(
        BaselineAdminNetworkPolicySpec,
        subject=SUBJECTS,
        ingress=listed(st.builds(BaselineIngressRule, action=st.sampled_from(BaselineAction), **ADMIN_INGRESS), 0),
        egress=listed(st.builds(BaselineEgressRule, action=st.sampled_from(BaselineAction), **ADMIN_EGRESS), 0),
    ),
)

MADE = st.builds(
    lambda name, labels: Namespace(metadata=Meta(name=name, labels=labels)), st.sampled_from(NAMESPACES[1:]), LABELS
)
HELD = st.lists(st.sampled_from(ADDRESSES), max_size=2, unique=True).map(tuple)
NODES = st.builds(
    lambda name, labels, held: Node(
        metadata=Meta(name=name, labels=labels),
        status=NodeStatus(addresses=tuple(NodeAddress(type="InternalIP", address=one) for one in held)),
    ),
    st.sampled_from(("a", "b")),
    LABELS,
    HELD,
)


def endpoint(
    name: str,
    namespace: str = "",
    labels: dict[str, str] | None = None,
    addresses: tuple[str, ...] = (),
    named: dict[str, str] | None = None,
) -> Endpoint:
    return Endpoint(
        metadata=Meta(name=f"{name}:eth0", namespace=namespace, labels=labels or {}),
        spec=EndpointSpec(
            container=ContainerID(name),
            interface=InterfaceName("eth0"),
            network=Name("net"),
            sandbox=Sandbox(path=f"/run/netns/{name}"),
            addresses=tuple(Interface(f"{one}/{128 if ':' in one else 16}") for one in addresses),
            named_ports={key: NamedPort(port) for key, port in (named or {}).items()},
        ),
    )


ENDPOINTS = st.builds(
    endpoint,
    st.sampled_from(("c1", "c2", "c3")),
    st.sampled_from(NAMESPACES),
    LABELS,
    HELD,
    st.dictionaries(PORT_NAMES, st.sampled_from(("80/tcp", "81/tcp", "80/udp")), max_size=2),
)
ANY_POLICY = POLICIES | CLUSTERS | ADMINS | BASELINES
ANYTHING = POLICIES | CLUSTERS | CLUSTERS | ADMINS | BASELINES | ENDPOINTS | ENDPOINTS | MADE | NODES
DENSE = st.tuples(ENDPOINTS, ENDPOINTS, NODES, CLUSTERS, CLUSTERS, ANY_POLICY).map(list)
"""Enough of everything that something always meets something."""


BROKEN = st.builds(
    lambda plural, namespace, name, data: Broken.of(
        plural, data, "why", (namespace if plural == "networkpolicies" else "", name)
    ),
    st.sampled_from(("networkpolicies", "clusternetworkpolicies", "namespaces", "adminnetworkpolicies")),
    st.sampled_from(NAMESPACES),
    st.sampled_from(("p", "q", "red")),
    st.sampled_from((b"", b'{"spec":{"podSelector":{"matchLabels":{"app":"a"}},"policyTypes":["Egress"]}}')),
)


def identity(one: Any) -> tuple[str, str, str]:
    return (one.plural, one.metadata.namespace or "default" if one.plural == NetworkPolicy.plural else "", one.name)


def latest(things: list[Any]) -> list[Any]:
    """The last of each name, as a book keeps them."""
    return list({identity(one): one for one in things}.values())


def world(things: list[Any]) -> World:
    kept = latest(things)
    return World(*([one for one in kept if isinstance(one, of)] for of in (Namespace, NetworkPolicy, Cluster, Node, Endpoint)))


def done(state: NodeState, delta: Delta) -> NodeState:
    return replay(replay(state, delta.steps), delta.after)
