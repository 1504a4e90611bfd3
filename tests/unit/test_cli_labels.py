"""``fairlead label`` and ``create`` as kubectl has them, and what of the policies' kinds the command line shows."""

from __future__ import annotations

import pytest

from fairlead.api.schema import Unread
from fairlead.cli import parse
from fairlead.model import codec
from fairlead.model.errors import Invalid
from tests.fake_agent import FakeAgent
from tests.unit.conftest import Run


def labels(agent: FakeAgent, name: str) -> dict[str, str]:
    return dict(agent.endpoints[name].metadata.labels)


class TestContainers:
    def test_labels_are_set_and_taken_away_on_every_attachment(self, fairlead: Run, agent: FakeAgent) -> None:
        for network, interface in (("front", "eth0"), ("back", "eth1")):
            agent.add("4f5a9c21d0b7", network, interface, display="web", labels={"app": "web", "canary": "1"})
        said = fairlead("label", "web", "tier=front", "canary-")
        assert (said.status, said.out, said.err) == (0, "container/web labeled\n", "")
        assert labels(agent, "4f5a9c21d0b7:eth0") == labels(agent, "4f5a9c21d0b7:eth1") == {"app": "web", "tier": "front"}
        again = fairlead("label", "web", "tier=front", "canary-")
        assert (again.out, again.err) == ("container/web not labeled\n", "label 'canary' not found.\n")

    def test_what_is_there_and_otherwise_needs_overwrite(self, fairlead: Run, agent: FakeAgent) -> None:
        agent.add("4f5a9c21d0b7", "front", display="web", labels={"app": "web"})
        said = fairlead("label", "web", "app=api", "tier=b")
        assert said.status == 1
        assert "web has app=web already" in said.err
        assert labels(agent, "4f5a9c21d0b7:eth0") == {"app": "web"}
        assert fairlead("label", "web", "app=api", "--overwrite", "--list").out == "container/web labeled\napp=api\n"

    def test_it_is_found_by_namespace_and_id(self, fairlead: Run, agent: FakeAgent) -> None:
        agent.add("aaa111", "front", display="web", namespace="shop")
        agent.add("bbb222", "front", display="web", namespace="red")
        assert "'web' means several containers: red/web, shop/web" in fairlead("label", "web", "a=b").err
        assert fairlead("label", "red/web", "a=b").status == 0
        assert fairlead("label", "aaa", "c=d").status == 0
        assert [labels(agent, f"{one}:eth0") for one in ("aaa111", "bbb222")] == [{"c": "d"}, {"a": "b"}]
        assert "there is no container 'nope' that has a network" in fairlead("label", "nope", "a=b").err

    def test_nothing_asked_is_refused(self, fairlead: Run, agent: FakeAgent) -> None:
        agent.add("aaa111", "front", display="web")
        assert "say which labels" in fairlead("label", "web").err


class TestObjects:
    def test_a_namespace_need_not_have_been_made(self, fairlead: Run, agent: FakeAgent) -> None:
        assert fairlead("label", "namespace", "shop", "team=sales").out == "namespace/shop labeled\n"
        assert agent.objects["namespaces"]["shop"].metadata.labels == {"team": "sales"}
        assert "has team=sales already" in fairlead("label", "ns", "shop", "team=red").err
        assert fairlead("label", "ns", "shop", "team=red", "a=b", "--overwrite").status == 0
        assert fairlead("label", "ns", "shop", "team-").out == "namespace/shop labeled\n"
        assert agent.objects["namespaces"]["shop"].metadata.labels == {"a": "b"}

    def test_networks_too_and_endpoints_not(self, fairlead: Run, agent: FakeAgent) -> None:
        assert fairlead("label", "network", "front", "a=b").out == "network/front labeled\n"
        assert agent.networks["front"].metadata.labels == {"a": "b"}
        assert "fairlead label CONTAINER" in fairlead("label", "endpoint", "x", "a=b").err

    def test_create_namespace(self, fairlead: Run, agent: FakeAgent) -> None:
        assert fairlead("create", "namespace", "shop", "--label", "team=sales").out == "namespace/shop created\n"
        assert agent.objects["namespaces"]["shop"].metadata.labels == {"team": "sales"}
        assert "namespace 'shop' exists" in fairlead("create", "namespace", "shop").err
        assert "is not a name" in fairlead("create", "namespace", "Shop").err


CNP = """
kind: ClusterNetworkPolicy
metadata: {name: guard}
spec:
  tier: Admin
  priority: 7
  subject: {pods: {namespaceSelector: {matchLabels: {team: red}}, podSelector: {}}}
  ingress: [{action: Deny, from: [{namespaces: {}}]}]
"""


class TestKinds:
    def test_clusters_policies_are_listed(self, fairlead: Run, agent: FakeAgent) -> None:
        assert fairlead("apply", "-f", "-", stdin=CNP).out == "clusternetworkpolicy/guard created\n"
        assert list(agent.objects["clusternetworkpolicies"]) == ["guard"]
        assert fairlead("get", "cnp").out.split()[:10] == [
            "NAME", "TIER", "PRIORITY", "SUBJECT", "AGE", "guard", "Admin", "7", "<all>", "in",
        ]  # fmt: skip
        assert codec.from_yaml(fairlead("get", "cnp", "guard", "-o", "yaml").out) == codec.from_yaml(CNP)
        assert fairlead("delete", "cnp", "guard").out == "clusternetworkpolicy/guard deleted\n"

    def test_what_cannot_be_read_is_told_beside_the_list(self, fairlead: Run, agent: FakeAgent) -> None:
        agent.unreadable = (Unread(plural="networkpolicies", name="shop/p", reason="spec.moon: there is no such field"),)
        said = fairlead("get", "netpol")
        assert "networkpolicy/shop/p is stored and cannot be read: spec.moon: there is no such field" in said.err
        assert fairlead("get", "ns").err == ""
        assert "unreadable: networkpolicies shop/p: spec.moon" in fairlead("status").out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["a"], "'a' is neither KEY=VALUE nor KEY-"),
        (["a=b", "a-"], "a is there twice"),
        (["a=b c"], "label a: 'b c' must be"),
        (["-"], "label key ''"),
    ],
)
def test_words_that_are_no_change(words: list[str], told: str) -> None:
    with pytest.raises(Invalid, match=told):
        parse.label_changes(words)
