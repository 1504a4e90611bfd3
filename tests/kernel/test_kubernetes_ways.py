"""Every way between the nodes of a Kubernetes cluster: pods of two nodes reach each other, and a node that leaves is forgotten.

As in ``test_kubernetes``: InternalIPs and podCIDRs are the API's, and what nodes tell each other they tell there.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.apis import api
from tests.kernel.tap import Tap
from tests.kernel.test_kubernetes import Cluster
from tests.net import Containers, Namespace, Node
from tests.wait import eventually

CIDRS = {4: ("10.244.0.0/16", "10.244.2.0/24"), 6: ("fd44::/48", "fd44:0:0:2::/64")}
BOTH = (4, 6)


def network(families: tuple[int, ...], **spec: Any) -> dict[str, Any]:
    subnets = [{"cidr": CIDRS[family][0]} for family in families]
    return {
        "apiVersion": "fairlead.dev/v1",
        "kind": "Network",
        "metadata": {"name": "default"},
        "spec": {"subnets": subnets, **spec},
    }


def ways(node: Node) -> str:
    """Every route of a node, of both families."""
    return "".join(node.run("ip", f"-{family}", "route", "show", "table", "all") for family in BOTH)


def join(cluster: Cluster, containers: Containers) -> tuple[Namespace, Namespace, list[str]]:
    """A pod on each node, the second with a server; its addresses."""
    cluster.namespace("shop")
    here, there = containers.new("here"), containers.new("there")
    cluster.run(1, here, "here", labels={"app": "here"})
    ips = cluster.run(2, there, "there", labels={"app": "there"})
    there.serve("tcp", 80)
    for ip in ips:
        eventually(lambda ip=ip: here.pings(ip), deadline=20, what=f"the way to {ip}")
        assert here.connects(ip, 80)
    return here, there, ips


def leave(cluster: Cluster, families: tuple[int, ...] = BOTH) -> None:
    """The second node is taken out of the cluster: nothing on the first leads to it, and its agent is not needed for that."""
    one, two = cluster.nodes
    assert all(CIDRS[family][1] in ways(one) for family in families)
    cluster.agents[1].kill()
    cluster.api.delete("Node", "node2")
    for family in families:
        eventually(lambda family=family: CIDRS[family][1] not in ways(one), deadline=10, what=f"no route, IPv{family}")
    said = one.run("bridge", "fdb") + "".join(one.run("ip", f"-{family}", "neighbour") for family in BOTH)
    assert not [line for line in said.splitlines() if two.v4 in line and "flx-" in line], said
    assert not cluster.agents[0].drift()


@pytest.mark.deadline(180)
@pytest.mark.parametrize(
    ("driver", "more"),
    [
        ("host-gw", {}),
        pytest.param("bgp", {}, marks=pytest.mark.needs("bird")),
        ("vxlan", {}),
        ("vxlan", {"direct": True}),
    ],
    ids=["host-gw", "bgp", "vxlan", "direct"],
)
def test_a_way_between_nodes(
    cleanup: ExitStack, tmp_path: Path, containers: Containers, driver: str, more: dict[str, Any]
) -> None:
    """The driver is said by whoever installs, or by a Network that was there before."""
    first = (network(BOTH, driver=driver, **more),) if more else ()
    cluster = Cluster(cleanup, tmp_path, api, "--pod-driver", driver, allocated=True, first=first)
    here, _, ips = join(cluster, containers)
    (shown,) = [one for one in cluster.agents[0].client.objects("networks") if one.name == "default"]
    assert str(shown.spec.driver) == driver  # type: ignore[attr-defined]
    for ip, gateway in zip(ips, (cluster.nodes[1].v4, cluster.nodes[1].v6), strict=True):
        way = cluster.nodes[0].run("ip", "route", "get", "fibmatch", ip)
        if driver == "vxlan" and not more:
            assert "dev flx-" in way
        else:
            assert f"via {gateway} dev eth0" in way, "by its InternalIP"
        assert ("proto bird" in way) is (driver == "bgp")
    cluster.policy("there", "shop", {"podSelector": {"matchLabels": {"app": "nobody"}}}, app="there")
    for ip in ips:
        eventually(lambda ip=ip: not here.connects(ip, 80, deadline=0.3), what="the policy is obeyed")
    leave(cluster)


@pytest.mark.deadline(180)
@pytest.mark.needs("wireguard-go", "tcpdump")
def test_what_is_encrypted_is_seen_by_nobody(cleanup: ExitStack, tmp_path: Path, containers: Containers) -> None:
    """Keys travel as annotations of the Node objects."""
    first = (network(BOTH, driver="host-gw", encrypt=True),)
    cluster = Cluster(cleanup, tmp_path, api, allocated=True, first=first)
    here, there, ips = join(cluster, containers)
    tap = Tap(cluster.api.switch)
    try:
        for ip in ips:
            assert here.pings(ip)
            assert here.connects(ip, 80)
        back = [one["local"] for one in here.json("ip", "-j", "address", "show", "eth0")[0]["addr_info"]]
        assert all(there.pings(one) for one in back if not one.startswith("fe80:"))
        assert not pods_in(tap.leaks())
    finally:
        tap.stop()
    encryption = cluster.agents[0].client.encryption
    assert "node2" in str(encryption())
    leave(cluster)
    eventually(lambda: "node2" not in str(encryption()), what="no peer")


def pods_in(leaks: list[str]) -> list[str]:
    """What was said in the clear and is of pods: nodes speak with the API server as they like."""
    return [line for line in leaks if "10.244." in line or "fd44:" in line]


# -- one family alone


@pytest.mark.deadline(180)
@pytest.mark.parametrize("family", [4, 6], ids=["IPv4 alone", "IPv6 alone"])
def test_a_cluster_of_one_family(cleanup: ExitStack, tmp_path: Path, containers: Containers, family: int) -> None:
    """InternalIPs, podCIDRs and the API server; with IPv6 the nodes have no other address either."""
    cluster = Cluster(cleanup, tmp_path, api, allocated=True, families=(family,))
    here, there, ips = join(cluster, containers)
    other = containers.new("other")
    for one in (here, there, *(cluster.nodes if family == 6 else ())):
        assert not one.run("ip", "-br", f"-{10 - family}", "address", "show", "scope", "global", "dev", "eth0")
    (ip,) = ips
    assert (":" in ip) is (family == 6)
    assert cluster.nodes[1].connects(ip, 80), "kubelet probes its pods"
    cluster.run(1, other, "other", labels={"app": "other"})
    assert other.connects(ip, 80)
    cluster.policy("there", "shop", {"podSelector": {"matchLabels": {"app": "here"}}}, app="there")
    eventually(lambda: not other.connects(ip, 80, deadline=0.3), what="the policy is obeyed")
    assert here.connects(ip, 80)
    for agent in cluster.agents:
        assert not [one for one in agent.client.doctor().findings if one.level == "error"]
    said = cluster.api.get("/api/v1/nodes/node1")["status"]["conditions"]
    assert {"NetworkUnavailable": "False"}.items() <= {one["type"]: one["status"] for one in said}.items()
    leave(cluster, (family,))
