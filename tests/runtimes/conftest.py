"""Hosts for real container runtimes: each test has one of its own, with an agent on it, and a host outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.net import Outside, kept
from tests.runtimes.agent import Agent
from tests.runtimes.containerd import Containerd
from tests.runtimes.docker import Docker
from tests.runtimes.host import Host
from tests.runtimes.podman import Podman


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    """Undoes what was pushed on it, last first, going on after a failure."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def outside(cleanup: ExitStack) -> Outside:
    """A host that this one reaches over its uplink."""
    return kept(cleanup, Outside("outside"))


@pytest.fixture
def host(cleanup: ExitStack, outside: Outside, tmp_path: Path) -> Host:
    """The machine on which runtimes run."""
    return kept(cleanup, Host(tmp_path, outside))


@pytest.fixture
def agent(host: Host) -> Agent:
    """A real agent, ready."""
    made = Agent(host)
    made.start()
    return made


@pytest.fixture
def installed(host: Host, agent: Agent) -> None:  # noqa: ARG001  # who installs has an agent
    """The CNI plugins, where runtimes look for them."""
    host.sh("fairlead cni install")


@pytest.fixture
def containerd(host: Host, installed: None) -> Containerd:  # noqa: ARG001  # the plugins are there first
    """A containerd, ready."""
    made = Containerd(host)
    made.start()
    return made


@pytest.fixture
def podman(host: Host, installed: None) -> Podman:  # noqa: ARG001  # the plugins are there first
    """podman, configured for CNI."""
    return Podman(host)


@pytest.fixture
def docker(host: Host, agent: Agent) -> Docker:  # noqa: ARG001  # the agent is there first, as systemd would have it
    """A Docker daemon, ready."""
    made = Docker(host)
    made.start()
    return made
