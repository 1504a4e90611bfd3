"""What doctor says of other networks of pods and of a kube-proxy that knows other pods than ours: nothing without them."""

from __future__ import annotations

import pytest

from fairlead.agent import beside
from fairlead.agent.beside import Chain
from fairlead.doctor import others
from fairlead.doctor.base import Facts
from fairlead.model.address import Prefix

FLANNEL = [Chain("ip", "filter", "FLANNEL-FWD"), Chain("ip", "nat", "FLANNEL-POSTRTG"), Chain("ip6", "nat", "FLANNEL-POSTRTG")]


def test_nothing_without_them() -> None:
    assert beside.networks(["eth0", "fl-blue", "cni0", "tunl0"], [Chain("ip", "nat", "KUBE-SERVICES")]) == {}
    assert list(others.networks(Facts())) == list(others.proxy(Facts())) == []


@pytest.mark.parametrize(
    ("network", "devices", "chains", "named"),
    [
        ("Flannel", ["flannel.1", "cni0"], FLANNEL, "flannel.1, FLANNEL-FWD, FLANNEL-POSTRTG"),
        ("Flannel", ["flannel-v6.1"], [], "flannel-v6.1"),
        ("Flannel", [], [Chain("ip", "flannel-ipv4", "postrtg")], "postrtg"),
        ("Calico", ["vxlan.calico", "cali1a2b3c4d5e6"], [], "cali1a2b3c4d5e6, vxlan.calico"),
        ("Calico", [], [Chain("ip", "filter", f"cali-{n}") for n in range(9)], "cali-3, cali-4, cali-5 and 3 more"),
    ],
)
def test_another_network(network: str, devices: list[str], chains: list[Chain], named: str) -> None:
    (one,) = others.networks(Facts(networks=beside.networks(devices, chains)))
    assert (one.check, one.level) == ("networks", "warning")
    assert one.message.startswith(f"{network} is here too: ")
    assert one.message.endswith(named)
    assert one.remedy.endswith(f"docs/kubernetes-install.md, In place of {network}")


@pytest.mark.parametrize(
    ("subnets", "local", "strange"),
    [
        (["10.245.0.0/16"], ["10.244.0.0/16"], ["10.245.0.0/16"]),
        (["10.244.0.0/15"], ["10.244.0.0/16"], ["10.244.0.0/15"]),
        (["10.245.0.0/16"], ["10.244.0.0/15"], []),
        (["10.244.0.0/16"], ["10.244.0.0/16"], []),
        (["10.245.0.0/16", "fd45::/56"], ["10.245.0.0/16", "fd44::/56"], ["fd45::/56"]),
        (["fd45::/56"], ["10.244.0.0/16"], []),
        (["10.245.0.0/16"], [], []),
    ],
)
def test_a_kube_proxy_that_knows_other_pods(subnets: list[str], local: list[str], strange: list[str]) -> None:
    found = beside.strangers(map(Prefix, subnets), map(Prefix, local))
    assert list(found) == strange
    for one, finding in zip(strange, others.proxy(Facts(strangers=dict(found))), strict=True):
        assert finding.level == "warning"
        assert finding.message.startswith(f"pods of {one} reach Services with their node's address")
        assert "clusterCIDR" in finding.remedy
