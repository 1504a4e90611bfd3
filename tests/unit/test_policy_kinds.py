"""Tiers, named ports and nodes by example: what they mean, what they are called, and what they cost in classes and sets."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.desired.state import Judgement, NodeState, Peer
from fairlead.model import codec
from fairlead.model.address import Address
from fairlead.model.endpoint import Endpoint
from fairlead.policy.book import Book
from tests.unit.policy_world import done, endpoint

WEB = endpoint("web", "shop", {"app": "web"}, ("10.0.0.1",), {"http": "80/tcp"})
DB = endpoint("db", "shop", {"app": "db"}, ("10.0.0.2",), {"sql": "5432/tcp", "http": "8080/tcp"})
SPY = endpoint("spy", "red", {"app": "web"}, ("10.0.0.3",), {"http": "80/udp"})
ALL = {"namespaces": {}}


def cluster(name: str, spec: dict[str, Any], kind: str = "ClusterNetworkPolicy") -> Any:
    fixed = {"ClusterNetworkPolicy": {"tier": "Admin", "priority": 5}, "AdminNetworkPolicy": {"priority": 5}}
    whole = {**fixed.get(kind, {}), "subject": ALL, **spec}
    return codec.from_item({"kind": kind, "metadata": {"name": name}, "spec": whole})


def network(name: str, spec: dict[str, Any]) -> Any:
    return codec.from_item({"kind": "NetworkPolicy", "metadata": {"name": name, "namespace": "shop"}, "spec": spec})


def node(name: str, address: str, labels: dict[str, str] | None = None) -> Any:
    status = {"addresses": [{"type": "InternalIP", "address": address}]}
    return codec.from_item({"kind": "Node", "metadata": {"name": name, "labels": labels or {}}, "status": status})


def egress(action: str, *peers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"action": action, "to": list(peers or (ALL,)), **more}


def ingress(action: str, *peers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"action": action, "from": list(peers or (ALL,)), **more}


def told(book: Book, source: Endpoint | Address, to: Endpoint | Address, port: int = 80, protocol: str = "tcp") -> list[str]:
    return [
        f"{'?' if one.allows is None else '+-'[not one.allows]} {one.text}"
        for one in book.explain(source, to, protocol, port).steps
    ]


def test_each_layer_is_narrated_in_its_order_up_to_the_rule_that_decides() -> None:
    book = Book()
    elsewhere = {"namespaces": {"matchLabels": {"a": "b"}}}
    book.put(
        WEB,
        DB,
        cluster("guard", {"ingress": [ingress("Deny", elsewhere), ingress("Pass", name="ours")]}),
        network("closed", {"podSelector": {"matchLabels": {"app": "db"}}}),
        cluster("open", {"tier": "Baseline", "ingress": [ingress("Accept")]}),
    )  # fmt: skip
    never_asked = "? policy Baseline/open selects shop/db"
    assert told(book, WEB, DB) == [
        "+ shop/web is not isolated: no policy selects it for egress",
        "? policy Admin/guard selects shop/db",
        "? rule 0 does not match: none of its peers is shop/web",
        '? rule 1 "ours" matches and passes on',
        "? policy shop/closed selects shop/db and allows no ingress",
        "- shop/db is isolated and no rule allows it",
        "- shop/web to shop/db, tcp port 80: denied by ingress",
    ]
    assert never_asked not in told(book, WEB, DB, 0, "")
    assert told(book, DB, WEB)[-2:] == ["+ allowed by rule 0 of Baseline/open", "+ shop/db to shop/web, tcp port 80: allowed"]


def test_without_a_port_it_is_told_which_there_are() -> None:
    book = Book()
    book.put(
        WEB,
        DB,
        cluster(
            "guard", {"egress": [egress("Deny", protocols=[{"tcp": {"destinationPort": {"range": {"start": 1, "end": 100}}}}])]}
        ),
        network("db", {"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"ports": [{"port": 80}, {"port": "sql"}]}]}),
    )
    assert [one.text for one in book.explain(WEB, DB).steps] == [
        "policy Admin/guard selects shop/web",
        "rule 0 denies tcp 1-100",
        "shop/web allows everything but tcp 1-100",
        "policy shop/db selects shop/db",
        "rule 0 allows tcp 80, tcp sql (tcp 5432)",
        "shop/db allows tcp 80,5432",
        "shop/web to shop/db: tcp 5432",
    ]
    assert not book.explain(Address("192.0.2.1"), DB, "tcp", 443).allowed
    assert book.explain(DB, DB).steps[-1].text == "shop/db to shop/db: everything"


def test_a_denial_names_its_rule_everywhere() -> None:
    book = Book()
    book.put(WEB, DB, cluster("deny-db", {"egress": [egress("Pass", {"nodes": {}}), egress("Deny", name="no db")]}))
    last = book.explain(WEB, DB, "tcp", 80).steps[-1]
    assert last.rule
    assert last.rule.title == 'Admin/deny-db egress[1] "no db"'
    assert last.rule in book.rules().values()


def test_what_no_rule_decides_passes_and_isolates_nobody() -> None:
    book = Book()
    book.put(WEB, DB, cluster("some", {"ingress": [ingress("Deny", protocols=[{"udp": {"destinationPort": {"number": 53}}}])]}))
    assert told(book, WEB, DB)[-2] == "+ no rule decides about shop/db: it is not isolated"
    assert not book.explain(WEB, DB, "udp", 53).allowed
    assert book.explain(Address("192.0.2.9"), DB, "udp", 53).allowed


def test_of_one_priority_the_first_by_name_is_asked_first() -> None:
    for order in ("ab", "ba"):
        book = Book()
        book.put(WEB, DB, *(cluster(name, {"ingress": [ingress({"a": "Accept", "b": "Deny"}[name])]}) for name in order))
        assert told(book, WEB, DB)[-2] == "+ allowed by rule 0 of Admin/a"


def test_the_older_kinds_are_the_new_one_in_other_words() -> None:
    book = Book()
    book.put(
        WEB,
        DB,
        cluster("same", {"ingress": [ingress("Allow", ports=[{"portNumber": {"port": 80}}])]}, "AdminNetworkPolicy"),
        cluster("same", {"ingress": [ingress("Deny", protocols=[{"tcp": {"destinationPort": {"number": 80}}}])]}),
        cluster("default", {"ingress": [ingress("Deny")]}, "BaselineAdminNetworkPolicy"),
        cluster("default", {"tier": "Baseline", "priority": 1000, "ingress": [ingress("Accept", ports81)]}),
    )
    assert told(book, WEB, DB, 80)[-2] == "+ allowed by rule 0 of ANP/same"
    assert told(book, WEB, DB, 81)[-2] == "+ allowed by rule 0 of Baseline/default"
    assert told(book, WEB, WEB, 81)[-1].startswith("+")
    assert told(book, SPY, DB, 82)[-1].startswith("+") is False


ports81 = {
    "pods": {
        "podSelector": {"matchLabels": {"app": "web"}},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}},
    }
}


def test_domain_names_match_nobody_and_say_so() -> None:
    policy = cluster(
        "names", {"egress": [egress("Accept", {"domainNames": ["example.com"]}), egress("Deny", {"networks": ["0.0.0.0/0"]})]}
    )
    book = Book()
    book.put(WEB, policy)
    assert told(book, WEB, Address("192.0.2.1"))[-1].startswith("-")
    assert list(policy.warnings()) == ["spec.egress[0]: domain names are not resolved here: they match nobody"]


def test_a_name_is_resolved_by_whoever_is_asked() -> None:
    book = Book()
    http = [{"port": "http"}]
    book.put(
        WEB,
        DB,
        SPY,
        network("p", {"ingress": [{"ports": http}], "egress": [{"ports": http}], "policyTypes": ["Ingress", "Egress"]}),
    )
    assert {
        (to.spec.container, port)
        for to in (WEB, DB)
        for port in (80, 8080)
        if book.explain(WEB if to is DB else DB, to, "tcp", port).allowed
    } == {
        ("web", 80),
        ("db", 8080),
    }
    assert not book.explain(WEB, SPY, "udp", 80).allowed  # its http is not TCP
    assert not book.explain(WEB, Address("192.0.2.1"), "tcp", 80).allowed  # nobody there has names
    assert told(book, SPY, DB, 80)[2] == "? rule 0 does not match: it allows tcp http (tcp 8080), not tcp port 80"
    assert told(book, WEB, SPY, 80)[1] == "? rule 0 does not match: it allows tcp http (which red/spy has not), not tcp port 80"


def test_a_clusters_named_port_has_the_protocol_that_the_container_gives_it() -> None:
    book = Book()
    book.put(WEB, DB, SPY, cluster("p", {"egress": [egress("Deny", protocols=[{"destinationNamedPort": "http"}])]}))
    denied = [
        (to.spec.container, protocol, port)
        for to in (DB, SPY)
        for protocol in ("tcp", "udp")
        for port in (80, 8080)
        if not book.explain(WEB, to, protocol, port).allowed
    ]
    assert denied == [("db", "tcp", 8080), ("spy", "udp", 80)]


def classes(*policies: Any) -> tuple[int, int]:
    """How many classes of peers there are under these policies, and how many sets."""
    ends = [
        endpoint(f"c{at}", "shop", {"app": "web", "serial": str(at)}, (f"10.0.1.{at}",), {"http": f"{8000 + at}/tcp"})
        for at in range(20)
    ]
    state = done(NodeState(), Book().put(*policies, *ends))
    return len({row.peer for row in state.table(Peer).values()}), len({row.policy for row in state.table(Judgement).values()})


@pytest.mark.parametrize(
    ("spec", "counted"),
    [
        ({"ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 80}]}]}, (1, 1)),
        ({"ingress": [{"ports": [{"port": "other"}]}]}, (1, 1)),
        ({"ingress": [{"ports": [{"port": "http"}]}]}, (1, 20)),
        ({"egress": [{"ports": [{"port": "http"}]}], "policyTypes": ["Egress"]}, (20, 1)),
        ({"podSelector": {"matchExpressions": [{"key": "serial", "operator": "Exists"}]}}, (1, 1)),
        ({"podSelector": {"matchExpressions": [{"key": "serial", "operator": "In", "values": ["3", "4"]}]}}, (3, 1)),
    ],
)
def test_only_what_policies_look_at_tells_containers_apart(spec: dict[str, Any], counted: tuple[int, int]) -> None:
    assert classes(network("p", spec)) == counted


def test_a_rule_for_every_container_costs_no_row_for_each() -> None:
    ends = [endpoint(f"c{at}", "shop", {"app": f"a{at}"}, (f"10.0.1.{at}",)) for at in range(50)]
    each = [network(f"p{at}", {"podSelector": {"matchLabels": {"app": f"a{at}"}}}) for at in range(50)]
    deny = cluster("deny", {"tier": "Baseline", "ingress": [ingress("Deny")]})
    state = done(NodeState(), Book().put(deny, *each, *ends))
    assert len(state.table(Judgement)) <= 3 * 50
    assert {str(row.prefix) for row in state.table(Peer).values()} >= {"0.0.0.0/0", "::/0"}


def test_what_policies_stop_looking_at_is_forgotten() -> None:
    book = Book()
    ends = [endpoint(f"c{at}", "shop", {"serial": str(at)}, (f"10.0.1.{at}",)) for at in range(3)]
    state = before = done(NodeState(), book.put(*ends))
    policy = network("p", {"ingress": [{"from": [{"podSelector": {"matchLabels": {"serial": "1"}}}]}]})
    state = done(state, book.put(policy))
    assert len({row.peer for row in state.table(Peer).values()}) == 2
    assert dict(done(state, book.drop(policy)).owners()) == dict(before.owners())


def test_nodes_are_known_while_a_policy_speaks_of_them() -> None:
    book = Book()
    state = done(NodeState(), book.put(WEB, node("n1", "192.0.2.1", {"zone": "a"}), node("n2", "192.0.2.2", {"serial": "7"})))
    assert not state.table(Peer).get("192.0.2.1/32")
    policy = cluster("p", {"egress": [egress("Deny", {"nodes": {"matchLabels": {"zone": "a"}}})]})
    state = done(state, book.put(policy))
    assert {"192.0.2.1/32", "192.0.2.2/32"} <= state.table(Peer).keys()
    assert told(book, WEB, Address("192.0.2.1"))[2] == "- denied by rule 0 of Admin/p"
    assert told(book, WEB, Address("192.0.2.2"))[-1].startswith("+")
    state = done(state, book.put(node("n2", "192.0.2.3", {"zone": "a"})))
    assert told(book, WEB, Address("192.0.2.3"))[-1].startswith("-")
    state = done(state, book.drop(policy))
    assert not state.table(Peer).get("192.0.2.1/32")


def test_the_own_node_reaches_its_containers_and_is_a_peer_like_others_to_them() -> None:
    book = Book("n1")
    book.put(
        WEB,
        node("n1", "192.0.2.1"),
        node("n2", "192.0.2.2"),
        cluster("p", {"ingress": [ingress("Deny")], "egress": [egress("Deny", {"nodes": {}})]}),
    )
    book.put(network("closed", {}))
    assert told(book, Address("192.0.2.1"), WEB)[-2] == "+ 192.0.2.1 is the node of shop/web, which always reaches it"
    assert told(book, Address("192.0.2.2"), WEB)[-2] == "- shop/web is isolated and no rule allows it"
    assert told(book, WEB, Address("192.0.2.1"))[-1].startswith("-")
