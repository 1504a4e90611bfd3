"""A node that a real kubelet runs, with containerd: from NotReady to the end of its pods."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kernel.apis import HOSTS, Real
from tests.net import Outside
from tests.runtimes.agent import Agent
from tests.runtimes.containerd import PROGRAMS
from tests.runtimes.host import Host
from tests.runtimes.kubelet import IMAGE, NODE, Kubelet, assets
from tests.wait import eventually

pytestmark = [pytest.mark.needs(*PROGRAMS), pytest.mark.deadline(300)]

CONFIG = "/etc/fairlead/kubeconfig"
PODS = "/api/v1/namespaces/default/pods"
PROBE = {"periodSeconds": 1, "failureThreshold": 1}
SERVE = ("sh", "-c", "echo it is me >/tmp/index.html; exec httpd -f -p 80 -h /tmp")
PATIENCE = 60.0


class Cluster:
    """One node, with a kubelet that runs, and an agent that does not yet."""

    def __init__(self, host: Host, api: Real, folder: Path) -> None:
        self.host, self.api = host, api
        host.write(CONFIG, yaml.safe_dump(api.kubeconfig()))
        self.kubelet = Kubelet(host, api, folder)
        self.agent = Agent(host, "--node", NODE, "--store", f"kubernetes://{CONFIG}")
        self._asked = count()

    def condition(self, path: str, kind: str = "Ready") -> tuple[str, str]:
        """Status and message of a condition."""
        found = self.api.get(path).get("status", {}).get("conditions", ())
        return next(((one["status"], one.get("message", "")) for one in found if one["type"] == kind), ("", ""))

    def pod(self, name: str, *command: str, probe: Any = None, ports: Any = (), restart: str = "Always", **labels: str) -> None:
        """Have a pod on the node."""
        container = {"name": "it", "image": IMAGE, "imagePullPolicy": "Never", "command": command, "ports": list(ports)}
        probes = {"readinessProbe": {**probe, **PROBE}, "livenessProbe": {**probe, **PROBE}} if probe else {}
        spec = {"nodeName": NODE, "restartPolicy": restart, "terminationGracePeriodSeconds": 1}
        self.api.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": "default", "labels": {"app": name, **labels}},
                "spec": {**spec, "enableServiceLinks": False, "containers": [{**container, **probes}]},
            }
        )

    def ready(self, *names: str) -> None:
        for name in names:
            path = f"{PODS}/{name}"
            eventually(lambda path=path: self.condition(path)[0] == "True", PATIENCE, what=f"pod {name} is ready")

    def status(self, name: str) -> Any:
        return self.api.get(f"{PODS}/{name}")["status"]

    def asks(self, name: str, address: str) -> bool:
        """Whether a pod gets an answer from another."""
        container = self.status(name)["containerStatuses"][0]["containerID"].rpartition("/")[2]
        words = ("task", "exec", "--exec-id", f"ask{next(self._asked)}", container)
        ask = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 1 {address} 80 | tail -n 1"
        return "it is me" in self.kubelet.containerd.attempt("--namespace", "k8s.io", *words, "sh", "-c", ask).stdout

    def names(self) -> set[str]:
        """What the agent has an endpoint for."""
        return {one.display for one in self.agent.endpoints()}


@pytest.fixture
def cluster(cleanup: ExitStack, outside: Outside, host: Host, tmp_path: Path) -> Cluster:
    folder = assets()
    outside.run("ip", "address", "add", f"{HOSTS[4][0]}/32", "dev", "eth0")
    api = Real(outside, tmp_path)
    cleanup.callback(api.end)
    api.start()
    return Cluster(host, api, folder)


def test_a_node_from_its_first_pod_to_its_last(cluster: Cluster, outside: Outside) -> None:
    it_is_not_ready_without_a_network(cluster)
    pods_are_connected_and_probed(cluster, outside)
    policies_follow_labels_and_let_kubelet_in(cluster)
    nobody_notices(cluster, "kubelet", lambda: (cluster.kubelet.daemon.stop(), cluster.kubelet.daemon.start()))
    nobody_notices(
        cluster, "containerd", lambda: (cluster.kubelet.containerd.daemon.stop(), cluster.kubelet.containerd.start())
    )
    nobody_notices(cluster, "the agent", lambda: (cluster.agent.kill(), cluster.agent.start()))
    addresses_come_back(cluster)


def it_is_not_ready_without_a_network(cluster: Cluster) -> None:
    node = f"/api/v1/nodes/{NODE}"
    cluster.kubelet.start()

    def waits() -> bool:
        cluster.kubelet.daemon.alive()
        return cluster.condition(node)[0] == "False" and "network" in cluster.condition(node)[1]

    eventually(lambda: NODE in str(cluster.api.get("/api/v1/nodes")), PATIENCE, what="kubelet has made the node known")
    eventually(waits, PATIENCE, what="the node is not ready: it has no network")
    cidrs = {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]}
    cluster.api.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}, "spec": cidrs})
    cluster.agent.start()
    cluster.host.sh("fairlead cni install")
    eventually(lambda: cluster.condition(node)[0] == "True", PATIENCE, what="the node is ready")
    eventually(lambda: cluster.condition(node, "NetworkUnavailable")[0] == "False", PATIENCE, what="and says so")


def pods_are_connected_and_probed(cluster: Cluster, outside: Outside) -> None:
    cluster.pod("web", *SERVE, probe={"httpGet": {"path": "/", "port": 80}}, ports=[{"containerPort": 80, "hostPort": 8080}])
    cluster.pod("ask", "sleep", "3600")
    cluster.ready("web", "ask")
    given = {one.display: one.spec.addresses[0].address for one in cluster.agent.endpoints()}
    assert {name: cluster.status(name)["podIP"] for name in given} == given
    assert all(address.startswith("10.244.1.") for address in given.values())
    assert cluster.asks("ask", given["web"])
    assert outside.run("curl", "-sS", "-m", 2, f"http://{Host.v4}:8080/") == "it is me\n"


def policies_follow_labels_and_let_kubelet_in(cluster: Cluster) -> None:
    at = cluster.status("web")["podIP"]
    friends = {"podSelector": {"matchLabels": {"friend": "yes"}}}
    spec = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [friends]}]}
    meta = {"name": "friends", "namespace": "default"}
    cluster.api.apply({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec})
    eventually(lambda: not cluster.asks("ask", at), what="no friend is not let in")
    cluster.pod("ask", "sleep", "3600", friend="yes")
    eventually(lambda: cluster.asks("ask", at), what="one that became a friend is")
    cluster.pod("late", *SERVE, probe={"tcpSocket": {"port": 80}})
    cluster.ready("late", "web")
    assert not cluster.status("web")["containerStatuses"][0]["restartCount"]


def nobody_notices(cluster: Cluster, who: str, restart: Callable[[], object]) -> None:
    """What every pod is stays as it is."""

    def pods() -> dict[str, tuple[str, int, str]]:
        found = cluster.api.get(PODS)["items"]
        return {one["metadata"]["name"]: _life(one["status"]) for one in found}

    before = pods()
    restart()
    eventually(lambda: cluster.condition(f"/api/v1/nodes/{NODE}")[0] == "True", PATIENCE, what=f"{who} is back")
    cluster.pod("new", "sleep", "3600")
    cluster.ready("new", "web", "late")
    cluster.api.delete("Pod", "new", "default")
    eventually(lambda: "new" not in cluster.names(), PATIENCE, what=f"{who}: a pod that was ended at once is gone")
    assert {name: life for name, life in pods().items() if name != "new"} == before, who
    assert cluster.asks("ask", before["web"][0])


def _life(status: Any) -> tuple[str, int, str]:
    (container,) = status["containerStatuses"]
    return status["podIP"], container["restartCount"], container["containerID"]


def addresses_come_back(cluster: Cluster) -> None:
    cluster.pod("done", "true", restart="Never")
    eventually(lambda: cluster.status("done").get("phase") == "Succeeded", PATIENCE, what="the pod has done its work")
    eventually(lambda: "done" not in cluster.names(), PATIENCE, what="its address is free")
    assert not cluster.agent.drift()
    for name in ("web", "ask", "late", "done"):
        cluster.api.delete("Pod", name, "default")
    eventually(lambda: not cluster.names(), PATIENCE, what="every address is free")
