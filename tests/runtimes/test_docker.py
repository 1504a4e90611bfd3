"""Docker with Fairlead as its network and IPAM driver."""

from __future__ import annotations

import pytest

from tests.runtimes.agent import Agent
from tests.runtimes.docker import PROGRAMS, Docker

pytestmark = pytest.mark.needs(*PROGRAMS, "busybox")

FAIRLEAD = ("network", "create", "-d", "fairlead", "--ipam-driver", "fairlead")


def test_containers_reach_each_other(docker: Docker, agent: Agent) -> None:
    docker(*FAIRLEAD, "blue")
    docker.container("one", "--network", "blue")
    docker.container("two", "--network", "blue")
    assert docker.inside("one", "ping", "-c", 1, "-W", 2, docker.address("two", "blue")).returncode == 0
    assert docker.inside("one", "ping", "-c", 1, "-W", 2, "two").returncode == 0
    assert not agent.drift()
