"""containerd's ``ctr run --cni`` with the plugin and the configuration that ``fairlead cni install`` writes."""

from __future__ import annotations

import pytest

from tests.net import Outside
from tests.runtimes.agent import Agent
from tests.runtimes.containerd import PROGRAMS, Containerd
from tests.runtimes.host import Host
from tests.runtimes.web import ask, connects, hears, serve
from tests.wait import eventually

pytestmark = pytest.mark.needs(*PROGRAMS)


def test_containers_reach_each_other_and_the_outside(containerd: Containerd, agent: Agent, outside: Outside) -> None:
    containerd.container("one", command=serve("one"))
    containerd.container("two")
    outside.serve("tcp", 81)
    assert hears(containerd, "two", containerd.address("one")) == "one"
    assert connects(containerd, "two", outside.v4, 81)
    assert {one.spec.network for one in agent.endpoints()} == {"default"}
    assert {one.display for one in agent.endpoints()} == {"default-one", "default-two"}
    assert not agent.drift()


def test_the_first_configuration_decides(containerd: Containerd, host: Host, agent: Agent) -> None:
    host.sh("fairlead network create blue --subnet 10.77.0.0/24 --subnet fd77::/64")
    containerd.container("one", command=serve("one"))
    host.sh("fairlead cni uninstall && fairlead cni install --network blue")
    containerd.container("two")
    assert [one.spec.network for one in agent.endpoints()] == ["default", "blue"]
    assert containerd.address("two") == "10.77.0.2"
    assert containerd.address("two", 6) == "fd77::2"
    assert hears(containerd, "two", containerd.address("one")) is None, "the networks are apart"


def test_what_has_ended_is_free_again(containerd: Containerd, agent: Agent, host: Host) -> None:
    containerd.container("one")
    assert len(agent.endpoints()) == 1
    containerd.remove("one")
    eventually(lambda: agent.endpoints() == [])
    eventually(lambda: "flv" not in host.run("ip", "-br", "link"))
    assert not agent.drift()


def test_ctr_that_does_not_wait_takes_nothing_away_but_the_agent_does(containerd: Containerd, agent: Agent) -> None:
    containerd.detached("one")
    assert len(agent.endpoints()) == 1
    containerd("task", "kill", "--signal", "SIGKILL", "one")
    eventually(lambda: agent.endpoints() == [], what="the namespace is gone, so the address is free")


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_agent_and_containerd_restart(containerd: Containerd, agent: Agent, host: Host, end: str) -> None:
    for name in ("one", "two"):  # a ctr that waits takes the network away when containerd goes
        containerd.detached(name, command=serve(name))
    address = containerd.address("one")
    eventually(lambda: ask(host, address) == "one")
    getattr(agent, end)()
    containerd.daemon.kill()
    assert ask(host, address) == "one"
    containerd.start()
    assert hears(containerd, "two", address) == "one"
    agent.start()
    assert hears(containerd, "two", address) == "one"
    assert len(agent.endpoints()) == 2
    assert not agent.drift()
