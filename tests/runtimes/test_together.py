"""Containers of three runtimes on one network: they reach each other, with the same ports and the same isolation."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.net import Outside
from tests.runtimes import containerd, docker, podman
from tests.runtimes.agent import Agent
from tests.runtimes.containerd import Containerd
from tests.runtimes.docker import Docker
from tests.runtimes.host import Host
from tests.runtimes.podman import Podman
from tests.runtimes.web import Runtime, ask, hears, serve
from tests.wait import eventually

pytestmark = pytest.mark.needs(*{*docker.PROGRAMS, *podman.PROGRAMS, *containerd.PROGRAMS})

SHARED = ("--ipam-driver", "fairlead", "--subnet", "10.79.0.0/24", "--subnet", "fd79::/64", "--ipv6")


def test_they_share_a_network(
    containerd: Containerd, podman: Podman, docker: Docker, agent: Agent, host: Host, outside: Outside
) -> None:
    host.sh("fairlead network create office --subnet 10.79.0.0/24 --subnet fd79::/64")
    host.sh("fairlead cni uninstall && fairlead cni install --network office --name office")
    docker("network", "create", "-d", "fairlead", *SHARED, "-o", "fairlead.network=office", "office")
    docker("network", "create", "-d", "fairlead", "--ipam-driver", "fairlead", "elsewhere")

    docker.container("in-docker", "--network", "office", "-p", "8001:80", command=serve("in-docker"))
    podman.container("in-podman", "--network", "office", "-p", "8002:80", command=serve("in-podman"))
    containerd.container("in-containerd", command=serve("in-containerd"))
    docker.container("stranger", "--network", "elsewhere", "-p", "8003:80", command=serve("stranger"))

    runtimes: Mapping[str, Runtime] = {"in-docker": docker, "in-podman": podman, "in-containerd": containerd}
    by_name = {one.spec.container: one for one in agent.endpoints() if one.spec.network == "office"}
    assert len(by_name) == 3
    addresses = {
        "in-docker": docker.address("in-docker", "office"),
        "in-podman": podman.address("in-podman", "office"),
        "in-containerd": containerd.address("in-containerd"),
    }
    eventually(lambda: all(ask(host, address) for address in addresses.values()))
    for name, runtime in runtimes.items():
        for other, address in addresses.items():
            assert hears(runtime, name, address) == other, f"{name} to {other}"
        assert hears(runtime, name, docker.address("stranger", "elsewhere")) is None, f"{name} to a stranger"
        assert hears(docker, "stranger", addresses[name]) is None, f"a stranger to {name}"
    assert [ask(outside, host.v4, port) for port in (8001, 8002, 8003)] == ["in-docker", "in-podman", "stranger"]
    assert hears(containerd, "in-containerd", host.v4, 8001) == "in-docker", "a published port from inside"

    said = podman.attempt("run", "--network", "office", "-p", "8001:80", "--rootfs", "/opt/busybox:O", "true").stderr
    assert "host port 8001->80/tcp is published by container" in said
    taken = f"office:ip={addresses['in-docker']}"
    assert "is held by docker" in podman.attempt("run", "--network", taken, "--rootfs", "/opt/busybox:O", "true").stderr

    assert "used by" in host.attempt("fairlead", "network", "rm", "office").stderr
    docker("rm", "--force", "in-docker", "stranger")
    podman("rm", "--force", "--time", 0, "in-podman")
    containerd.remove("in-containerd")
    eventually(lambda: agent.endpoints() == [])
    assert "docker" in host.attempt("fairlead", "network", "rm", "office").stderr, "Docker's network counts on it"
    docker("network", "rm", "office", "elsewhere")
    host.sh("fairlead network rm office")
    assert agent.reserved() == []
    assert not agent.drift()
