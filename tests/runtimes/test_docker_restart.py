"""Docker's daemon and the agent die and come back, in any order: containers stay connected, nothing is lost or left."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fairlead.desired import names
from tests.net import Outside
from tests.runtimes.agent import Agent
from tests.runtimes.docker import CONFIGURATION, PROGRAMS, Docker
from tests.runtimes.host import Host
from tests.runtimes.web import ask, serve
from tests.wait import eventually

pytestmark = pytest.mark.needs(*PROGRAMS)

FAIRLEAD = ("network", "create", "-d", "fairlead", "--ipam-driver", "fairlead")


@pytest.fixture
def running(docker: Docker, host: Host, outside: Outside) -> Docker:
    """Docker with two containers on one network, one of them published."""
    docker(*FAIRLEAD, "blue")
    docker.container("one", "--network", "blue", "-p", "8080:80", command=serve("one"))
    docker.container("two", "--network", "blue")
    eventually(lambda: ask(outside, host.v4, 8080) == "one")
    return docker


def connected(docker: Docker, name: str = "two") -> bool:
    return docker.inside(name, "ping", "-c", 1, "-W", 1, "one").returncode == 0


def cleared(docker: Docker, agent: Agent) -> None:
    """Remove everything, by Docker's means alone, and see that nothing is left."""
    docker("rm", "-f", *docker("ps", "-aq").split())
    docker("network", "rm", "blue")
    assert agent.endpoints() == []
    assert agent.reserved() == []
    assert not agent.drift()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_agent_restarts(running: Docker, agent: Agent, host: Host, outside: Outside, end: str) -> None:
    getattr(agent, end)()
    assert connected(running)
    assert ask(outside, host.v4, 8080) == "one"
    agent.start()
    assert connected(running)
    assert not agent.drift()
    running.container("three", "--network", "blue")
    assert connected(running, "three")
    cleared(running, agent)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_dockerd_restarts(running: Docker, agent: Agent, host: Host, outside: Outside, end: str) -> None:
    getattr(running, end)()
    assert ask(outside, host.v4, 8080) == "one"
    running.start()
    assert connected(running)
    assert ask(outside, host.v4, 8080) == "one"
    running.container("three", "--network", "blue")
    assert connected(running, "three")
    cleared(running, agent)


@pytest.mark.parametrize("first", ["agent", "docker"])
def test_both_restart(running: Docker, agent: Agent, host: Host, outside: Outside, first: str) -> None:
    running.kill()
    agent.kill()
    assert ask(outside, host.v4, 8080) == "one"
    for one in (agent, running) if first == "agent" else (running, agent):
        one.start()
    assert connected(running)
    assert ask(outside, host.v4, 8080) == "one"
    running.container("three", "--network", "blue")
    assert connected(running, "three")
    cleared(running, agent)


def test_a_start_waits_for_the_agent(running: Docker, agent: Agent) -> None:
    agent.kill()
    with ThreadPoolExecutor() as pool:
        starting = pool.submit(running.container, "three", "--network", "blue")
        eventually(lambda: "retrying in" in running.daemon.log, what="Docker asks the agent that is not there")
        assert not starting.done()
        agent.start()
        assert starting.result(60)
    assert connected(running, "three")
    cleared(running, agent)


def test_containers_that_died_with_dockerd_leave_nothing(running: Docker, agent: Agent, host: Host) -> None:
    host.write("/etc/docker/daemon.json", json.dumps(CONFIGURATION | {"live-restore": False}))
    running.kill()
    running.start()
    eventually(lambda: agent.endpoints() == [] and agent.reserved() == [], what="Docker clears up", deadline=20)
    running("start", "one", "two")
    assert connected(running)
    cleared(running, agent)


@pytest.mark.deadline(240)
def test_nothing_is_lost_however_often_the_agent_dies(running: Docker, agent: Agent) -> None:
    """A call that the agent dies in fails (Docker repeats it without its content), and so does its command; nothing else."""

    def cycle(number: int) -> int:
        options = ("--detach", "--name", f"more{number}", "--network", "blue", "-p", f"{9000 + number}:80")
        failures = 0
        while running.attempt("run", *options, "busybox", "sleep", 60).returncode:
            running("rm", "-f", f"more{number}")
            failures += 1
        assert connected(running, f"more{number}")
        running("rm", "-f", f"more{number}")
        return failures

    with ThreadPoolExecutor(2) as pool:
        cycles = [pool.submit(cycle, number) for number in range(16)]
        for turn in range(12):
            time.sleep(0.13 * turn % 1)  # at another moment of the cycles each time, not to wait for anything
            agent.kill()
            agent.start()
        failures = [one.result(120) for one in cycles]
    assert sum(failures) < len(cycles), "most of the time nobody noticed"
    assert len(agent.endpoints()) == 2
    assert connected(running)
    cleared(running, agent)


def test_after_a_reboot_nothing_is_left_of_what_was(running: Docker, agent: Agent, host: Host, outside: Outside) -> None:
    pids = [running.inspect(name)["State"]["Pid"] for name in ("one", "two")]
    running.kill()
    agent.kill()
    host.run("kill", "-9", *pids)
    host.run("nft", "flush", "ruleset")
    for link in host.json("ip", "-json", "link"):
        if link["ifname"] not in {"lo", "eth0"}:
            host.attempt("ip", "link", "delete", link["ifname"])
    host.write("/run/boot_id", "00000000-0000-4000-8000-000000000000\n")
    host.run("mount", "--bind", "/run/boot_id", "/proc/sys/kernel/random/boot_id")

    agent.start()
    assert agent.endpoints() == []
    assert [one.spec.address for one in agent.reserved() if one.spec.address] == []
    running.start()
    running("start", "one", "two")
    assert connected(running)
    eventually(lambda: ask(outside, host.v4, 8080) == "one")
    cleared(running, agent)


def configured(shown: str) -> list[list[str]]:
    """MAC and IPv4 address, as ``ip address`` shows them."""
    return [line.split()[:2] for line in shown.splitlines() if line.split()[0] in {"link/ether", "inet"}]


BREAKS = {
    "its veth is deleted": ("ip", "link", "delete", "{veth}"),
    "its veth is taken off the bridge": ("ip", "link", "set", "{veth}", "nomaster"),
    "its veth is set down": ("ip", "link", "set", "{veth}", "down"),
    "the bridge is deleted": ("ip", "link", "delete", "{bridge}"),
    "the rules are flushed": ("nft", "flush", "ruleset"),
}


@pytest.mark.parametrize("what", BREAKS)
def test_what_is_broken_comes_back(running: Docker, agent: Agent, host: Host, outside: Outside, what: str) -> None:
    (link,) = [one for one in agent.endpoints() if one.spec.ports]
    shown = next(one for one in host.json("ip", "-json", "link") if one["ifname"].startswith("flv"))
    places = {"bridge": shown["master"], "veth": names.veth(link.name)}
    before = running.inside("one", "ip", "address", "show", "eth0").stdout
    host.run(*(word.format(**places) for word in BREAKS[what]))
    eventually(lambda: ask(outside, host.v4, 8080) == "one" and connected(running), deadline=10)
    assert not agent.drift()
    after = running.inside("one", "ip", "address", "show", "eth0").stdout
    assert configured(after) == configured(before)
    cleared(running, agent)
