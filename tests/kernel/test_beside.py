"""Other networks' chains and devices and kube-proxy's rules, as the kernel has them: written here as they write them."""

from __future__ import annotations

import pytest

from fairlead.agent import beside
from fairlead.kernel import nft
from tests.kernel.agents import Agent
from tests.kernel.room import run
from tests.net import Node

FLANNEL = (
    ("filter", "FORWARD", "FLANNEL-FWD", ["-s", "10.244.0.0/16", "-j", "ACCEPT"]),
    ("nat", "POSTROUTING", "FLANNEL-POSTRTG", ["-s", "10.244.0.0/16", "!", "-d", "224.0.0.0/4", "-j", "MASQUERADE"]),
)
IPTABLES = "KUBE-SVC-NPX46M4PTMTKRN6Y"
NFTABLES = "service-2QRHZV4L-default/kubernetes/tcp/https"


def iptables(node: Node, cidr: str) -> None:
    table = ("iptables-nft", "-t", "nat")
    for chain in ("KUBE-MARK-MASQ", IPTABLES):
        node.run(*table, "-N", chain)
    match = ("!", "-s", cidr, "-d", "10.96.0.1", "-p", "tcp", "--dport", "443", "-j", "KUBE-MARK-MASQ")
    node.run(*table, "-A", IPTABLES, *match)


def nftables(cidr: str) -> str:
    return f"""table ip kube-proxy {{
        chain mark-for-masquerade {{ meta mark set meta mark or 0x4000; }}
        chain {NFTABLES} {{ ip daddr 10.96.0.1 tcp dport 443 ip saddr != {cidr} jump mark-for-masquerade; }}
    }}"""


def test_flannel_and_kube_proxy_are_told_of(node: Node, agent: Agent) -> None:
    agent.network("default", "10.245.0.0/16")
    report = str(agent.client.doctor())
    assert "is here too" not in report
    assert "kube-proxy" not in report

    for table, hook, chain, rule in FLANNEL:
        node.run("iptables-nft", "-t", table, "-N", chain)
        node.run("iptables-nft", "-t", table, "-A", hook, "-j", chain)
        node.run("iptables-nft", "-t", table, "-A", chain, *rule)
    flannel = ("type", "vxlan", "id", "1", "dstport", "8472", "local", str(node.v4), "nolearning")
    node.run("ip", "link", "add", "flannel.1", *flannel)
    iptables(node, "10.244.0.0/16")
    report = str(agent.client.doctor())
    assert "Flannel is here too: flannel.1, FLANNEL-FWD, FLANNEL-POSTRTG'" in report
    assert "for kube-proxy takes 10.244.0.0/16 for the pods" in report
    assert not agent.drift()


@pytest.mark.parametrize("cidr", ["10.244.0.0/16", "10.244.0.0/15"])
@pytest.mark.usefixtures("room")
def test_whom_kube_proxy_takes_for_pods_with_nftables(cidr: str) -> None:
    assert list(beside.local()) == []
    nft.run(nftables(cidr))
    assert list(beside.local()) == [cidr]


@pytest.mark.usefixtures("room")
def test_what_drops() -> None:
    nft.run("add table inet f; add chain inet f c { type filter hook forward priority 0; policy drop; }; add chain inet f d")
    run("nft", "add", "table", "inet", "fairlead")
    run("nft", "add", "chain", "inet", "fairlead", "forward", "{ type filter hook forward priority 0; policy drop; }")
    assert list(beside.dropping(beside.chains())) == ["inet f c"]
