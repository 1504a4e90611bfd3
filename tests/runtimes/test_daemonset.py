"""The agent in a pod: started as the DaemonSet says, and what outlives its container."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from tests.kernel.apis import HOSTS, StandIn
from tests.net import Outside
from tests.runtimes.daemonset import DaemonSet
from tests.runtimes.host import Host
from tests.runtimes.podman import PROGRAMS, Podman

pytestmark = [pytest.mark.needs(*PROGRAMS), pytest.mark.kernel("ebpf")]

NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "n1"},
    "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]},
    "status": {"addresses": [{"type": "InternalIP", "address": Host.v4}], "conditions": [{"type": "Ready", "status": "True"}]},
}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
    "spec": {"nodeName": "n1", "containers": [{"name": "web", "image": "web"}]},
}


@pytest.fixture
def api(cleanup: ExitStack, outside: Outside, host: Host, tmp_path: Path) -> StandIn:  # noqa: ARG001  # who is plugged in has a cable
    """An API server that knows the node and a pod of it."""
    outside.run("ip", "address", "add", f"{HOSTS[4][0]}/32", "dev", "eth0")
    made = StandIn(outside, tmp_path)
    made.start()
    cleanup.callback(made.end)
    for one in (NODE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}, POD):
        made.apply(one)
    return made


@pytest.fixture
def pod(api: StandIn, host: Host) -> DaemonSet:
    host.sh("mount --make-rshared /")  # as systemd has it
    host.write("/etc/fairlead/kubeconfig", yaml.safe_dump(api.kubeconfig()))
    return DaemonSet(host, Podman(host), "n1", "/etc/fairlead/kubeconfig")


def add(host: Host) -> str:
    """Have a sandbox of the pod connected, as a runtime does; its address."""
    host.sh("ip netns add web")
    conf = {"cniVersion": "1.1.0", "name": "fairlead", "type": "fairlead", "network": "default"}
    words = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "web",
        "CNI_NETNS": "/run/netns/web",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/opt/cni/bin",
        "CNI_ARGS": "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;IgnoreUnknown=1",
    }
    said = [f"{key}={text}" for key, text in words.items()]
    answer = json.loads(host.run("env", *said, "/opt/cni/bin/fairlead", stdin=json.dumps(conf)))
    address: str = answer["ips"][0]["address"]
    return address.partition("/")[0]


@pytest.mark.deadline(180)
def test_the_next_container_finds_nothing_to_do(pod: DaemonSet, host: Host) -> None:
    assert "/host/cni/net.d/10-fairlead.conflist" in pod.install()
    pod.start()
    address = add(host)
    assert address.startswith("10.244.1.")
    assert host.pings(address)
    assert pod.client.status().plane == "ebpf"
    maps = host.run("ls", "/run/fairlead/bpf/maps")
    pod.end()
    assert host.run("ls", "/run/fairlead/bpf/maps") == maps, "what is pinned is the node's"
    assert host.pings(address)
    pod.start()
    assert "repairing" not in pod.log, "programs, their maps and what these remember are as they were"
    assert not pod.client.status().repairs
    assert host.pings(address)
