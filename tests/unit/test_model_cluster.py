"""Cluster-wide policies, nodes and named ports as people write them: what is taken, and what is refused with which words."""

from __future__ import annotations

import pytest

from fairlead.model import codec
from fairlead.model.address import NamedPort, PortName
from fairlead.model.errors import Invalid
from fairlead.model.meta import Meta
from fairlead.model.node import Node
from fairlead.model.policy import NetworkPolicy

CNP = (
    "{{kind: ClusterNetworkPolicy, metadata: {{name: a}}, "
    "spec: {{tier: Admin, priority: 5, subject: {{namespaces: {{}}}}, {}}}}}"
)
ANP = "{{kind: AdminNetworkPolicy, metadata: {{name: a}}, spec: {{priority: 5, subject: {{namespaces: {{}}}}, {}}}}}"
BANP = "{{kind: BaselineAdminNetworkPolicy, metadata: {{name: {}}}, spec: {{subject: {{namespaces: {{}}}}, {}}}}}"
NP = "{{kind: NetworkPolicy, metadata: {{name: a}}, spec: {{ingress: [{{ports: [{}]}}]}}}}"
PEER = "{{kind: NetworkPolicy, metadata: {{name: a}}, spec: {{ingress: [{{from: [{{{}}}]}}]}}}}"
ALL = "{namespaces: {}}"
PODS = "{pods: {podSelector: {}}}"


def many(one: str, count: int) -> str:
    return ", ".join([one] * count)


@pytest.mark.parametrize(
    "text",
    [
        CNP.format(f"ingress: [{{action: Accept, from: [{ALL}, {PODS}]}}]"),
        CNP.format(f"ingress: [{{name: x, action: Pass, from: [{ALL}], protocols: [{{destinationNamedPort: http}}]}}]"),
        CNP.format(f"egress: [{{action: Deny, to: [{ALL}, {{nodes: {{}}}}, {{networks: [10.0.0.0/8, 'fd00::/8']}}]}}]"),
        CNP.format("egress: [{action: Accept, to: [{domainNames: ['*.example.com', example.org.]}]}]"),
        CNP.format(
            f"egress: [{{action: Deny, to: [{ALL}], protocols: [{{tcp: {{destinationPort: {{number: 80}}}}}}, "
            "{udp: {destinationPort: {range: {start: 1, end: 2}}}}, {sctp: {destinationPort: {number: 65535}}}]}]"
        ),
        CNP.format(f"egress: [{many(f'{{action: Deny, to: [{ALL}]}}', 25)}]"),
        ANP.format(
            f"egress: [{{action: Allow, to: [{many(ALL, 100)}], ports: [{{portNumber: {{port: 80}}}}, "
            "{portNumber: {protocol: SCTP, port: 80}}, {portRange: {start: 1, end: 9}}, {namedPort: http}]}]"
        ),
        ANP.format(f"ingress: [{many(f'{{action: Pass, from: [{ALL}]}}', 100)}]"),
        BANP.format("default", f"ingress: [{{action: Deny, from: [{PODS}]}}]"),
        NP.format("{port: dns-tcp, protocol: UDP}"),
    ],
)
def test_what_the_references_allow_is_taken_and_read_back(text: str) -> None:
    found = codec.from_yaml(text)
    assert codec.from_yaml(codec.to_yaml(found)) == found


