"""Endpoints: published ports and when they collide, bandwidth, routes, and what reaches a container's resolv.conf."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.model import codec
from fairlead.model.address import Address
from fairlead.model.endpoint import Bandwidth, Dns, Endpoint, Protocol, PublishedPort, Route, endpoint_name
from fairlead.model.errors import Invalid

HOSTS = [None, "0.0.0.0", "::", "192.0.2.1", "192.0.2.2", "2001:db8::1"]  # noqa: S104  # a published port's host address


@st.composite
def ports(draw: st.DrawFn) -> PublishedPort:
    first, count = draw(st.integers(1, 30)), draw(st.integers(1, 10))
    host = draw(st.sampled_from(HOSTS))
    return PublishedPort(
        host_port=first,
        container_port=80,
        count=count,
        protocol=draw(st.sampled_from(Protocol)),
        host_ip=Address(host) if host else None,
    )


def packets(port: PublishedPort) -> set[tuple[str, str, int]]:
    """Every packet the port would take on a host with these addresses: the meaning of collides, spelt out."""
    own = [Address(host) for host in HOSTS[3:] if host]
    wild = port.host_ip is None or port.host_ip.ip.is_unspecified
    at = [one for one in own if port.serves(one.family) and (wild or one == port.host_ip)]
    return {(str(port.protocol), one, number) for one in at for number in range(port.host_port, port.last + 1)}


@given(ports(), ports())
def test_ports_collide_when_one_packet_could_match_both(one: PublishedPort, other: PublishedPort) -> None:
    assert one.collides(other) == other.collides(one) == bool(packets(one) & packets(other))


@pytest.mark.parametrize(
    ("port", "field", "told"),
    [
        ({"hostPort": 0, "containerPort": 80}, "hostPort", "1 to 65535"),
        ({"hostPort": 80, "containerPort": 65536}, "containerPort", "1 to 65535"),
        ({"hostPort": -1, "containerPort": 80}, "hostPort", "1 to 65535"),
        ({"hostPort": 65535, "containerPort": 80, "count": 2}, "hostPort", "past 65535"),
        ({"hostPort": 80, "containerPort": 65000, "count": 1000}, "containerPort", "past 65535"),
        ({"hostPort": 80, "containerPort": 80, "count": 0}, "count", "at least 1"),
        ({"hostPort": 80, "containerPort": 80, "hostIp": "224.0.0.1"}, "hostIp", "multicast"),
        ({"hostPort": 80, "containerPort": 80, "hostIp": "localhost"}, "hostIp", "not an IP address"),
        ({"hostPort": 80, "containerPort": 80, "protocol": "TCP"}, "protocol", "one of tcp, udp, sctp"),
        ({"hostPort": "80", "containerPort": 80}, "hostPort", "expected a whole number, not a string"),
        ({"hostPort": 80}, "containerPort", "is required"),
        ({"hostPort": 80, "containerPort": 80, "port": 80}, "port", "hostPort, containerPort, protocol, count, hostIp"),
    ],
)
def test_a_port_is_refused_with_the_field(port: dict[str, Any], field: str, told: str) -> None:
    with pytest.raises(Invalid) as refused:
        codec.from_tree(port, PublishedPort, field="ports[3]")
    assert refused.value.field == f"ports[3].{field}"
    assert told in refused.value.message


@pytest.mark.parametrize(
    ("port", "text"),
    [
        (PublishedPort(host_port=8080, container_port=80), "8080->80/tcp"),
        (PublishedPort(host_port=1, container_port=101, count=65435), "1-65435->101-65535/tcp"),
        (
            PublishedPort(host_port=53, container_port=53, protocol=Protocol.UDP, host_ip=Address("::1")),
            "[::1]:53->53/udp",
        ),
        (PublishedPort(host_port=53, container_port=53, count=2, host_ip=Address("192.0.2.1")), "192.0.2.1:53-54->53-54/tcp"),
    ],
)
def test_a_port_as_text(port: PublishedPort, text: str) -> None:
    assert str(port) == text


@pytest.mark.parametrize(
    ("limits", "field", "told"),
    [
        ({"ingressRate": -1}, "ingress", "cannot be negative"),
        ({"egressBurst": 8000}, "egressBurst", "needs egressRate"),
        ({"ingressRate": 7}, "ingressRate", "smallest, 8"),
        ({"egressRate": 8, "egressBurst": 2**40}, "egressBurst", "more than the kernel can hold"),
        ({"ingressRate": 1.5}, "ingressRate", "expected a whole number"),
        ({"rate": 1}, "rate", "ingressRate, ingressBurst, egressRate, egressBurst"),
    ],
)
def test_bandwidth_is_what_the_kernel_can_hold(limits: dict[str, Any], field: str, told: str) -> None:
    with pytest.raises(Invalid) as refused:
        codec.from_tree(limits, Bandwidth, field="bandwidth")
    assert refused.value.field == f"bandwidth.{field}"
    assert told in refused.value.message
    assert codec.from_tree({"ingressRate": 8, "ingressBurst": 8 * (2**32 - 1)}, Bandwidth).ingress_rate == 8


@pytest.mark.parametrize(
    ("route", "field", "told"),
    [
        ({"dst": "default"}, "dst", "no prefix length"),
        ({"dst": "10.0.0.1/8"}, "dst", "the network is 10.0.0.0/8"),
        ({"dst": "0.0.0.0/0", "gw": "fd00::1"}, "gw", "one address family"),
        ({"dst": "0.0.0.0/0", "gw": "here"}, "gw", "not an IP address"),
    ],
)
def test_a_route_is_refused_with_the_field(route: dict[str, Any], field: str, told: str) -> None:
    with pytest.raises(Invalid) as refused:
        codec.from_tree(route, Route, field="routes[0]")
    assert refused.value.field == f"routes[0].{field}"
    assert told in refused.value.message


@pytest.mark.parametrize(
    ("dns", "field"),
    [
        ({"nameservers": ["10.0.0.53", "ns.example"]}, "nameservers[1]"),
        ({"nameservers": ["fe80::1%eth0 x"]}, "nameservers"),
        ({"domain": "example\nnameserver 192.0.2.66"}, "domain"),
        ({"search": ["a", "b c"]}, "search"),
        ({"search": [""]}, "search"),
        ({"options": ["ndots:5", "x" * 256]}, "options"),
    ],
)
def test_nothing_breaks_out_of_a_line_of_resolv_conf(dns: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        codec.from_tree(dns, Dns, field="dns")
    assert refused.value.field == f"dns.{field}"


def test_resolvers_that_are_right_are_taken() -> None:
    taken = {"nameservers": ["10.0.0.53", "fe80::1%eth0"], "domain": "a.example", "search": ["b"], "options": ["ndots:5"]}
    assert codec.to_tree(codec.from_tree(taken, Dns)) == taken


def test_an_endpoint_is_known_by_its_container_and_interface() -> None:
    name = endpoint_name("0123456789abcdef", "eth0")
    spec = {"container": "0123456789abcdef", "interface": "eth0", "network": "default", "sandbox": {"path": "/run/netns/x"}}
    endpoint = codec.from_tree({"kind": "Endpoint", "metadata": {"name": name}, "spec": spec}, Endpoint)
    assert (endpoint.name, endpoint.container, endpoint.display) == (name, "0123456789abcdef", "0123456789ab")
    named = codec.from_tree({"kind": "Endpoint", "metadata": {"name": name}, "spec": {**spec, "display": "web"}}, Endpoint)
    assert named.display == "web"
