"""What each clause of a NetworkPolicy means, by example, and what a change does to the rows."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from fairlead.desired.state import Judgement, NodeState, Peer
from fairlead.model.address import Address, Prefix
from fairlead.model.codec import from_tree
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Missing
from fairlead.model.meta import Meta
from fairlead.model.namespace import Namespace
from fairlead.model.policy import NetworkPolicy
from fairlead.policy.book import Book
from tests.unit.policy_oracle import lookup, replay
from tests.unit.policy_world import done, endpoint

WEB = endpoint("web", "shop", {"app": "web"}, ("10.0.0.1", "fd00::1"))
DB = endpoint("db", "shop", {"app": "db"}, ("10.0.0.2", "fd00::2"))
SPY = endpoint("spy", "red", {"app": "web"}, ("10.0.0.3",))
BARE = endpoint("bare", "", {}, ("10.0.0.4",))
OUTSIDE = Address("192.0.2.1")
RED = Namespace(metadata=Meta(name="red", labels={"team": "red"}))
EVERYBODY = {"web", "db", "spy", "bare", "outside"}


def policy(spec: dict[str, Any], name: str = "p", namespace: str = "shop") -> NetworkPolicy:
    raw = {"kind": "NetworkPolicy", "metadata": {"name": name, "namespace": namespace}, "spec": spec}
    return from_tree(raw, NetworkPolicy)


def reach(book: Book, to: Endpoint, port: int = 80, protocol: str = "tcp") -> set[str]:
    """Who else can open a connection to ``to``; it always reaches itself."""
    ends: dict[str, Endpoint | Address] = {"web": WEB, "db": DB, "spy": SPY, "bare": BARE, "outside": OUTSIDE}
    return {name for name, one in ends.items() if one is not to and book.explain(one, to, protocol, port).allowed}


def test_everybody_reaches_itself() -> None:
    told = world(policy({"policyTypes": ["Ingress", "Egress"]})).explain(DB, DB, "tcp", 80)
    assert [one.text for one in told.steps[:2]] == ["shop/db always reaches itself"] * 2
    assert told.allowed


def world(*policies: NetworkPolicy) -> Book:
    book = Book()
    book.put(RED, WEB, DB, SPY, BARE, *policies)
    return book


def ingress(*peers: dict[str, Any], ports: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": list(peers), "ports": list(ports)}]}


LABELS = {"matchLabels": {"app": "web"}}
TEAM = {"matchLabels": {"team": "red"}}


@pytest.mark.parametrize(
    ("peers", "who"),
    [
        ((), EVERYBODY),
        (({"podSelector": {}},), {"web", "db"}),
        (({"podSelector": LABELS},), {"web"}),
        (({"namespaceSelector": {}},), {"web", "db", "spy", "bare"}),
        (({"namespaceSelector": TEAM},), {"spy"}),
        (({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}},), {"bare"}),
        (({"namespaceSelector": {}, "podSelector": LABELS},), {"web", "spy"}),
        (({"namespaceSelector": TEAM}, {"podSelector": LABELS}), {"web", "spy"}),
        (({"ipBlock": {"cidr": "0.0.0.0/0"}},), EVERYBODY),
        (({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.2/31"]}},), {"web", "bare", "outside"}),
        (({"ipBlock": {"cidr": "10.0.0.1/32"}},), {"web"}),
        (({"ipBlock": {"cidr": "192.0.2.0/24"}}, {"podSelector": LABELS}), {"web", "outside"}),
    ],
)
def test_peers(peers: tuple[dict[str, Any], ...], who: set[str]) -> None:
    assert reach(world(policy(ingress(*peers))), DB) == who - {"db"}


@pytest.mark.parametrize(
    ("ports", "open_ports"),
    [
        ((), {"tcp 80", "tcp 81", "udp 80", "udp 81", "icmp 0"}),
        (({"port": 80},), {"tcp 80"}),
        (({"protocol": "UDP", "port": 80},), {"udp 80"}),
        (({"protocol": "TCP"},), {"tcp 80", "tcp 81"}),
        (({"port": 70, "endPort": 80},), {"tcp 80"}),
        (({"port": 81, "endPort": 81}, {"protocol": "UDP", "port": 80, "endPort": 90}), {"tcp 81", "udp 80", "udp 81"}),
    ],
)
def test_ports(ports: tuple[dict[str, Any], ...], open_ports: set[str]) -> None:
    book = world(policy(ingress(ports=ports)))
    asked = (("tcp", 80), ("tcp", 81), ("udp", 80), ("udp", 81), ("icmp", 0))
    assert {f"{one} {port}" for one, port in asked if reach(book, DB, port, one)} == open_ports


@pytest.mark.parametrize(
    ("spec", "isolated"),
    [
        ({}, (True, False)),
        ({"egress": [{}]}, (True, True)),
        ({"policyTypes": ["Egress"]}, (False, True)),
        ({"policyTypes": ["Ingress"], "egress": [{}]}, (True, False)),
        ({"policyTypes": ["Ingress", "Egress"]}, (True, True)),
        ({"podSelector": {"matchLabels": {"app": "web"}}}, (False, False)),
    ],
)
def test_isolation_is_of_the_directions_named(spec: dict[str, Any], isolated: tuple[bool, bool]) -> None:
    book = world(policy(spec))
    assert tuple(bool(one) for one in book.subject(DB)) == isolated
    assert book.subject(SPY) == book.subject(BARE) == (0, 0)


def test_policies_add_up_and_the_first_by_name_is_the_one_named() -> None:
    first = policy(ingress({"podSelector": LABELS}, ports=({"port": 80, "endPort": 90},)), "a")
    second = policy(ingress(ports=({"port": 85, "endPort": 99},)), "b")
    book, state = Book(), NodeState()
    state = done(state, book.put(second, first, WEB, DB))
    decided = {}
    for port in (80, 85, 95, 100):
        span = lookup(state, book.subject(DB)[0], Address("10.0.0.1"), "tcp", port)
        assert span is not None
        decided[port] = book.rules()[span.rule].policy if span.allow else ""
    assert decided == {80: "shop/a", 85: "shop/a", 95: "shop/b", 100: ""}


def test_only_classes_judged_otherwise_have_judgements() -> None:
    book = Book()
    state = done(NodeState(), book.put(policy(ingress({"podSelector": LABELS})), WEB, DB, SPY, BARE))
    peers = {row.prefix: row.peer for row in state.table(Peer).values()}
    assert {row.peer for row in state.table(Judgement).values()} == {0, peers[Prefix("10.0.0.1/32")]}
    assert peers[Prefix("10.0.0.1/32")] == peers[Prefix("fd00::1/128")]


def test_the_empty_set_of_rules_denies() -> None:
    assert reach(world(policy({})), DB) == set()


def test_a_known_class_costs_its_peer_row_alone() -> None:
    book = world(policy(ingress({"podSelector": LABELS})))
    twin = endpoint("twin", "shop", {"app": "web"}, ("10.0.0.9",))
    delta = book.put(twin)
    assert [name for name, _ in delta.steps] == ["peers/twin:eth0"]
    assert delta.subjects == {"twin:eth0"}
    assert delta.after == ()
    assert book.put(twin) == ((), frozenset(), ())
    assert book.drop(twin).steps == (("peers/twin:eth0", ()),)


def test_a_changed_policy_is_a_new_set_beside_the_old_one() -> None:
    book = Book()
    state = done(NodeState(), book.put(policy(ingress({"podSelector": LABELS})), WEB, DB))
    old = book.subject(DB)[0]
    delta = book.put(policy(ingress()))
    new = book.subject(DB)[0]
    assert delta.subjects == {"db:eth0"}
    assert [name for name, _ in delta.steps] == [f"policy/{new:016x}"]
    assert (f"policy/{old:016x}", ()) in delta.after
    assert {row.policy for row in replay(state, delta.steps).table(Judgement).values()} == {old, new}


def test_set_numbers_do_not_depend_on_peers() -> None:
    one, other = Book(), Book()
    rule = policy(ingress({"namespaceSelector": {}}))
    one.put(rule, DB)
    other.put(WEB, RED, SPY, rule, DB)
    assert one.subject(DB) == other.subject(DB)


def test_an_endpoint_goes_before_a_block_of_the_same_prefix() -> None:
    book = Book()
    state = done(NodeState(), book.put(policy(ingress({"ipBlock": {"cidr": "10.0.0.1/32"}})), DB))
    assert state.owned("block/10.0.0.1/32")
    state = done(state, book.put(WEB))
    assert not state.owned("block/10.0.0.1/32")
    assert len(state.owned("peers/web:eth0")) == 2
    state = done(state, book.drop(WEB))
    assert state.owned("block/10.0.0.1/32")


def test_addresses_that_are_swapped_are_never_held_twice() -> None:
    book = Book()
    one, other = (endpoint(name, addresses=(at,)) for name, at in (("a", "10.0.0.1"), ("b", "10.0.0.2")))
    state = done(NodeState(), book.put(one, other))
    state = done(state, book.put(endpoint("a", addresses=("10.0.0.2",)), endpoint("b", addresses=("10.0.0.1",))))
    assert {str(row.prefix) for row in state.owned("peers/a:eth0") if isinstance(row, Peer)} == {"10.0.0.2/32"}


def test_nothing_is_left_of_what_was_dropped() -> None:
    book = Book()
    rule = policy(ingress({"ipBlock": {"cidr": "10.0.0.0/8"}}, {"podSelector": {}}))
    state = done(NodeState(), book.put(rule, RED, WEB, DB))
    for one in (DB, rule, RED, WEB):
        state = done(state, book.drop(one))
    assert state.owners() == {}
    assert book.rules() == {}
    assert book.drop(DB) == ((), frozenset(), ())
    with pytest.raises(Missing):
        book.subject(DB)


def test_an_explanation_names_what_matched_and_what_did_not() -> None:
    book = world(
        policy(ingress({"podSelector": LABELS}, ports=({"port": 80},))), policy({"policyTypes": ["Egress"]}, "q", "red")
    )
    told = book.explain(WEB, DB, "tcp", 80)
    assert [one.text for one in told.steps] == [
        "shop/web is not isolated: no policy selects it for egress",
        "policy shop/p selects shop/db",
        "rule 0 matches",
        "allowed by rule 0 of shop/p",
        "shop/web to shop/db, tcp port 80: allowed",
    ]
    assert "it allows tcp 80, not tcp port 81" in book.explain(WEB, DB, "tcp", 81).steps[2].text
    assert "none of its peers is 192.0.2.1" in book.explain(OUTSIDE, DB, "tcp", 80).steps[2].text
    assert book.explain(SPY, DB, "tcp", 80).steps[-1].text.endswith("denied by egress")


def test_of_two_with_one_address_the_one_of_this_node_has_it() -> None:
    here = endpoint("z-here", "shop", {"app": "db"}, ("10.0.0.9",))
    there = replace(endpoint("a-there", "shop", {"app": "web"}, ("10.0.0.9",)), spec=replace(here.spec, node="n2"))
    for order in ((here, there), (there, here)):
        book = Book("n1")
        book.put(*order)
        assert book.at(Address("10.0.0.9")) == here
        book.drop(here)
        assert book.at(Address("10.0.0.9")) == there
