"""From what was asked to one attach request a network."""

from __future__ import annotations

import pytest

from fairlead.cli.container import order
from fairlead.model.address import Address, ContainerID, InterfaceName, Mac
from fairlead.model.endpoint import Bandwidth, PublishedPort
from fairlead.model.errors import Invalid
from fairlead.model.network import Driver
from tests.fake_agent import network

TARGET = order.Target(ContainerID("c1"), "/run/netns/c1", "web")
FRONT = network("front", "10.20.0.0/24", "fd20::/64")
BACK = network("back", "10.30.0.0/24")
INNER = network("inner", "10.40.0.0/24", internal=True)
PORT = PublishedPort(host_port=8080, container_port=80)


def ask(*networks: object, **wish: object) -> tuple[order.Attach, ...]:
    names = [InterfaceName(f"eth{at}") for at in range(len(networks))]
    return order.attaches(TARGET, order.Wish(**wish), networks, names)  # type: ignore[arg-type]


def test_one_network() -> None:
    (one,) = ask(FRONT, labels={"a": "b"}, namespace="shop", dns=(Address("9.9.9.9"),))
    assert (one.container, one.path, one.display, one.network, one.interface) == ("c1", "/run/netns/c1", "web", "front", "eth0")
    assert (one.gateway, one.labels, one.namespace, one.dns.nameservers) == (True, {"a": "b"}, "shop", ("9.9.9.9",))


def test_the_first_leads_outside_and_gets_the_ports() -> None:
    first, second = ask(FRONT, BACK, ports=(PORT,))
    assert (first.gateway, first.ports) == (True, (PORT,))
    assert (second.gateway, second.ports) == (False, ())


def test_an_internal_network_is_passed_over() -> None:
    first, second = ask(INNER, BACK, ports=(PORT,))
    assert (first.network, first.gateway, first.ports) == ("inner", False, ())
    assert (second.network, second.gateway, second.ports) == ("back", True, (PORT,))


def test_internal_networks_alone_have_no_way_out_and_publish_nothing() -> None:
    assert [one.gateway for one in ask(INNER)] == [False]
    with pytest.raises(Invalid, match="publish: nothing outside reaches inner"):
        ask(INNER, ports=(PORT,))


def test_static_addresses_find_their_network() -> None:
    addresses = (Address("10.30.0.9"), Address("fd20::9"), Address("10.20.0.9"))
    front, back = ask(FRONT, BACK, addresses=addresses)
    assert front.addresses == ("fd20::9", "10.20.0.9")
    assert back.addresses == ("10.30.0.9",)


def test_addresses_that_cannot_be_had() -> None:
    with pytest.raises(
        Invalid, match=r"ip: 10.9.0.1 is in no subnet .* front has 10.20.0.0/24, fd20::/64; back has 10.30.0.0/24"
    ):
        ask(FRONT, BACK, addresses=(Address("10.9.0.1"),))
    with pytest.raises(Invalid, match=r"ip: 10.30.0.1 and 10.30.0.2 are both IPv4 on back"):
        ask(FRONT, BACK, addresses=(Address("10.30.0.1"), Address("10.30.0.2")))


def test_the_mac_is_the_first_s_and_limits_are_everyone_s() -> None:
    limit = Bandwidth(egress_rate=8000)
    first, second = ask(FRONT, BACK, mac=Mac("02:00:00:00:00:01"), bandwidth=limit)
    assert (first.mac, second.mac) == ("02:00:00:00:00:01", None)
    assert first.bandwidth == second.bandwidth == limit


def test_a_network_twice() -> None:
    with pytest.raises(Invalid, match="network: front is named twice"):
        ask(FRONT, FRONT)


def test_host_and_none_stand_alone() -> None:
    assert order.driver(["front", "back"]) is Driver.BRIDGE
    assert order.driver(["host"]) is Driver.HOST
    assert order.driver(["none"]) is Driver.NONE
    for names in (["host", "front"], ["front", "none"], ["host", "none"]):
        with pytest.raises(Invalid, match="cannot be combined"):
            order.driver(names)


@pytest.mark.parametrize("kind", [Driver.HOST, Driver.NONE])
@pytest.mark.parametrize(
    ("field", "wish"),
    [
        ("ip", {"addresses": (Address("10.0.0.1"),)}),
        ("mac", {"mac": Mac("02:00:00:00:00:01")}),
        ("publish", {"ports": (PORT,)}),
        ("ingress-rate", {"bandwidth": Bandwidth(ingress_rate=8000)}),
        ("egress-rate", {"bandwidth": Bandwidth(egress_rate=8000)}),
    ],
)
def test_what_needs_a_network_of_its_own(kind: Driver, field: str, wish: dict[str, object]) -> None:
    with pytest.raises(Invalid) as caught:
        order.check_alone(kind, order.Wish(**wish))  # type: ignore[arg-type]
    assert caught.value.field == field


def test_a_name_server_without_network() -> None:
    order.check_alone(Driver.NONE, order.Wish(dns=(Address("9.9.9.9"),)))
    with pytest.raises(Invalid, match="dns"):
        order.check_alone(Driver.HOST, order.Wish(dns=(Address("9.9.9.9"),)))
