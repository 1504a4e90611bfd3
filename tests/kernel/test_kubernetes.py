"""Agents whose store is the Kubernetes API: two nodes on a switch, and on it the server that stands in for the API's."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kernel.agents import Agent, address
from tests.kernel.test_cluster import Station, known
from tests.net import Containers, Namespace, end, kept
from tests.tree import ROOT
from tests.wait import eventually

HOST, PORT = "192.0.2.250", 6443


class Api:
    """The API server, on the switch. What it holds ends with it."""

    def __init__(self, switch: Namespace) -> None:
        words = ("--nodes", "0", "--pods", "0", "--policies", "0", "--host", HOST, "--port", str(PORT))
        crds = ("--definitions", ROOT / "deploy/kubernetes/base/crds.yaml")
        command = ["nsenter", f"--net={switch.path}", sys.executable, "-m", "tests.kubernetes.play", *words, *crds]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._process.stdout
        assert self._process.stdout.readline() == f"{PORT}\n"
        self._switch = switch
        self.put("namespaces", {"metadata": {"name": "fairlead-system"}})

    def put(self, plural: str, tree: Any) -> None:
        """Put an object, as a person, kubelet or a controller does."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"put {plural} {json.dumps(tree)}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    def get(self, path: str) -> Any:
        """Ask it."""
        return json.loads(self._switch.run("curl", "-sf", f"http://{HOST}:{PORT}{path}"))

    def cut(self, *, off: bool) -> None:
        """Let nobody reach it, or everybody again."""
        self._switch.run("ip", "address", "del" if off else "add", f"{HOST}/24", "dev", "switch")

    def end(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        end(self._process)
        self._process.stdin.close()
        self._process.stdout.close()


class Cluster:
    """Two nodes that kubelet has made known, with agents."""

    def __init__(self, cleanup: ExitStack, folder: Path) -> None:
        switch = kept(cleanup, Namespace("switch"))
        switch.run("ip", "link", "set", "lo", "up")
        switch.run("ip", "link", "add", "switch", "up", "type", "bridge")
        switch.run("ip", "address", "add", f"{HOST}/24", "dev", "switch")
        self.api = Api(switch)
        cleanup.callback(self.api.end)
        config = folder / "kubeconfig"
        config.write_text(yaml.safe_dump(kubeconfig()))
        self.nodes = [kept(cleanup, Station(folder / f"node{at}", at, switch)) for at in (1, 2)]
        self.agents = []
        for node in self.nodes:
            name = f"node{node.number}"
            addresses = [{"type": "InternalIP", "address": node.v4}, {"type": "Hostname", "address": name}]
            self.api.put("nodes", {"metadata": {"name": name}, "spec": {}, "status": {"addresses": addresses}})
            agent = Agent(node, "--node", name, "--store", f"kubernetes://{config}", "--interval", "2", "--ttl", "2")
            cleanup.callback(agent.remove)
            agent.start()
            self.agents.append(agent)


def kubeconfig() -> dict[str, Any]:
    return {
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it"}}],
        "clusters": [{"name": "it", "cluster": {"server": f"http://{HOST}:{PORT}"}}],
    }


@pytest.fixture
def cluster(cleanup: ExitStack, tmp_path: Path) -> Cluster:
    made = Cluster(cleanup, tmp_path)
    made.agents[0].network("farm", "10.60.0.0/16", driver="vxlan")
    eventually(lambda: known(made.agents[1], "farm"), what="the other node knows the network")
    return made


def test_two_nodes_of_a_cluster(cluster: Cluster, containers: Containers) -> None:
    one, two = cluster.agents
    here, there = containers.new("here"), containers.new("there")
    one.attach(here, "farm")
    at = address(two.attach(there, "farm"))
    eventually(lambda: here.pings(at), what="the way to the other node")
    api = cluster.api
    assert {block["spec"]["node"] for block in api.get("/apis/fairlead.dev/v1/blocks")["items"]} == {"node1", "node2"}
    node = api.get("/api/v1/nodes/node1")
    assert node["metadata"]["annotations"]["fairlead.dev/underlay"].startswith("192.0.2.1/24")
    assert node["status"]["addresses"][0] == {"type": "InternalIP", "address": "192.0.2.1"}
    eventually(lambda: len(api.get("/apis/fairlead.dev/v1/endpoints")["items"]) == 2, what="both containers are told of")
    assert not one.drift()


def test_an_api_server_that_is_away_stops_nothing_that_runs(cluster: Cluster, containers: Containers) -> None:
    one, two = cluster.agents
    here, there, later = (containers.new(name) for name in ("here", "there", "later"))
    one.attach(here, "farm")
    at = address(two.attach(there, "farm"))
    eventually(lambda: here.pings(at), what="the way to the other node")
    cluster.api.cut(off=True)
    assert here.pings(at)
    one.attach(later, "farm")  # its node has a block, and needs nobody for an address of it
    eventually(lambda: later.pings(at), what="a container that came meanwhile is connected")
    one.detach(here)
    cluster.api.cut(off=False)
    told = "/apis/fairlead.dev/v1/endpoints"
    eventually(lambda: len(cluster.api.get(told)["items"]) == 2, deadline=60, what="what happened meanwhile is told")
    names = {item["metadata"]["annotations"]["fairlead.dev/name"].partition(":")[0] for item in cluster.api.get(told)["items"]}
    assert len(names) == 2
    assert later.pings(at)
