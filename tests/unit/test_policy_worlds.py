"""The rows of generated worlds say what the API reference says, in whatever order the world came to be."""

from __future__ import annotations

from itertools import product
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.desired.state import NodeState
from fairlead.model.address import Address, ContainerID, Interface, InterfaceName, Name, Prefix
from fairlead.model.endpoint import Endpoint, EndpointSpec, Sandbox
from fairlead.model.meta import Meta
from fairlead.model.namespace import Namespace
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
from fairlead.policy.book import Book, Delta
from tests.unit.policy_oracle import NUMBERS, World, allowed, direction_allows, lookup, owner, replay

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

LABELS = st.dictionaries(st.sampled_from(("app", "tier")), st.sampled_from(("a", "b")), max_size=2)
KEYS = st.sampled_from(("app", "tier", "kubernetes.io/metadata.name"))
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
    first = draw(st.sampled_from((None, 80, 80, 81, 443)))
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
MADE = st.builds(
    lambda name, labels: Namespace(metadata=Meta(name=name, labels=labels)), st.sampled_from(NAMESPACES[1:]), LABELS
)


def endpoint(name: str, namespace: str = "", labels: dict[str, str] | None = None, addresses: tuple[str, ...] = ()) -> Endpoint:
    return Endpoint(
        metadata=Meta(name=f"{name}:eth0", namespace=namespace, labels=labels or {}),
        spec=EndpointSpec(
            container=ContainerID(name),
            interface=InterfaceName("eth0"),
            network=Name("net"),
            sandbox=Sandbox(path=f"/run/netns/{name}"),
            addresses=tuple(Interface(f"{one}/{128 if ':' in one else 16}") for one in addresses),
        ),
    )


ENDPOINTS = st.builds(
    endpoint,
    st.sampled_from(("c1", "c2", "c3")),
    st.sampled_from(NAMESPACES),
    LABELS,
    st.lists(st.sampled_from(ADDRESSES), max_size=2, unique=True).map(tuple),
)
THINGS = st.lists(POLICIES | ENDPOINTS | MADE, max_size=9)
HISTORIES = st.lists(st.tuples(st.booleans(), st.lists(POLICIES | ENDPOINTS | MADE, min_size=1, max_size=3)), max_size=6)
CHECKED = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def identity(one: Any) -> tuple[Any, str, str]:
    return (type(one), one.metadata.namespace or "default" if isinstance(one, NetworkPolicy) else "", one.name)


def latest(things: list[Any]) -> list[Any]:
    """The last of each name, as a book keeps them."""
    return list({identity(one): one for one in things}.values())


def world(things: list[Any]) -> World:
    kept = latest(things)
    return World(*([one for one in kept if isinstance(one, of)] for of in (Namespace, NetworkPolicy, Endpoint)))


def done(state: NodeState, delta: Delta) -> NodeState:
    return replay(replay(state, delta.steps), delta.after)


@CHECKED
@given(THINGS)
def test_rows_say_what_the_reference_says(things: list[Any]) -> None:
    book, there = Book(), world(things)
    state = done(NodeState(), book.put(*things))
    names = {number: f"{rule.policy} {rule.direction} {rule.index}" for number, rule in book.rules().items()}
    for one in there.endpoints:
        for way, policy in zip(PolicyType, book.subject(one), strict=True):
            for peer, (protocol, port) in product(ADDRESSES, ASKED):
                span = lookup(state, policy, peer, protocol, port)
                said = (span is None or span.allow, names[span.rule] if span and span.rule else "")
                assert said == direction_allows(there, way, one, peer, protocol, port)


@CHECKED
@given(HISTORIES)
def test_the_way_there_does_not_matter(history: list[tuple[bool, list[Any]]]) -> None:
    book, state, things = Book(), NodeState(), []
    subjects: dict[str, tuple[int, int]] = {}
    for put, some in history:
        delta = book.put(*some) if put else book.drop(*some)
        gone = {identity(one) for one in some}
        things = latest([*things, *some]) if put else [one for one in things if identity(one) not in gone]
        there = {one.name: one for one in things if isinstance(one, Endpoint)}
        subjects = {name: old for name, old in subjects.items() if name in there}
        state = replay(state, delta.steps)
        assert all((policy, 0) in keys(state) for pair in subjects.values() for policy in pair if policy)
        for name in delta.subjects:
            assert subjects.get(name) != book.subject(there[name])
            subjects[name] = book.subject(there[name])
        state = replay(state, delta.after)
        assert all((policy, 0) in keys(state) for pair in subjects.values() for policy in pair if policy)
        fresh = Book()
        scratch = done(NodeState(), fresh.put(*things))
        assert dict(scratch.owners()) == dict(state.owners())
        assert dict(fresh.rules()) == dict(book.rules())
        assert subjects == {name: fresh.subject(one) for name, one in there.items()}


def keys(state: NodeState) -> set[Any]:
    return {row.key for rows in state.owners().values() for row in rows}


@CHECKED
@given(THINGS, st.sampled_from(ADDRESSES), st.sampled_from(ADDRESSES), st.sampled_from(tuple(NUMBERS)), st.sampled_from(PORTS))
def test_the_explanation_ends_in_the_verdict(things: list[Any], source: Address, to: Address, protocol: str, port: int) -> None:
    if source.family != to.family:
        return
    book, there = Book(), world(things)
    book.put(*things)
    told = book.explain(source, to, protocol, port)
    assert told.allowed == told.steps[-1].allows == (source == to or allowed(there, source, to, protocol, port))
    if source == to:
        return
    receiver = owner(there, to)
    if told.allowed and receiver:
        _, rule = direction_allows(there, PolicyType.INGRESS, receiver, source, protocol, port)
        named = [one.rule for one in told.steps if one.direction == "ingress" and one.allows is not None]
        assert [f"{one.policy} {one.direction} {one.index}" if one else "" for one in named] == [rule]


@CHECKED
@given(THINGS, st.lists(POLICIES, min_size=1, max_size=1))
def test_a_policy_changes_from_all_of_the_old_to_all_of_the_new(things: list[Any], change: list[Any]) -> None:
    book = Book()
    state = done(NodeState(), book.put(*things))
    old, new = world(things), world([*things, *change])
    before = {one.name: book.subject(one) for one in old.endpoints}
    delta = book.put(*change)
    for at, step in enumerate((*delta.steps, *delta.after)):
        state = replay(state, [step])
        flipped = at >= len(delta.steps)
        for one in old.endpoints:
            sets = book.subject(one) if flipped else before[one.name]
            for way, policy in zip(PolicyType, sets, strict=True):
                for peer in ADDRESSES:
                    span = lookup(state, policy, peer, "tcp", 80)
                    right = direction_allows(new if flipped else old, way, one, peer, "tcp", 80)[0]
                    assert (span is None or span.allow) == right
