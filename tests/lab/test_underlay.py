"""What lies between nodes: one subnet or several, routers, smaller packets, and cutting it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.conftest import Labs
from tests.lab.town import Town, refusal, told

TOWN = """
apiVersion: fairlead.dev/v1
kind: Lab
spec:
  families: [4, 6]
  plane: nftables
  subnets: [{name: east}, {name: west, mtu: 1400}, {name: beyond}]
  routers: [{name: r1, subnets: [east, beyond]}, {name: r2, subnets: [west]}]
  links: [{routers: [r1, r2]}]
  hosts: [{name: world, subnets: [beyond]}]
  nodes:
    - {name: a, subnets: [east], labels: {zone: east}, pods: [{name: web, labels: {app: web}}, {name: client}]}
    - {name: b, subnets: [west], addresses: [], pods: [{name: far}, {name: friend, labels: {friend: "yes"}}]}
    - {name: c, subnets: [west], pods: 0, mtu: 1350}
---
apiVersion: fairlead.dev/v1
kind: Network
metadata: {name: farm}
spec: {driver: vxlan, subnets: [{cidr: 10.60.0.0/16}, {cidr: "fd60::/64"}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: friends, namespace: default}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {friend: "yes"}}}]}]
"""


@pytest.mark.parametrize("network", ["routed", "bridge"])
def test_nodes_that_know_nothing_of_each_other(lab: Labs, network: str) -> None:
    """Each node has a network of its own, and the lab lays the routes."""
    town = lab(nodes=2, network=network, underlay="l3", dual=True)
    one, other = town.pod(1), town.pod(2)
    assert one.reaches(other)
    assert {answer.peer for answer in one.asks(other) if answer} == {str(at) for at in one.addresses}
    assert town.fairlead("node1", "get", "nodes", "-o", "name").split() == ["node/node1"]
    town.partition("node1", "node2")
    try:
        assert one.misses(other)
    finally:
        town.heal()


def test_packets_are_as_large_as_the_underlay_allows(lab: Labs) -> None:
    town = lab(nodes=2, mtu=1400)
    assert town.json("node1", "ip", "-json", "link", "show", "eth0")[0]["mtu"] == 1400
    pod = town.pod(1)
    assert "mtu 1350" in town.fairlead("node1", "exec", pod.name, "--", "ip", "link", "show", "eth0")
    other = town.pod(2)
    assert pod.reaches(other)
    for size, passes in ((1322, True), (1323, False)):
        words = ("exec", pod.name, "--", "ping", "-c", "1", "-W", "1", "-M", "do", "-s", str(size), str(other.address(4)))
        done = town.lab.machine("node1").attempt("fairlead", *words)
        assert (done.returncode == 0) is passes, done.stdout


class TestTopologyFile:
    """Subnets, routers and a link between them, labels, pods by name, a network and a policy of one's own."""

    @pytest.fixture
    def town(self, lab: Labs) -> Town:
        return lab(file=TOWN)

    def test_it_is_what_was_written(self, town: Town) -> None:
        assert town.hops("a", town.machine("b").address(4)) == town.hops("a", town.machine("b").address(6)) == 2
        assert town.hops("world", town.machine("b").address(4)) == 2
        assert town.json("b", "ip", "-json", "link", "show", "eth0")[0]["mtu"] == 1400
        assert town.json("c", "ip", "-json", "link", "show", "eth0")[0]["mtu"] == 1350
        shown = town.fairlead("a", "get", "nodes", "a", "-o", "yaml")
        assert "zone: east" in shown
        assert "farm" in town.fairlead("b", "ps")

    def test_pods_and_their_policy(self, town: Town) -> None:
        web, client, far, friend = (town.pod(name) for name in ("web", "client", "far", "friend"))
        assert friend.reaches(web)
        assert far.misses(web)
        assert client.misses(web)
        assert web.reaches(far)
        assert client.reaches(far)
        assert "DROPPED (denied by policy) (ingress default deny)" in town.fairlead(
            "a", "flows", "--from", "far", "--to", "web"
        )

    def test_a_partition_over_two_routers(self, town: Town) -> None:
        client, far = town.pod("client"), town.pod("far")
        assert client.reaches(far)
        town.partition("a", "b")
        try:
            assert client.misses(far)
            assert far.misses(client)
            assert town.machine("a").misses(far)
            assert far.reaches(town.machine("world"))
            assert client.reaches(town.machine("world"))
        finally:
            town.heal()
        assert client.reaches(far)

    def test_a_router_that_crashes_and_comes_back(self, town: Town) -> None:
        far, world = town.pod("far"), town.machine("world")
        assert far.reaches(world)
        town.stop("r2")
        assert far.misses(world)
        town.start("r2")
        assert far.reaches(world)


def test_a_file_by_the_command_line(lab: Labs, file: Path) -> None:
    name = lab.name()
    head = f"apiVersion: fairlead.dev/v1\nkind: Lab\nmetadata: {{name: {name}}}\n"
    file.write_text(f"{head}spec: {{nodes: [{{name: solo, pods: 1}}]}}")
    assert f"Lab {name} is ready: 1 nodes, 1 pods" in told("up", "-f", file)
    assert "solo-1" in told("exec", "--name", name, "solo", "--", "fairlead", "ps")
    told("down", "--name", name)
    assert refusal("up", "-f", file, "--nodes", 3) == [
        f"Error: nodes: {file} says it; give the file or the option", "Try: fairlead lab up --help",
    ]  # fmt: skip
    assert f"there is no file {file}.no" in refusal("up", "-f", f"{file}.no")[0]
    file.write_text("kind: Lab\napiVersion: fairlead.dev/v1\nspec: {nodes: [{name: solo, subnets: [x]}]}")
    assert refusal("up", "-f", file)[0] == f"Error: {file}.spec.nodes[0].subnets[0]: there is no subnet x; there are: none"
