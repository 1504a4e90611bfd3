"""A topology as a person writes it: what is refused, with its field, and what is read."""

from __future__ import annotations

import pytest

from fairlead.lab import topology
from fairlead.lab.topology import StoreDriver
from fairlead.model.errors import Invalid
from fairlead.model.network import Network

HEAD = "apiVersion: fairlead.dev/v1\nkind: Lab\n"
NETWORK = "---\napiVersion: fairlead.dev/v1\nkind: Network\nmetadata: {name: farm}\nspec: {subnets: [{cidr: 10.1.0.0/16}]}\n"

ONE = "subnets: [{name: x, cidrs: [10.0.0.0/24]}]"

WHOLE = f"""{HEAD}
metadata: {{name: town}}
spec:
  families: [4, 6]
  subnets: [{{name: east, cidrs: [192.0.2.0/24]}}, {{name: west, mtu: 1400}}]
  routers: [{{name: r1, subnets: [east]}}, {{name: r2, subnets: [west]}}]
  links: [{{routers: [r1, r2], mtu: 1300}}]
  hosts: [{{name: world, subnets: [west]}}]
  nodes:
    - {{name: a, subnets: [east], addresses: [192.0.2.9], labels: {{zone: east}}, pods: [{{name: web, labels: {{app: web}}}}]}}
    - {{name: b, subnets: [east, west], mtu: 1300, pods: 0}}
  store: {{driver: etcd, members: 3}}
{NETWORK}"""


def test_a_file_is_a_lab_and_objects_to_apply() -> None:
    lab, objects = topology.read(WHOLE)
    assert lab.metadata.name == "town"
    assert [one.name for one in lab.spec.nodes] == ["a", "b"]
    assert lab.spec.store.driver is StoreDriver.ETCD
    assert lab.spec.store.machines == ("etcd1", "etcd2", "etcd3")
    assert [type(one) for one in objects] == [Network]


