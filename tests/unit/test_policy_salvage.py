"""What cannot be read opens nothing, and closes whom it may be about and nobody else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.desired.state import NodeState
from fairlead.model import codec
from fairlead.model.address import Address
from fairlead.model.broken import Broken
from fairlead.policy.book import Book
from fairlead.store.base import read
from tests.unit.policy_world import done, endpoint

WEB = endpoint("web", "shop", {"app": "web"}, ("10.0.0.1",))
DB = endpoint("db", "shop", {"app": "db"}, ("10.0.0.2",))
SPY = endpoint("spy", "red", {"app": "web"}, ("10.0.0.3",))
OUTSIDE = Address("192.0.2.1")
PLURALS = {"NetworkPolicy": "networkpolicies", "ClusterNetworkPolicy": "clusternetworkpolicies", "Namespace": "namespaces"}
PLURALS |= {"AdminNetworkPolicy": "adminnetworkpolicies", "BaselineAdminNetworkPolicy": "baselineadminnetworkpolicies"}


def broken(kind: str, name: str, spec: Any, namespace: str = "") -> Broken:
    tree = {"kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}
    found = read(PLURALS[kind], json.dumps(tree).encode(), (namespace, name))
    assert isinstance(found, Broken), "it must be one that cannot be read"
    return found


def shut(*things: Any) -> tuple[set[str], set[str]]:
    """Who cannot be reached from outside and who cannot reach it, by TCP port 80."""
    book = Book()
    book.put(WEB, DB, SPY, *things)
    ends = {one.spec.container: one for one in (WEB, DB, SPY)}
    return (
        {name for name, one in ends.items() if not book.explain(OUTSIDE, one, "tcp", 80).allowed},
        {name for name, one in ends.items() if not book.explain(one, OUTSIDE, "tcp", 80).allowed},
    )


FIELDS = (
    "podSelector",
    "policyTypes",
    "ingress",
    "egress",
    "tier",
    "priority",
    "subject",
    "namespaces",
    "pods",
    "action",
    "from",
)
SHOP, ALL = {"web", "db"}, {"web", "db", "spy"}
APP = {"matchLabels": {"app": "db"}}


@pytest.mark.parametrize(
    ("spec", "ingress", "egress"),
    [
        ({"podSelector": APP, "ingress": [{"from": [{"colour": "red"}]}]}, {"db"}, {"db"}),
        ({"podSelector": APP, "policyTypes": ["Ingress"], "ingress": 7}, {"db"}, set()),
        ({"podSelector": APP, "policyTypes": ["Egress"], "ingress": [{}], "new": 1}, set(), {"db"}),
        ({"podSelector": APP, "policyTypes": ["Sideways"]}, {"db"}, {"db"}),
        ({"podSelector": {"matchLabels": 5}, "policyTypes": ["Ingress"]}, SHOP, set()),
        ({"podSelector": {"newSelector": {}}}, SHOP, SHOP),
        ("nonsense", SHOP, SHOP),
    ],
)
def test_a_network_policy_isolates_whom_it_may_select(spec: Any, ingress: set[str], egress: set[str]) -> None:
    assert shut(broken("NetworkPolicy", "p", spec, "shop")) == (ingress, egress)


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b'{"kind":', b"7"])
@pytest.mark.parametrize(
    ("plural", "key", "closed"),
    [
        ("networkpolicies", ("shop", "p"), SHOP),
        ("clusternetworkpolicies", ("", "p"), ALL),
        ("adminnetworkpolicies", ("", "p"), ALL),
        ("baselineadminnetworkpolicies", ("", "default"), ALL),
        ("namespaces", ("", "red"), {"spy"}),
    ],
)
def test_what_nobody_can_make_anything_of_closes_all_that_it_may_be_about(
    data: bytes, plural: str, key: tuple[str, str], closed: set[str]
) -> None:
    found = read(plural, data, key)
    assert isinstance(found, Broken)
    assert shut(found) == (closed, closed)


UNKNOWN = {"moons": {}}
HEAD = {"tier": "Admin", "priority": 5, "subject": {"pods": {"podSelector": APP}}}
OPEN = {"action": "Accept", "from": [{"namespaces": {}}]}


@pytest.mark.parametrize(
    ("more", "ingress", "egress"),
    [
        ({"egress": [{"action": "Accept", "to": [UNKNOWN]}]}, set(), set()),
        ({"egress": [{"action": "Deny", "to": [UNKNOWN]}]}, set(), {"db"}),
        ({"egress": [{"action": "Pass", "to": [UNKNOWN]}]}, set(), {"db"}),
        ({"ingress": [{"action": "Deny", "from": [{}]}]}, {"db"}, set()),
        ({"ingress": [{"action": "Log", "from": [{"namespaces": {}}]}]}, {"db"}, set()),
        ({"ingress": ["nonsense"]}, {"db"}, set()),
        ({"ingress": {"action": "Accept"}}, {"db"}, set()),
        ({"ingress": [{"action": "Deny", "from": [{"namespaces": {}}], "protocols": [{"quic": {}}]}]}, {"db"}, set()),
        ({"priority": "high"}, {"db"}, {"db"}),
        ({"tier": "Middle"}, {"db"}, {"db"}),
        ({"schedule": "nights", "ingress": [OPEN]}, {"db"}, {"db"}),
        ({"subject": UNKNOWN}, ALL, ALL),
        ({"subject": {}}, ALL, ALL),
    ],
)
def test_a_rule_with_an_unknown_peer_fails_closed(more: Any, ingress: set[str], egress: set[str]) -> None:
    assert shut(broken("ClusterNetworkPolicy", "p", {**HEAD, **more})) == (ingress, egress)


def test_rules_that_can_be_read_keep_their_places() -> None:
    rules = [
        {"action": "Accept", "to": [UNKNOWN]},
        {"action": "Accept", "to": [{"networks": ["192.0.2.1/32"]}]},
        {"action": "Deny", "to": [UNKNOWN]},
    ]
    book = Book()
    book.put(DB, broken("ClusterNetworkPolicy", "p", {**HEAD, "egress": rules}))
    last = book.explain(DB, OUTSIDE, "tcp", 80).steps[-1]
    assert last.allows
    assert last.rule
    assert last.rule.title == "Admin/p egress[1]"
    told = book.explain(DB, Address("192.0.2.2"), "tcp", 80)
    assert not told.allowed
    assert told.steps[-1].rule
    assert told.steps[-1].rule.title == "Admin/p egress[2]"
    assert "policy Admin/p cannot be read (spec.egress[0].to[0].moons: there is no such field" in told.steps[0].text


def test_it_is_before_all_that_could_allow_it() -> None:
    accept = {"tier": "Admin", "priority": 0, "subject": {"namespaces": {}}, "ingress": [OPEN], "egress": []}
    first = codec.from_item({"kind": "ClusterNetworkPolicy", "metadata": {"name": "a"}, "spec": accept})
    book = Book()
    book.put(WEB, DB, first, broken("ClusterNetworkPolicy", "z", {**HEAD, "priority": None, "ingress": [OPEN]}))
    assert not book.explain(WEB, DB, "tcp", 80).allowed
    assert book.explain(DB, WEB, "tcp", 80).allowed is False  # its egress is not known either


def test_what_is_put_right_takes_its_place() -> None:
    book = Book()
    state = done(NodeState(), book.put(WEB, DB, SPY))
    before = dict(state.owners())
    wrong = [
        broken("NetworkPolicy", "p", "?", "shop"),
        broken("Namespace", "red", "?"),
        broken("ClusterNetworkPolicy", "c", "?"),
    ]
    state = done(state, book.put(*wrong))
    right = [
        {"kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "shop"}, "spec": {"ingress": [{}], "podSelector": {}}},
        {"kind": "Namespace", "metadata": {"name": "red"}},
        {"kind": "ClusterNetworkPolicy", "metadata": {"name": "c"}, "spec": HEAD},
    ]
    state = done(state, book.put(*(codec.from_item(one) for one in right)))
    assert book.explain(SPY, DB, "tcp", 80).allowed
    state = done(state, book.put(*wrong))
    assert not book.explain(SPY, DB, "tcp", 80).allowed
    state = done(state, book.drop(*wrong))
    assert dict(state.owners()) == before
    assert book.rules() == {}


TREES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["Deny", "Accept", "Admin", "Ingress", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(sorted(PLURALS.values())), TREES, st.binary(max_size=8))
def test_nothing_that_is_stored_does_harm(plural: str, spec: Any, noise: bytes) -> None:
    key = ("shop", "p") if plural == "networkpolicies" else ("", "default")
    data = json.dumps({"kind": "x", "metadata": {"name": key[1], "namespace": key[0]}, "spec": spec}).encode()
    book = Book()
    state = before = done(NodeState(), book.put(WEB, DB, SPY))
    for one in (data, data[: len(data) // 2], noise):
        found = read(plural, one, key)
        assert isinstance(found, Broken)
        state = done(state, book.put(found))
        assert book.explain(WEB, DB, "tcp", 80).steps
    assert dict(done(state, book.drop(found)).owners()) == dict(before.owners())
