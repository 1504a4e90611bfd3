"""What a large Kubernetes cluster costs the agent of one of its nodes, the whole agent with its kernel.

A process of its own plays the cluster (``tests.kubernetes.play``): 1000 nodes, 50,000 pods of four kilobytes, 2500 services
that they stand behind, 1000 policies; of the pods one in twenty changes every minute. A real agent is started on one of the
nodes and looked at: how long until it is ready, its memory, its share of a processor, how long a label's change takes to the
map that the kernel judges by; and then a burst of pods on its node, added by the plugin as a runtime does.

    .venv/bin/python bench/kubernetes.py [PODS]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import lib
from node import Agent, Node, poll
from played import NODES, PODS, POLICIES, Played, address, playing, pod

from fairlead.datapath.ebpf.entries import ADDRESS, prefix_key
from fairlead.kernel.bpf.map import Map
from fairlead.model.address import Address

CHANGED = 0.05
"""Of all pods, in a minute."""
WATCHED = 30.0
"""Seconds for which the changes are watched."""
LABELS = 100
"""Changes of one label whose way is timed."""
BURST, WIDTH = 200, 4
"""Pods that are added to the node, and how many at a time."""
CILIUM = 438 * 1.048576
"""MB: the average of the agents that Cilium publishes for a cluster of this size."""

_CNI = lib.ROOT / "src" / "fairlead" / "cni" / "bin" / "fairlead-cni"
_CONF = {"cniVersion": "1.0.0", "name": "fairlead", "type": "fairlead", "network": "default"}
_READY = 120.0
_LOOK = 0.001


def kubeconfig(url: str) -> dict[str, object]:
    """How the agent reaches the cluster."""
    return {
        "contexts": [{"name": "played", "context": {"cluster": "played"}}],
        "clusters": [{"name": "played", "cluster": {"server": url}}],
        "current-context": "played",
    }


class Measured:
    """The agent of the first node, and the cluster around it."""

    def __init__(self, scratch: Path, node: Node, played: Played) -> None:
        self._node, self._played = node, played
        config = scratch / "kubeconfig"
        config.write_text(json.dumps(kubeconfig(played.url)))
        begun = time.monotonic()
        self.agent = Agent(node, scratch, "--node", "node-0000", "--store", f"kubernetes://{config}")
        poll(self.agent.ready, _READY, "the agent is not ready")
        self.synced, self.spent = time.monotonic() - begun, self.agent.busy()
        self._maps = Path(f"/proc/{self.agent.pid}/root{scratch}/run/bpf/maps")

    def watched(self) -> tuple[float, float]:
        """The share of a processor in percent, and the memory in MB, while pods change."""
        self._churn()
        time.sleep(2)
        spent, begun = self.agent.busy(), time.monotonic()
        time.sleep(WATCHED)
        share = 100 * (self.agent.busy() - spent) / (time.monotonic() - begun)
        return share, self.agent.resident() / 1000

    def labels(self) -> list[float]:
        """Milliseconds from each change of a label to the kernel's map of who has which address."""
        peers = Map.pinned(str(self._maps / "peers"))
        late = []
        self._played.put("networkpolicies", _by_version("v1000"))
        number = 31
        self._played.label(number, 0)
        time.sleep(1)
        key = prefix_key(Address(address(number)).host())[-ADDRESS.size :]
        for turn in range(LABELS):
            before = peers.lookup(key)
            changed = self._played.label(number, 1000 + turn % 2)
            deadline = changed + 5
            while peers.lookup(key) == before and time.time() < deadline:
                time.sleep(_LOOK)
            late.append(1000 * (time.time() - changed))
            self._churn()
            time.sleep(0.05)
        return late

    def burst(self) -> list[float]:
        """Milliseconds of each ADD, of pods that have just been made known."""
        self._played.put("namespaces", {"metadata": {"name": "bench"}})
        for slot in range(BURST):
            tree = pod(slot, NODES)
            meta = {"name": f"burst-{slot}", "namespace": "bench", "uid": f"burst-{slot}", "labels": tree["metadata"]["labels"]}
            spec = {**tree["spec"], "nodeName": "node-0000"}
            self._played.put("pods", {"metadata": meta, "spec": spec, "status": {"phase": "Pending"}})
        self._churn()
        self._node.chain("fairlead", (_CNI, _CONF))
        return self._node.run("ADD", "fairlead", 0, BURST, WIDTH).ms

    def _churn(self) -> None:
        self._played.churn(self._played.pods * CHANGED / 60)


def _by_version(word: str) -> dict[str, object]:
    """A policy that looks at the label that is changed."""
    peer = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"version": word}}}
    spec = {"podSelector": {"matchLabels": {"app": "nobody"}}, "ingress": [{"from": [peer]}]}
    return {"metadata": {"name": "by-version", "namespace": "team-00"}, "spec": spec}


def main() -> None:
    """Play, measure, publish."""
    pods = int(sys.argv[1]) if len(sys.argv) > 1 else PODS
    lib.warn_if_busy()
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as folder:
        scratch = Path(folder)
        environment = {"FAIRLEAD_RUN_DIR": f"{scratch}/run", "FAIRLEAD_STATE_DIR": f"{scratch}/state"}
        with Node(scratch, BURST, environment) as node, playing(pods=pods, inside=node.enter()) as played:
            measured = Measured(scratch, node, played)
            try:
                share, memory = measured.watched()
                late, adds = measured.labels(), measured.burst()
            finally:
                measured.agent.close()
            failures = node.failures
    report = lib.Report(
        "kubernetes", f"{NODES} nodes, {pods} pods and their services, {POLICIES} policies, from one node", ("agent", "Cilium")
    )
    report.add("from the agent's start until it is ready", measured.synced, None, "s", lib.at_most("30 s", 30))
    report.add("processor time for that", measured.spent, None, "s")
    report.add("memory of the agent", memory, CILIUM, "MB", lib.at_most("300 MB", 300))
    report.add("one core, 5 % of the pods changing a minute", share, None, "%", lib.at_most("20 %", 20))
    report.add("a label's change to the kernel, p50", lib.median(late), None, "ms")
    report.add("a label's change to the kernel, p99", lib.percentile(late, 99), None, "ms", lib.at_most("200 ms", 200))
    middle, last = lib.median(adds), lib.percentile(adds, 99)
    report.add(f"ADD in a burst of {BURST} pods, {WIDTH} at a time, p50", middle, None, "ms")
    report.add("the same, p99", last, None, "ms")
    report.add("p99 divided by p50", lib.per(last, middle), None, "", lib.at_most("2", 2))
    report.add("of which failed", float(len(failures)), None, "", lib.at_most("0", 0))
    report.publish()
    for failure in failures[:5]:
        print(failure, file=sys.stderr)


if __name__ == "__main__":
    main()
