"""Moving from another network, as docs/kubernetes-install.md says: what can be followed without a cluster is."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.page import commands, section

FLANNEL, CALICO = (section("kubernetes-install.md", f"In place of {name}, node by node") for name in ("Flannel", "Calico"))
SHIPPED = Path(__file__).parents[2] / "deploy" / "kubernetes" / "fairlead.yaml"
STEPS = ("systemctl stop kubelet", "crictl rmp", "cp ", "systemctl start kubelet")
KUBECTL = """#!/bin/sh
case "$*" in
    "get nodes -o json") cat nodes ;;
    "get networkpolicies -A -l fairlead.dev/moving!=yes -o json") cat policies ;;
    "apply -f -") cat >applied ;;
    *) echo "unexpected: $*" >&2; exit 1 ;;
esac
"""
TUNNELS = {"projectcalico.org/IPv4VXLANTunnelAddr": "10.244.84.128", "projectcalico.org/IPv6WireguardInterfaceAddr": "fd44::5"}
HOSTNAME = {"type": "Hostname", "address": "n1"}
OTHER = {"projectcalico.org/VXLANTunnelMACAddr": "66:00:00:00:00:01", "projectcalico.org/IPv4Address": "192.0.2.1/24"}


def follow(folder: Path, *lines: str, path: Path | None = None) -> None:
    search = f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]
    for line in lines:
        subprocess.run(["bash", "-ec", line], cwd=folder, env={"PATH": search}, check=True, capture_output=True, text=True)


def test_the_manifest_is_changed_as_it_says(tmp_path: Path) -> None:
    shipped = SHIPPED.read_text()
    (tmp_path / "fairlead.yaml").write_text(shipped)
    follow(tmp_path, *(one for one in commands(FLANNEL, "$ ") if one.startswith("sed ")))
    changed = (tmp_path / "fairlead.yaml").read_text()
    assert "FAIRLEAD_POD_CIDR: 10.245.0.0/16" in changed
    assert "--conf-dir, /host/cni/net.d/staged]" in changed
    assert sum(map(str.__ne__, shipped.splitlines(), changed.splitlines())) == 2
    assert "--conf-dir, /host/cni/net.d]" in shipped, "as step 6 puts it back"


def test_kube_proxy_is_told(tmp_path: Path) -> None:
    (change,) = (re.search(r"sed '[^']*'", one) for one in commands(FLANNEL, "$ ") if "configmap kube-proxy" in one)
    assert change
    (tmp_path / "config").write_text("    bindAddress: 0.0.0.0\n    clusterCIDR: 10.244.0.0/16\n    mode: ''\n")
    follow(tmp_path, f"{change[0]} -i config")
    assert (tmp_path / "config").read_text() == "    bindAddress: 0.0.0.0\n    clusterCIDR: 10.244.0.0/15\n    mode: ''\n"


def test_ours_is_the_first_configuration() -> None:
    (target,) = (one.split()[2] for one in commands(FLANNEL, "N# ") if one.startswith("cp "))
    theirs = set(re.findall(r"net\.d/(\d\d-(?:flannel|calico)\.conflist)", FLANNEL + CALICO))
    assert len(theirs) == 2
    assert all(Path(target).name < one for one in theirs), "runtimes take the first by name"


def test_pods_end_by_the_plugin_that_made_them() -> None:
    """kubelet, which would make them anew, is away; what is written, not moved there, containerd notices."""
    steps = commands(FLANNEL, "N# ")
    order = [next(at for at, one in enumerate(steps) if one.startswith(word)) for word in STEPS]
    assert order == sorted(order)


def policy(namespace: str, name: str, *types: str, **spec: object) -> dict[str, Any]:
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    return {**kind, "metadata": {"namespace": namespace, "name": name}, "spec": {**spec, "policyTypes": types}}


@pytest.fixture
def let_through(tmp_path: Path) -> list[dict[str, Any]]:
    """The policies that step 3 makes of those of a cluster."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "kubectl").write_text(KUBECTL)
    (tmp_path / "bin" / "kubectl").chmod(0o755)
    addresses = ({"type": "InternalIP", "address": "192.0.2.1"}, {"type": "InternalIP", "address": "2001:db8::1"})
    nodes = [
        {"metadata": {"annotations": TUNNELS | OTHER}, "status": {"addresses": [*addresses, HOSTNAME]}},
        {"metadata": {}, "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.2"}]}},
    ]
    policies = [
        policy("shop", "db", "Ingress", podSelector={"matchLabels": {"app": "db"}}),
        policy("shop", "out", "Egress", podSelector={}),
        policy("closed", "none", "Ingress", "Egress", podSelector={}),
    ]
    (tmp_path / "nodes").write_text(json.dumps({"items": nodes}))
    (tmp_path / "policies").write_text(json.dumps({"items": policies}))
    follow(tmp_path, *(one for one in commands(FLANNEL, "$ ") if "jq " in one), path=tmp_path / "bin")
    written, decoder, made = (tmp_path / "applied").read_text(), json.JSONDecoder(), []
    while written := written.lstrip():
        one, end = decoder.raw_decode(written)
        made.append(one)
        written = written[end:]
    return made


def test_nodes_are_let_through_and_nobody_is_isolated_by_it(let_through: list[dict[str, Any]]) -> None:
    assert [(one["metadata"]["namespace"], one["metadata"]["name"]) for one in let_through] == [
        ("shop", "moving-db"),
        ("closed", "moving-none"),
    ]
    assert [one["spec"]["podSelector"] for one in let_through] == [{"matchLabels": {"app": "db"}}, {}]
    ends = ("192.0.2.1/32", "2001:db8::1/128", "10.244.84.128/32", "fd44::5/128", "192.0.2.2/32")
    for one in let_through:
        assert one["spec"]["policyTypes"] == ["Ingress"]
        assert one["metadata"]["labels"] == {"fairlead.dev/moving": "yes"}
        assert one["spec"]["ingress"] == [{"from": [{"ipBlock": {"cidr": cidr}} for cidr in ends]}]
