"""Who may send as whom: from networks and endpoints to rows, from rows to set elements, from elements to what nft reads."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fairlead.datapath.filter import layout
from fairlead.datapath.filter.elements import elements
from fairlead.datapath.filter.filter import TABLES
from fairlead.datapath.filter.spoofing import SPOOFING
from fairlead.desired import build, names
from fairlead.desired.state import Guard, Guest, Rows
from fairlead.model import codec
from fairlead.model.address import Mac
from fairlead.model.endpoint import Endpoint
from fairlead.model.network import Network
from tests.tree import ROOT

PAGE = ROOT / "docs" / "spoofing.md"
PORT = names.veth("web:eth0")


def network(name: str = "blue", **spec: Any) -> Network:
    tree = {"kind": "Network", "metadata": {"name": name}, "spec": {"subnets": [{"cidr": "10.50.0.0/24"}], **spec}}
    return codec.from_tree(tree, Network)


def endpoint(*addresses: str, interface: str = "eth0", container: str = "web", **spec: Any) -> Endpoint:
    told = {"container": container, "interface": interface, "network": "blue", "sandbox": {"path": f"/run/netns/{container}"}}
    tree = {
        "kind": "Endpoint",
        "metadata": {"name": f"{container}:{interface}"},
        "spec": {**told, "addresses": addresses, **spec},
    }
    return codec.from_tree(tree, Endpoint)


def shown(rows: Rows) -> dict[str, list[str]]:
    """The elements of the bridge table as nft prints them."""
    found = elements(rows)
    return {
        name: sorted(layout.text(SPOOFING.sets[name], one) for one in found[name]) for name in found if name in SPOOFING.sets
    }


def test_both_families() -> None:
    rows = build.endpoint_rows(endpoint("10.50.0.2/24", "fd50::2/64"), network())
    assert shown(rows) == {
        "mac": [f'"{PORT}" . 0a:58:0a:32:00:02'],
        "own4": [f'"{PORT}" . 10.50.0.2'],
        "own6": [f'"{PORT}" . fd50::2', f'"{PORT}" . fe80::858:aff:fe32:2'],
        "target6": [
            f'"{PORT}" . 0xfd50000000000000 . 0x0000000000000002',
            f'"{PORT}" . 0xfe80000000000000 . 0x08580afffe320002',
        ],
        "option6": [f'"{PORT}" . 0x010a580a320002'],
    }


def test_ipv4_alone_has_no_link_local_address() -> None:
    rows = build.endpoint_rows(endpoint("10.50.0.2/24", mac="02:00:00:00:00:07"), network())
    assert shown(rows) == {"mac": [f'"{PORT}" . 02:00:00:00:00:07'], "own4": [f'"{PORT}" . 10.50.0.2']}


def test_without_it_the_port_alone_is_named() -> None:
    rows = build.endpoint_rows(endpoint("10.50.0.2/24", "fd50::2/64"), network(antiSpoofing=False))
    assert shown(rows) == {"spoofing": [f'"{PORT}"']}


@pytest.mark.parametrize("of", [network(driver="host", subnets=[]), network(driver="none", subnets=[])])
def test_what_has_no_port_has_no_guard(of: Network) -> None:
    assert not [row for row in build.endpoint_rows(endpoint(), of) if isinstance(row, Guard)]
    chained = endpoint("10.50.0.2/24", chained=True, host="veth0")
    assert not [row for row in build.endpoint_rows(chained, network()) if isinstance(row, Guard)]


def test_a_container_has_its_addresses_on_its_other_ports_too() -> None:
    blue, red = network(), network("red", subnets=[{"cidr": "fd51::/64"}])
    pairs = [
        (endpoint("10.50.0.2/24"), blue),
        (endpoint("fd51::2/64", interface="eth1", network="red"), red),
        (endpoint("10.50.0.9/24", container="other"), blue),
    ]
    state = build.build({"blue": blue, "red": red}, [one for one, _ in pairs], 1500)
    second = names.veth("web:eth1")
    assert {row.host: row.addresses for row in state.table(Guest).values()} == {PORT: ("fd51::2",), second: ("10.50.0.2",)}
    own = shown((*state.owned("web:eth0"), *state.owned("web:eth1")))
    assert own["own4"] == sorted([f'"{PORT}" . 10.50.0.2', f'"{second}" . 10.50.0.2'])
    assert f'"{PORT}" . fd51::2' in own["own6"]
    assert not any(f'"{PORT}" . fe80' in line for line in own["own6"]), "a link-local address belongs to one link"
    assert len(own["target6"]) == 2, "and is answered for there"


def test_a_namespace_that_is_not_known_yet_is_shared_by_nobody() -> None:
    waiting = [endpoint("10.50.0.2/24", sandbox={"path": ""}), endpoint("10.50.0.3/24", container="b", sandbox={"path": ""})]
    assert not build.build({"blue": network()}, waiting, 1500).table(Guest)


def test_every_set_is_declared_once_and_as_its_layout_says() -> None:
    declared = [name for table in TABLES for name in re.findall(r"^    (?:set|map) (\w+) ", table.body, re.MULTILINE)]
    assert declared == [name for table in TABLES for name in table.sets]
    for table in TABLES:
        assert len(table.sets) == len(set(table.sets)) == len(re.findall(r"^    (?:set|map) ", table.body, re.MULTILINE))
        assert all(table.sets[name] == other.sets[name] for other in TABLES for name in table.sets if name in other.sets)


def test_the_page_names_every_kind_of_drop() -> None:
    counters = re.findall(r"^    counter (\w+) ", SPOOFING.body, re.MULTILINE)
    assert re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE) == counters


def test_a_table_is_replaced_with_its_elements_in_one_text() -> None:
    found = elements(build.endpoint_rows(endpoint("10.50.0.2/24"), network()))
    lines = SPOOFING.text(found).splitlines()
    assert lines[:3] == ["add table bridge fairlead", "delete table bridge fairlead", "table bridge fairlead {"]
    assert lines[-1] == f'add element bridge fairlead own4 {{ "{PORT}" . 10.50.0.2 }}'


@pytest.mark.parametrize(
    ("mac", "address"),
    [
        ("0a:58:0a:32:00:02", "fe80::858:aff:fe32:2"),
        ("02:00:00:00:00:01", "fe80::ff:fe00:1"),
        ("00:11:22:33:44:55", "fe80::211:22ff:fe33:4455"),
    ],
)
def test_the_link_local_address_of_a_mac(mac: str, address: str) -> None:
    assert Mac(mac).link_local == address
