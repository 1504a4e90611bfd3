"""Play: a cluster played into the stand-in, as a process of its own: nodes, policies, services, and pods that change.

    python -m tests.kubernetes.play --nodes 1000 --pods 50000 --policies 1000

It prints the port and then, for each line that it reads, does what the line says: ``churn N`` changes N pods a second until
the next line, ``label POD VALUE`` changes a label of one pod, ``put PLURAL JSON`` puts any object, ``end`` ends it. Objects
are as large as real ones: a pod has some four kilobytes, half of them managedFields.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import sys
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from tests.kubernetes.standin.history import Kept, Tree
from tests.kubernetes.standin.server import StandIn

_REMEMBERED = 100_000
"""Changes, for clients that take long to list."""
_DEPLOYMENTS = 20
"""Pods of one template."""


def uid(kind: int, number: int) -> str:
    return f"{kind:08x}-0000-4000-8000-{number:012x}"


def namespace_of(number: int) -> str:
    return f"team-{number // _DEPLOYMENTS % 100:02}"


def pod_name(number: int) -> str:
    return f"web-{number // _DEPLOYMENTS:05}-6d4cf56db6-{number:05}"


def address(number: int) -> str:
    return str(ipaddress.IPv4Address("10.0.0.0") + 256 + number)


def node(number: int) -> Tree:
    """One node, as kubelet and the cloud's controllers leave it."""
    name, ip = f"node-{number:04}", str(ipaddress.IPv4Address("192.168.0.0") + 10 + number)
    conditions = [
        {
            "type": kind,
            "status": "True" if kind == "Ready" else "False",
            "lastHeartbeatTime": "2026-01-01T00:00:00Z",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "reason": f"Kubelet{kind}",
            "message": f"kubelet is posting {kind} status",
        }
        for kind in ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
    ]
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "topology.kubernetes.io/zone": f"z{number % 3}"}
    cidr = str(ipaddress.ip_network((int(ipaddress.IPv4Address("10.0.0.0")) + 256 * number, 24)))
    return {
        "metadata": {"name": name, "uid": uid(1, number), "labels": labels, "managedFields": _managed("kubelet", 20)},
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr], "providerID": f"test://{name}"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": ip}, {"type": "Hostname", "address": name}],
            "capacity": {"cpu": "16", "memory": "65843152Ki", "pods": "110"},
            "conditions": conditions,
            "nodeInfo": {"kubeletVersion": "v1.34.0", "containerRuntimeVersion": "containerd://2.1.0", "architecture": "amd64"},
            "images": [{"names": [f"registry.example/image-{at}@sha256:{'0' * 64}"], "sizeBytes": 123456} for at in range(20)],
        },
    }


