"""What pods of a Kubernetes cluster ask for, and who they are: from the object, through the plugin, to packets.

As in ``test_kubernetes``: two nodes, an API server, real or standing in, and the test does what kubelet would.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fairlead.api.schema import Flow
from fairlead.model.meta import Object
from fairlead.model.service import Service
from tests.kernel.apis import api
from tests.kernel.test_cluster import known
from tests.kernel.test_cni import cni
from tests.kernel.test_kubernetes import CONF, SERVICE, Cluster, kube_proxy
from tests.kernel.test_limits import RATE, _rate
from tests.net import Containers, Namespace
from tests.wait import eventually

STATUS = "k8s.v1.cni.cncf.io/network-status"
POOLS = {
    "apiVersion": "fairlead.dev/v1",
    "kind": "Network",
    "metadata": {"name": "pools"},
    "spec": {"driver": "vxlan", "subnets": [{"cidr": "10.70.0.0/16"}, {"cidr": "10.71.0.0/16"}]},
}
FREE, SLOW = ["10.244.1.40", "fd44:0:0:1::40"], ["10.244.1.50", "fd44:0:0:1::50"]
MAC = "02:00:00:00:00:50"


@pytest.fixture
def cluster(cleanup: ExitStack, tmp_path: Path, request: pytest.FixtureRequest) -> Cluster:
    made = Cluster(cleanup, tmp_path, api, *getattr(request, "param", ()), allocated=True, first=(POOLS,))
    for name in ("shop", "bank"):
        made.namespace(name)
    for agent in made.agents:
        eventually(lambda agent=agent: known(agent, "default") and known(agent, "pools"), what="networks are known")
    return made


# -- what a pod asks for


@pytest.mark.alone
@pytest.mark.deadline(180)
@pytest.mark.parametrize("cluster", [("--network-status", "true")], indirect=True)
def test_a_pod_gets_what_it_asks_for(cluster: Cluster, containers: Containers) -> None:
    free, slow = containers.new("free"), containers.new("slow")
    asked = {
        "fairlead.dev/addresses": ",".join(SLOW),
        "fairlead.dev/mac": MAC,
        "kubernetes.io/ingress-bandwidth": "20M",
        "kubernetes.io/egress-bandwidth": "40M",
    }
    assert cluster.run(1, free, "free", annotations={"fairlead.dev/addresses": ",".join(FREE)}) == FREE
    assert cluster.run(1, slow, "slow", annotations=asked, port={"hostPort": 8080}) == SLOW
    (inside,) = slow.json("ip", "-j", "address", "show", "eth0")
    assert inside["address"] == MAC
    assert {one["local"] for one in inside["addr_info"] if one["scope"] == "global"} == {*SLOW}
    published_on_its_node(cluster, slow)
    both_ways_are_limited(free, slow)
    a_pool_is_chosen(cluster, containers.new("pooled"))
    further_networks_are_told_of(cluster, containers.new("wide"))
    what_cannot_be_is_refused(cluster, containers.new("wrong"))
    assert not cluster.agents[0].drift()


def published_on_its_node(cluster: Cluster, slow: Namespace) -> None:
    """hostPort, of each family, for another machine; and nobody else gets the port meanwhile."""
    server, (here, there) = slow.serve("tcp", 80), cluster.nodes
    for address in (here.v4, here.v6):
        answer = there.ask(address, 8080)
        assert answer is not None
        assert answer.name == server.name
    server.stop()


def both_ways_are_limited(free: Namespace, slow: Namespace) -> None:
    """As test_limits measures, but for the burst, which here is as the annotation leaves it."""
    received, sent = _rate(free, slow, SLOW[0], 7001), _rate(slow, free, FREE[0], 7002)
    assert RATE * 0.5 < received < RATE * 1.6
    assert RATE * 0.5 < sent < RATE * 3.2


def a_pool_is_chosen(cluster: Cluster, pooled: Namespace) -> None:
    asked = {"fairlead.dev/network": "pools", "fairlead.dev/pool": "10.71.0.0/16"}
    (address,) = cluster.run(2, pooled, "pooled", annotations=asked)
    assert address.startswith("10.71.")
    eventually(lambda: cluster.nodes[0].pings(address), what="the way to it from the other node")


def further_networks_are_told_of(cluster: Cluster, wide: Namespace) -> None:
    cluster.api.grant("network-status.yaml")
    ips = cluster.run(1, wide, "wide", annotations={"k8s.v1.cni.cncf.io/networks": "pools@side"})

    def told(name: str) -> list[dict[str, Any]]:
        meta = cluster.api.get(f"/api/v1/namespaces/shop/pods/{name}")["metadata"]
        found: list[dict[str, Any]] = json.loads(meta.get("annotations", {}).get(STATUS, "[]"))
        return found

    eventually(lambda: told("wide"), deadline=70, what="the annotation")
    links = {link["ifname"]: link for link in wide.json("ip", "-j", "address")}
    side = next(one["local"] for one in links["side"]["addr_info"] if one["scope"] == "global")
    assert told("wide") == [
        {"name": "default", "interface": "eth0", "ips": ips, "mac": links["eth0"]["address"], "default": True, "dns": {}},
        {
            "name": "shop/pools",
            "interface": "side",
            "ips": [side],
            "mac": links["side"]["address"],
            "default": False,
            "dns": {},
        },
    ]
    assert told("free") == [], "who asked for nothing is not written to"


def what_cannot_be_is_refused(cluster: Cluster, wrong: Namespace) -> None:
    wrongs = (
        ("fairlead.dev/addresses", "10.99.0.1", "10.99.0.1"),
        ("fairlead.dev/addresses", SLOW[0], f"{SLOW[0]} of network default is held by slow"),
        ("fairlead.dev/mac", "nonsense", "metadata.annotations[fairlead.dev/mac]"),
        ("fairlead.dev/pool", "10.71.0.0/16", "is no subnet of network default"),
        ("kubernetes.io/ingress-bandwidth", "fast", "metadata.annotations[kubernetes.io/ingress-bandwidth]"),
    )
    for at, (key, text, said) in enumerate(wrongs):
        made = cluster.pod(1, f"wrong{at}", annotations={key: text})
        args = f"K8S_POD_NAMESPACE=shop;K8S_POD_NAME=wrong{at};K8S_POD_UID={made['metadata']['uid']}"
        status, result = cni(cluster.nodes[0], "ADD", wrong, CONF, CNI_ARGS=args)
        assert status == 1
        assert said in f"{result['msg']} {result.get('details', '')}", result
        assert "eth0" not in wrong.run("ip", "-br", "link"), "nothing is half done"


# -- who a pod is


@pytest.mark.deadline(180)
def test_who_ended_or_has_no_address_of_its_own_is_nobody(cluster: Cluster, containers: Containers) -> None:
    web = containers.new("web")
    ips = cluster.run(2, web, "web", labels={"app": "web"})
    web.serve("tcp", 80)
    cluster.policy("web", "shop", {"podSelector": {"matchLabels": {"app": "vip"}}}, app="web")
    for phase in ("Succeeded", "Failed"):
        a_completed_pod_frees_its_addresses(cluster, containers, ips, phase)
    a_pod_on_the_hosts_network_is_the_node(cluster, web, ips, containers.new("later"))


def a_completed_pod_frees_its_addresses(cluster: Cluster, containers: Containers, web: list[str], phase: str) -> None:
    """Its object stays, with the address that it had, which others have by then."""
    first, other, second = (containers.new(f"{phase.lower()}{at}") for at in range(3))
    name, wish = f"job-{phase.lower()}", {"fairlead.dev/addresses": "10.244.1.77"}
    cluster.run(1, first, name, labels={"app": "vip"}, annotations=wish)
    eventually(lambda: first.connects(web[0], 80, deadline=0.3), what="who is let in")
    cluster.report(1, name, ["10.244.1.77"], phase=phase, labels={"app": "vip"}, annotations=wish)
    eventually(lambda: not first.connects(web[0], 80, deadline=0.3), what="one that has ended is nobody")
    cluster.end(1, first, name)
    eventually(lambda: "eth0" not in first.run("ip", "-br", "link"))
    (v4, _) = cluster.run(1, other, f"other-{phase.lower()}", labels={"app": "other"})
    assert v4 != "10.244.1.77", "what was freed last is given out last"
    cluster.run(1, second, f"next-{phase.lower()}", labels={"app": "next"}, annotations=wish)
    assert not second.connects(web[0], 80, deadline=0.5), "it is not judged by the labels of the one that ended"
    cluster.report(1, f"next-{phase.lower()}", ["10.244.1.77"], labels={"app": "vip"}, annotations=wish)
    eventually(lambda: second.connects(web[0], 80, deadline=0.3), what="by its own it is let in")
    cluster.api.delete("Pod", name, "shop")
    cluster.policy("seen", "shop", {"podSelector": {"matchLabels": {"app": phase}}}, app="none")
    eventually(lambda: phase in str(cluster.agents[1].client.objects("networkpolicies")), what="what came after the deletion")
    assert second.connects(web[0], 80), "the end of the old object does not end the new pod"
    cluster.end(1, second, f"next-{phase.lower()}")
    cluster.api.delete("Pod", f"next-{phase.lower()}", "shop")
    eventually(lambda: "eth0" not in second.run("ip", "-br", "link"))


def a_pod_on_the_hosts_network_is_the_node(cluster: Cluster, web: Namespace, ips: list[str], later: Namespace) -> None:
    """No policy selects it; its labels let nobody in; as the node it may be let in."""
    node = cluster.nodes[0]
    cluster.pod(1, "hosted", status={"phase": "Running", "podIPs": [{"ip": node.v4}]}, host=True, labels={"app": "vip"})
    cluster.run(1, later, "later", labels={"app": "vip"})
    eventually(lambda: later.connects(ips[0], 80, deadline=0.3), what="the other node knows a pod that came later")
    assert not node.connects(ips[0], 80, deadline=0.5), "its labels are not the node's"
    cluster.policy("node", "shop", {"ipBlock": {"cidr": f"{node.v4}/32"}}, app="web")
    eventually(lambda: node.connects(ips[0], 80, deadline=0.3), what="the node is let in")
    cluster.policy("hosted", "shop", {"podSelector": {"matchLabels": {"app": "nobody"}}}, app="vip")
    server = node.serve("tcp", 80)
    eventually(lambda: web.connects(node.v4, 80, deadline=0.3), what="a policy that selects it isolates no node")
    server.stop()


# -- services


def service(**spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"clusterIP": SERVICE, "selector": {"app": "web"}, "ports": ports, **spec},
    }


def endpoints(**ready: bool) -> dict[str, Any]:
    """The slice of the service, as its controller writes it: addresses with ``_`` for dots."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": [address.strip("_").replace("_", ".")], "conditions": {"ready": one}}
            for address, one in ready.items()
        ],
    }


