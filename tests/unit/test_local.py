"""Who reaches whom the short way, as rows and as what the programs read."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.datapath.ebpf.entries import address_key, describe, entries, interface_of, network_number
from fairlead.datapath.ebpf.layout import LOCAL
from fairlead.desired import build, names
from fairlead.desired.state import Guard, Guest, Local, Subject
from fairlead.model import codec
from fairlead.model.address import Address, InterfaceName, Mac
from fairlead.model.endpoint import Endpoint
from fairlead.model.network import Network

HOST = InterfaceName("flv000000000001")


def network(**spec: Any) -> Network:
    subnets = (
        [{"cidr": "10.50.0.0/24", "gateway": "10.50.0.1"}] if spec.get("driver") != "routed" else [{"cidr": "10.50.0.0/24"}]
    )
    found = codec.from_tree({"metadata": {"name": "blue"}, "spec": {"subnets": subnets, **spec}}, Network)
    assert isinstance(found, Network)
    return found


def endpoint(**spec: Any) -> Endpoint:
    tree = {
        "container": "web",
        "interface": "eth0",
        "network": "blue",
        "sandbox": {"path": "/run/netns/web", "cookie": 1},
        "addresses": ["10.50.0.2/24"],
        "mtu": 1500,
        **spec,
    }
    found = codec.from_tree({"metadata": {"name": "web:eth0"}, "spec": tree}, Endpoint)
    assert isinstance(found, Endpoint)
    return found


def local(of: Endpoint, on: Network) -> Local | None:
    return next((row for row in build.endpoint_rows(of, on) if isinstance(row, Local)), None)


def test_a_port_of_a_bridge() -> None:
    row = local(endpoint(), network())
    assert row
    assert (row.network, row.mtu, row.addresses, row.gateway) == ("blue", 1500, ("10.50.0.2",), None)


def test_a_routed_link_has_a_gateway() -> None:
    row = local(endpoint(addresses=["10.50.0.2/32"]), network(driver="routed"))
    assert row
    assert row.gateway == names.veth_mac("web:eth0")


@pytest.mark.parametrize(
    ("spec", "on"),
    [
        pytest.param({"bandwidth": {"ingressRate": 10**9}}, {}, id="a limit on what it receives"),
        pytest.param({"bandwidth": {"egressRate": 10**9}}, {}, id="a limit on what it sends"),
        pytest.param({}, {"antiSpoofing": False}, id="others may speak for it"),
        pytest.param({}, {"interContainer": False}, id="nobody may reach it"),
        pytest.param({"handover": True, "sandbox": {"path": ""}}, {}, id="nobody knows where it is"),
    ],
)
def test_who_is_reached_the_long_way(spec: dict[str, Any], on: dict[str, Any]) -> None:
    rows = build.endpoint_rows(endpoint(**spec), network(**on))
    assert not [row for row in rows if isinstance(row, Local)]
    assert [row.network for row in rows if isinstance(row, Guard)] == [""], "and reaches others so"


def test_who_was_handed_over_is_reached_once_it_is_known_where() -> None:
    assert local(endpoint(handover=True, sandbox={"path": "/var/run/docker/netns/1"}), network())


def test_rows_of_links_that_there_are_not_mean_nothing() -> None:
    rows = (Subject(host=HOST, ingress=1), Guard(host=HOST, mac=Mac("02:00:00:00:00:01"), addresses=(Address("10.0.0.1"),)))
    assert not any(entries(rows, {}).values())


def test_entries_say_which_link_they_are_about() -> None:
    mine = Address("fd00::1")
    rows = (
        Subject(host=HOST),
        Guard(host=HOST, mac=Mac("02:00:00:00:00:01"), addresses=(mine,)),
        Guest(host=HOST, endpoint="web:eth1", addresses=(Address("10.9.0.1"),)),
        Local(host=HOST, network="blue", mac=Mac("02:00:00:00:00:01"), mtu=1500, addresses=(mine,)),
    )
    found = entries(rows, {HOST: 7})
    about = {
        (describe(name, key), interface_of(name, key, value)) for name, held in found.items() for key, value in held.items()
    }
    assert about == {
        ("endpoints interface 7", 7),
        ("guards interface 7", 7),
        ("owned fd00::1 on interface 7", 7),
        ("owned 10.9.0.1 on interface 7", 7),
        ("locals fd00::1", 7),
    }
    assert LOCAL.unpack(found["locals"][address_key(mine)])[0] == network_number("blue") != network_number("red")