def pod(number: int, nodes: int, version: int = 0) -> Tree:
    """One running pod, as its controller, the scheduler and kubelet leave it."""
    app, template = f"web-{number // _DEPLOYMENTS:05}", "6d4cf56db6"
    owner = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": f"{app}-{template}",
        "uid": uid(3, number // _DEPLOYMENTS),
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "metadata": {
            "name": pod_name(number),
            "generateName": f"{app}-{template}-",
            "namespace": namespace_of(number),
            "uid": uid(2, number),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": app, "pod-template-hash": template, "tier": f"t{number % 5}", "version": f"v{version}"},
            "annotations": {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z", "checksum/config": "0" * 64},
            "ownerReferences": [owner],
            "managedFields": [*_managed("kube-controller-manager", 24), *_managed("kubelet", 24)],
        },
        "spec": _pod_spec(template, f"node-{number % nodes:04}"),
        "status": _pod_status(template, number),
    }


def _pod_spec(template: str, node_name: str) -> Tree:
    mount = {"name": "kube-api-access-x7k2p", "readOnly": True, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    sources = [{"serviceAccountToken": {"path": "token"}}]
    container = {
        "name": "web",
        "image": f"registry.example/web:{template}",
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "env": [{"name": f"SETTING_{at}", "value": f"value-{at}"} for at in range(6)],
        "resources": {"limits": {"memory": "256Mi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
        "volumeMounts": [mount],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080, "scheme": "HTTP"}, "periodSeconds": 10},
        "terminationMessagePath": "/dev/termination-log",
        "imagePullPolicy": "IfNotPresent",
    }
    return {
        "volumes": [{"name": "kube-api-access-x7k2p", "projected": {"defaultMode": 420, "sources": sources}}],
        "containers": [container],
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "serviceAccountName": "default",
        "nodeName": node_name,
        "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
    }


def _pod_status(template: str, number: int) -> Tree:
    container = {
        "name": "web",
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        "ready": True,
        "restartCount": 0,
        "image": f"registry.example/web:{template}",
        "imageID": f"registry.example/web@sha256:{'0' * 64}",
        "containerID": f"containerd://{number:064x}",
    }
    return {
        "phase": "Running",
        "conditions": [
            {"type": one, "status": "True", "lastProbeTime": None, "lastTransitionTime": "2026-01-01T00:00:00Z"}
            for one in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
        ],
        "hostIP": "192.168.0.10",
        "hostIPs": [{"ip": "192.168.0.10"}],
        "podIP": address(number),
        "podIPs": [{"ip": address(number)}],
        "startTime": "2026-01-01T00:00:00Z",
        "containerStatuses": [container],
        "qosClass": "Burstable",
    }


def service(number: int) -> Tree:
    """The service of one deployment; of every other at the port that its pods have."""
    app = f"web-{number:05}"
    ip = str(ipaddress.IPv4Address("10.96.0.0") + 256 + number)
    return {
        "metadata": {
            "name": app,
            "namespace": namespace_of(number * _DEPLOYMENTS),
            "uid": uid(5, number),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": app},
            "managedFields": _managed("kubectl", 12),
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": ip,
            "clusterIPs": [ip],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
            "selector": {"app": app},
            "ports": [{"name": "http", "port": 8080 if number % 2 else 80, "protocol": "TCP", "targetPort": "http"}],
        },
        "status": {"loadBalancer": {}},
    }


def endpoints(number: int, nodes: int, pods: int) -> Tree:
    """The EndpointSlice of one deployment's service, as its controller writes it."""
    app, namespace = f"web-{number:05}", namespace_of(number * _DEPLOYMENTS)
    return {
        "metadata": {
            "name": f"{app}-x7k2p",
            "generateName": f"{app}-",
            "namespace": namespace,
            "uid": uid(6, number),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": app, "kubernetes.io/service-name": app, "endpointslice.kubernetes.io/managed-by": "controller"},
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"},
            "managedFields": _managed("kube-controller-manager", 12),
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [address(one)],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "nodeName": f"node-{one % nodes:04}",
                "zone": f"z{one % nodes % 3}",
                "targetRef": {"kind": "Pod", "name": pod_name(one), "namespace": namespace, "uid": uid(2, one)},
            }
            for one in range(number * _DEPLOYMENTS, min((number + 1) * _DEPLOYMENTS, pods))
        ],
    }


def policy(number: int) -> Tree:
    """One NetworkPolicy: who may reach one deployment."""
    deployments = 2500
    app, other = f"web-{number % deployments:05}", f"web-{(number * 7 + 1) % deployments:05}"
    return {
        "metadata": {"name": f"allow-{number:04}", "namespace": namespace_of(number * _DEPLOYMENTS), "uid": uid(4, number)},
        "spec": {
            "podSelector": {"matchLabels": {"app": app}},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": other}}}],
                    "ports": [{"protocol": "TCP", "port": 8080}],
                }
            ],
        },
    }


