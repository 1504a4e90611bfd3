"""Addresses of services as policies see them: judged by whom they lead to, or where no rule allows him, by themselves."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.agent.fronts import Fronts
from fairlead.desired.state import Front, Judgement, NodeState, Peer, Ruling, Span
from fairlead.model import codec
from fairlead.model.address import Address
from fairlead.model.endpoint import Endpoint
from fairlead.policy.book import Book, Delta
from fairlead.policy.compile import verdict
from fairlead.service.directory import Directory
from tests.unit.policy_world import endpoint

VIP = Address("10.96.0.10")
CLIENT = endpoint("client", "shop", {"app": "client"}, ("10.0.0.9",))
WEB = endpoint("web", "shop", {"app": "web"}, ("10.0.0.1",))
DB = endpoint("db", "shop", {"app": "db"}, ("10.0.0.2",))
TCP, UDP = 6, 17


def service(name: str = "web", *, status: Any = None, **spec: Any) -> Any:
    tree = {
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"clusterIP": VIP, "ports": [{"port": 80, "targetPort": 8080}], **spec},
    }
    return codec.from_item({**tree, "status": status or {}})


def egress(*rules: Any, name: str = "out") -> Any:
    spec = {"podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Egress"], "egress": list(rules)}
    return codec.from_item({"kind": "NetworkPolicy", "metadata": {"name": name, "namespace": "shop"}, "spec": spec})


def admin(*rules: Any) -> Any:
    spec = {"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, "egress": list(rules)}
    return codec.from_item({"kind": "ClusterNetworkPolicy", "metadata": {"name": "all"}, "spec": spec})


def to(**labels: str) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": labels}}


class World:
    """A book, services, and the rows that follow."""

    def __init__(self, *things: Any) -> None:
        self.book, self.directory, self.state = Book("n1"), Directory(), NodeState()
        self.fronts = Fronts(self.directory)
        self.put(CLIENT, WEB, DB, *things)

    def put(self, *things: Any) -> None:
        for one in things:
            if isinstance(one, Endpoint) or one.plural != "services":
                self.take(self.book.put(one))
            else:
                self.directory.put(one)
                self.fronts.touch(one.key)
        self.take(self.fronts.settle(self.book))

    def drop(self, one: Any) -> None:
        self.directory.drop(one)
        self.fronts.touch(one.key)
        self.take(self.fronts.settle(self.book))

    def take(self, delta: Delta) -> None:
        for owner, rows in (*delta.steps, *delta.after):
            self.state = self.state.replace(owner, rows)

    @property
    def shown(self) -> set[tuple[str, int, int]]:
        return {row.key for row in self.state.table(Front).values()}

    def at_link(self, port: int = 80, protocol: int = TCP, vip: str = VIP) -> Span:
        """What is said of the address of the service where nobody knows yet whom it leads to."""
        peer = self.state.table(Peer)[f"{vip}/32"].peer
        policy = self.book.subject(CLIENT)[1]
        judgements = self.state.table(Judgement)
        judged = judgements.get((policy, peer)) or judgements[policy, 0]
        return verdict(self.state.table(Ruling)[judged.ruling].spans, protocol, port)

    def allowed(self, to: Any = WEB, port: int = 8080, front: tuple[Address, int] = (VIP, 80)) -> bool:
        return self.book.explain(CLIENT, to, "tcp", port, front).allowed


def test_ports_of_a_service_are_decided_later_and_all_others_as_those_of_an_address_that_nobody_has() -> None:
    it = World(service(), egress({"to": [to(app="web")]}))
    assert it.shown == {(VIP, TCP, 80)}
    assert it.at_link().later
    assert not it.at_link().allow
    for port, protocol in ((81, TCP), (79, TCP), (80, UDP), (8080, TCP)):
        said = it.at_link(port, protocol)
        assert not said.later
        assert not said.allow
    it.put(egress({"ports": [{"port": 70, "endPort": 90}]}))
    assert [it.at_link(port).allow for port in (69, 70, 79, 81, 90, 91)] == [False, True, True, True, True, False]
    assert it.at_link().later
    it.drop(service())
    assert it.shown == set()
    assert f"{VIP}/32" not in it.state.table(Peer)


@pytest.mark.parametrize(
    ("rule", "web", "db"),
    [
        ({"to": [to(app="web")]}, True, False),
        ({"to": [to(app="web")], "ports": [{"port": 8080}]}, True, False),
        ({"to": [to(app="web")], "ports": [{"port": 80}]}, False, False),
        ({"to": [to(app="web")], "ports": [{"port": "http"}]}, True, False),
        ({"to": [to(app="web")], "ports": [{"port": 8000, "endPort": 9000}]}, True, False),
        ({"ports": [{"port": 8080}]}, True, True),
        ({"ports": [{"port": 80}]}, False, False),
        ({}, True, True),
        ({"to": [{"ipBlock": {"cidr": f"{VIP}/32"}}]}, True, True),
        ({"to": [{"ipBlock": {"cidr": f"{VIP}/32"}}], "ports": [{"port": 80}]}, True, True),
        ({"to": [{"ipBlock": {"cidr": f"{VIP}/32"}}], "ports": [{"port": 8080}]}, False, False),
        ({"to": [{"ipBlock": {"cidr": "10.96.0.0/12", "except": [f"{VIP}/32"]}}]}, False, False),
        ({"to": [{"ipBlock": {"cidr": "10.0.0.2/32"}}]}, False, True),
    ],
)
def test_whom_a_service_leads_to_counts_or_its_own_address(rule: Any, web: bool, db: bool) -> None:
    http = endpoint("web", "shop", {"app": "web"}, ("10.0.0.1",), {"http": "8080/tcp"})
    it = World(http, service(), egress(rule))
    assert (it.allowed(http), it.allowed(DB)) == (web, db)
    assert it.at_link().later, "whatever the rules, it is decided later"


def test_a_rule_that_denies_comes_before_the_address_of_the_service() -> None:
    block = {"to": [{"ipBlock": {"cidr": f"{VIP}/32"}}]}
    it = World(
        service(), egress(block), admin({"action": "Deny", "to": [{"pods": {"podSelector": {"matchLabels": {"app": "db"}}}}]})
    )
    assert (it.allowed(WEB), it.allowed(DB)) == (True, False)
    it.put(admin({"action": "Deny", "to": [{"networks": [f"{VIP}/32"]}]}))
    assert not it.allowed(WEB), "nor does the address count that a rule denies"
    it.put(admin({"action": "Accept", "to": [{"namespaces": {}}]}, {"action": "Deny", "to": [{"networks": ["0.0.0.0/0"]}]}))
    assert it.allowed(DB), "who is reached is accepted before"


def test_the_story_names_the_rule_that_decides() -> None:
    it = World(service(), egress({"to": [to(app="web")]}, {"to": [{"ipBlock": {"cidr": f"{VIP}/32"}}]}))
    story = [one.text for one in it.book.explain(CLIENT, DB, "tcp", 8080, (VIP, 80)).steps if one.direction == "egress"]
    assert story[-1] == f"allowed by rule 1 of shop/out: it means {VIP}, the address of the service, at tcp port 80"
    it.put(egress({"to": [to(app="web")]}))
    story = [one.text for one in it.book.explain(CLIENT, DB, "tcp", 8080, (VIP, 80)).steps if one.direction == "egress"]
    assert story[-1] == f"nor does any rule allow {VIP}, the address of the service, at tcp port 80"


def test_every_address_from_which_a_node_leads_on_is_one() -> None:
    ingress = [{"ip": "192.0.2.8"}, {"ip": "192.0.2.9", "ipMode": "Proxy"}, {"hostname": "lb.example"}]
    balanced = service(type="LoadBalancer", externalIPs=["192.0.2.7"], status={"loadBalancer": {"ingress": ingress}})
    assert {address for address, _, _ in World(balanced).shown} == {VIP, "192.0.2.7", "192.0.2.8"}
    dual = service(
        clusterIPs=[VIP, "fd00:96::a"], ports=[{"name": "a", "port": 53, "protocol": "UDP"}, {"name": "b", "port": 53}]
    )
    assert World(dual).shown == {(one, protocol, 53) for one in (VIP, "fd00:96::a") for protocol in (TCP, UDP)}
    for none in (service(clusterIP="None"), service(type="ExternalName", externalName="a.example"), service(ports=[])):
        assert World(none).shown == set()


def test_services_may_share_an_address_and_a_container_has_its_own() -> None:
    shared = (
        {"clusterIP": "10.96.0.1", "externalIPs": ["192.0.2.7"], "ports": [{"port": 80}]},
        {"clusterIP": "10.96.0.2", "externalIPs": ["192.0.2.7"], "ports": [{"port": 80}, {"port": 81, "name": "b"}]},
    )
    one = service("one", **shared[0])
    two = service("two", **{**shared[1], "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]})
    it = World(one, two, egress())
    assert {key for key in it.shown if key[0] == "192.0.2.7"} == {("192.0.2.7", TCP, 80), ("192.0.2.7", TCP, 81)}
    it.drop(two)
    assert {key for key in it.shown if key[0] == "192.0.2.7"} == {("192.0.2.7", TCP, 80)}
    holder = endpoint("holder", "shop", {"app": "web"}, ("192.0.2.7",))
    it.put(holder)
    assert it.shown == {("10.96.0.1", TCP, 80)}
    assert not it.at_link(vip="192.0.2.7").later
    it.take(it.book.drop(holder))
    assert it.at_link(vip="192.0.2.7").later


def test_nothing_is_noted_twice() -> None:
    it = World(service())
    assert not it.fronts.stale
    it.directory.put(service())
    it.fronts.touch(service().key)
    assert it.fronts.settle(it.book) == Delta()
