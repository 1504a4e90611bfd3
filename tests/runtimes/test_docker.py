"""Docker with Fairlead as its network and IPAM driver: what its users see."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from fairlead.model.address import Prefix
from fairlead.model.meta import Meta
from fairlead.model.network import Network, NetworkSpec, Subnet
from tests.net import Outside
from tests.runtimes.agent import Agent
from tests.runtimes.docker import PROGRAMS, Docker
from tests.runtimes.host import Host
from tests.runtimes.web import ask, serve
from tests.wait import eventually

pytestmark = pytest.mark.needs(*PROGRAMS)

FAIRLEAD = ("network", "create", "-d", "fairlead", "--ipam-driver", "fairlead")


def network(name: str, *cidrs: str) -> Network:
    return Network(metadata=Meta(name=name), spec=NetworkSpec(subnets=tuple(Subnet(cidr=Prefix(cidr)) for cidr in cidrs)))


def web(docker: Docker, name: str, *options: object) -> None:
    """A container that answers with its name."""
    docker.container(name, *options, command=serve(name))


def reaches(docker: Docker, name: str, target: str) -> bool:
    return docker.inside(name, "ping", "-c", 1, "-W", 1, target).returncode == 0


def test_containers_of_a_network_reach_each_other_and_the_outside(docker: Docker, agent: Agent, outside: Outside) -> None:
    docker(*FAIRLEAD, "--ipv6", "blue")
    docker.container("one", "--network", "blue")
    docker.container("two", "--network", "blue")
    two = docker.inspect("two")["NetworkSettings"]["Networks"]["blue"]
    for target in (two["IPAddress"], two["GlobalIPv6Address"], "two", outside.v4, outside.v6):
        assert reaches(docker, "one", target), target
    assert {one.spec.owner for one in agent.endpoints()} == {"docker"}
    eventually(lambda: {one.display for one in agent.endpoints()} == {"one", "two"}, what="they have their names")
    assert not agent.drift()


def test_networks_are_apart(docker: Docker) -> None:
    for name in ("blue", "red"):
        docker(*FAIRLEAD, name)
        docker.container(f"in-{name}", "--network", name)
    assert not reaches(docker, "in-red", docker.address("in-blue", "blue"))
    docker("network", "connect", "blue", "in-red")
    assert reaches(docker, "in-red", "in-blue"), "on two networks it reaches both"
    docker("network", "disconnect", "blue", "in-red")
    assert not reaches(docker, "in-red", docker.address("in-blue", "blue"))


def test_ports_are_published(docker: Docker, agent: Agent, host: Host, outside: Outside) -> None:
    docker(*FAIRLEAD, "--ipv6", "blue")
    web(docker, "one", "--network", "blue", "-p", "8080:80", "-p", "9000-9002:80-82", "-p", f"{host.v4}:8081:80/tcp")
    eventually(lambda: {one.display for one in agent.endpoints()} == {"one"})
    web(docker, "any", "--network", "blue", "-p", "80", "-p", "7000-7005:80")
    eventually(lambda: ask(outside, host.v4, 8080) == "one")
    assert ask(outside, host.v6, 8080) == "one"
    assert ask(outside, host.v4, 9000) == ask(outside, host.v4, 8081) == "one"
    assert ask(outside, host.v6, 8081) is None
    chosen = [
        port.host_port for one in agent.endpoints() for port in one.spec.ports if port.host_port not in {8080, 8081, 9000}
    ]
    assert sorted(chosen) == [7000, 49152]
    assert {ask(outside, host.v4, port) for port in chosen} == {"any"}

    said = docker.attempt("run", "-d", "--network", "blue", "-p", "8080:80", "busybox", "sleep", "9").stderr
    assert "-p: host port 8080->80/tcp is published by container one" in said
    docker("stop", "-t", "0", "one")
    assert ask(outside, host.v4, 8080) is None
    docker("start", "one")
    eventually(lambda: ask(outside, host.v4, 8080) == "one")


def test_the_ports_follow_the_way_out(docker: Docker, host: Host, outside: Outside) -> None:
    for name in ("blue", "red"):
        docker(*FAIRLEAD, name)
    web(docker, "one", "--network", "blue", "-p", "8080:80")
    docker("network", "connect", "red", "one")
    docker("network", "disconnect", "blue", "one")
    eventually(lambda: ask(outside, host.v4, 8080) == "one")


def test_an_address_and_a_mac_are_given_as_asked_for(docker: Docker, agent: Agent) -> None:
    docker(*FAIRLEAD, "--subnet", "10.77.0.0/24", "--ip-range", "10.77.0.64/26", "--gateway", "10.77.0.254", "blue")
    docker.container("one", "--network", "blue", "--ip", "10.77.0.9", "--mac-address", "02:00:00:00:00:09")
    docker.container("two", "--network", "blue")
    shown = docker.inside("one", "ip", "address", "show", "eth0").stdout
    assert "02:00:00:00:00:09" in shown
    assert "10.77.0.9/24" in shown
    assert docker.address("two", "blue") == "10.77.0.64"
    assert "default via 10.77.0.254" in docker.inside("two", "ip", "route").stdout
    assert reaches(docker, "two", "10.77.0.9")
    refused = docker.attempt("run", "--network", "blue", "--ip", "10.77.0.9", "busybox", "true")
    assert "10.77.0.9 of network docker-" in refused.stderr
    assert {(one.spec.mac, *one.spec.addresses) for one in agent.endpoints()} >= {("02:00:00:00:00:09", "10.77.0.9/24")}


def test_what_is_removed_is_free_again(docker: Docker, agent: Agent, host: Host) -> None:
    networks = len(agent.client.objects("networks"))
    docker(*FAIRLEAD, "--subnet", "10.77.0.0/29", "blue")
    for turn in range(8):  # more than there are addresses
        docker.container(f"one{turn}", "--network", "blue", "-p", "8080:80")
        docker("rm", "-f", f"one{turn}")
    docker.container("one", "--network", "blue")
    said = docker.attempt("network", "rm", "blue").stderr
    assert "active endpoints" in said
    docker("rm", "-f", "one")
    docker("network", "rm", "blue")
    assert agent.endpoints() == []
    assert agent.reserved() == []
    assert len(agent.client.objects("networks")) == networks
    assert "flv" not in host.run("ip", "-br", "link")
    assert not agent.drift()


def test_a_full_network_says_so(docker: Docker) -> None:
    docker(*FAIRLEAD, "--subnet", "10.77.0.0/29", "blue")
    for turn in range(5):
        docker.container(f"one{turn}", "--network", "blue")
    said = docker.attempt("run", "--network", "blue", "busybox", "true").stderr
    assert "no address is left in 10.77.0.0/29" in said


def test_an_internal_network_leads_nowhere(docker: Docker, outside: Outside, host: Host) -> None:
    docker(*FAIRLEAD, "--internal", "blue")
    web(docker, "one", "--network", "blue", "-p", "8080:80")
    docker.container("two", "--network", "blue")
    assert reaches(docker, "two", "one")
    assert not reaches(docker, "two", outside.v4)
    assert ask(outside, host.v4, 8080) is None
    assert "default" not in docker.inside("two", "ip", "route").stdout


def test_options_mean_what_they_mean_to_docker(docker: Docker, host: Host, outside: Outside) -> None:
    option = "com.docker.network"
    docker(
        *FAIRLEAD, "-o", f"{option}.driver.mtu=1400", "-o", f"{option}.bridge.name=blue0", "-o",
        f"{option}.bridge.enable_icc=false", "-o", f"{option}.bridge.host_binding_ipv4={host.v4}",
        "-o", f"{option}.container_iface_prefix=net", "--label", "some=thing", "blue",
    )  # fmt: skip
    web(docker, "one", "--network", "blue", "-p", "8080:80")
    docker.container("two", "--network", "blue")
    assert "mtu 1400" in docker.inside("two", "ip", "link", "show", "net0").stdout
    assert host.json("ip", "-json", "link", "show", "blue0")[0]["mtu"] == 1400
    assert not reaches(docker, "two", docker.address("one", "blue"))
    assert reaches(docker, "two", outside.v4)
    eventually(lambda: ask(outside, host.v4, 8080) == "one")
    assert ask(host, "127.0.0.1", 8080) is None


REFUSED = (
    (("-o", "com.docker.network.bridge.enable_ic=false"), "-o com.docker.network.bridge.enable_ic: not an option"),
    (("-o", "com.docker.network.driver.mtu=9"), "mtu: 9 is not between 576"),
    (("-o", "com.docker.network.driver.mtu=many"), "'many' is not a number"),
    (("-o", "fairlead.network=nothing"), "there is no network nothing"),
    (("--ipam-opt", "fairlead.net=default"), "--ipam-opt fairlead.net: not an option"),
    (("--subnet", "10.77.0.0/24", "--gateway", "10.78.0.1"), "10.78.0.1"),
    (("--subnet", "10.208.0.0/16"), "is the subnet of network default"),
    (("--subnet", "203.0.113.0/25"), "collides with the host's route 203.0.113.0/24"),
    (("--subnet", "127.0.0.0/24"), "loopback"),
    (("--ipam-opt", "fairlead.network=default", "--subnet", "10.9.0.0/24"), "has no 10.9.0.0/24"),
    (("--ipam-opt", "fairlead.network=default"), "add --subnet 10.208.0.0/16"),
    (
        ("-o", "fairlead.network=default"),
        "is not of network default; name its own: --ipam-driver fairlead --subnet 10.208.0.0/16",
    ),
    (("-o", "fairlead.network=default", "--subnet", "10.208.0.0/16", "--internal"), "network default is not internal"),
    (
        ("-o", "fairlead.network=default", "--subnet", "10.208.0.0/16", "--gateway", "10.208.9.9"),
        "the gateway of network default is",
    ),
)


def test_what_cannot_be_is_refused_with_the_reason(docker: Docker, agent: Agent) -> None:
    before = agent.client.objects("networks")
    for words, reason in REFUSED:
        done = docker.attempt(*FAIRLEAD, *words, "blue")
        assert done.returncode != 0, words
        assert reason in done.stderr
        assert agent.client.objects("networks") == before
        assert agent.reserved() == []


def test_auxiliary_addresses_are_never_given(docker: Docker) -> None:
    docker(*FAIRLEAD, "--subnet", "10.77.0.0/29", "--aux-address", "router=10.77.0.2", "--aux-address", "dns=10.77.0.4", "blue")
    found = set()
    for turn in range(3):
        docker.container(f"one{turn}", "--network", "blue")
        found.add(docker.address(f"one{turn}", "blue"))
    assert found == {"10.77.0.3", "10.77.0.5", "10.77.0.6"}


def test_addresses_may_come_from_docker_itself(docker: Docker, agent: Agent, outside: Outside) -> None:
    docker("network", "create", "-d", "fairlead", "--subnet", "10.77.0.0/24", "blue")
    docker.container("one", "--network", "blue")
    docker.container("two", "--network", "blue", "--ip", "10.77.0.50")
    assert reaches(docker, "one", "10.77.0.50")
    assert reaches(docker, "one", outside.v4)
    assert agent.reserved() == []
    docker("rm", "-f", "one", "two")
    docker("network", "rm", "blue")


def test_a_network_of_docker_s_own_may_take_addresses_from_a_network_here(docker: Docker, agent: Agent) -> None:
    agent.client.apply(network("office", "10.79.0.0/24"))
    docker("network", "create", "-d", "bridge", "--ipam-driver", "fairlead", "--subnet", "10.79.0.0/24", "blue")
    docker.container("one", "--network", "blue")
    assert [str(one.spec.address) for one in agent.reserved()] == [docker.address("one", "blue") + "/24"]


def test_many_start_at_once(docker: Docker, agent: Agent) -> None:
    docker(*FAIRLEAD, "--ipv6", "blue")
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda number: docker.container(f"one{number}", "--network", "blue", "-p", f"{8000 + number}:80"), range(16)
            )
        )
        assert len({address for one in agent.endpoints() for address in one.spec.addresses}) == 32
        assert not agent.drift()
        list(pool.map(lambda number: docker("rm", "-f", f"one{number}"), range(16)))
    assert agent.endpoints() == []
    assert agent.reserved() == []
