"""An API server of Kubernetes on a switch, and what kubelet, controllers and people do to it: the real one, or its stand-in.

The real one where KUBEBUILDER_ASSETS names a directory with kube-apiserver and etcd; its agents then have no more rights than
deploy/kubernetes gives them.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes.server import ADMIN, READY, Program, definitions, programs
from tests.net import Namespace, end
from tests.tree import ROOT
from tests.wait import eventually

PORT = 6443
HOSTS = {4: ("192.0.2.250", 24), 6: ("2001:db8:2::fa", 64)}

Tree = dict[str, Any]

_SERVICES = {4: (), 6: ("--service-cluster-ip-range", "fd00:96::/108")}
_APPLY, _MERGE = "application/apply-patch+yaml", "application/merge-patch+json"
_PLACES = {
    "Node": "/api/v1/nodes",
    "Namespace": "/api/v1/namespaces",
    "Pod": "/api/v1/namespaces/{}/pods",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "Network": "/apis/fairlead.dev/v1/networks",
    "Service": "/api/v1/namespaces/{}/services",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
}


class Api:
    """The server. ``apply`` and ``delete`` change what it has; ``away`` and ``back``: nobody reaches it, and all do again."""

    scheme, token = "http", ""

    def __init__(self, switch: Namespace, folder: Path, family: int = 4) -> None:
        """``family``: the one in which it is reached."""
        self.switch, self.folder, self.ca, self.family = switch, folder, b"", family
        self.host, self._length = HOSTS[family]

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{self.scheme}://{f'[{self.host}]' if self.family == 6 else self.host}:{PORT}"

    def plug(self) -> None:
        """Give the switch the address that it is reached by."""
        self.switch.run("ip", "address", "add", f"{self.host}/{self._length}", "dev", "switch", "nodad")

    def unplug(self) -> None:
        """Take it away."""
        self.switch.run("ip", "address", "del", f"{self.host}/{self._length}", "dev", "switch")

    def kubeconfig(self) -> Tree:
        """How an agent reaches it."""
        ca = {"certificate-authority-data": base64.b64encode(self.ca).decode()} if self.ca else {}
        user = {"users": [{"name": "agent", "user": {"token": "agent-token"}}]} if self.token else {}
        return {
            "current-context": "it",
            "contexts": [{"name": "it", "context": {"cluster": "it", **({"user": "agent"} if user else {})}}],
            "clusters": [{"name": "it", "cluster": {"server": self.url, **ca}}],
            **user,
        }

    def call(self, method: str, path: str, tree: Tree | None = None, kind: str = "application/json") -> Tree:
        """Ask it as its administrator; the test fails if it refuses."""
        words = ["curl", "-sSk", "--fail-with-body", "-X", method, "-g", f"{self.url}{path}"]
        words += ["-H", f"Authorization: Bearer {self.token}"] if self.token else []
        words += ["-H", f"Content-Type: {kind}", "--data-binary", "@-"] if tree is not None else []
        done = self.switch.attempt(*words, stdin=json.dumps(tree))
        assert done.returncode == 0, f"{method} {path}: {done.stdout} {done.stderr}"
        found: Tree = json.loads(done.stdout)
        return found

    def get(self, path: str) -> Tree:
        """Ask for something."""
        return self.call("GET", path)

    def apply(self, tree: Tree) -> Tree:
        """Have an object be so, its status too."""
        meta, place = tree["metadata"], _PLACES[tree["kind"]].format(tree["metadata"].get("namespace", ""))
        path, asked = f"{place}/{meta['name']}", "fieldManager=test&force=true"
        bare = {key: value for key, value in tree.items() if key != "status"}
        made = self.call("PATCH", f"{path}?{asked}", bare, _APPLY)
        if "status" not in tree:
            return made
        # Not by apply: a node's addresses are told apart by their types there, and two InternalIPs would be one.
        return self.call("PATCH", f"{path}/status?fieldManager=kubelet", {"status": tree["status"]}, _MERGE)

    def delete(self, kind: str, name: str, namespace: str = "") -> None:
        """Have an object be no more, at once."""
        self.call("DELETE", f"{_PLACES[kind].format(namespace)}/{name}", {"gracePeriodSeconds": 0})

    def start(self) -> None:
        """Have it serve, with our definitions."""

    def away(self) -> None:
        """From now on nobody reaches it."""

    def back(self) -> None:
        """It is as it was."""

    def grant(self, file: str) -> None:
        """Let agents do what a file of deploy/kubernetes says; the one that stands in lets everybody do everything."""

    def end(self) -> None:
        """End it; what it held ends with it."""


class StandIn(Api):
    """The one that stands in, a process of its own."""

    def start(self) -> None:
        words = ("--nodes", "0", "--pods", "0", "--policies", "0", "--host", self.host, "--port", str(PORT))
        crds = ("--definitions", ROOT / "deploy/kubernetes/base/crds.yaml")
        command = ["nsenter", f"--net={self.switch.path}", sys.executable, "-m", "tests.kubernetes.play", *words, *crds]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._process.stdout
        assert self._process.stdout.readline() == f"{PORT}\n"
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fairlead-system"}})

    def away(self) -> None:
        self.unplug()

    def back(self) -> None:
        self.plug()

    def end(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        end(self._process)
        self._process.stdin.close()
        self._process.stdout.close()


class Real(Api):
    """A real kube-apiserver, ended and started again with all that it had."""

    scheme, token = "https", ADMIN

    def start(self) -> None:
        assets, inside = Path(os.environ["KUBEBUILDER_ASSETS"]), ("nsenter", f"--net={self.switch.path}")
        self._etcd: Program
        self._etcd, self._program, self.ca = programs(
            self.folder, assets, (2379, 2380, PORT), *_SERVICES[self.family], host=self.host, inside=inside
        )
        self._etcd.start()
        self.back()
        for one in definitions():
            self.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", one)
        for one in definitions():
            path = f"/apis/fairlead.dev/v1/{one['spec']['names']['plural']}"
            eventually(lambda path=path: self._serves(path), deadline=READY, what=f"{path} is served")
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fairlead-system"}})
        self.grant("base/rbac.yaml")

    def grant(self, file: str) -> None:
        for tree in yaml.safe_load_all((ROOT / "deploy/kubernetes" / file).read_text()):
            if "Role" not in tree["kind"]:
                continue
            if "subjects" in tree:
                tree["subjects"] = [{"kind": "User", "name": "agent", "apiGroup": "rbac.authorization.k8s.io"}]
            group = f"/apis/{tree['apiVersion']}" if "/" in tree["apiVersion"] else "/api/v1"
            where = f"/namespaces/{space}" if (space := tree["metadata"].get("namespace")) else ""
            self.call("POST", f"{group}{where}/{tree['kind'].lower()}s", tree)

    def away(self) -> None:
        self._program.end()

    def back(self) -> None:
        self._program.start()
        eventually(lambda: self._serves("/api/v1/namespaces/default"), deadline=READY, what="kube-apiserver serves")

    def end(self) -> None:
        self._program.end()
        self._etcd.end()

    def _serves(self, path: str) -> bool:
        self._program.check()
        try:
            self.get(path)
        except AssertionError:
            return False
        return True


def api(switch: Namespace, folder: Path, family: int = 4) -> Api:
    """The real one, if there is one."""
    return (Real if os.environ.get("KUBEBUILDER_ASSETS") else StandIn)(switch, folder, family)
