"""Agents whose store is the Kubernetes API: two nodes on a switch, and on it an API server, the real one or its stand-in.

There is no kubelet: the test makes the objects, executes the plugin as containerd does, and reports what came of it.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.cni.install import conflist
from tests.kernel.agents import Agent, address
from tests.kernel.apis import Api, StandIn, api
from tests.kernel.test_cluster import Station, known, routes
from tests.kernel.test_cni import cni
from tests.net import Containers, Namespace, kept
from tests.wait import eventually

SERVICE, WEB = "10.96.0.10", "10.244.2.77"
CONF = {"cniVersion": "1.1.0", "name": "fairlead", **json.loads(conflist("default", "fairlead"))["plugins"][0]}


class Cluster:
    """Two nodes that kubelet has made known, with agents.

    ``allocated``: the cluster gives them podCIDRs; ``families``: those that nodes and pods have; ``first``: objects that are
    there before any agent.
    """

    def __init__(
        self,
        cleanup: ExitStack,
        folder: Path,
        of: type[Api] | Any = StandIn,
        *options: str,
        allocated: bool = False,
        families: tuple[int, ...] = (4, 6),
        first: tuple[dict[str, Any], ...] = (),
    ) -> None:
        switch = kept(cleanup, Namespace("switch"))
        switch.run("ip", "link", "add", "switch", "up", "type", "bridge")
        self.api = of(switch, folder, families[0])
        self.api.plug()
        cleanup.callback(self.api.end)
        self.api.start()
        for tree in first:
            self.api.apply(tree)
        self.allocated, self.families, self._more, self._config = allocated, families, options, folder / "kubeconfig"
        self._config.write_text(yaml.safe_dump(self.api.kubeconfig()))
        self.nodes = [kept(cleanup, Station(folder / f"node{at}", at, switch)) for at in (1, 2)]
        self.agents = []
        for node in self.nodes if families == (6,) else ():
            node.run("ip", "-4", "address", "flush", "dev", "eth0")
        for node in self.nodes:
            self.join(node)
            agent = Agent(node, "--node", f"node{node.number}", *self.options)
            cleanup.callback(agent.remove)
            agent.start()
            self.agents.append(agent)

    @property
    def options(self) -> tuple[str, ...]:
        return ("--store", f"kubernetes://{self._config}", "--interval", "2", "--ttl", "2", *self._more)

    def join(self, node: Station) -> None:
        """What kubelet and the cluster's controllers say of a node."""
        name, ranges = f"node{node.number}", {4: f"10.244.{node.number}.0/24", 6: f"fd44:0:0:{node.number}::/64"}
        cidrs = [ranges[family] for family in self.families]
        addresses = [{"type": "InternalIP", "address": {4: node.v4, 6: node.v6}[family]} for family in self.families]
        addresses.append({"type": "Hostname", "address": name})
        self.api.apply(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name},
                "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs} if self.allocated else {},
                "status": {"addresses": addresses, "conditions": [{"type": "Ready", "status": "True"}]},
            }
        )

    def pod(
        self,
        node: int,
        name: str,
        namespace: str = "shop",
        status: Any = None,
        *,
        port: Any = None,
        host: bool = False,
        **meta: Any,
    ) -> dict[str, Any]:
        """A pod's object, as its owner and the scheduler leave it. ``port``: what it says of its port besides."""
        ports = [{"name": "http", "containerPort": 80, **(port or {})}]
        shares = {"hostNetwork": True} if host else {}
        return self.api.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": namespace, **meta},
                "spec": {"nodeName": f"node{node}", **shares, "containers": [{"name": "web", "image": "web", "ports": ports}]},
                **({"status": status} if status else {}),
            }
        )

    def namespace(self, name: str, **labels: str) -> None:
        self.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})

    def policy(self, name: str, namespace: str, peer: dict[str, Any], **labels: str) -> None:
        """Who may reach the pods with these labels."""
        self.api.apply(
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {
                    "podSelector": {"matchLabels": labels},
                    "policyTypes": ["Ingress"],
                    "ingress": [{"from": [peer], "ports": [{"port": "http"}]}],
                },
            }
        )

    def sandbox(self, node: int, one: Namespace, pod: dict[str, Any], command: str = "ADD") -> dict[str, Any]:
        """What containerd does for a pod: execute the plugin; of an ADD the addresses are reported, as kubelet does."""
        meta = pod["metadata"]
        args = f"IgnoreUnknown=1;K8S_POD_NAMESPACE={meta['namespace']};K8S_POD_NAME={meta['name']};K8S_POD_UID={meta['uid']}"
        status, result = cni(self.nodes[node - 1], command, one, CONF, CNI_ARGS=args)
        assert status == 0, result
        return result

    def run(self, node: int, one: Namespace, name: str, namespace: str = "shop", **meta: Any) -> list[str]:
        """A pod from its object to its report; its addresses."""
        made = self.pod(node, name, namespace, **meta)
        ips = [ip["address"].partition("/")[0] for ip in self.sandbox(node, one, made)["ips"]]
        self.report(node, name, ips, namespace, **meta)
        return ips

    def report(
        self, node: int, name: str, ips: list[str], namespace: str = "shop", phase: str = "Running", **meta: Any
    ) -> None:
        """What kubelet says of a pod."""
        status = {"phase": phase, "podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
        self.pod(node, name, namespace, status, **meta)

    def end(self, node: int, one: Namespace, name: str, namespace: str = "shop") -> None:
        """What containerd does when a pod has ended; its object stays."""
        self.sandbox(node, one, self.api.get(f"/api/v1/namespaces/{namespace}/pods/{name}"), "DEL")


@pytest.fixture
def cluster(cleanup: ExitStack, tmp_path: Path) -> Cluster:
    made = Cluster(cleanup, tmp_path)
    made.agents[0].network("farm", "10.60.0.0/16", driver="vxlan")
    eventually(lambda: known(made.agents[1], "farm"), what="the other node knows the network")
    return made


def test_containers_that_are_no_pods(cluster: Cluster, containers: Containers) -> None:
    one, two = cluster.agents
    here, there = containers.new("here"), containers.new("there")
    one.attach(here, "farm")
    at = address(two.attach(there, "farm"))
    eventually(lambda: here.pings(at), what="the way to the other node")
    api = cluster.api
    blocks = api.get("/apis/fairlead.dev/v1/blocks")["items"]
    assert {block["spec"]["node"] for block in blocks} == {"node1", "node2"}
    eventually(lambda: underlay(api, "node1").startswith("192.0.2.1/24"), what="the node says how it is reached")
    assert api.get("/api/v1/nodes/node1")["status"]["addresses"][0] == {"type": "InternalIP", "address": "192.0.2.1"}
    eventually(lambda: len(api.get("/apis/fairlead.dev/v1/endpoints")["items"]) == 2, what="both containers are told of")
    assert not one.drift()
    api.away()
    assert here.pings(at)
    later = containers.new("later")
    one.attach(later, "farm")  # its node has a block, and needs nobody for an address of it
    eventually(lambda: later.pings(at), what="a container that came meanwhile is connected")
    one.detach(here)
    api.back()
    eventually(lambda: told(api) == {"later", "there"}, deadline=60, what="what happened meanwhile is told")
    one.kill()
    later.remove()
    one.start()
    eventually(lambda: told(api) == {"there"}, deadline=20, what="and what ended while no agent was there")


def underlay(api: Api, node: str) -> str:
    said: str = api.get(f"/api/v1/nodes/{node}")["metadata"].get("annotations", {}).get("fairlead.dev/underlay", "")
    return said


def told(api: Api) -> set[str]:
    return {item["spec"]["display"] for item in api.get("/apis/fairlead.dev/v1/endpoints")["items"]}


@pytest.mark.deadline(180)
def test_a_cluster_from_its_first_pod_to_a_node_that_leaves(cleanup: ExitStack, tmp_path: Path, containers: Containers) -> None:
    cluster = Cluster(cleanup, tmp_path, api, allocated=True)
    proxied = kube_proxy(cluster.nodes[0])
    client, web, other, late = (containers.new(name) for name in ("client", "web", "other", "late"))
    cluster.namespace("shop")
    cluster.namespace("bank")
    assert cni(cluster.nodes[0], "STATUS", None, CONF) == (0, {})
    pods_talk_by_the_rules(cluster, client, web, other)
    an_api_server_that_is_away_stops_nothing(cluster, client, late, containers.new("echo"))
    an_address_is_never_judged_by_the_old_pod(cluster, containers.new("again"))
    networks_that_people_wrote_are_used(cluster, containers.new("wide"), containers.new("six"))
    everything_is_said(cluster)
    assert kube_proxy(cluster.nodes[0]) == proxied, "what is kube-proxy's is as it was"
    cluster.api.delete("Node", "node2")
    eventually(lambda: "10.244.2.0/24" not in routes(cluster.nodes[0]), what="a node that left has no route")


def pods_talk_by_the_rules(cluster: Cluster, client: Namespace, web: Namespace, other: Namespace) -> None:
    cluster.run(1, client, "client", labels={"app": "client"})
    ips = cluster.run(2, web, "web", labels={"app": "web"}, annotations={"fairlead.dev/addresses": WEB})
    assert ips[0] == WEB
    assert ips[1].startswith("fd44:0:0:2::")
    for ip in ips:
        eventually(lambda ip=ip: client.pings(ip), what=f"the way to {ip}")
    cluster.run(1, other, "other", namespace="bank", labels={"app": "other"})
    web.serve("tcp", 80)
    cluster.policy("web", "shop", {"podSelector": {"matchLabels": {"app": "client"}}}, app="web")
    eventually(lambda: not other.connects(ips[0], 80, deadline=0.3), what="the policy is obeyed")
    assert client.connects(ips[0], 80)
    assert client.connects(ips[1], 80)
    assert client.connects(SERVICE, 80), "kube-proxy leads to a pod of another node"
    assert not other.connects(SERVICE, 80, deadline=0.3), "and past no policy"
    assert cluster.nodes[1].connects(ips[0], 80), "kubelet probes its pods whatever policies say"
    # labels of running pods and of namespaces, on the node that enforces and on others
    cluster.report(1, "client", ["10.244.1.200"], labels={"app": "nobody"})
    eventually(lambda: not client.connects(ips[0], 80, deadline=0.3), what="another label of a pod of another node")
    cluster.report(2, "web", ips, labels={"app": "free"})
    eventually(lambda: other.connects(ips[0], 80, deadline=0.3), what="another label of a pod that runs")
    cluster.policy("rich", "shop", {"namespaceSelector": {"matchLabels": {"rich": "yes"}}}, app="free")
    eventually(lambda: not other.connects(ips[0], 80, deadline=0.3), what="another policy")
    cluster.namespace("bank", rich="yes")
    eventually(lambda: other.connects(ips[0], 80, deadline=0.3), what="another label of a namespace")


def kube_proxy(node: Namespace) -> str:
    """What kube-proxy has on a node, in both of its modes: it is made at the first call. A service leads to the web pod."""
    if "kube-proxy" not in node.run("nft", "list", "tables"):
        rules = f"""
            table ip kube-proxy {{
                chain services {{
                    type nat hook prerouting priority dstnat; policy accept;
                    ip daddr {SERVICE} tcp dport 80 dnat to {WEB}:80
                }}
            }}"""
        node.run("nft", "-f", "-", stdin=rules)
        node.run("iptables", "-N", "KUBE-FORWARD")
        node.run("iptables", "-A", "FORWARD", "-j", "KUBE-FORWARD")
    saved = [line for line in node.run("iptables-save").splitlines() if "KUBE" in line]
    return "\n".join([node.run("nft", "list", "table", "ip", "kube-proxy"), *(line.partition(" [")[0] for line in saved)])


def an_api_server_that_is_away_stops_nothing(cluster: Cluster, client: Namespace, late: Namespace, echo: Namespace) -> None:
    at = cluster.run(2, echo, "echo")[0]
    made = cluster.pod(1, "late", labels={"app": "late"})
    flood = client.start("ping", "-n", "-i", "0.05", "-w", "60", "-q", at)
    cluster.policy("open", "shop", {"ipBlock": {"cidr": "0.0.0.0/0"}}, app="none")
    eventually(lambda: "open" in {one.name for one in cluster.agents[0].client.objects("networkpolicies")})
    cluster.api.away()
    result = cluster.sandbox(1, late, made)
    eventually(lambda: late.pings(at), what="a pod whose object was known is connected")
    cluster.sandbox(1, late, made, "DEL")
    assert result["ips"][0]["address"].startswith("10.244.1.")
    cluster.agents[1].stop()
    cluster.agents[1].start_only()
    eventually(lambda: "not told everything" in cluster.agents[1].reason, deadline=20)
    assert cni(cluster.nodes[1], "STATUS", None, CONF)[1]["code"] == 50
    cluster.api.back()
    eventually(lambda: not cluster.agents[1].reason, deadline=60, what="it catches up")
    flood.send_signal(2)
    said, _ = flood.communicate(timeout=20)
    assert " 0% packet loss" in said, said


def an_address_is_never_judged_by_the_old_pod(cluster: Cluster, again: Namespace) -> None:
    """An address of a pod that is let in is another's; no object says that the first one ended, nor what the second has."""
    cluster.policy("picky", "shop", {"podSelector": {"matchLabels": {"app": "vip"}}}, app="free")
    ips = pods(cluster)["web"]
    first = cluster.run(1, again, "vip", labels={"app": "vip"})
    eventually(lambda: again.connects(ips[0], 80, deadline=0.3), what="who is let in")
    vip = cluster.api.get("/api/v1/namespaces/shop/pods/vip")
    cluster.sandbox(1, again, vip, "DEL")
    eventually(lambda: "eth0" not in again.run("ip", "-br", "link"))
    wish = {"fairlead.dev/addresses": ",".join(first)}
    made = cluster.pod(1, "plain", labels={"app": "plain"}, annotations=wish)
    result = cluster.sandbox(1, again, made)
    assert [ip["address"].partition("/")[0] for ip in result["ips"]] == first
    assert not again.connects(ips[0], 80, deadline=0.5), "the one who has it now is not judged by the old one's labels"
    assert told(cluster.api) == {"plain"}, "his node says whose it is, since nobody else does yet"
    cluster.pod(1, "plain", labels={"app": "vip"}, annotations=wish)
    eventually(lambda: again.connects(ips[0], 80, deadline=0.3), what="he is judged by his own")
    cluster.report(1, "plain", first, labels={"app": "plain"}, annotations=wish)
    eventually(lambda: not again.connects(ips[0], 80, deadline=0.3), what="and by his new ones")
    cluster.agents[1].stop()
    cluster.agents[1].start()
    assert not again.connects(ips[0], 80, deadline=0.5), "also by an agent that finds two pods with one address"
    cluster.api.delete("Pod", "vip", "shop")
    eventually(lambda: not told(cluster.api), what="now the pods' objects say it all")
    assert not again.connects(ips[0], 80, deadline=0.5)


def networks_that_people_wrote_are_used(cluster: Cluster, wide: Namespace, six: Namespace) -> None:
    """One with nothing but a driver, which is completed; one of IPv6 alone; one that cannot be."""
    for name, spec in (
        ("extra", {"driver": "vxlan"}),
        ("six", {"driver": "vxlan", "subnets": [{"cidr": "fd66::/64"}]}),
        ("bad", {"driver": "vxlan", "subnets": [{"cidr": "10.244.128.0/20"}]}),
    ):
        cluster.api.apply({"apiVersion": "fairlead.dev/v1", "kind": "Network", "metadata": {"name": name}, "spec": spec})
    for agent in cluster.agents:
        eventually(lambda agent=agent: known(agent, "extra") and known(agent, "six"), what="they are used")
    ask = {"k8s.v1.cni.cncf.io/networks": "extra@side", "kubernetes.io/egress-bandwidth": "10M"}
    cluster.run(1, wide, "wide", annotations=ask)
    ends = {link["ifname"] for link in wide.json("ip", "-j", "link")}
    assert {"eth0", "side"} <= ends
    assert "tbf" in cluster.nodes[0].run("tc", "qdisc") + wide.run("tc", "qdisc")
    (address,) = cluster.run(2, six, "six", annotations={"fairlead.dev/network": "six"})
    assert address.startswith("fd66::")
    eventually(lambda: cluster.nodes[0].pings(address), what="the way to a pod of IPv6 alone")
    assert "bad" not in {one.name for one in cluster.agents[0].client.objects("networks")}
    cluster.sandbox(1, wide, cluster.api.get("/api/v1/namespaces/shop/pods/wide"), "DEL")
    eventually(lambda: not {"eth0", "side"} & {link["ifname"] for link in wide.json("ip", "-j", "link")}, what="both go")


def everything_is_said(cluster: Cluster) -> None:
    def conditions(path: str) -> dict[str, str]:
        return {one["type"]: one["status"] for one in cluster.api.get(path).get("status", {}).get("conditions", ())}

    for name in ("node1", "node2"):
        path = f"/api/v1/nodes/{name}"
        eventually(
            lambda path=path: conditions(path).get("NetworkUnavailable") == "False", deadline=10, what="nodes' conditions"
        )
    for name, word in (("default", "True"), ("extra", "True"), ("bad", "False")):
        path = f"/apis/fairlead.dev/v1/networks/{name}"
        eventually(lambda path=path, word=word: conditions(path).get("Accepted") == word, deadline=10, what=f"{name}: {word}")
    for name in ("default", "extra"):
        tree = cluster.api.get(f"/apis/fairlead.dev/v1/networks/{name}")
        assert tree["status"]["subnets"] == ",".join(one["cidr"] for one in tree["spec"]["subnets"]), "as tables show them"
    for kind in ("blocks", "endpoints"):
        made = {one["spec"]["network"] for one in cluster.api.get(f"/apis/fairlead.dev/v1/{kind}")["items"]}
        assert made == {"blocks": {"extra", "six"}, "endpoints": set()}[kind], (
            "the cluster allocates, and pods tell of themselves"
        )


def pods(cluster: Cluster) -> dict[str, list[str]]:
    items = cluster.api.get("/api/v1/namespaces/shop/pods")["items"]
    return {one["metadata"]["name"]: [ip["ip"] for ip in one.get("status", {}).get("podIPs", ())] for one in items}
