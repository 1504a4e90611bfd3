"""BGPConfigurations, BGPPeers, BGPFilters and Secrets: what is right is taken, and what is wrong is named by its field."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from msgspec import inspect

from fairlead.model import codec
from fairlead.model.bgp import BGPConfiguration, BGPConfigurationSpec, BGPPeer, BGPPeerSpec, Community, PeerAddress
from fairlead.model.bgpfilter import BGPFilter
from fairlead.model.errors import Invalid
from fairlead.model.meta import Object, kind
from fairlead.model.secret import Sealed, Secret

EXAMPLES = """
apiVersion: fairlead.dev/v1
kind: BGPConfiguration
metadata: {name: default}
spec:
  asNumber: 4200000001
  nodeToNodeMesh: false
  nodeMeshPassword: {secretKeyRef: {name: bgp, key: mesh}}
  listenPort: 1790
  holdTime: 30
  gracefulRestart: 0
  bfd: {interval: 100, multiplier: 5}
  routerID: hash
  communities: [{name: wide, value: "4200000001:1:2"}]
  prefixAdvertisements: [{cidr: 10.1.0.0/16, communities: [wide, "64512:7"]}]
  serviceClusterIPs: [{cidr: 10.96.0.0/12}]
  serviceExternalIPs: [{cidr: 203.0.113.0/24}]
  serviceLoadBalancerIPs: [{cidr: "2001:db8:1::/64"}]
---
apiVersion: fairlead.dev/v1
kind: BGPConfiguration
metadata: {name: node.worker-1}
spec: {asNumber: 64513, routerID: 192.0.2.1}
---
apiVersion: fairlead.dev/v1
kind: BGPPeer
metadata: {name: tor}
spec:
  nodeSelector: {matchLabels: {rack: a}}
  peerIP: "[2001:db8::1]:1790"
  asNumber: 65001
  families: [IPv6]
  password: {secretKeyRef: {name: bgp, key: tor, namespace: net}}
  sourceAddress: 2001:db8::5
  keepOriginalNextHop: true
  holdTime: 9
  maxRestartTime: 60
  ttlSecurity: 2
  reachableBy: 2001:db8::9
  numAllowedLocalASNumbers: 1
  bfd: {}
  filters: [edge]
---
apiVersion: fairlead.dev/v1
kind: BGPPeer
metadata: {name: link}
spec: {node: worker-1, peerIP: "fe80::1", interface: eth0, asNumber: 65001, extendedNextHop: true}
---
apiVersion: fairlead.dev/v1
kind: BGPPeer
metadata: {name: reflectors}
spec: {nodeSelector: {}, peerSelector: {matchLabels: {reflector: "true"}}}
---
apiVersion: fairlead.dev/v1
kind: BGPFilter
metadata: {name: edge}
spec:
  importV4:
  - {action: Accept, matchOperator: In, cidr: 10.0.0.0/8, prefixLength: {min: 16, max: 24}, interface: "eth*"}
  - {action: Reject, source: RemotePeers}
  exportV6: [{action: Reject, matchOperator: NotEqual, cidr: "::/0"}]
