"""What Docker's users say with ``-o`` and ``-p``, as fields of Fairlead's objects."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.api.schema import AnyPort
from fairlead.docker import options
from fairlead.model.address import Address
from fairlead.model.endpoint import Protocol
from fairlead.model.errors import Invalid


def network(**said: str) -> options.NetworkOptions:
    return options.network({"com.docker.network.generic": {key.replace("__", "."): text for key, text in said.items()}})


def binding(host: int, container: int, proto: int = 6, host_ip: str = "", end: int | None = None) -> dict[str, Any]:
    return {"Proto": proto, "IP": "", "Port": container, "HostIP": host_ip, "HostPort": host, "HostPortEnd": end or host}


def ports(*bindings: dict[str, Any], host_binding: str = "") -> options.Ports:
    return options.ports({"com.docker.network.portmap": list(bindings)}, host_binding)


def test_docker_s_names_and_ours() -> None:
    theirs = network(com__docker__network__driver__mtu="1400", com__docker__network__bridge__enable_icc="F")
    ours = options.network({"com.docker.network.generic": {"fairlead.mtu": "1400", "fairlead.inter-container": "false"}})
    assert theirs == ours == ({"mtu": 1400, "interContainer": False}, {}, None)


def test_no_options_at_all() -> None:
    for said in (None, {}, {"com.docker.network.generic": None}, {"com.docker.network.enable_ipv6": True}):
        assert options.network(said) == ({}, {}, None)
    assert options.ports(None) == options.ports({"com.docker.network.portmap": None}) == ((), ())


def test_what_policies_may_know_of_a_container() -> None:
    said = {
        "com.docker.network.portmap": [],
        "fairlead.namespace": "shop",
        "fairlead.label.app": "web",
        "fairlead.label.example.com/tier": "",
        "fairlead.port.http": "80",
        "fairlead.port.dns": "53/udp",
    }
    asked = options.endpoint(said)
    assert asked == ("shop", {"app": "web", "example.com/tier": ""}, {"http": "80/tcp", "dns": "53/udp"})
    assert options.endpoint(None) == options.endpoint({}) == ("default", {}, {})


@pytest.mark.parametrize(
    ("option", "text", "told"),
    [
        ("fairlead.namespace", "Shop", "'Shop' is not a name"),
        ("fairlead.label.app", "a b", "label app: 'a b' must be"),
        ("fairlead.label.", "a", "label key ''"),
        ("fairlead.port.http", "eighty", "'eighty' is not a port and protocol"),
        ("fairlead.port.HTTP", "80", "'HTTP' is not a port's name"),
        ("fairlead.colour", "red", "not an option; there are fairlead.namespace, fairlead.label.KEY, fairlead.port.NAME"),
        ("fairlead.label.app", 5, "expected a string"),
    ],
)
def test_what_they_may_not_names_the_option(option: str, text: Any, told: str) -> None:
    with pytest.raises(Invalid) as refused:
        options.endpoint({option: text})
    assert refused.value.field == f"driver-opt {option}"
    assert told in refused.value.message


def test_the_same_said_twice() -> None:
    both = {"fairlead.mtu": "1400", "com.docker.network.driver.mtu": "1400"}
    assert options.network({"com.docker.network.generic": both}).spec == {"mtu": 1400}
    with pytest.raises(Invalid, match="given twice, differently"):
        options.network({"com.docker.network.generic": both | {"fairlead.mtu": "1500"}})


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"com.docker.network.bridge.enable_icc": "no"}, "'no' is neither true nor false"),
        ({"fairlead.mtu": "1e3"}, "'1e3' is not a number"),
        ({"fairlead.mtu": "\u0661"}, "is not a number"),
        ({"fairlead.bridge": "eth0; rm"}, "is not an interface name"),
        ({"fairlead.network": "../up"}, "is not a name"),
        ({"com.docker.network.bridge.host_binding_ipv4": "::1"}, "is not an IPv4 address"),
        ({"com.docker.network.container_iface_prefix": "a" * 12}, "leaves no room"),
        ({"fairlead.network-name": "x"}, "not an option"),
        ({"fairlead.mtu": 5}, "expected a string"),
    ],
)
def test_a_wrong_option_is_named(said: dict[str, Any], reason: str) -> None:
    with pytest.raises(Invalid, match=r"^-o") as refused:
        options.network({"com.docker.network.generic": said})
    assert reason in str(refused.value)


def test_ports_that_lie_side_by_side_are_one_run() -> None:
    found = ports(*(binding(8000 + at, 80 + at) for at in (2, 0, 1)), binding(9000, 80), binding(8003, 99))
    assert [str(port) for port in found.fixed] == ["8000-8002->80-82/tcp", "8003->99/tcp", "9000->80/tcp"]


def test_protocols_and_addresses_do_not_mix() -> None:
    found = ports(binding(53, 53, 17), binding(53, 53, 6), binding(54, 54, 132), binding(54, 54, 17, "127.0.0.1"))
    assert {(port.protocol, port.host_ip, port.count) for port in found.fixed} == {
        (Protocol.UDP, None, 1),
        (Protocol.TCP, None, 1),
        (Protocol.SCTP, None, 1),
        (Protocol.UDP, Address("127.0.0.1"), 1),
    }


def test_what_is_left_to_us() -> None:
    found = ports(binding(0, 80), binding(7000, 80, end=7005))
    assert found == ((), (AnyPort(container_port=80), AnyPort(container_port=80, first=7000, last=7005)))


def test_where_a_network_publishes() -> None:
    (here, there) = ports(binding(80, 80), binding(81, 80, host_ip="192.0.2.1"), host_binding="127.0.0.1").fixed
    assert (here.host_ip, there.host_ip) == ("127.0.0.1", "192.0.2.1")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (binding(80, 0), "0 is not a port"),
        (binding(70000, 80), "70000 is not a port"),
        (binding(80, 80, proto=1), "protocol 1 has no ports"),
        (binding(80, 80, host_ip="somewhere"), "'somewhere' is not an IP address"),
        (binding(-1, 80), "-1 is not a port"),
    ],
)
def test_a_wrong_port_is_named(said: dict[str, Any], reason: str) -> None:
    with pytest.raises(Invalid, match=r"^-p") as refused:
        ports(said)
    assert reason in str(refused.value)
