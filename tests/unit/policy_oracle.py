"""Policies of every kind read slowly and directly from their API references, and rows read as the kernel reads them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from fairlead.desired.state import Judgement, NodeState, Peer, Rows, Ruling, Span
from fairlead.model.address import Address
from fairlead.model.admin import AdminNetworkPolicy, AdminPort, BaselineAdminNetworkPolicy
from fairlead.model.cluster import ClusterNetworkPolicy, ProtocolMatch
from fairlead.model.endpoint import Endpoint
from fairlead.model.namespace import Namespace
from fairlead.model.node import Node
from fairlead.model.policy import EgressRule, IngressRule, IpBlock, NetworkPolicy, PolicyPeer, PolicyType
from fairlead.model.selector import Selector

NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": 0}
WORDS = {"Accept": "Accept", "Allow": "Accept", "Deny": "Deny", "Pass": "Pass"}

Cluster = ClusterNetworkPolicy | AdminNetworkPolicy | BaselineAdminNetworkPolicy


class World(NamedTuple):
    """All there is. Each list has at most one thing of a kind and name."""

    namespaces: list[Namespace]
    policies: list[NetworkPolicy]
    clusters: list[Cluster]
    nodes: list[Node]
    endpoints: list[Endpoint]


def home(thing: Endpoint | NetworkPolicy) -> str:
    return thing.metadata.namespace or "default"


def meets(selector: Selector, labels: Mapping[str, str]) -> bool:
    for key, value in selector.match_labels.items():
        if key not in labels or labels[key] != value:
            return False
    for one in selector.match_expressions:
        there, value = one.key in labels, labels.get(one.key)
        if one.operator == "In" and not (there and value in one.values):
            return False
        if one.operator == "NotIn" and there and value in one.values:
            return False
        if one.operator == "Exists" and not there:
            return False
        if one.operator == "DoesNotExist" and there:
            return False
    return True


def owner(world: World, address: Address) -> Endpoint | None:
    """The endpoint that has the address; of several the first by name."""
    having = [one for one in world.endpoints if address in [at.address for at in one.spec.addresses]]
    return min(having, key=lambda one: one.name, default=None)


def around(world: World, endpoint: Endpoint) -> dict[str, str]:
    """The labels of an endpoint's namespace, made or not."""
    labels = {"kubernetes.io/metadata.name": home(endpoint)}
    for one in world.namespaces:
        if one.name == home(endpoint):
            labels = {**one.metadata.labels, **labels}
    return labels


def in_block(block: IpBlock, address: Address) -> bool:
    at = ipaddress.ip_address(str(address))
    return at in ipaddress.ip_network(str(block.cidr)) and not any(
        at in ipaddress.ip_network(str(one)) for one in block.excluded
    )


def is_peer(world: World, policy: NetworkPolicy, peer: PolicyPeer, address: Address) -> bool:
    if peer.ip_block is not None:
        return in_block(peer.ip_block, address)
    endpoint = owner(world, address)
    if endpoint is None:
        return False
    if peer.namespace_selector is None:
        if home(endpoint) != home(policy):
            return False
    elif not meets(peer.namespace_selector, around(world, endpoint)):
        return False
    return peer.pod_selector is None or meets(peer.pod_selector, endpoint.metadata.labels)


def types(policy: NetworkPolicy) -> set[str]:
    if policy.spec.policy_types:
        return {str(one) for one in policy.spec.policy_types}
    return {"Ingress", "Egress"} if policy.spec.egress else {"Ingress"}


def has_name(asked: Endpoint | None, name: str, protocol: str | None, at: tuple[str, int]) -> bool:
    """Whether the container that is asked has a port of that name, of that protocol if one is said, and it is ``at``."""
    port = asked.spec.named_ports.get(name) if asked else None
    if port is None or (protocol is not None and port.protocol != protocol):
        return False
    return at == (port.protocol, port.number)


def has_port(rule: IngressRule | EgressRule, asked: Endpoint | None, protocol: str, port: int) -> bool:
    if not rule.ports:
        return True
    for one in rule.ports:
        if isinstance(one.port, str):
            if has_name(asked, one.port, one.protocol.lower(), (protocol, port)):
                return True
            continue
        if one.protocol.lower() != protocol:
            continue
        if one.port is None or port == one.port or (one.end_port is not None and one.port <= port <= one.end_port):
            return True
    return False


def network_word(
    world: World, way: PolicyType, subject: Endpoint, peer: Address, protocol: str, port: int
) -> tuple[str, str] | None:
    """What NetworkPolicies say, and the rule that says so; None if none selects the subject."""
    selecting = [
        one
        for one in sorted(world.policies, key=lambda one: one.name)
        if way.value in types(one) and home(one) == home(subject) and meets(one.spec.pod_selector, subject.metadata.labels)
    ]
    asked = subject if way is PolicyType.INGRESS else owner(world, peer)
    for policy in selecting:
        for at, rule in enumerate(policy.spec.ingress if way is PolicyType.INGRESS else policy.spec.egress):
            known = not rule.peers or any(is_peer(world, policy, one, peer) for one in rule.peers)
            if known and has_port(rule, asked, protocol, port):
                return "Accept", f"{home(policy)}/{policy.name} {way.value.lower()}[{at}]"
    return ("Deny", "") if selecting else None