@pytest.mark.deadline(180)
@pytest.mark.parametrize(
    "cluster",
    [pytest.param(("--plane", "ebpf"), marks=pytest.mark.kernel("ebpf")), ("--plane", "nftables")],
    indirect=True,
    ids=["ebpf", "nftables"],
)
def test_services_name_flows_and_are_explained(cluster: Cluster, containers: Containers) -> None:
    client, web, other = (containers.new(name) for name in ("client", "web", "other"))
    cluster.run(1, client, "client", labels={"app": "client"})
    kube_proxy(cluster.nodes[0])
    cluster.run(2, web, "web", labels={"app": "web"}, annotations={"fairlead.dev/addresses": "10.244.2.77"})
    cluster.run(2, other, "other", labels={"app": "other"}, annotations={"fairlead.dev/addresses": "10.244.2.78"})
    web.serve("tcp", 80)
    cluster.api.apply(service())
    cluster.api.apply(endpoints(_10_244_2_77=True, _10_244_2_78=False))
    agent = cluster.agents[0]

    def shown(plural: str) -> list[Object]:
        """Of the namespace: a real API server has a service of its own."""
        return [one for one in agent.client.objects(plural) if one.metadata.namespace == "shop"]

    eventually(lambda: shown("services") and shown("endpointslices"), what="services are known")
    (known_as,) = shown("services")
    assert isinstance(known_as, Service)
    assert (known_as.name, known_as.addresses) == ("web", (SERVICE,))
    eventually(lambda: client.connects(SERVICE, 80), what="kube-proxy leads to the backend")

    def named() -> list[Flow]:
        return [one for one in agent.client.flows(to="svc:shop/web") if one.source.endpoint == "client"]

    flow = eventually(named, what="a flow to the service")[0]
    to = flow.destination
    assert (to.kind, to.namespace, to.service, to.address, to.port) == ("service", "shop", "web", SERVICE, 80)

    def explained() -> tuple[bool, list[tuple[str, bool]]]:
        told = agent.client.explain(**{"from": "shop/client", "to": "svc:shop/web", "port": "http"})
        assert all(one.agrees for each in (told, *(one.told for one in told.backends)) for one in each.kernel)
        return told.allowed, [(str(one.address), one.told.allowed) for one in told.backends]

    assert explained() == (True, [("10.244.2.77", True)])
    cluster.policy("web", "shop", {"podSelector": {"matchLabels": {"app": "other"}}}, app="web")
    eventually(lambda: explained() == (False, [("10.244.2.77", False)]), what="the policy is in the explanation")
    assert not client.connects(SERVICE, 80, deadline=0.3), "and it is so"
    cluster.api.apply(endpoints(_10_244_2_77=True, _10_244_2_78=True))
    both = [("10.244.2.77", False), ("10.244.2.78", True)]
    eventually(lambda: explained() == (False, both), what="a backend that became ready")
    egress_goes_by_whom_it_is_led_to_or_by_its_address(cluster, client, explained)
    cluster.api.delete("Service", "web", "shop")
    eventually(lambda: not shown("services"), what="a service that is gone")


