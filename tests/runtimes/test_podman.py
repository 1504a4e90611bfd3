"""podman with the CNI plugins that ``fairlead cni install`` writes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.net import Outside
from tests.runtimes.agent import Agent
from tests.runtimes.host import Host
from tests.runtimes.podman import PROGRAMS, Podman
from tests.runtimes.web import ask, connects, hears, serve
from tests.wait import eventually

pytestmark = pytest.mark.needs(*PROGRAMS)


@pytest.fixture
def networks(host: Host, podman: Podman) -> Podman:
    """podman with two networks more, one of them with IPv6."""
    host.sh("fairlead network create blue --subnet 10.77.0.0/24 --subnet fd77::/64")
    host.sh("fairlead network create red --subnet 10.78.0.0/24")
    for name in ("blue", "red"):
        host.sh(f"fairlead cni install --network {name} --name {name}")
    return podman


def test_networks_show(networks: Podman) -> None:
    shown = {tuple(line.split()[1:]) for line in networks("network", "ls", "--noheading").splitlines()}
    assert shown >= {("fairlead", "fairlead"), ("blue", "fairlead"), ("red", "fairlead")}


def test_containers_of_a_network_reach_each_other_and_the_outside(networks: Podman, agent: Agent, outside: Outside) -> None:
    networks.container("one", "--network", "blue", command=serve("one"))
    networks.container("two", "--network", "blue")
    outside.serve("tcp", 81)
    assert hears(networks, "two", networks.address("one", "blue")) == "one"
    assert connects(networks, "two", outside.v4, 81)
    assert connects(networks, "two", outside.v6, 81)
    assert {one.spec.owner for one in agent.endpoints()} == {"cni"}
    assert {one.display for one in agent.endpoints()} == {"one", "two"}
    assert not agent.drift()


def test_the_default_network(podman: Podman, agent: Agent) -> None:
    podman.container("one")
    (endpoint,) = agent.endpoints()
    assert endpoint.spec.network == "default"
    assert podman.address("one", "fairlead") == endpoint.spec.addresses[0].address


def test_networks_are_apart(networks: Podman) -> None:
    networks.container("one", "--network", "blue", command=serve("one"))
    networks.container("two", "--network", "red")
    networks.container("both", "--network", "blue", "--network", "red")
    address = networks.address("one", "blue")
    assert hears(networks, "two", address) is None
    assert hears(networks, "both", address) == "one"
    networks("network", "connect", "blue", "two")
    assert hears(networks, "two", address) == "one"
    networks("network", "disconnect", "blue", "two")
    assert hears(networks, "two", address) is None


def test_ports_are_published(networks: Podman, host: Host, outside: Outside) -> None:
    networks.container(
        "one", "--network", "blue", "-p", "8080:80", "-p", "9000-9002:80-82", "-p", f"{host.v4}:8081:80", command=serve("one")
    )
    eventually(lambda: ask(outside, host.v4, 8080) == "one")
    assert ask(outside, host.v6, 8080) == "one"
    assert ask(outside, host.v4, 9000) == ask(outside, host.v4, 8081) == "one"
    assert ask(outside, host.v6, 8081) is None
    said = networks.attempt("run", "--network", "red", "-p", "8080:80", "--rootfs", "/opt/busybox:O", "true").stderr
    assert "host port 8080->80/tcp is published by container one" in said
    networks("rm", "--force", "--time", 0, "one")
    assert ask(outside, host.v4, 8080) is None


def test_ports_outlive_the_network_they_were_published_on(networks: Podman, agent: Agent, host: Host, outside: Outside) -> None:
    networks.container("one", "--network", "blue", "--network", "red", "-p", "8080:80", command=serve("one"))
    eventually(lambda: ask(outside, host.v4, 8080) == "one")
    (first,) = [one.spec.network for one in agent.endpoints() if one.spec.ports]
    networks("network", "disconnect", first, "one")
    eventually(lambda: ask(outside, host.v4, 8080) == "one")
    assert [[str(port) for port in one.spec.ports] for one in agent.endpoints()] == [["8080->80/tcp"]]
    networks("rm", "--force", "--time", 0, "one")
    assert agent.endpoints() == []


def test_of_two_that_want_one_port_at_once_one_gets_it(networks: Podman, agent: Agent) -> None:
    words = ("run", "--detach", "--network", "blue", "-p", "8080:80", "--rootfs", "/opt/busybox:O", "sleep", "60")
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: networks.attempt(*words), range(6)))
    assert sorted(one.returncode == 0 for one in done) == [False] * 5 + [True]
    assert len(agent.endpoints()) == 1
    assert not agent.drift()


def test_an_address_and_a_mac_are_given_as_asked_for(networks: Podman) -> None:
    networks.container("one", "--network", "blue:ip=10.77.0.9,mac=02:00:00:00:00:09")
    networks.container("two", "--network", "red", "--ip", "10.78.0.77")
    shown = networks.inside("one", "ip", "address", "show", "eth0").stdout
    assert "10.77.0.9/24" in shown
    assert "02:00:00:00:00:09" in shown
    assert networks.address("two", "red") == "10.78.0.77"
    said = networks.attempt("run", "--network", "blue:ip=10.77.0.9", "--rootfs", "/opt/busybox:O", "true").stderr
    assert "10.77.0.9 of network blue is held by one" in said


def test_what_is_removed_is_free_again(networks: Podman, agent: Agent, host: Host) -> None:
    for _ in range(3):
        networks.container("one", "--network", "blue:ip=10.77.0.9", "--network", "red", "-p", "8080:80")
        networks("stop", "--time", 0, "one")
        assert agent.endpoints() == []
        networks("start", "one")
        networks("rm", "--force", "--time", 0, "one")
    assert agent.endpoints() == []
    eventually(lambda: "flv" not in host.run("ip", "-br", "link"))
    host.sh("fairlead network rm blue && fairlead network rm red")
    assert not agent.drift()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_agent_restarts(networks: Podman, agent: Agent, host: Host, outside: Outside, end: str) -> None:
    networks.container("one", "--network", "blue", "-p", "8080:80", command=serve("one"))
    networks.container("two", "--network", "blue")
    address = networks.address("one", "blue")
    eventually(lambda: ask(outside, host.v4, 8080) == "one")
    getattr(agent, end)()
    assert hears(networks, "two", address) == ask(outside, host.v4, 8080) == "one"
    refused = networks.attempt("run", "--network", "blue", "--rootfs", "/opt/busybox:O", "true")
    assert refused.returncode != 0
    assert "fairlead" in refused.stderr
    networks("rm", "--force", "--time", 0, "two")  # remembered until the agent is there again
    agent.start()
    assert ask(outside, host.v4, 8080) == "one"
    assert {one.display for one in agent.endpoints()} == {"one"}
    assert not agent.drift()


def test_many_start_at_once(networks: Podman, agent: Agent) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda at: networks.container(f"one{at}", "--network", "blue", "-p", f"{8000 + at}:80"), range(12)))
        assert len({address for one in agent.endpoints() for address in one.spec.addresses}) == 24
        list(pool.map(lambda at: networks("rm", "--force", "--time", 0, f"one{at}"), range(12)))
    assert agent.endpoints() == []
    assert not agent.drift()
