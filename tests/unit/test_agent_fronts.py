"""Services as policies see them: as those behind them, where these are alike and have the same ports."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.agent.fronts import NOWHERE, Fronts
from fairlead.model import codec
from fairlead.model.address import Address, Prefix
from fairlead.model.endpoint import Endpoint
from fairlead.policy.book import Book
from fairlead.service.directory import Directory
from tests.unit.policy_world import endpoint

PODS = Prefix("10.0.0.0/16")
VIP = Address("10.96.0.10")


def service(port: int = 53, **spec: Any) -> Any:
    tree = {
        "kind": "Service",
        "metadata": {"name": "dns", "namespace": "kube"},
        "spec": {"clusterIP": VIP, "ports": [{"port": port, "protocol": "UDP"}], **spec},
    }
    return codec.from_item(tree)


def slices(*addresses: str, name: str = "dns-1", port: int = 53) -> Any:
    return codec.from_item(
        {
            "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": "kube", "labels": {"kubernetes.io/service-name": "dns"}},
            "addressType": "IPv4",
            "ports": [{"port": port, "protocol": "UDP"}],
            "endpoints": [{"addresses": [one]} for one in addresses],
        }
    )


def pod(name: str, address: str, **labels: str) -> Endpoint:
    return endpoint(name, "kube", {"app": "dns", **labels}, (address,))


def looks(**labels: str) -> Any:
    """A policy that looks at these labels."""
    spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": {"matchLabels": labels}}]}]}
    return codec.from_item(
        {"kind": "NetworkPolicy", "metadata": {"name": f"p{len(labels)}", "namespace": "kube"}, "spec": spec}
    )


class World:
    """A book and what is in it, and the fronts beside."""

    def __init__(self, *things: Any) -> None:
        self.book, self.directory = Book("n1"), Directory()
        self.fronts = Fronts(self.directory, PODS.holds)
        self.put(*things)

    def put(self, *things: Any) -> None:
        for one in things:
            if isinstance(one, Endpoint):
                self.fronts.moved(self.book.endpoints.get(one.name))
                self.book.put(one)
                self.fronts.moved(one)
            elif one.plural in {"services", "endpointslices"}:
                self.directory.put(one)
                self.fronts.touch(("kube", "dns"))
            else:
                self.book.put(one)

    def settle(self) -> list[bool]:
        """Have it be true; of each that changed, whether it is gone."""
        told = []
        for front, gone in self.fronts.settle(self.book):
            self.book.drop(front) if gone else self.book.put(front)
            told.append(gone)
        return told

    @property
    def front(self) -> Endpoint | None:
        self.settle()
        return self.book.at(VIP)


def test_a_service_is_judged_as_those_behind_it() -> None:
    it = World(service(), slices("10.0.0.1", "10.0.0.2"), pod("a", "10.0.0.1"), pod("b", "10.0.0.2"))
    assert it.front
    assert (it.front.metadata.namespace, it.front.metadata.labels) == ("kube", {"app": "dns"})
    assert it.front.spec.node == NOWHERE
    assert it.settle() == [], "nothing is told twice"
    client = endpoint("client", "kube", {}, ("10.0.0.9",))
    it.put(client, looks(app="dns"))
    it.settle()
    assert it.book.explain(client, VIP, "udp", 53).allowed
    it.put(looks(app="other"))
    assert not it.book.explain(client, VIP, "udp", 53).allowed


@pytest.mark.parametrize(
    "things",
    [
        (service(5353), slices("10.0.0.1"), pod("a", "10.0.0.1")),
        (service(clusterIP="None"), slices("10.0.0.1"), pod("a", "10.0.0.1")),
        (service(), slices("10.0.0.1", "192.0.2.1"), pod("a", "10.0.0.1")),
        (service(), slices("10.0.0.1"), slices("192.0.2.1", name="dns-2"), pod("a", "10.0.0.1")),
        (service(), slices("10.0.0.1")),
        (service(),),
        (slices("10.0.0.1"), pod("a", "10.0.0.1")),
    ],
    ids=["another port", "headless", "no container", "none in another slice", "not known yet", "nobody", "no service"],
)
def test_or_as_an_address_that_nobody_has(things: Any) -> None:
    assert World(*things).front is None


def test_who_is_not_known_yet_changes_nothing_and_then_counts() -> None:
    it = World(service(), slices("10.0.0.1", "10.0.0.2"), pod("a", "10.0.0.1"), looks(app="dns", tier="x"))
    assert it.front
    it.put(pod("b", "10.0.0.2", tier="x"))
    assert it.settle() == [True], "they are not alike"
    it.put(pod("b", "10.0.0.2"))
    assert it.settle() == [False]
    it.put(slices("10.0.0.1", "10.0.0.2", "10.0.0.3"), pod("c", "10.0.0.3", tier="x"), slices("10.0.0.1", "10.0.0.2"))
    assert it.settle() == []


def test_what_policies_do_not_look_at_is_no_difference_until_they_do() -> None:
    it = World(service(), slices("10.0.0.1", "10.0.0.2"), looks(app="dns"))
    it.put(pod("a", "10.0.0.1", hash="1"), pod("b", "10.0.0.2", hash="2"))
    assert it.front, "as during a rollout"
    policy = looks(app="dns", hash="1")
    it.put(policy)
    assert it.settle() == [True]
    it.book.drop(policy)
    assert it.settle() == [False]


def test_what_is_gone_is_told() -> None:
    it = World(service(), slices("10.0.0.1"), pod("a", "10.0.0.1"))
    assert it.settle() == [False]
    it.directory.drop(service())
    it.fronts.touch(("kube", "dns"))
    assert it.settle() == [True]
    it.put(service())
    assert it.settle() == [False]
    it.put(service(5353))
    assert it.settle() == [True]