@pytest.mark.parametrize(
    ("text", "field", "told"),
    [
        (CNP.format("").replace("priority: 5", "priority: 1001"), "spec.priority", "expected a whole number <= 1000"),
        (CNP.format("").replace("priority: 5, ", ""), "spec.priority", "is required"),
        (CNP.format("").replace("Admin", "admin"), "spec.tier", "'admin' is not one of Admin, Baseline"),
        (CNP.format("").replace("{namespaces: {}}", "{}"), "spec.subject", "one of namespaces and pods is required"),
        (CNP.format("").replace("{namespaces: {}}", "{namespaces: {}, pods: {podSelector: {}}}"), "spec.subject.pods",
         "cannot stand beside namespaces; there must be one of them"),
        (CNP.format("").replace("{namespaces: {}}", "{pods: {}}"), "spec.subject.pods.podSelector", "is required"),
        (CNP.format(f"ingress: [{many(f'{{action: Deny, from: [{ALL}]}}', 26)}]"), "spec.ingress", "26 rules; at most 25"),
        (CNP.format(f"ingress: [{{action: Allow, from: [{ALL}]}}]"), "spec.ingress[0].action",
         "'Allow' is not one of Accept, Deny, Pass"),
        (CNP.format("ingress: [{action: Deny, from: []}]"), "spec.ingress[0].from", "must hold at least one"),
        (CNP.format("ingress: [{action: Deny}]"), "spec.ingress[0].from", "is required"),
        (CNP.format("ingress: [{action: Deny, from: [{}]}]"), "spec.ingress[0].from[0]",
         "one of namespaces and pods is required"),
        (CNP.format("ingress: [{action: Deny, from: [{networks: [10.0.0.0/8]}]}]"), "spec.ingress[0].from[0].networks",
         "there is no such field; there are namespaces, pods"),
        (CNP.format(f"egress: [{{action: Deny, to: [{many(ALL, 26)}]}}]"), "spec.egress[0].to", "26 entries; at most 25"),
        (CNP.format("egress: [{action: Deny, to: [{networks: []}]}]"), "spec.egress[0].to[0].networks", "at least one"),
        (CNP.format("egress: [{action: Deny, to: [{networks: [10.0.0.0/8, 10.0.0.0/8]}]}]"),
         "spec.egress[0].to[0].networks[1]", "10.0.0.0/8 is there twice"),
        (CNP.format("egress: [{action: Deny, to: [{networks: [10.0.0.0/8, '::ffff:a00:0/104']}]}]"),
         "spec.egress[0].to[0].networks[1]", "is IPv4 written as IPv6; write 10.0.0.0/8"),
        (CNP.format("egress: [{action: Deny, to: [{networks: [10.0.0.1/8]}]}]"), "spec.egress[0].to[0].networks[0]",
         "the network is 10.0.0.0/8"),
        (CNP.format(f"egress: [{{action: Deny, to: [{ALL}, {{domainNames: [a.b]}}]}}]"), "spec.egress[0].to[1].domainNames",
         "only rules that let pass know domain names, this one says Deny"),
        (CNP.format("egress: [{action: Accept, to: [{domainNames: ['a.*.b']}]}]"), "spec.egress[0].to[0].domainNames[0]",
         "is not a domain name"),
        (CNP.format("egress: [{action: Deny, to: [{nodes: {}}], protocols: [{destinationNamedPort: http}]}]"),
         "spec.egress[0].to[0].nodes", "has no named ports, and destinationNamedPort asks for one"),
        (CNP.format(f"egress: [{{action: Deny, to: [{ALL}], protocols: []}}]"), "spec.egress[0].protocols", "at least one"),
        (CNP.format(f"egress: [{{action: Deny, to: [{ALL}], protocols: [{{tcp: {{}}}}]}}]"),
         "spec.egress[0].protocols[0].tcp.destinationPort", "is required"),
        (CNP.format(f"egress: [{{action: Deny, to: [{ALL}], protocols: [{{tcp: {{destinationPort: {{}}}}}}]}}]"),
         "spec.egress[0].protocols[0].tcp.destinationPort", "one of number and range is required"),
        (CNP.format(f"egress: [{{action: Deny, to: [{ALL}], protocols: [{{tcp: {{destinationPort: {{number: 0}}}}}}]}}]"),
         "spec.egress[0].protocols[0].tcp.destinationPort.number", "expected a whole number >= 1"),
        (CNP.format(f"egress: [{{action: Deny, to: [{ALL}], "
                    "protocols: [{tcp: {destinationPort: {range: {start: 5, end: 5}}}}]}]"),
         "spec.egress[0].protocols[0].tcp.destinationPort.range.end", "5 must be greater than start, 5; one port is a number"),
        (CNP.format(f"egress: [{{action: Deny, name: {'x' * 101}, to: [{ALL}]}}]"), "spec.egress[0].name", "length <= 100"),
        (ANP.format(f"ingress: [{many(f'{{action: Pass, from: [{ALL}]}}', 101)}]"), "spec.ingress", "101 rules; at most 100"),
        (ANP.format("ingress: [{action: Accept, from: []}]"), "spec.ingress[0].action",
         "'Accept' is not one of Allow, Deny, Pass"),
        (BANP.format("other", ""), "metadata.name", "'other' must be default: there is one BaselineAdminNetworkPolicy"),
        (BANP.format("default", f"ingress: [{{action: Pass, from: [{ALL}]}}]"), "spec.ingress[0].action",
         "'Pass' is not one of Allow, Deny"),
        (NP.format("{port: HTTP}"), "spec.ingress[0].ports[0].port", "'HTTP' is not a port's name"),
        (NP.format("{port: http, endPort: 90}"), "spec.ingress[0].ports[0].endPort", "begins with a number"),
        (NP.format("{port: '80'}"), "spec.ingress[0].ports[0].port", "'80' is not a port's name"),
        (PEER.format("ipBlock: {cidr: '::ffff:0:0/96'}"), "spec.ingress[0].from[0].ipBlock.cidr", "write 0.0.0.0/0"),
        (PEER.format("ipBlock: {cidr: '::/0', except: ['::ffff:10.0.0.1/128']}"), "spec.ingress[0].from[0].ipBlock.except[0]",
         "write 10.0.0.1/32"),
        (PEER.format("podSelector: {matchExpressions: [{key: a b, operator: Exists}]}"),
         "spec.ingress[0].from[0].podSelector.matchExpressions[0].key", "label key 'a b'"),
        (PEER.format("podSelector: {matchExpressions: [{key: a, operator: In, values: [b, c d]}]}"),
         "spec.ingress[0].from[0].podSelector.matchExpressions[0].values[1]", "'c d' must be"),
        (NP.format("").replace("name: a", "name: A_b"), "metadata.name", "'A_b' is not a name"),
        (NP.format("").replace("name: a", "name: ''"), "metadata.name", "'' is not a name"),
        (NP.format("").replace("name: a", "name: p, namespace: ANP"), "metadata.namespace", "'ANP' is not a name"),
        (CNP.format("").replace("name: a", "name: a/b"), "metadata.name", "'a/b' is not a name"),
        ("{kind: Namespace, metadata: {name: 'Admin/x ingress[0]'}}", "metadata.name", "is not a name"),
        ("{kind: Node, metadata: {name: a}, status: {addresses: [{type: InternalIP, address: '::ffff:10.0.0.1'}]}}",
         "status.addresses[0].address", "write 10.0.0.1"),
    ],
)  # fmt: skip
def test_what_they_do_not_allow_is_refused_with_the_path_of_the_field(text: str, field: str, told: str) -> None:
    with pytest.raises(Invalid) as refused:
        codec.from_yaml(text)
    assert refused.value.field == field
    assert told in refused.value.message


