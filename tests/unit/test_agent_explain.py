"""Questions about policies, from words to the book: who is meant, which port, and what the kernel is asked beside."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from fairlead.agent.explain import Town, explain
from fairlead.agent.here import here, labelled
from fairlead.api.schema import Explained
from fairlead.datapath.base import Answer, Question
from fairlead.model import codec, errors
from fairlead.model.address import Address
from fairlead.model.endpoint import Endpoint
from fairlead.policy.book import Book
from tests.unit.policy_world import endpoint

WEB = endpoint("web", "shop", {"app": "web"}, ("10.0.0.1", "fd00::1"), {"http": "8080/tcp", "dns": "53/udp"})
DB = endpoint("db", "shop", {"app": "db"}, ("10.0.0.2",))
TWIN = endpoint("twin", "red", {}, ("10.0.0.3",))
HOSTED = endpoint("hosted", "shop")
LONELY = endpoint("lonely", "shop")
HERE = here("n1", [Address("192.0.2.1"), Address("2001:db8::1")], None)
FAR = here("n2", [Address("192.0.2.2")], None)


def _far(name: str, address: str) -> Endpoint:
    one = endpoint(name, "shop", {}, (address,))
    return replace(one, metadata=replace(one.metadata, name=f"{one.name}@n2"), spec=replace(one.spec, node="n2"))


AFAR, NEAR, THERE = _far("afar", "10.0.1.1"), endpoint("both", "shop", {}, ("10.0.0.4",)), _far("both", "10.0.1.2")
ALL = [WEB, DB, TWIN, HOSTED, LONELY, AFAR, NEAR, THERE]
DENY = codec.from_item({"kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "shop"}, "spec": {"podSelector": {}}})


class Kernel:
    """Answers as it is told, and remembers what it was asked."""

    def __init__(self, allowed: bool) -> None:
        self.allowed = allowed
        self.asked: list[Question] = []

    async def ask(self, question: Question) -> Answer:
        self.asked.append(question)
        return Answer(self.allowed, "" if self.allowed else "denied by policy", 0)


def ask(kernel: Kernel | None = None, *things: Any, **query: str) -> Explained:
    book = Book("n1")
    book.put(*ALL, HERE, FAR, *things)
    town = Town(ALL, HERE, {"n1": HERE, "n2": FAR}, lambda one: one is HOSTED)
    words = {name.rstrip("_"): word for name, word in query.items()}
    return asyncio.run(explain(book, town, words, (kernel or Kernel(allowed=True)).ask))


def test_a_ports_name_is_looked_up_where_it_is_asked() -> None:
    kernel = Kernel(allowed=True)
    ask(kernel, from_="db", to="web", port="http")
    assert {(one.protocol, one.port) for one in kernel.asked} == {(6, 8080)}
    kernel = Kernel(allowed=True)
    ask(kernel, from_="db", to="shop/web", port="dns")
    assert {(one.protocol, one.port) for one in kernel.asked} == {(17, 53)}


def test_without_a_port_the_kernel_is_not_asked() -> None:
    kernel = Kernel(allowed=True)
    told = ask(kernel, DENY, from_="twin", to="web")
    assert (told.allowed, told.steps[-1].text, kernel.asked) == (False, "red/twin to shop/web: nothing", [])


def test_the_node_and_who_shares_its_network_is_an_address_of_the_others_family() -> None:
    for who in ("host", "n1", "hosted"):
        told = ask(None, DENY, from_=who, to="web", port="80")
        assert told.allowed
        assert told.steps[-1].text == "192.0.2.1 to shop/web, tcp port 80: allowed"
    assert ask(None, from_="host", to="fd00::9", port="80").steps[-1].text.startswith("2001:db8::1 to fd00::9")


def test_what_the_node_sends_is_not_asked_of_the_kernel() -> None:
    kernel = Kernel(allowed=False)
    assert ask(kernel, DENY, from_="host", to="web", port="80").kernel == ()
    assert kernel.asked == []


def test_of_containers_of_other_nodes_it_is_told_what_these_enforce() -> None:
    told = ask(None, DENY, from_="web", to="afar", port="80")
    assert told.steps[-1].text == "shop/web to shop/afar, tcp port 80: denied by ingress"
    assert ask(None, DENY, from_="n2", to="afar", port="80").allowed
    assert not ask(None, DENY, from_="n1", to="afar", port="80").allowed
    assert not ask(None, DENY, from_="n2", to="web", port="80").allowed
    with pytest.raises(errors.Conflict, match=r"several containers: shop/both, shop/both on n2 \(both\); say which"):
        ask(None, from_="both", to="web")


def test_the_kernel_of_another_node_is_named_and_how_it_is_asked() -> None:
    kernel = Kernel(allowed=True)
    told = ask(kernel, DENY, from_="web", to="afar", port="80")
    assert [(one.sends, one.destination) for one in kernel.asked] == [(True, "10.0.1.1")]
    (there,) = told.elsewhere
    assert (there.node, there.direction) == ("n2", "ingress")
    assert there.query == {"from": "10.0.0.1", "to": "10.0.1.1", "protocol": "tcp", "port": "80"}
    assert ask(None, from_="afar", to="web", protocol="icmp").elsewhere[0].query["protocol"] == "icmp"
    assert ask(None, from_="afar", to="web").elsewhere == ()
    assert ask(None, from_="db", to="web", port="80").elsewhere == ()


def test_a_kernel_that_says_otherwise_does_not_agree() -> None:
    told = ask(Kernel(allowed=True), DENY, from_="twin", to="web", port="80")
    assert [(one.direction, one.allowed, one.agrees) for one in told.kernel] == [
        ("egress", True, True),
        ("ingress", True, False),
    ]


@pytest.mark.parametrize(
    ("query", "field", "told"),
    [
        ({"from_": "", "to": "web"}, "from", "say who"),
        ({"from_": "nobody", "to": "web"}, "from", "there is no container 'nobody'"),
        (
            {"from_": "db", "to": "web", "port": "https"},
            "port",
            "there is no port https there; there are: http=8080/tcp,",
        ),
        ({"from_": "web", "to": "db", "port": "http"}, "port", "there is no port http there; there are: none"),
        ({"from_": "db", "to": "web", "port": "dns", "protocol": "tcp"}, "port", "there is no tcp port dns there"),
        ({"from_": "db", "to": "web", "port": "70000"}, "port", "neither a port from 1 to 65535 nor a port's name"),
        ({"from_": "db", "to": "web", "protocol": "tcp"}, "port", "say which port of tcp"),
        ({"from_": "db", "to": "web", "protocol": "quic", "port": "80"}, "protocol", "is not one of tcp, udp, sctp, icmp"),
        ({"from_": "lonely", "to": "web"}, "from", "lonely has no address on network net"),
        ({"from_": "db", "to": "web", "colour": "red"}, "colour", "there is no such word"),
    ],
)
def test_what_cannot_be_answered_names_the_word(query: dict[str, str], field: str, told: str) -> None:
    with pytest.raises(errors.Problem) as refused:
        ask(None, **query)
    assert refused.value.field == field
    assert told in refused.value.message


def test_this_node_is_what_people_wrote_of_it_at_the_hosts_addresses() -> None:
    wrote = codec.from_item({"kind": "Node", "metadata": {"name": "n1", "labels": {"zone": "a"}}})
    one = here("n1", [Address("192.0.2.9")], wrote)  # type: ignore[arg-type]  # it is a Node
    assert one.labels == {"kubernetes.io/hostname": "n1", "zone": "a"}
    assert one.addresses == ("192.0.2.9",)
    assert labelled(one).metadata.labels == one.labels
