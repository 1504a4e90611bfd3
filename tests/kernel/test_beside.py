"""Other networks' chains and devices and kube-proxy's rules, as the kernel has them: written here as they write them."""

from __future__ import annotations

import pytest

from fairlead.agent import beside
from fairlead.kernel import nft
from tests.kernel.agents import Agent
from tests.kernel.room import run
from tests.net import Node
from tests.page import commands, section

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


CALICO = """
*filter
:cali-INPUT -
:cali-FORWARD -
-A FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FORWARD
-A INPUT -m comment --comment "cali:Cz_u1IQiXIMmKD4c" -j cali-INPUT
-A FORWARD -m comment --comment "cali:S93hcgKJrXEqnTfs" -m comment --comment "Policy explicitly accepted packet." \
    -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-FORWARD -i cali+ -m comment --comment "cali:8ZoYfO5HKXWbB3pk" -j ACCEPT
COMMIT
*nat
:cali-POSTROUTING -
-A POSTROUTING -m comment --comment "cali:O3lYWMrLQYEMJtB5" -j cali-POSTROUTING
-A cali-POSTROUTING -o vxlan.calico -m comment --comment "cali:JHlpT-eSqR1TvyYm" -j MASQUERADE
COMMIT
"""


def lead(node: Node) -> None:
    """What the page has Flannel's pods led by."""
    for one in commands(section("kubernetes-install.md", "In place of Flannel, node by node"), "N# "):
        if "SNAT --to-source" in one:
            node.run("bash", "-c", one.replace("INTERNAL-IPV6", str(node.v6)).replace("INTERNAL-IP", str(node.v4)))


def remove(node: Node, network: str) -> None:
    """As the page says, but for files, which are the machine's."""
    for one in commands(section("kubernetes-install.md", f"In place of {network}, node by node"), "N# "):
        if one.startswith(("ip ", "for tables", "iptables-save")):
            node.attempt("bash", "-c", one)


@pytest.mark.needs("iptables")
def test_flannel_and_kube_proxy_are_told_of(node: Node, agent: Agent) -> None:
    agent.network("default", "10.245.0.0/16")
    report = str(agent.client.doctor())
    assert "is here too" not in report
    assert "kube-proxy" not in report

    for table, hook, chain, rule in FLANNEL:
        node.run("iptables-nft", "-t", table, "-N", chain)
        told = ("-m", "comment", "--comment", "flanneld forward" if table == "filter" else "flanneld masq")
        node.run("iptables-nft", "-t", table, "-A", hook, *told, "-j", chain)
        node.run("iptables-nft", "-t", table, "-A", chain, *rule)
    flannel = ("type", "vxlan", "id", "1", "dstport", "8472", "local", str(node.v4), "nolearning")
    node.run("ip", "link", "add", "flannel.1", *flannel)
    iptables(node, "10.244.0.0/16")
    report = str(agent.client.doctor())
    assert "Flannel is here too: flannel.1, FLANNEL-FWD, FLANNEL-POSTRTG'" in report
    assert "for kube-proxy takes 10.244.0.0/16 for the pods" in report
    assert not agent.drift()

    node.run("ip", "link", "add", "cni0", "type", "bridge")
    lead(node)
    assert "SNAT" in node.run("iptables-nft-save")
    remove(node, "Flannel")
    assert "is here too" not in str(agent.client.doctor())
    for saved in (node.run("iptables-nft-save"), node.run("ip6tables-nft-save")):
        assert "FLANNEL" not in saved
        assert "SNAT" not in saved
    assert IPTABLES in node.run("iptables-nft-save")
    assert not {"flannel.1", "cni0"} & {name for name, _, _ in node.links()}


@pytest.mark.needs("iptables")
def test_calico_is_told_of_until_it_is_removed(node: Node, agent: Agent) -> None:
    iptables(node, "10.244.0.0/16")
    node.run("iptables-nft-restore", "--noflush", stdin=CALICO.replace("\\\n", ""))
    device = ("type", "vxlan", "id", "4096", "dstport", "4789", "local", str(node.v4), "nolearning")
    node.run("ip", "link", "add", "vxlan.calico", "up", *device)
    node.run("ip", "route", "add", "blackhole", "10.244.84.128/26", "proto", "80")
    assert "Calico is here too: vxlan.calico, cali-" in str(agent.client.doctor())

    lead(node)
    remove(node, "Calico")
    assert "is here too" not in str(agent.client.doctor())
    saved = node.run("iptables-nft-save")
    assert "cali" not in saved
    assert "0x10000" not in saved
    assert "SNAT" not in saved
    assert IPTABLES in saved
    assert "10.244" not in node.run("ip", "route")
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