def test_a_node_is_enough() -> None:
    lab, objects = topology.read(f"{HEAD}spec: {{nodes: [{{name: a}}]}}")
    assert lab.spec.pods == 2
    assert objects == []


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ("{}", "spec.nodes", "is required"),
        ("{nodes: []}", "spec.nodes", "0 of them; from 1 to 64"),
        ("{nodes: [{}]}", "spec.nodes[0].name", "is required"),
        ("{nodes: [{name: a, color: red}]}", "spec.nodes[0].color", "there is no such field; there are name, subnets"),
        ("{nodes: [{name: a, pods: many}]}", "spec.nodes[0].pods", "expected a whole number or a list"),
        ("{nodes: [{name: a, pods: 65}]}", "spec.nodes[0].pods", "65 is not between 0 and 64"),
        ("{nodes: [{name: a, labels: {'-': x}}]}", "spec.nodes[0].labels", "label key '-'"),
        ("{nodes: [{name: Node}]}", "spec.nodes[0].name", "'Node' is not a name"),
        ("{nodes: [{name: a.b}]}", "spec.nodes[0].name", "at most 12 lower case letters"),
        ("{nodes: [{name: lo}]}", "spec.nodes[0].name", "names no machine or subnet"),
        ("{nodes: [{name: switch}]}", "spec.nodes[0].name", "switch is the machine that joins all others"),
        ("{nodes: [{name: a}, {name: a}]}", "spec.nodes[1].name", "a is nodes[0]"),
        ("{nodes: [{name: a}], hosts: [{name: a}]}", "spec.hosts[0].name", "a is nodes[0]"),
        ("{nodes: [{name: a}], subnets: [{name: a}]}", "spec.nodes[0].name", "a is subnets[0]"),
        ("{nodes: [{name: etcd1}], store: {driver: etcd}}", "spec.nodes[0].name", "etcd1 is a member of the store"),
        ("{nodes: [{name: a, subnets: [x]}]}", "spec.nodes[0].subnets[0]", "there is no subnet x; there are: none"),
        ("{nodes: [{name: a}], subnets: [{name: x}, {name: y}]}", "spec.nodes[0].subnets", "say which"),
        ("{nodes: [{name: a, subnets: [x, x]}], subnets: [{name: x}]}", "spec.nodes[0].subnets", "on a subnet once"),
        ("{nodes: [{name: a, mtu: 100}]}", "spec.nodes[0].mtu", "100 is not between 576"),
        ("{nodes: [{name: a}], subnets: [{name: x, cidrs: [10.0.0.0/31]}]}", "spec.subnets[0].cidrs[0]", "no room for two"),
        ("{nodes: [{name: a}], subnets: [{name: x, cidrs: [10.0.0.1/24]}]}", "spec.subnets[0].cidrs[0]", "host bits"),
        (
            "{nodes: [{name: a}], subnets: [{name: x, cidrs: [10.0.0.0/24, 10.1.0.0/24]}]}",
            "spec.subnets[0].cidrs",
            "at most one of each address family",
        ),
        (
            "{nodes: [{name: a, subnets: [x]}], subnets: [{name: x, cidrs: [10.0.0.0/8]}, {name: y, cidrs: [10.1.0.0/24]}]}",
            "spec.subnets[1].cidrs[0]",
            "10.1.0.0/24 overlaps 10.0.0.0/8 of subnets[0].cidrs[0]",
        ),
        (
            "{nodes: [{name: a, addresses: [10.9.0.1]}], ONE}",
            "spec.nodes[0].addresses[0]",
            "10.9.0.1 is on no subnet of a; they are 10.0.0.0/24",
        ),
        (
            "{nodes: [{name: a, addresses: [10.0.0.5]}, {name: b, addresses: [10.0.0.5]}], ONE}",
            "spec.nodes[1].addresses[0]",
            "10.0.0.5 is a's",
        ),
        (
            "{nodes: [{name: a, addresses: [10.0.0.255]}], ONE}",
            "spec.nodes[0].addresses[0]",
            "10.0.0.255 is no machine's address",
        ),
        (
            "{nodes: [{name: a, addresses: [10.0.0.1, 10.0.0.2]}], ONE}",
            "spec.nodes[0].addresses[1]",
            "a has an address in 10.0.0.0/24 already",
        ),
        ("{nodes: [{name: a}], links: [{routers: [r, s]}]}", "spec.links[0].routers[0]", "there is no router r"),
        (
            "{nodes: [{name: a}], routers: [{name: r}], links: [{routers: [r, r]}]}",
            "spec.links[0].routers",
            "no cable to itself",
        ),
        ("{nodes: [{name: a}], store: {driver: mysql}}", "spec.store.driver", "'mysql' is not one of own, sqlite, etcd"),
        ("{nodes: [{name: a}], store: {driver: etcd, members: 2}}", "spec.store.members", "2 is not one of 1, 3, 5"),
        ("{nodes: [{name: a}], store: {driver: sqlite, members: 3}}", "spec.store.members", "only a store with driver etcd"),
        ("{nodes: [{name: a}], families: []}", "spec.families", "4, 6 or both"),
        ("{nodes: [{name: a}], families: [5]}", "spec.families[0]", "5 is not"),
        (
            "{nodes: [{name: a, pods: [{name: p}]}, {name: b, pods: [{name: p}]}]}",
            "spec.nodes[1].pods[0].name",
            "p is nodes[0]",
        ),
    ],
)
def test_what_does_not_fit_together_names_its_field(spec: str, field: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        topology.read(f"{HEAD}spec: {spec.replace('ONE', ONE)}")
    assert (caught.value.field, message in caught.value.message) == (field, True), str(caught.value)


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("", "kind", "0 documents of kind Lab; a topology file has one"),
        (NETWORK, "kind", "0 documents of kind Lab"),
        (f"{HEAD}spec: {{nodes: [{{name: a}}]}}\n---\n{HEAD}spec: {{nodes: [{{name: a}}]}}", "kind", "2 documents of kind Lab"),
        (f"{HEAD}spec: {{nodes: [{{name: a}}]}}\n---\nkind: Town", "document 2.kind", "and Lab, once"),
        (f"{HEAD}spec: {{nodes: [{{name: a}}]}}\n---\nkind: Network\nspec: 1", "document 2.spec", "expected a mapping"),
        ("kind: Lab\napiVersion: v1\nspec: {nodes: [{name: a}]}", "apiVersion", "not one of fairlead.dev/v1"),
        ("{", "", "not YAML"),
    ],
)
def test_a_file_that_is_no_topology(text: str, field: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        topology.read(text)
    assert (caught.value.field, message in caught.value.message) == (field, True), str(caught.value)
