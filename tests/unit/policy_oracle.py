"""NetworkPolicy read slowly and directly from its API reference, and rows read as the kernel reads them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fairlead.desired.state import Judgement, NodeState, Peer, Rows, Ruling, Span
from fairlead.model.address import Address
from fairlead.model.endpoint import Endpoint
from fairlead.model.namespace import Namespace
from fairlead.model.policy import EgressRule, IngressRule, IpBlock, NetworkPolicy, PolicyPeer, PolicyType
from fairlead.model.selector import Selector

NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": 0}


class World(NamedTuple):
    """All there is. Each list has at most one thing of a name."""

    namespaces: list[Namespace]
    policies: list[NetworkPolicy]
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
    else:
        labels = {"kubernetes.io/metadata.name": home(endpoint)}
        for one in world.namespaces:
            if one.name == home(endpoint):
                labels = {**one.metadata.labels, **labels}
        if not meets(peer.namespace_selector, labels):
            return False
    return peer.pod_selector is None or meets(peer.pod_selector, endpoint.metadata.labels)


def types(policy: NetworkPolicy) -> set[str]:
    if policy.spec.policy_types:
        return {str(one) for one in policy.spec.policy_types}
    return {"Ingress", "Egress"} if policy.spec.egress else {"Ingress"}


def has_port(rule: IngressRule | EgressRule, protocol: str, port: int) -> bool:
    if not rule.ports:
        return True
    for one in rule.ports:
        if one.protocol.lower() != protocol:
            continue
        if one.port is None or port == one.port or (one.end_port is not None and int(one.port) <= port <= one.end_port):
            return True
    return False


def direction_allows(
    world: World, way: PolicyType, subject: Endpoint, peer: Address, protocol: str, port: int
) -> tuple[bool, str]:
    """Whether one direction of one endpoint lets it pass, and the rule that says so, "" for none."""
    selecting = [
        one
        for one in sorted(world.policies, key=lambda one: one.name)
        if way.value in types(one) and home(one) == home(subject) and meets(one.spec.pod_selector, subject.metadata.labels)
    ]
    if not selecting:
        return True, ""
    for policy in selecting:
        for at, rule in enumerate(policy.spec.ingress if way is PolicyType.INGRESS else policy.spec.egress):
            known = not rule.peers or any(is_peer(world, policy, one, peer) for one in rule.peers)
            if known and has_port(rule, protocol, port):
                return True, f"{home(policy)}/{policy.name} {way.value.lower()} {at}"
    return False, ""


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
