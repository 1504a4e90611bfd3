"""Services where there is no Kubernetes: written as YAML, kept, and of use for flows and policies as on a cluster."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kernel.agents import Agent, address
from tests.kernel.test_cluster import Town
from tests.kernel.test_kubernetes import SERVICE
from tests.net import Containers, Namespace, Node
from tests.wait import eventually

FILE = """
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  clusterIP: 10.96.0.10
  ports: [{{name: http, port: 80, targetPort: 80}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-1, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{name: http, port: 80}}]
endpoints: [{{addresses: [{address}]}}]
"""
DENY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: out}
spec:
  podSelector: {matchLabels: {app: client}}
  policyTypes: [Egress]
  egress: [{to: [{podSelector: {matchLabels: {app: web}}}]}]
"""
SHUT = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shut}
spec: {podSelector: {matchLabels: {app: web}}}
"""


def cli(node: Node, *words: str, stdin: str = "") -> str:
    return node.run(sys.executable, "-m", "fairlead.cli", *words, stdin=stdin)


def forward(node: Namespace, to: str) -> None:
    """What kube-proxy would do."""
    rule = f"ip daddr {SERVICE} tcp dport 80 dnat to {to}:80"
    chain = f"chain services {{\n type nat hook prerouting priority dstnat; policy accept;\n {rule}\n }}\n"
    node.run("nft", "-f", "-", stdin=f"table ip forwarder {{\n {chain} }}\n")


@pytest.mark.deadline(180)
def test_a_service_that_somebody_wrote(agent: Agent, node: Node, containers: Containers) -> None:
    agent.network("front", "10.50.0.0/24")
    client, web = containers.new("client"), containers.new("web")
    agent.attach(client, "front", labels={"app": "client"})
    at = address(agent.attach(web, "front", labels={"app": "web"}))
    web.serve("tcp", 80)
    forward(node, at)
    said = cli(node, "apply", "-f", "-", stdin=FILE.format(address=at))
    assert "service/web created" in said
    assert "endpointslice/web-1 created" in said
    assert "unchanged" in cli(node, "apply", "-f", "-", stdin=cli(node, "get", "svc", "web", "-o", "yaml"))
    shown = cli(node, "get", "services")
    assert "10.96.0.10" in shown
    assert "80/TCP" in shown
    assert at in cli(node, "get", "endpointslices", "-o", "json")
    eventually(lambda: client.connects(SERVICE, 80), what="the way to the service")
    eventually(lambda: "-> service default/web:80 tcp" in cli(node, "flows", "--to", "svc:web"), what="a flow by its name")
    told = cli(node, "policy", "preview", "-f", "-", stdin=SHUT)
    assert re.search(r"- denied +default/client +svc:default/web +tcp 80 +1\n", told), told
    assert re.search(r"would be cut.*service default/web:80 tcp", told, re.DOTALL), told
    assert client.connects(SERVICE, 80), "nothing was done"
    cli(node, "apply", "-f", "-", stdin=DENY)
    eventually(lambda: not client.pings(SERVICE), what="egress is isolated")
    assert client.connects(SERVICE, 80), "it is judged by the container that it leads to"
    agent.stop()
    agent.start()
    assert client.connects(SERVICE, 80), "after a restart, too"
    told = cli(node, "policy", "explain", "client", "svc:web")
    assert f"{at}:80" in told
    assert "✓ service default/web, tcp port 80: allowed to each of 1 behind it" in told
    cli(node, "delete", "endpointslice", "web-1")
    assert client.connects(SERVICE, 80), "whoever leads on knows better than slices who is reached"
    cli(node, "delete", "service", "web")
    assert not client.connects(SERVICE, 80, deadline=0.3), "an address that nobody has"
    assert "web" not in cli(node, "get", "services")


def test_nodes_that_share_a_store_know_each_others_services(cleanup: ExitStack, tmp_path: Path) -> None:
    town = Town(cleanup, tmp_path, 2)
    one, two = town.nodes
    cli(one, "apply", "-f", "-", stdin=FILE.format(address="10.50.0.2"))
    eventually(lambda: "web" in cli(two, "get", "services"), what="the other node knows it")
    cli(two, "delete", "service", "web")
    eventually(lambda: "web" not in cli(one, "get", "services"), what="and that it is gone")