def test_what_kubectl_writes_of_its_own_accord_is_passed_over() -> None:
    (policy, space) = codec.from_yaml("""\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: a
  namespace: shop
  creationTimestamp: null
  generation: 2
  managedFields: [{manager: kubectl}]
  ownerReferences: []
  finalizers: []
spec: {podSelector: {}}
status: {}
---
apiVersion: v1
kind: Namespace
metadata: {name: a, creationTimestamp: null}
spec: {finalizers: [kubernetes]}
status: {phase: Active}
""")
    assert policy == NetworkPolicy(metadata=Meta(name="a", namespace="shop"))
    assert space.name == "a"


def test_a_node_has_its_name_as_a_label_and_its_ips_as_addresses() -> None:
    text = (
        "{kind: Node, metadata: {name: n1, labels: {zone: a}}, spec: {podCIDRs: [10.1.0.0/24]}, status: {addresses: ["
        "{type: InternalIP, address: 192.0.2.1}, {type: Hostname, address: n1}, {type: ExternalIP, address: '2001:db8::1'}]}}"
    )
    (node,) = codec.from_yaml(text)
    assert isinstance(node, Node)
    assert node.labels == {"kubernetes.io/hostname": "n1", "zone": "a"}
    assert node.addresses == ("192.0.2.1", "2001:db8::1")
    with pytest.raises(Invalid, match="not an IP address"):
        codec.from_yaml(text.replace("192.0.2.1", "n1.example.com"))


@pytest.mark.parametrize(
    ("text", "kept"), [("80", "80/tcp"), ("080/TCP", "80/tcp"), ("53/udp", "53/udp"), ("1/sctp", "1/sctp")]
)
def test_a_named_port_is_a_number_and_a_protocol(text: str, kept: str) -> None:
    port = NamedPort(text)
    assert (port, f"{port.number}/{port.protocol}") == (kept, kept)


@pytest.mark.parametrize("text", ["", "0", "65536", "http", "80/icmp", "80/", "/tcp", "8 0"])
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not a port and protocol"):
        NamedPort(text)


@pytest.mark.parametrize("text", ["", "80", "Http", "-a", "a-", "a--b", "a_b", "a" * 16])
def test_a_ports_name_is_a_service_name(text: str) -> None:
    with pytest.raises(ValueError, match="is not a port's name"):
        PortName(text)