def egress_goes_by_whom_it_is_led_to_or_by_its_address(
    cluster: Cluster, client: Namespace, explained: Callable[[], tuple[bool, list[tuple[str, bool]]]]
) -> None:
    """kube-proxy leads on to pods of the other node, and egress is judged here: by who is reached, else by the address."""
    cluster.api.apply(endpoints(_10_244_2_77=True))
    cluster.policy("web", "shop", {"podSelector": {"matchLabels": {"app": "client"}}}, app="web")
    out = [{"to": [{"podSelector": {"matchLabels": {"app": "web"}}}]}]
    tree = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "out", "namespace": "shop"},
        "spec": {"podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Egress"], "egress": out},
    }
    cluster.api.apply(tree)
    eventually(lambda: not client.pings(cluster.nodes[1].v4), what="egress is isolated")
    assert client.connects(SERVICE, 80), "as to the pod that it is led to"
    assert explained() == (True, [("10.244.2.77", True)])
    web = ["10.244.2.77"]
    cluster.report(2, "web", web, labels={"app": "moved"})
    eventually(lambda: not client.connects(SERVICE, 80, deadline=0.3), what="with other labels it is not")
    dropped = cluster.agents[0].client.flows(to="shop/web", verdict="dropped")
    assert {(one.source.endpoint, one.destination.address, one.direction) for one in dropped} >= {("client", web[0], "egress")}
    assert explained() == (False, [("10.244.2.77", False)])
    cluster.report(2, "web", web, labels={"app": "web"})
    eventually(lambda: client.connects(SERVICE, 80, deadline=0.3), what="with the old ones it is")
    cluster.api.apply(endpoints(_10_244_2_77=True, _10_244_2_78=True))
    both = [("10.244.2.77", True), ("10.244.2.78", False)]
    eventually(lambda: explained() == (False, both), what="somebody else behind it, too")
    assert client.connects(SERVICE, 80), "it is led to the one who is allowed"
    cluster.report(2, "web", web, labels={"app": "moved"})
    eventually(lambda: not client.connects(SERVICE, 80, deadline=0.3), what="with other labels it is not")
    tree["spec"]["egress"] = [*out, {"to": [{"ipBlock": {"cidr": f"{SERVICE}/32"}}]}]  # type: ignore[index]
    cluster.api.apply(tree)
    eventually(lambda: client.connects(SERVICE, 80, deadline=0.3), what="with the address let through, it is")
    assert not client.connects("10.244.2.77", 80, deadline=0.3)