---
apiVersion: v1
kind: Secret
metadata: {name: bgp, namespace: net}
data: {tor: czNjcmV0}
stringData: {mesh: "plain"}
"""


def test_examples_are_read_and_written_again() -> None:
    objects = codec.from_yaml(EXAMPLES)
    assert codec.from_yaml(codec.to_yaml(objects)) == objects
    assert [type(one) for one in objects].count(BGPPeer) == 3


def test_the_examples_of_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs/bgp.md").read_text()
    objects = [one for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) for one in codec.from_yaml(block)]
    assert {kind(one) for one in objects} == {"Network", "BGPConfiguration", "BGPPeer", "BGPFilter", "Secret"}
    fields = {field.encode_name for of in (BGPPeerSpec, BGPConfigurationSpec) for field in inspect.type_info(of).fields}  # type: ignore[union-attr]
    assert {field for field in fields if f"`{field}`" not in page} == set(), "each field is told of"


def wrong(of: str, spec: dict[str, Any], field: str, message: str, name: str = "default") -> None:
    tree = {"kind": of, "metadata": {"name": name}, "spec": spec}
    with pytest.raises(Invalid) as caught:
        codec.from_item(tree)
    assert (caught.value.field, caught.value.message[: len(message)]) == (field, message)


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"asNumber": 0}, "spec.asNumber", "0 is nobody's; take one of 64512 to 65534"),
        ({"asNumber": 23456}, "spec.asNumber", "23456 is a stand-in"),
        ({"asNumber": 2**32}, "spec.asNumber", "expected a whole number <= 4294967295"),
        ({"asNumber": "65000"}, "spec.asNumber", "expected a whole number, not a string"),
        ({"listenPort": 0}, "spec.listenPort", "expected a whole number >= 1"),
        ({"holdTime": 2}, "spec.holdTime", "expected a whole number >= 3"),
        ({"gracefulRestart": 4096}, "spec.gracefulRestart", "expected a whole number <= 4095"),
        ({"routerID": "2001:db8::1"}, "spec.routerID", "'2001:db8::1' is neither an IPv4 address nor the word hash"),
        ({"routerID": "192.0.2.1"}, "spec.routerID", "each node needs its own; set 192.0.2.1 in node.NAME"),
        ({"bfd": {"interval": 5}}, "spec.bfd.interval", "expected a whole number >= 10"),
        (
            {"communities": [{"name": "a", "value": "64512:70000"}]},
            "spec.communities[0].value",
            "'64512:70000' is not a community",
        ),
        ({"communities": [{"name": "a", "value": "1:1"}] * 2}, "spec.communities[1].name", "a is there twice"),
        (
            {"prefixAdvertisements": [{"cidr": "10.0.0.0/8", "communities": ["b"]}]},
            "spec.prefixAdvertisements[0].communities[0]",
            "'b' is neither a community such as 64512:100 nor a name; communities names none",
        ),
        ({"serviceClusterIPs": ["10.96.0.0/12"]}, "spec.serviceClusterIPs[0]", "expected a mapping, not a string"),
        ({"nodeToNodeMeshEnabled": True}, "spec.nodeToNodeMeshEnabled", "there is no such field; there are asNumber"),
    ],
)
def test_configurations(spec: dict[str, Any], field: str, message: str) -> None:
    wrong("BGPConfiguration", spec, field, message)


def test_names_of_configurations() -> None:
    wrong("BGPConfiguration", {}, "metadata.name", "'mine' must be default, or node.NAME", name="mine")
    wrong("BGPConfiguration", {}, "metadata.name", "'node.' must be default", name="node.")
    password = {"nodeMeshPassword": {"secretKeyRef": {"name": "a", "key": "b"}}}
    wrong("BGPConfiguration", password, "spec.nodeMeshPassword", "the mesh has one for all; set it in default", name="node.a")


ROUTER: dict[str, Any] = {"peerIP": "192.0.2.1", "asNumber": 65001}
NODES: dict[str, Any] = {"peerSelector": {}}


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({}, "spec.peerIP", "is required, unless peerSelector says"),
        ({"peerIP": "192.0.2.1"}, "spec.asNumber", "is required: the AS of the router at peerIP"),
        ({**ROUTER, "peerSelector": {}}, "spec.peerSelector", "cannot stand beside peerIP"),
        ({**ROUTER, "node": "a", "nodeSelector": {}}, "spec.nodeSelector", "cannot stand beside node"),
        ({**ROUTER, "peerIP": "router"}, "spec.peerIP", "'router' is not a peer's address; write it like 192.0.2.1"),
        ({**ROUTER, "peerIP": "192.0.2.1:70000"}, "spec.peerIP", "'192.0.2.1:70000': 70000 is not a port"),
        ({**ROUTER, "peerIP": "[192.0.2.1"}, "spec.peerIP", "'[192.0.2.1' is not a peer's address"),
        ({**ROUTER, "peerIP": "127.0.0.1"}, "spec.peerIP", "127.0.0.1 is no address that a neighbour can have"),
        ({**ROUTER, "asNumber": 65535}, "spec.asNumber", "65535 is reserved"),
        ({**ROUTER, "peerIP": "fe80::1"}, "spec.interface", "is required: fe80::1 is link-local"),
        ({**ROUTER, "interface": "eth0"}, "spec.interface", "is for link-local addresses; 192.0.2.1 is none"),
        (
            {**ROUTER, "peerIP": "fe80::1", "interface": "eth0", "multihop": 2},
            "spec.multihop",
            "a link-local address is one hop",
        ),
        ({**ROUTER, "ttlSecurity": 1, "multihop": 2}, "spec.multihop", "cannot stand beside ttlSecurity"),
        ({**ROUTER, "ttlSecurity": 255}, "spec.ttlSecurity", "expected a whole number <= 254"),
        ({**ROUTER, "sourceAddress": "eth0"}, "spec.sourceAddress", "'eth0' is neither UseNodeIP nor None nor an IP address"),
        ({**ROUTER, "sourceAddress": "2001:db8::1"}, "spec.sourceAddress", "2001:db8::1 and peerIP 192.0.2.1 are not of one"),
        ({**ROUTER, "reachableBy": "2001:db8::1"}, "spec.reachableBy", "2001:db8::1 and peerIP 192.0.2.1 are not of one"),
        ({**ROUTER, "families": ["IPv5"]}, "spec.families[0]", "'IPv5' is not one of IPv4, IPv6"),
        ({**ROUTER, "families": ["IPv4", "IPv4"]}, "spec.families", "one is there twice"),
        ({**ROUTER, "filters": ["a", "a"]}, "spec.filters", "one is there twice"),
        ({**ROUTER, "password": "s3cret"}, "spec.password", "expected a mapping, not a string"),
        ({**NODES, "asNumber": 64512}, "spec.asNumber", "is for peerIP; what nodes need among themselves is known"),
        ({**NODES, "sourceAddress": "None"}, "spec.sourceAddress", "is for peerIP"),
    ],
)
def test_peers(spec: dict[str, Any], field: str, message: str) -> None:
    wrong("BGPPeer", spec, field, message, name="a")


@pytest.mark.parametrize(
    ("rule", "field", "message"),
    [
        ({"action": "Deny"}, "action", "'Deny' is not one of Accept, Reject"),
        ({"action": "Accept", "cidr": "10.0.0.0/8"}, "matchOperator", "is required beside cidr: one of Equal, NotEqual"),
        ({"action": "Accept", "matchOperator": "In"}, "cidr", "is required beside matchOperator"),
        ({"action": "Accept", "matchOperator": "In", "cidr": "fd00::/8"}, "cidr", "fd00::/8 is not of IPv4"),
        (
            {"action": "Accept", "prefixLength": {"max": 24}},
            "prefixLength",
            "stands beside cidr with matchOperator In or NotIn",
        ),
        (
            {"action": "Accept", "matchOperator": "In", "cidr": "10.0.0.0/8", "prefixLength": {"min": 4}},
            "prefixLength",
            "4 to 32 is no range within 8 to 32",
        ),
        ({"action": "Accept", "interface": 'eth0"; reject'}, "interface", "'eth0\"; reject' is not an interface's name"),
        ({"action": "Accept", "source": "Elsewhere"}, "source", "'Elsewhere' is not one of RemotePeers"),
    ],
)
def test_filters(rule: dict[str, Any], field: str, message: str) -> None:
    wrong("BGPFilter", {"importV4": [{"action": "Reject"}, rule]}, f"spec.importV4[1].{field}", message, name="a")


@pytest.mark.parametrize(
    ("text", "canonical", "address", "port"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.1", 179),
        ("192.0.2.1:179", "192.0.2.1", "192.0.2.1", 179),
        ("192.0.2.1:01790", "192.0.2.1:1790", "192.0.2.1", 1790),
        ("2001:DB8::1", "2001:db8::1", "2001:db8::1", 179),
        ("[2001:db8::1]", "2001:db8::1", "2001:db8::1", 179),
        ("[2001:db8::1]:1790", "[2001:db8::1]:1790", "2001:db8::1", 1790),
    ],
)
def test_the_address_of_a_peer(text: str, canonical: str, address: str, port: int) -> None:
    made = PeerAddress(text)
    assert (made, made.address, made.port) == (canonical, address, port)
    assert PeerAddress(made) == made


def test_communities() -> None:
    assert Community("064512:007") == "64512:7"
    assert Community("4200000000:1:2").parts == (4200000000, 1, 2)
    for text in ("64512", "64512:1:2:3", "64512:-1", "a:b", "64512:65536", "1:2:4294967296", ""):
        with pytest.raises(ValueError, match="is not a community"):
            Community(text)


def secret(text: str) -> Secret:
    (made,) = codec.from_yaml(text)
    assert isinstance(made, Secret)
    return made


def test_a_secret_hides_what_it_holds() -> None:
    made = secret("{apiVersion: v1, kind: Secret, metadata: {name: a}, stringData: {b: hidden}, data: {c: aGlkZGVu}}").open
    assert made.string_data == {}
    assert made.data["b"].value == made.data["c"].value == b"hidden"
    for shown in (repr(made), repr(made.data), str(codec.to_tree(made.closed)), codec.to_yaml([made.closed])):
        assert "aGlkZGVu" not in shown
        assert "hidden" not in shown
    assert codec.to_tree(made.closed)["data"] == {"b": "<6 bytes>", "c": "<6 bytes>"}
    with pytest.raises(ValueError, match=r"^data\.[bc]: was hidden when this was read"):
        _ = secret(codec.to_yaml([made.closed])).open


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("data: {a: 'not base64'}", "data.a", "is not base64; write plain text under stringData"),
        ("stringData: {a/b: c}", "stringData", "'a/b' is not a key"),
        ("stringData: {a: 1}", "stringData.a", "expected a string, not a whole number"),
    ],
)
def test_what_a_secret_cannot_hold(text: str, field: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        codec.from_yaml(f"apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\n{text}\n")
    assert message in caught.value.message
    assert caught.value.field == field


def test_kinds_are_kinds() -> None:
    for of in (BGPConfiguration, BGPPeer, BGPFilter, Secret):
        assert of in codec.KINDS
        assert issubclass(of, Object)
    assert Sealed.of("x").size == 1
