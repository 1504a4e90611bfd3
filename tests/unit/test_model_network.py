"""Networks and their subnets: what is refused before anything is touched, and what is filled in."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.model import codec
from fairlead.model.address import Address, Prefix
from fairlead.model.errors import Invalid
from fairlead.model.network import Network, Subnet


def network(**spec: Any) -> Network:
    return codec.from_tree({"kind": "Network", "metadata": {"name": "blue"}, "spec": spec}, Network)


def subnet(cidr: str, **more: Any) -> Subnet:
    return network(subnets=[{"cidr": cidr, **more}]).spec.subnets[0]


@pytest.mark.parametrize(
    ("spec", "field", "told"),
    [
        ({"subnets": [{"cidr": "10.0.0.0/31"}]}, "subnets[0].cidr", "at least a /30"),
        ({"subnets": [{"cidr": "fd00::/127"}]}, "subnets[0].cidr", "a /126"),
        ({"subnets": [{"cidr": "8.0.0.0/7"}]}, "subnets[0].cidr", "at least /8"),
        ({"subnets": [{"cidr": "127.1.0.0/16"}]}, "subnets[0].cidr", "loopback"),
        ({"subnets": [{"cidr": "169.254.7.0/24"}]}, "subnets[0].cidr", "link-local"),
        ({"subnets": [{"cidr": "0.1.0.0/16"}]}, "subnets[0].cidr", "this host"),
        ({"subnets": [{"cidr": "224.0.0.0/24"}]}, "subnets[0].cidr", "multicast"),
        ({"subnets": [{"cidr": "255.255.255.0/24"}]}, "subnets[0].cidr", "broadcast"),
        ({"subnets": [{"cidr": "ff02::/64"}]}, "subnets[0].cidr", "multicast"),
        ({"subnets": [{"cidr": "fe00::/8"}]}, "subnets[0].cidr", "link-local"),
        ({"subnets": [{"cidr": "::/64"}]}, "subnets[0].cidr", "loopback"),
        ({"subnets": [{"cidr": "::ffff:a00:0/112"}]}, "subnets[0].cidr", "IPv4 written as IPv6"),
        ({"subnets": [{"cidr": "10.0.0.0/24"}, {"cidr": "10.0.0.128/25"}]}, "subnets[1]", "overlaps 10.0.0.0/24"),
        (
            {"subnets": [{"cidr": "10.0.0.128/25"}, {"cidr": "fd00::/64"}, {"cidr": "10.0.0.0/8"}]},
            "subnets[2]",
            "10.0.0.128/25",
        ),
        ({"subnets": [{"cidr": "10.0.0.0/24", "gateway": "10.0.1.1"}]}, "subnets[0].gateway", "not in 10.0.0.0/24"),
        ({"subnets": [{"cidr": "10.0.0.0/24", "gateway": "10.0.0.255"}]}, "subnets[0].gateway", "broadcast"),
        ({"subnets": [{"cidr": "10.0.0.0/24", "gateway": "10.0.0.0"}]}, "subnets[0].gateway", "the network's own"),
        ({"subnets": [{"cidr": "10.0.0.0/24", "gateway": "fd00::1"}]}, "subnets[0].gateway", "not in"),
        (
            {"subnets": [{"cidr": "10.0.0.0/24", "ranges": [{"start": "10.0.0.9", "end": "10.0.1.1"}]}]},
            "subnets[0].ranges[0]",
            "10.0.1.1 is not in",
        ),
        (
            {"subnets": [{"cidr": "10.0.0.0/24", "ranges": [{"start": "10.0.0.9", "end": "10.0.0.8"}]}]},
            "subnets[0].ranges[0]",
            "comes after",
        ),
        (
            {"subnets": [{"cidr": "10.0.0.0/24", "ranges": [{"start": "10.0.0.9", "end": "fd00::8"}]}]},
            "subnets[0].ranges[0]",
            "one address family",
        ),
        ({"subnets": [{"cidr": "10.0.0.0/24", "exclude": ["10.0.0.1", "10.1.0.0/24"]}]}, "subnets[0].exclude[1]", "not in"),
        ({"subnets": [{"cidr": "10.0.0.0/24", "exclude": ["x"]}]}, "subnets[0].exclude[0]", "not an IP address"),
        ({"mtu": 575}, "mtu", "between 576 and 65535"),
        ({"mtu": 65536}, "mtu", "between 576 and 65535"),
        ({"mtu": 0}, "mtu", "between"),
        ({"mtu": -1}, "mtu", "between"),
        ({"mtu": 1279, "subnets": [{"cidr": "fd00::/64"}]}, "mtu", "between 1280 and 65535"),
        ({"driver": "host", "subnets": [{"cidr": "10.0.0.0/24"}]}, "subnets", "driver host has none"),
        ({"driver": "none", "mtu": 1500}, "mtu", "driver none has none"),
        ({"driver": "host", "bridge": "br0"}, "bridge", "driver host has none"),
        ({"driver": "vlan"}, "driver", "one of bridge, routed, vxlan, host-gw, bgp"),
        ({"bridge": "a" * 16}, "bridge", "1 to 15 bytes"),
        ({"dns": ["10.0.0.53", "dns.example"]}, "dns[1]", "not an IP address"),
    ],
)
def test_refused_with_the_field_and_what_would_be_right(spec: dict[str, Any], field: str, told: str) -> None:
    with pytest.raises(Invalid) as refused:
        network(**spec)
    assert refused.value.field == f"spec.{field}"
    assert told in refused.value.message


@pytest.mark.parametrize("name", ["", "Blue", "a b", "-", "a" * 64])
def test_a_network_needs_a_name(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        codec.from_tree({"kind": "Network", "metadata": {"name": name}}, Network)
    assert refused.value.field == "metadata.name"


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({"-": "a"}, "'-'"),
        ({"a/b/c": ""}, "a/b/c"),
        ({"app": "a b"}, "app"),
        ({"app": "a" * 64}, "at most 63"),
        ({"": ""}, "key"),
    ],
)
def test_labels_are_those_of_kubernetes(labels: dict[str, str], told: str) -> None:
    with pytest.raises(Invalid) as refused:
        codec.from_tree({"kind": "Network", "metadata": {"name": "a", "labels": labels}}, Network)
    assert refused.value.field == "metadata.labels"
    assert told in refused.value.message
    codec.from_tree({"kind": "Network", "metadata": {"name": "a", "labels": {"example.com/a_b": "C.d-e", "x": ""}}}, Network)


@pytest.mark.parametrize(
    ("cidr", "router"), [("10.88.0.0/24", "10.88.0.1"), ("fd00:88::/64", "fd00:88::1"), ("10.0.0.4/30", "10.0.0.5")]
)
def test_the_gateway_is_the_first_usable_address(cidr: str, router: str) -> None:
    assert subnet(cidr).router == router
    last = str(Address(subnet(cidr).cidr.net[2]))
    assert subnet(cidr, gateway=last).router == last


def test_families_come_in_the_order_of_the_subnets() -> None:
    spec = network(subnets=[{"cidr": "fd00::/64"}, {"cidr": "10.0.0.0/24"}, {"cidr": "10.0.1.0/24"}]).spec
    assert spec.families == (6, 4)
    assert network().spec.families == ()


@given(st.lists(st.tuples(st.integers(0, 63), st.integers(26, 30)), min_size=1, max_size=8))
def test_subnets_that_overlap_are_found_in_any_order(drawn: list[tuple[int, int]]) -> None:
    cidrs = [Prefix(ip_network((f"10.0.0.{4 * block}", length), strict=False)) for block, length in drawn]
    overlapping = {f"spec.subnets[{at}]" for at, one in enumerate(cidrs) if any(one.overlaps(other) for other in cidrs[:at])}
    refused = ""
    try:
        network(subnets=[{"cidr": str(one)} for one in cidrs])
    except Invalid as problem:
        refused = problem.field
    assert refused in overlapping if overlapping else not refused
