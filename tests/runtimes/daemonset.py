"""The DaemonSet's pod as kubelet has it run, by podman: its volumes, its propagation of mounts, nothing else to write to.

The image is the machine's own programs and this checkout, to be read only.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from fairlead.api.client import Client
from fairlead.model import errors
from tests.runtimes.host import Host
from tests.runtimes.podman import Podman
from tests.tree import ROOT
from tests.wait import eventually

Tree = dict[str, Any]

IMAGE = "/opt/image"
_PROPAGATION = {"": "rprivate", "HostToContainer": "rslave", "Bidirectional": "rshared"}


class DaemonSet:
    """What deploy/kubernetes says of it, on one node. ``start`` and ``end`` its agent as often as a test likes."""

    def __init__(self, host: Host, podman: Podman, node: str, kubeconfig: str) -> None:
        documents = yaml.safe_load_all((ROOT / "deploy/kubernetes/fairlead.yaml").read_text())
        objects = {one["kind"]: one for one in documents if one}
        self._pod: Tree = objects["DaemonSet"]["spec"]["template"]["spec"]
        self._said = {**objects["ConfigMap"]["data"], "NODE_NAME": node}
        self._podman, self._kubeconfig = podman, kubeconfig
        self.client = Client(host.run_dir / "agent.sock")
        host.sh(
            f"for one in etc run tmp var/lib; do mkdir -p {IMAGE}/$one; done\nln -s ../run {IMAGE}/var/run\n"
            f"for one in bin sbin lib lib64; do ln -s usr/$one {IMAGE}/$one; done"
        )
        for volume in self._pod["volumes"]:
            if "hostPath" in volume:
                host.sh(f"mkdir -p {volume['hostPath']['path']}")

    def install(self) -> str:
        """Run the init container; what it said."""
        return self._podman("run", "--rm", *self._words(self._pod["initContainers"][0]))

    def start(self) -> None:
        """Run the agent until it is ready."""
        self._podman("run", "--detach", "--name", "agent", *self._words(self._pod["containers"][0]))
        eventually(self._ready, deadline=30, what="the agent is ready")

    def end(self) -> None:
        """End it, and the container with it."""
        self._podman("stop", "agent")
        self._podman("rm", "agent")

    @property
    def log(self) -> str:
        """What the agent has said."""
        done = self._podman.attempt("logs", "agent")
        return done.stdout + done.stderr

    def _ready(self) -> bool:
        assert self._podman("ps", "--quiet", "--filter", "name=agent"), self.log
        try:
            return self.client.status().ready
        except errors.Unavailable:
            return False

    def _words(self, container: Tree) -> Iterator[str]:
        yield from ("--network", "host", "--pid", "host", "--env", f"PATH={sys.prefix}/bin:/usr/sbin:/usr/bin")
        for path in ("/usr", *{str(ROOT), sys.prefix}, self._kubeconfig):
            yield from ("--volume", f"{path}:{path}:ro")
        yield from ("--env", f"KUBECONFIG={self._kubeconfig}", "--env", f"PYTHONPATH={ROOT}/src")
        for one in container.get("env", ()):
            yield from ("--env", f"{one['name']}={self._said.get(one['name'], one.get('value', ''))}")
        yield from self._security(container["securityContext"])
        places = {one["name"]: one for one in self._pod["volumes"]}
        for mount in container["volumeMounts"]:
            yield from _volume(places[mount["name"]], mount)
        yield from ("--rootfs", IMAGE)
        for word in (*container["command"], *container["args"]):
            yield re.sub(r"\$\((\w+)\)", lambda name: self._said[name[1]], word)

    def _security(self, context: Mapping[str, Any]) -> Iterator[str]:
        if context.get("privileged"):
            yield "--privileged"
        for verb, names in context.get("capabilities", {}).items():
            yield from (f"--cap-{verb}={name}" for name in names)
        if context["readOnlyRootFilesystem"]:
            yield from ("--read-only", "--read-only-tmpfs=false")


def _volume(place: Tree, mount: Tree) -> Iterator[str]:
    if "emptyDir" in place:
        yield from ("--tmpfs", mount["mountPath"])
    else:
        how = _PROPAGATION[mount.get("mountPropagation", "")]
        yield from ("--volume", f"{place['hostPath']['path']}:{mount['mountPath']}:{how}")
