"""Between the API's trees and our values: names, what is read of Kubernetes's own kinds, and what is not."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fairlead.model.address import Address, Name, Prefix
from fairlead.model.broken import Broken
from fairlead.model.codec import KINDS, encode
from fairlead.model.errors import Failed, Invalid
from fairlead.model.meta import kind
from fairlead.model.namespace import Namespace
from fairlead.model.node import Node
from fairlead.model.pod import Pod
from fairlead.model.policy import NetworkPolicy
from fairlead.store.kubernetes.objects import Reader, key_in, revision, written
from fairlead.store.kubernetes.resources import RESOURCES, resource, slug
from tests.contracts.stores import endpoint, network
from tests.kubernetes.play import node, pod, policy


def read(plural: str, tree: dict[str, Any]) -> Any:
    return Reader().read(resource(plural), json.dumps(tree).encode())


# -- where things are


@pytest.mark.parametrize(
    ("plural", "key", "path"),
    [
        ("networks", ("", "blue"), "/apis/fairlead.dev/v1/networks/blue"),
        ("blocks", ("", "10-1-0-0-26"), "/apis/fairlead.dev/v1/blocks/10-1-0-0-26"),
        ("nodes", ("", "node-1"), "/api/v1/nodes/node-1"),
        ("pods", ("shop", "web"), "/api/v1/namespaces/shop/pods/web"),
        ("networkpolicies", ("", "a"), "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies/a"),
        ("clusternetworkpolicies", ("", "a"), "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies/a"),
    ],
)
def test_paths(plural: str, key: tuple[str, str], path: str) -> None:
    assert resource(plural).path(key) == path


def test_of_secrets_only_those_of_our_namespace_are_listed() -> None:
    of = resource("secrets")
    assert of.everything == "/api/v1/namespaces/fairlead-system/secrets"
    assert of.path(("fairlead-system", "bgp")) == "/api/v1/namespaces/fairlead-system/secrets/bgp"
    assert resource("pods").everything == "/api/v1/pods"


def test_every_kind_has_its_place() -> None:
    assert [one.of for one in RESOURCES.values()] == list(KINDS)
    assert {one.kind for one in RESOURCES.values()} == {kind(one) for one in KINDS}


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "a_b", "-a", "a" * 254, "ü"])
def test_names_that_kubernetes_does_not_take_are_refused_for_its_own_kinds(name: str) -> None:
    with pytest.raises(Invalid, match=r"metadata\.name"):
        resource("pods").path(("shop", name))
    with pytest.raises(Invalid, match=r"metadata\.namespace"):
        resource("pods").path((name or "..", "web"))


@given(st.text(max_size=300), st.text(max_size=20))
def test_a_name_of_ours_has_one_spelling_that_kubernetes_takes(name: str, namespace: str) -> None:
    spelt = slug(namespace, name)
    assert spelt == slug(namespace, name)
    assert 0 < len(spelt) <= 253
    assert spelt.replace("-", "").replace(".", "").isalnum()
    assert spelt == spelt.lower()
    assert spelt.isascii()


def test_a_made_name_cannot_be_had_by_writing_it() -> None:
    made = slug("", "a:eth0")
    assert made.startswith("a-eth0.x")
    assert slug("", made) != made
    assert slug("", "plain.name-1") == "plain.name-1"
    assert len({slug("a", "b"), slug("", "a-b"), slug("", "a/b"), slug("a-b", "")}) == 4


def test_what_is_written_is_read_again() -> None:
    for thing in (network("blue", internal=True, labels={"a": "b"}, annotations={"c": "d"}), endpoint("x", 1500)):
        of = resource(thing.plural)
        tree = json.loads(json.dumps(written(of, thing, None)))
        assert key_in(of, tree) == thing.key
        assert read(thing.plural, tree) == thing


def test_a_container_that_is_no_pod_has_a_namespace_of_its_own() -> None:
    """As the CNI plugin makes them, with names that were checked."""
    thing = endpoint("x")
    thing = replace(thing, metadata=replace(thing.metadata, namespace=Name("shop")))
    tree = msgspec.json.decode(msgspec.json.encode(written(resource("endpoints"), thing, None)))
    assert key_in(resource("endpoints"), tree) == ("shop", "x:eth0")


def test_an_object_under_another_name_than_its_own_is_broken() -> None:
    tree = written(resource("endpoints"), endpoint("x"), None)
    tree["metadata"]["name"] = "moved"
    found = read("endpoints", tree)
    assert isinstance(found, Broken)
    assert "stored as moved" in found.reason


# -- what is read


def test_a_node_is_its_labels_its_addresses_and_what_we_say_of_it() -> None:
    tree = node(3)
    tree["metadata"]["annotations"] = {"fairlead.dev/mtu": "1450", "csi.volume/nodeid": "x" * 1000}
    tree["status"]["addresses"].append({"type": "Unheard", "address": "?"})
    found = read("nodes", tree)
    assert isinstance(found, Node)
    assert found.metadata.annotations == {"fairlead.dev/mtu": "1450"}
    assert found.internal == (Address("192.168.0.13"),)
    assert found.spec.pod_cidrs == (Prefix("10.0.3.0/24"),)
    assert found.labels["topology.kubernetes.io/zone"] == "z0"


def test_a_namespace_is_its_labels() -> None:
    meta = {"name": "shop", "labels": {"team": "a"}, "deletionTimestamp": "2026-01-01T00:00:00Z"}
    found = read("namespaces", {"metadata": meta, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Terminating"}})
    assert isinstance(found, Namespace)
    assert (found.labels["team"], found.metadata.deletion_timestamp) == ("a", "2026-01-01T00:00:00Z")


def test_a_pod_is_as_much_as_a_network_needs() -> None:
    tree = pod(7, 1000)
    tree["metadata"]["resourceVersion"] = "9"
    tree["metadata"]["annotations"]["kubernetes.io/ingress-bandwidth"] = "1M"
    found = read("pods", tree)
    assert isinstance(found, Pod)
    assert found.metadata.annotations == {"kubernetes.io/ingress-bandwidth": "1M"}
    assert found.metadata.labels["app"] == "web-00000"
    assert found.named_ports == {"http": "8080/tcp"}
    assert (found.spec.node_name, found.status.phase) == ("node-0007", "Running")
    assert [one.address for one in found.addresses] == ["10.0.1.7"]
    assert len(encode(found)) < len(json.dumps(tree)) / 6


def test_pods_share_what_they_have_in_common() -> None:
    reader, of = Reader(), resource("pods")
    one, other = (reader.read(of, json.dumps(tree).encode()) for tree in (with_revision(pod(0, 1)), with_revision(pod(5, 1))))
    assert isinstance(one, Pod)
    assert isinstance(other, Pod)
    assert one.metadata.labels is other.metadata.labels
    assert one.spec is other.spec


def with_revision(tree: dict[str, Any]) -> dict[str, Any]:
    tree["metadata"]["resourceVersion"] = "1"
    return tree


def test_a_policy_is_read_whole_or_not_at_all() -> None:
    tree = policy(1)
    assert isinstance(read("networkpolicies", tree), NetworkPolicy)
    tree["status"] = {"conditions": []}
    assert isinstance(read("networkpolicies", tree), NetworkPolicy)
    tree["spec"]["ingress"][0]["from"][0]["fromTheFuture"] = {}
    found = read("networkpolicies", tree)
    assert isinstance(found, Broken)
    assert "fromTheFuture" in found.reason
    assert found.key == ("team-01", "allow-0001")


@pytest.mark.parametrize("tree", [{}, {"metadata": {}}, {"metadata": {"name": 7}}, {"metadata": {"name": "a"}, "spec": []}])
@pytest.mark.parametrize("plural", ["nodes", "pods", "networks", "networkpolicies"])
def test_nonsense_is_broken_and_no_more(plural: str, tree: dict[str, Any]) -> None:
    found = read(plural, tree)
    assert isinstance(found, Broken) or plural in {"nodes", "networkpolicies", "networks"}


def test_a_revision_is_a_number() -> None:
    assert revision(resource("pods"), "18446744073709551615") == 2**64 - 1
    for text in ("", "abc", "1.5", "-1", "²"):
        with pytest.raises(Failed, match="KEP-5504"):
            revision(resource("pods"), text)
