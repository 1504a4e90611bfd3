"""A real kubelet on a host, over containerd's CRI: what it needs to run where nobody is the machine's administrator.

It is found where KUBEBUILDER_ASSETS says; nothing installs one. There is no controller manager and no scheduler: a test says
which podCIDR the node has, and which node a pod is for.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
import yaml

from tests.kernel.apis import Real
from tests.kubernetes.server import ADMIN
from tests.runtimes.containerd import Containerd
from tests.runtimes.host import BUSYBOX, Host

IMAGE = "docker.io/library/busybox:test"
NODE = "node1"
NEEDED = ("kubelet", "kube-apiserver", "etcd")

CONTAINERD = f"""\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{IMAGE}"
  restrict_oom_score_adj = true
"""
"""Scores of processes are lowered by who may alone."""

CONFIGURATION = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
    "cgroupDriver": "cgroupfs",
    "cgroupsPerQOS": False,
    "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
    "enforceNodeAllocatable": [],
    "evictionHard": dict.fromkeys(("memory.available", "nodefs.available", "imagefs.available"), "0%"),
    "failCgroupV1": False,
    "failSwapOn": False,
    "featureGates": {"KubeletInUserNamespace": True},
    "imageGCHighThresholdPercent": 100,
    "localStorageCapacityIsolation": False,
    "nodeStatusUpdateFrequency": "1s",
    "oomScoreAdj": 0,
    "syncFrequency": "2s",
}

SYSCTLS = {"vm/overcommit_memory": 1, "kernel/panic": 10, "kernel/panic_on_oops": 1, "kernel/keys/root_maxbytes": 25_000_000}
"""What kubelet writes for the whole machine; on a host it finds them so, and writes nothing."""


def assets() -> Path:
    """Where the programs lie; the test is skipped if one is missing."""
    folder = Path(os.environ.get("KUBEBUILDER_ASSETS", "/nowhere"))
    if missing := [name for name in NEEDED if not (folder / name).is_file()]:
        pytest.skip(f"KUBEBUILDER_ASSETS names no directory with {', '.join(missing)}")
    return folder


class Kubelet:
    """One on a host, with a containerd that has one image: busybox."""

    def __init__(self, host: Host, api: Real, folder: Path) -> None:
        host.sh("mount --make-rshared /\nmkdir -p /var/lib/kubelet\nrm -f /etc/cni/net.d/*")
        for name, value in SYSCTLS.items():
            file = f"/run/host/sysctl/{name}"
            host.write(file, f"{value}\n")
            host.sh(f"mount --bind {file} /proc/sys/{name}")
        host.write("/etc/containerd/config.toml", CONTAINERD)
        config = api.kubeconfig()
        config["users"][0]["user"] = {"token": ADMIN}
        host.write("/etc/kubernetes/kubelet.conf", yaml.safe_dump(config))
        host.write("/etc/kubernetes/config.yaml", yaml.safe_dump({**CONFIGURATION, "resolvConf": "/dev/null"}))
        self.containerd = Containerd(host)
        words = ("--config", "/etc/kubernetes/config.yaml", "--kubeconfig", "/etc/kubernetes/kubelet.conf")
        self.daemon = host.daemon(
            folder / "kubelet", *words, "--hostname-override", NODE, "--node-ip", host.v4, "--root-dir", "/var/lib/kubelet"
        )
        self._host = host

    def start(self) -> None:
        """Start containerd, with the image, and kubelet; nothing is ready yet."""
        self.containerd.start()
        archive = self._host.logs / "busybox.tar"
        _image(self._host.files / BUSYBOX.lstrip("/"), archive)
        self.containerd("--namespace", "k8s.io", "images", "import", archive)
        self.daemon.start()


def _image(root: Path, archive: Path) -> None:
    """An OCI archive with one layer: a directory."""
    files = io.BytesIO()
    with tarfile.open(fileobj=files, mode="w") as tar:
        tar.add(root, arcname=".")
    layer = files.getvalue()
    config = json.dumps(
        {
            "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
            "os": "linux",
            "config": {"Cmd": ["sleep", "infinity"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    ).encode()
    kind = "application/vnd.oci.image"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": {"mediaType": f"{kind}.config.v1+json", "digest": _digest(config), "size": len(config)},
            "layers": [{"mediaType": f"{kind}.layer.v1.tar", "digest": _digest(layer), "size": len(layer)}],
        }
    ).encode()
    name = {"io.containerd.image.name": IMAGE}
    entry = {"mediaType": f"{kind}.manifest.v1+json", "digest": _digest(manifest), "size": len(manifest), "annotations": name}
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    blobs = {f"blobs/{_digest(one).replace(':', '/')}": one for one in (layer, config, manifest)}
    with tarfile.open(archive, "w") as tar:
        for path, content in {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index, **blobs}.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