def means(world: World, peer: Any, address: Address) -> bool:
    """Whether a peer, or the subject, of a cluster's policy means an address."""
    endpoint = owner(world, address)
    if peer.namespaces is not None:
        return endpoint is not None and meets(peer.namespaces, around(world, endpoint))
    if peer.pods is not None:
        return (
            endpoint is not None
            and meets(peer.pods.namespace_selector, around(world, endpoint))
            and meets(peer.pods.pod_selector, endpoint.metadata.labels)
        )
    if peer.networks is not None:
        return any(ipaddress.ip_address(address) in ipaddress.ip_network(one) for one in peer.networks)
    if peer.nodes is not None:
        having = [one for one in world.nodes if address in [at.address for at in one.status.addresses]]
        node = min(having, key=lambda one: one.name, default=None)
        return node is not None and meets(peer.nodes, {"kubernetes.io/hostname": node.name, **node.metadata.labels})
    return False


def is_for(world: World, policy: Cluster, subject: Endpoint) -> bool:
    chosen = policy.spec.subject
    if chosen.namespaces is not None:
        return meets(chosen.namespaces, around(world, subject))
    assert chosen.pods
    return meets(chosen.pods.namespace_selector, around(world, subject)) and meets(
        chosen.pods.pod_selector, subject.metadata.labels
    )


def is_admin_port(one: AdminPort, asked: Endpoint | None, protocol: str, port: int) -> bool:
    if one.named_port is not None:
        return has_name(asked, one.named_port, None, (protocol, port))
    if one.port_number:
        return (one.port_number.protocol.lower(), one.port_number.port) == (protocol, port)
    run = one.port_range
    assert run
    return run.protocol.lower() == protocol and run.start <= port <= run.end


def is_match(one: ProtocolMatch, asked: Endpoint | None, protocol: str, port: int) -> bool:
    if one.destination_named_port is not None:
        return has_name(asked, one.destination_named_port, None, (protocol, port))
    match = getattr(one, protocol, None)
    if match is None:
        return False
    at = match.destination_port
    return at.number == port or bool(at.range and at.range.start <= port <= at.range.end)


def has_protocol(rule: Any, asked: Endpoint | None, protocol: str, port: int) -> bool:
    if hasattr(rule, "ports"):  # of the older kinds
        return not rule.ports or any(is_admin_port(one, asked, protocol, port) for one in rule.ports)
    return rule.protocols is None or any(is_match(one, asked, protocol, port) for one in rule.protocols)


def title(policy: Cluster) -> str:
    if isinstance(policy, ClusterNetworkPolicy):
        return f"{policy.spec.tier}/{policy.name}"
    return ("ANP/" if isinstance(policy, AdminNetworkPolicy) else "BANP/") + policy.name


def tier_word(
    world: World, tier: str, way: PolicyType, subject: Endpoint, peer: Address, protocol: str, port: int
) -> tuple[str, str] | None:
    """The first word of a tier, and the rule; None if nothing in it matches, or it passes on."""
    for policy in sorted(world.clusters, key=lambda one: (getattr(one.spec, "priority", 5000), title(one))):
        if policy.tier != tier or not is_for(world, policy, subject):
            continue
        asked = subject if way is PolicyType.INGRESS else owner(world, peer)
        for at, rule in enumerate(policy.spec.ingress if way is PolicyType.INGRESS else policy.spec.egress):
            if any(means(world, one, peer) for one in rule.peers) and has_protocol(rule, asked, protocol, port):
                word = WORDS[rule.action]
                name = f' "{rule.name}"' if rule.name else ""
                return None if word == "Pass" else (word, f"{title(policy)} {way.value.lower()}[{at}]{name}")
    return None


def direction_allows(
    world: World, way: PolicyType, subject: Endpoint, peer: Address, protocol: str, port: int
) -> tuple[bool, str]:
    """Whether one direction of one endpoint lets it pass, and the rule that says so, "" for none."""
    asked = (way, subject, peer, protocol, port)
    for said in (tier_word(world, "Admin", *asked), network_word(world, *asked), tier_word(world, "Baseline", *asked)):
        if said:
            return said[0] == "Accept", said[1]
    return True, ""


def allowed(world: World, source: Address, destination: Address, protocol: str, port: int) -> bool:
    """Whether ``source`` may open a connection to ``port`` of ``destination``."""
    sender, receiver = owner(world, source), owner(world, destination)
    if sender and not direction_allows(world, PolicyType.EGRESS, sender, destination, protocol, port)[0]:
        return False
    return not receiver or direction_allows(world, PolicyType.INGRESS, receiver, source, protocol, port)[0]


def lookup(state: NodeState, policy: int, peer: Address, protocol: str, port: int) -> Span | None:
    """What the kernel finds for one set: the span that decides; None if the set is 0."""
    if policy == 0:
        return None
    holding = [row for row in state.table(Peer).values() if row.prefix.holds(peer)]
    of = max(holding, key=lambda row: row.prefix.length).peer if holding else 0
    judgements = state.table(Judgement)
    judged = judgements.get((policy, of)) or judgements[policy, 0]
    spans = state.table(Ruling)[judged.ruling].spans
    number = NUMBERS[protocol]
    found = [one for one in spans if number and one.protocol == number and one.first <= port <= one.last]
    assert len(found) < 2, spans
    (rest,) = [one for one in spans if one.protocol == 0]
    return found[0] if found else rest


def replay(state: NodeState, steps: Iterable[tuple[str, Rows]]) -> NodeState:
    """Do steps; no row may be held twice, and no judgement may lack its ruling."""
    for name, rows in steps:
        state = state.replace(name, rows)
        own = {row.number for row in rows if isinstance(row, Ruling)}
        assert {row.ruling for row in rows if isinstance(row, Judgement)} <= own
    return state