def _managed(manager: str, fields: int) -> list[Tree]:
    inner = {f"f:field{at}": {".": {}, "f:inner": {}} for at in range(fields)}
    about = {"manager": manager, "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z"}
    return [{**about, "fieldsType": "FieldsV1", "fieldsV1": {"f:status": inner}}]


class Play:
    """The cluster, and what happens in it."""

    def __init__(self, server: StandIn, nodes: int, pods: int, policies: int) -> None:
        self.server, self.nodes, self.pods = server, nodes, pods
        self._versions = [0] * pods
        self._next = 0
        for number in range(nodes):
            server.put("nodes", node(number))
        for name in sorted({namespace_of(number) for number in range(pods)}):
            server.put("namespaces", {"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}, "spec": {}})
        self._fill(pods)
        for number in range(policies):
            server.put("networkpolicies", policy(number))
        for number in range(-(-pods // _DEPLOYMENTS)):
            server.put("services", service(number))
            server.put("endpointslices", endpoints(number, nodes, pods))

    def _fill(self, pods: int) -> None:
        """The pods that are there from the start, without the history of their births."""
        history = self.server.history
        table = history.tables.setdefault("pods", {})
        for number in range(pods):
            history.revision += 1
            tree = {"apiVersion": "v1", "kind": "Pod", **pod(number, self.nodes)}
            tree["metadata"]["resourceVersion"] = str(history.revision)
            table[namespace_of(number), pod_name(number)] = Kept(history.revision, msgspec.json.encode(tree))
        history.floor = history.revision

    def change(self) -> None:
        """One more pod has another label."""
        number, self._next = self._next, (self._next + 977) % self.pods
        self._versions[number] += 1
        self.server.put("pods", pod(number, self.nodes, self._versions[number]))

    def label(self, number: int, value: int) -> None:
        self._versions[number] = value
        self.server.put("pods", pod(number, self.nodes, value))

    async def obey(self, lines: Iterator[str]) -> None:
        """Do what the lines say, until ``end``."""
        loop = asyncio.get_running_loop()
        churning: asyncio.Task[None] | None = None
        while True:
            words = (await loop.run_in_executor(None, lambda: next(lines, "end"))).split(maxsplit=2)
            if churning:
                churning.cancel()
                churning = None
            match words:
                case ["churn", rate]:
                    churning = loop.create_task(self._churn(float(rate)))
                case ["label", number, value]:
                    self.label(int(number), int(value))
                    _say(time.time())
                case ["put", plural, tree]:
                    self.server.put(plural, msgspec.json.decode(tree))
                    _say("done")
                case ["end"] | []:
                    return

    async def _churn(self, rate: float) -> None:
        loop = asyncio.get_running_loop()
        begun, done = loop.time(), 0
        while True:
            while done < (loop.time() - begun) * rate:
                self.change()
                done += 1
            await asyncio.sleep(min(0.1, 1 / rate))


def _say(*words: Any) -> None:
    print(*words, flush=True)  # noqa: T201  # it is what the other process reads


def main() -> None:
    parser = argparse.ArgumentParser(description="A cluster played into an API server that stands in for Kubernetes's.")
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=50_000)
    parser.add_argument("--policies", type=int, default=1000)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--definitions", default="", help="a file with the CustomResourceDefinitions")
    given = parser.parse_args()

    async def run() -> None:
        server = StandIn(_definitions(given.definitions), port=given.port, host=given.host)
        server.history.keep = _REMEMBERED
        play = Play(server, given.nodes, given.pods, given.policies)
        await server.listen()
        _say(server.port)
        await play.obey(iter(sys.stdin.readline, ""))
        await server.leave()

    asyncio.run(run())


def _definitions(path: str) -> list[Tree]:
    if not path:
        return []
    import yaml  # noqa: PLC0415  # only where there are some

    with open(path, encoding="utf-8") as file:  # noqa: PTH123  # once
        return [one for one in yaml.safe_load_all(file) if one and one["kind"] == "CustomResourceDefinition"]


if __name__ == "__main__":
    main()
