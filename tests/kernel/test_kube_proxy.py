"""A real kube-proxy leads connections to services on, and policies judge whom it led them to: in both modes, on each plane.

It is found where KUBEBUILDER_ASSETS says; nothing installs one. ``test_fronts`` does without, and asks more.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kernel.apis import Real
from tests.kernel.test_cluster import known
from tests.kernel.test_kubernetes import SERVICE, Cluster
from tests.kernel.test_policy import hold  # noqa: F401  # a fixture
from tests.kubernetes.server import ADMIN
from tests.net import Containers, Namespace, end
from tests.wait import eventually

NEEDED = ("kube-proxy", "kube-apiserver", "etcd")
Hold = Callable[[Namespace, str, int], Callable[[], str]]


@pytest.fixture(params=["nftables", "iptables"])
def cluster(cleanup: ExitStack, tmp_path: Path, plane: str, request: pytest.FixtureRequest) -> Cluster:
    """Two nodes; on the first a kube-proxy."""
    assets = Path(os.environ.get("KUBEBUILDER_ASSETS", "/nowhere"))
    if missing := [name for name in NEEDED if not (assets / name).is_file()]:
        pytest.skip(f"KUBEBUILDER_ASSETS names no directory with {', '.join(missing)}")
    made = Cluster(cleanup, tmp_path, Real, "--plane", plane, allocated=True)
    made.namespace("shop")
    for agent in made.agents:
        eventually(lambda agent=agent: known(agent, "default"), what="the network is known")
    config = made.api.kubeconfig()
    config["users"][0]["user"] = {"token": ADMIN}
    (tmp_path / "proxy.conf").write_text(yaml.safe_dump(config))
    words = {
        "kubeconfig": tmp_path / "proxy.conf",
        "hostname-override": "node1",
        "proxy-mode": request.param,
        "feature-gates": "NFTablesProxyMode=true",
        "cluster-cidr": "10.244.0.0/16,fd44::/56",
        "conntrack-max-per-core": 0,
        "conntrack-tcp-timeout-established": "0s",
        "conntrack-tcp-timeout-close-wait": "0s",
    }
    command = [
        "nsenter",
        f"--net={made.nodes[0].path}",
        assets / "kube-proxy",
        *(f"--{key}={one}" for key, one in words.items()),
    ]
    with (tmp_path / "proxy.log").open("w") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, text=True)
    cleanup.callback(end, process)
    return made


def service(**behind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The service and its slice: pods by name and address."""
    ports = [{"name": "http", "port": 80, "targetPort": "web"}]
    made = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"}}
    slices = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4"}
    return (
        {**made, "spec": {"clusterIP": SERVICE, "ports": ports}},
        {
            **slices,
            "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": [one], "conditions": {"ready": True}} for one in behind.values()],
        },
    )


@pytest.mark.deadline(240)
def test_egress_goes_by_whom_kube_proxy_leads_to(cluster: Cluster, containers: Containers, hold: Hold) -> None:  # noqa: F811
    client, web, near = (containers.new(name) for name in ("client", "web", "near"))
    cluster.run(1, client, "client", labels={"app": "client"})
    far_at = cluster.run(2, web, "web", labels={"app": "web"})[0]
    near_at = cluster.run(1, near, "near", labels={"app": "near"})[0]
    server, _ = web.serve("tcp", 8080), near.serve("tcp", 8080)
    allowed = {"to": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 8080}]}
    out = {"podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Egress"], "egress": [allowed]}
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "out", "namespace": "shop"}}
    for one in service(web=far_at):
        cluster.api.apply(one)
    eventually(lambda: client.connects(SERVICE, 80, deadline=0.3), deadline=40, what="kube-proxy leads on")
    cluster.api.apply({**policy, "spec": out})
    eventually(lambda: not client.pings(cluster.nodes[1].v4), what="egress is isolated")
    assert client.connects(SERVICE, 80), "to a pod of another node that is allowed, whose port is another"
    say = hold(client, SERVICE, 80)
    assert say() == "answered"
    cluster.api.apply(service(web=far_at, near=near_at)[1])
    asked = [lambda: client.ask(SERVICE, 80, deadline=0.3)] * 30
    eventually(lambda: not all(one() for one in asked), deadline=20, what="it leads to either")
    answers = {one.name for one in (ask() for ask in asked) if one}
    assert answers == {server.name}, "who is not allowed answers nobody"
    assert say() == "answered"
    agent = cluster.agents[0]

    def dropped() -> set[tuple[str, str, int]]:
        found = agent.client.flows(to="shop/near", verdict="dropped")
        return {(str(one.destination.address), one.direction, one.destination.port) for one in found}

    eventually(lambda: (near_at, "egress", 8080) in dropped(), what="it is told who was not allowed")
    told = agent.client.explain(**{"from": "shop/client", "to": "svc:shop/web", "port": "http"})
    assert {str(one.address): one.told.allowed for one in told.backends} == {far_at: True, near_at: False}
    assert all(one.agrees for each in told.backends for one in each.told.kernel)
    cluster.api.apply(service(near=near_at)[1])
    eventually(lambda: not any(one() for one in asked[:5]), deadline=20, what="only to one who is not allowed")
    assert say() == "answered", "a connection to who is allowed lives on"
    cluster.api.apply({**policy, "spec": {**out, "egress": []}})
    eventually(lambda: say() == "silence", what="until it is denied")
    assert not agent.drift()
