"""Several nodes with real agents that share a store: their containers reach each other."""

from __future__ import annotations

import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from fairlead.model import codec, errors
from tests.kernel.agents import Agent, address
from tests.net import Containers, Namespace, Node, end, kept, machine
from tests.wait import eventually

BOTH = pytest.mark.parametrize("enforced", [pytest.param("ebpf", marks=pytest.mark.kernel("ebpf")), "nftables"])


class Station(Node):
    """A node on a switch: its only interface is eth0, with no default route."""

    def __init__(self, directory: Path, number: int, switch: Namespace) -> None:
        directory.mkdir()
        super().__init__(directory)
        self.number = number
        self.v4, self.v6 = f"192.0.2.{number}", f"2001:db8:2::{number:x}"
        machine(
            "ip",
            "link",
            "add",
            "eth0",
            "netns",
            self.name,
            "type",
            "veth",
            "peer",
            "name",
            f"port{number}",
            "netns",
            switch.name,
        )
        switch.run("ip", "link", "set", f"port{number}", "master", "switch", "up")
        self.run("sysctl", "-q", "-w", "net.ipv6.conf.eth0.accept_dad=0")
        self.run("ip", "address", "add", f"{self.v4}/24", "dev", "eth0")
        self.run("ip", "address", "add", f"{self.v6}/64", "dev", "eth0", "nodad")
        self.run("ip", "link", "set", "eth0", "up")


class Etcd:
    """An etcd on the switch."""

    address = "192.0.2.250:2379"

    def __init__(self, switch: Namespace, folder: Path) -> None:
        self._switch, self._folder = switch, folder / "etcd"

    def start(self) -> None:
        """Start it, with what it had."""
        url = f"http://{self.address}"
        words = ("--data-dir", self._folder, "--listen-client-urls", url, "--advertise-client-urls", url)
        peers = ("--listen-peer-urls", "http://127.0.0.1:2380", "--log-level", "error")
        self._switch.run("ip", "link", "set", "lo", "up")
        self._process = self._switch.start("etcd", *words, *peers)
        health = ("etcdctl", f"--endpoints={self.address}", "endpoint", "health")
        eventually(lambda: self._switch.attempt("env", "ETCDCTL_API=3", *health).returncode == 0, deadline=20, what="etcd")

    def stop(self) -> None:
        """End it without a word."""
        end(self._process)


class Town:
    """Nodes with agents on one switch."""

    def __init__(
        self,
        cleanup: ExitStack,
        folder: Path,
        count: int,
        *options: str,
        etcd: bool = False,
        plane: str = "auto",
        interval: float = 2,
        family: int = 0,
        mtus: Sequence[int] = (),
        narrow: int = 0,
    ) -> None:
        """``family``: the one by which nodes reach each other; ``mtus`` of their uplinks; ``narrow``: of the last cable."""
        self.family = family
        self.switch = switch = kept(cleanup, Namespace("switch"))
        switch.run("ip", "link", "add", "switch", "up", "type", "bridge")
        switch.run("ip", "address", "add", "192.0.2.250/24", "dev", "switch")
        self.etcd = Etcd(switch, folder)
        store = f"sqlite://{folder}/shared.db"
        if etcd:
            self.etcd.start()
            store = f"etcd://{self.etcd.address}"
        self.nodes = [kept(cleanup, Station(folder / f"node{at}", at, switch)) for at in range(1, count + 1)]
        for node, mtu in zip(self.nodes, mtus, strict=False):
            node.run("ip", "link", "set", "eth0", "mtu", mtu)
        if narrow:
            switch.run("ip", "link", "set", f"port{count}", "mtu", narrow)
        self.agents = []
        for node in self.nodes:
            reached = ("--node-ip", node.v6 if family == 6 else node.v4) if family else ()
            often = ("--interval", str(interval), "--ttl", "2", "--plane", plane)
            agent = Agent(node, "--node", f"node{node.number}", "--store", store, *often, *reached, *options)
            cleanup.callback(agent.remove)
            agent.start()
            self.agents.append(agent)


def known(agent: Agent, network: str) -> bool:
    return network in {one.name for one in agent.client.objects("networks")}


@pytest.fixture
def town(cleanup: ExitStack, tmp_path: Path, enforced: str) -> Callable[..., Town]:
    return lambda count, *options, **given: Town(cleanup, tmp_path, count, *options, plane=enforced, **given)


@BOTH
@pytest.mark.parametrize("driver", ["vxlan", "host-gw"])
def test_containers_of_two_nodes_reach_each_other(town: Callable[..., Town], containers: Containers, driver: str) -> None:
    made = town(2)
    one, two = made.agents
    one.network("farm", "10.60.0.0/16", "fd60::/64", driver=driver)
    eventually(lambda: known(two, "farm"), what="the other node knows the network")
    here, there = containers.new("here"), containers.new("there")
    one.attach(here, "farm")
    at = two.attach(there, "farm")
    there.serve("tcp", 80)
    for family in (4, 6):
        eventually(lambda family=family: here.pings(address(at, family)), what=f"the way to the other node, IPv{family}")
        assert here.connects(address(at, family), 80)
        assert made.nodes[0].pings(address(at, family)), "the node itself reaches it"
    eventually(lambda: two.client.flows(**{"from": "node/node1"}), what="another node is named where it is seen")
    assert not one.drift()
    assert not two.drift()


def attached(agent: Agent, one: Namespace, network: str = "farm", **fields: object) -> str:
    return address(agent.attach(one, network, **fields))


def farm(
    town: Callable[..., Town],
    count: int = 2,
    driver: str = "vxlan",
    *,
    interval: float = 2,
    options: Sequence[str] = (),
    **spec: object,
) -> Town:
    made = town(count, *options, interval=interval)
    subnets = [str(spec.pop("subnet", "10.60.0.0/16"))]
    made.agents[0].network("farm", *subnets, driver=driver, **spec)
    for agent in made.agents:
        eventually(lambda agent=agent: known(agent, "farm"), what="every node knows the network")
    return made


def routes(node: Node) -> dict[str, str]:
    """Our routes: destination to what stands behind it."""
    lines = (line.split() for line in node.run("ip", "route", "show", "proto", "102").splitlines())
    return {words[1] if words[0] == "unreachable" else words[0]: " ".join(words) for words in lines if words}


class Watch:
    """How long it took until something was so."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def until(self, condition: Callable[[], object], what: str, *, deadline: float = 10) -> float:
        eventually(condition, deadline=deadline, what=what)
        return time.monotonic() - self._began


def test_a_node_falls_silent_and_an_agent(town: Callable[..., Town], containers: Containers, record_figures: list[str]) -> None:
    """A node that is dead is not sent to, in seconds. One whose agent alone is away keeps everything."""
    made = farm(town)
    one, two = made.agents
    here, there = containers.new("here"), containers.new("there")
    attached(one, here)
    at = attached(two, there)
    eventually(lambda: here.pings(at))
    (block,) = [dst for dst in routes(made.nodes[0]) if "flx-farm" in routes(made.nodes[0])[dst]]
    two.kill()
    made.nodes[1].run("ip", "link", "set", "eth0", "down")
    took = Watch().until(lambda: block not in routes(made.nodes[0]), "the dead node's block has no route", deadline=12)
    assert "does not answer" in str(one.client.doctor())
    record_figures.append(f"a node dies: its routes are withdrawn after {took:.1f} s, with leases of 2 s")

    made.nodes[1].run("ip", "link", "set", "eth0", "up")
    made.nodes[1].run("ip", "-6", "address", "replace", f"{made.nodes[1].v6}/64", "dev", "eth0", "nodad")
    eventually(lambda: here.pings(at), deadline=15, what="the node answers again, and is reached without its agent")
    flood = here.start("ping", "-n", "-i", "0.05", "-w", "20", "-q", at)
    eventually(lambda: "its agent is away" in str(one.client.doctor()), deadline=12, what="it is noticed")
    two.start()
    eventually(lambda: "its agent is away" not in str(one.client.doctor()), what="the agent is back")
    assert not two.drift()
    flood.send_signal(signal.SIGINT)
    said, _ = flood.communicate(timeout=20)
    assert " 0% packet loss" in said, said


def test_a_node_moves(town: Callable[..., Town], containers: Containers, record_figures: list[str]) -> None:
    """It gets another address, then another MAC."""
    made = farm(town, interval=1)
    one, two = made.agents
    here, there = containers.new("here"), containers.new("there")
    attached(one, here)
    at = attached(two, there)
    eventually(lambda: here.pings(at))
    made.nodes[1].run("ip", "address", "del", "192.0.2.2/24", "dev", "eth0")
    made.nodes[1].run("ip", "address", "add", "192.0.2.77/24", "dev", "eth0")
    moved = Watch().until(lambda: here.pings(at, 0.1), "the tunnel leads to the new address", deadline=8)
    eventually(lambda: not one.drift() and not two.drift())
    made.nodes[1].run("ip", "link", "set", "eth0", "address", "02:00:5e:00:53:77")
    other = Watch().until(lambda: here.pings(at, 0.1), "the node is reached at its new MAC", deadline=8)
    assert max(moved, other) < 1
    record_figures.append(f"a node with another address is reached after {moved:.2f} s, with another MAC after {other:.2f} s")


def test_a_node_loses_its_address_for_a_moment(town: Callable[..., Town], containers: Containers) -> None:
    """As whoever configures its network anew has it. Routes with that source wait until it is back, and nobody else's."""
    made = town(2, interval=60)
    one, node = made.agents[0], made.nodes[0]
    one.network("farm", "10.60.0.0/16", "fd60::/64", driver="vxlan")
    eventually(lambda: known(made.agents[1], "farm"))
    attached(made.agents[1], containers.new("there"))
    source = f"src {node.v6}"
    eventually(lambda: source in node.run("ip", "-6", "route", "show", "proto", "102"))
    node.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=1")
    node.run("ip", "-6", "address", "del", f"{node.v6}/64", "dev", "eth0")
    eventually(lambda: source not in node.run("ip", "-6", "route", "show", "proto", "102"))
    node.run("ip", "-6", "address", "add", f"{node.v6}/64", "dev", "eth0")
    eventually(
        lambda: source in node.run("ip", "-6", "route", "show", "proto", "102"), deadline=8, what="it is their source again"
    )
    assert not one.drift()


def test_the_timer_finds_what_was_not_heard(town: Callable[..., Town], containers: Containers) -> None:
    """Events wait for a minute here, which is as if they had been missed."""
    made = farm(town, interval=1, options=("--debounce", "60"))
    here, there = containers.new("here"), containers.new("there")
    attached(made.agents[0], here)
    at = attached(made.agents[1], there)
    eventually(lambda: here.pings(at))
    node, wrong = made.nodes[0], "02:00:5e:00:53:01"
    mac = node.run("bridge", "fdb", "show", "dev", "flx-farm").split()[0]
    for words in (
        f"bridge fdb append {wrong} dev flx-farm dst 192.0.2.99",
        f"bridge fdb replace {mac} dev flx-farm dst 192.0.2.99",
        f"bridge fdb delete {mac} dev flx-farm dst 192.0.2.2",
    ):
        node.run(*words.split())
        eventually(lambda: not made.agents[0].drift(), deadline=8, what=f"the timer finds {words}")
        assert here.pings(at), words
    assert wrong not in node.run("bridge", "fdb", "show", "dev", "flx-farm")


def test_what_somebody_breaks_between_nodes_is_repaired(
    town: Callable[..., Town], containers: Containers, record_figures: list[str]
) -> None:
    """By what the kernel tells: the timer is a minute away."""
    made = farm(town, interval=60)
    one, two = made.agents
    here, there = containers.new("here"), containers.new("there")
    attached(one, here)
    at = attached(two, there)
    eventually(lambda: here.pings(at))
    node = made.nodes[0]
    block = next(dst for dst, line in routes(node).items() if "flx-farm" in line)
    mac = node.run("bridge", "fdb", "show", "dev", "flx-farm").split()[0]
    near = routes(node)[block].split("via inet6 ")[1].split()[0]
    wrong = "02:00:5e:00:53:01"
    took = {}
    for words in (
        "ip link delete flx-farm",
        f"ip route delete {block}",
        "bridge fdb flush dev flx-farm",
        f"bridge fdb replace {mac} dev flx-farm dst 192.0.2.99",
        f"bridge fdb append {wrong} dev flx-farm dst 192.0.2.99",
        "bridge fdb append 00:00:00:00:00:00 dev flx-farm dst 192.0.2.99",
        "ip -6 neighbour flush dev flx-farm nud permanent",
        f"ip -6 neighbour replace {near} lladdr {wrong} dev flx-farm nud permanent",
        f"ip link set flx-farm address {wrong}",
        "ip link set flx-farm mtu 1300",
        "ip link set flx-farm down",
    ):
        node.run(*words.split())
        took[words] = Watch().until(lambda: not one.drift(), f"repaired after {words}", deadline=8)
        eventually(lambda: here.pings(at), what=f"the way is back after {words}")
    assert statistics.median(took.values()) < 1, took
    record_figures.append(
        f"{len(took)} ways to break a tunnel: repaired after {statistics.median(took.values()):.2f} s (median), "
        f"{max(took.values()):.2f} s (worst)"
    )


FRIENDS = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]
"""


@BOTH
def test_policies_know_containers_of_other_nodes(
    town: Callable[..., Town], containers: Containers, record_figures: list[str]
) -> None:
    made = farm(town)
    one, two = made.agents
    web, rogue, db = (containers.new(name) for name in ("web", "rogue", "db"))
    attached(one, web, labels={"app": "web"})
    attached(one, rogue)
    at = attached(two, db, labels={"app": "db"})
    db.serve("tcp", 80)
    eventually(lambda: rogue.connects(at, 80))
    one.client.apply(codec.from_yaml(FRIENDS)[0])
    eventually(lambda: not rogue.connects(at, 80, deadline=0.4), what="the policy is known on the other node")
    assert web.connects(at, 80)
    eventually(lambda: "rogue" in str(two.client.flows(verdict="dropped")), what="flows name the other node's container")

    delays = []
    for number in range(5):  # the first packet comes while the other node may not yet know of the container
        late = containers.new(f"late{number}")
        attached(one, late, labels={"app": "web"})
        delays.append(Watch().until(lambda late=late: late.connects(at, 80, deadline=0.05), "the container is known there"))
    record_figures.append(
        f"a new container is let in by a policy of another node after {statistics.median(delays):.3f} s (median), "
        f"{max(delays):.3f} s (worst of {len(delays)})"
    )
    assert statistics.median(delays) < 1

    os.kill(two.pid, signal.SIGSTOP)  # from here on nobody tells the other node anything
    early = containers.new("early")
    attached(one, early, labels={"app": "web"})
    assert not early.connects(at, 80, deadline=0.5), "who is not known yet is not let in"
    assert web.connects(at, 80), "who is known is"
    os.kill(two.pid, signal.SIGCONT)
    eventually(lambda: early.connects(at, 80, deadline=0.05), what="the try after the event succeeds")


def test_a_full_network_lends_addresses(town: Callable[..., Town], containers: Containers) -> None:
    """Two blocks of eight addresses, three nodes: the third borrows, and says who has what once nothing is left."""
    made = farm(town, 3, subnet="10.60.0.0/28")
    made.agents[0].client.delete("networks", "farm")
    for agent in made.agents:
        eventually(lambda agent=agent: not known(agent, "farm"), what="every node has forgotten the network")
    tree = {
        "kind": "Network",
        "apiVersion": "fairlead.dev/v1",
        "metadata": {"name": "farm"},
        "spec": {"driver": "vxlan", "subnets": [{"cidr": "10.60.0.0/28", "blockSize": 29}]},
    }
    made.agents[0].client.apply(codec.from_item(tree))
    for agent in made.agents:
        eventually(lambda agent=agent: known(agent, "farm"))
    first, second, third = made.agents
    owner = containers.new("owner")
    attached(first, owner)
    attached(second, containers.new("other"))
    borrower = containers.new("borrower")
    at = eventually(lambda: tried(third, borrower), deadline=15, what="an address is lent")
    eventually(lambda: owner.pings(at), what="the borrowed address is reached")
    assert len({address for agent in made.agents for address in held(agent)}) == 3
    third.detach(borrower)
    eventually(lambda: not any(one.spec.lent for one in third.client.objects("blocks")), what="the address went back")


def test_an_address_is_not_judged_by_who_had_it_on_another_node(town: Callable[..., Town], containers: Containers) -> None:
    """The other node is told nothing while the address passes on: who comes next waits until it would long have heard."""
    made = town(2, "--address-rest", "3")
    one, two = made.agents
    one.network("farm", "10.60.0.0/24", driver="vxlan")
    eventually(lambda: known(two, "farm"))
    web, spare, db = (containers.new(name) for name in ("web", "spare", "db"))
    address, at = attached(one, web, labels={"app": "web"}), attached(two, db, labels={"app": "db"})
    db.serve("tcp", 80)
    one.client.apply(codec.from_yaml(FRIENDS)[0])
    eventually(lambda: web.connects(at, 80, deadline=0.4))
    attached(one, spare)
    eventually(lambda: not spare.connects(at, 80, deadline=0.4), what="the policy is known on the other node")

    os.kill(two.pid, signal.SIGSTOP)
    one.detach(web)
    begun = time.monotonic()
    quick = containers.new("quick")
    assert attached(one, quick) != address
    assert time.monotonic() - begun < 2, "as others are free"
    threading.Timer(1, os.kill, (two.pid, signal.SIGCONT)).start()
    rogue = containers.new("rogue")
    attached(one, rogue, addresses=[address])
    assert time.monotonic() - begun >= 2.9
    assert not any(rogue.connects(at, 80, deadline=0.1) for _ in range(10)), "not once"


def tried(agent: Agent, one: Namespace) -> str:
    try:
        return attached(agent, one)
    except errors.Exhausted:
        return ""


def held(agent: Agent) -> list[str]:
    return [str(one.address) for each in agent.client.objects("endpoints") for one in each.spec.addresses]


@pytest.mark.needs("etcd")
def test_a_store_that_is_away_keeps_nobody_from_anything(cleanup: ExitStack, tmp_path: Path, containers: Containers) -> None:
    """Containers go on and new ones start; an agent that starts then knows what it knew: ways, policies, who is who."""
    made = Town(cleanup, tmp_path, 2, etcd=True)
    one, two = made.agents
    one.network("farm", "10.60.0.0/16", driver="vxlan")
    eventually(lambda: known(two, "farm"))
    web, db = containers.new("web"), containers.new("db")
    attached(one, web, labels={"app": "web"})
    at = attached(two, db)
    db.serve("tcp", 80)
    eventually(lambda: web.connects(at, 80))
    two.stop()
    made.etcd.stop()
    two.start()
    assert web.connects(at, 80)
    late = containers.new("late")
    there = attached(two, late)
    late.serve("tcp", 80)
    assert web.connects(there, 80), "its block is routed to already"
    two.detach(late)
    two.attach(late, "farm", labels={"app": "late"})
    assert not two.drift()
    assert not {"late"} & {one.display for one in one.client.objects("endpoints", everywhere=True)}
    made.etcd.start()
    eventually(
        lambda: any("late" in one.display for one in one.client.objects("endpoints", everywhere=True)),
        deadline=20,
        what="what happened meanwhile is told once the store is back",
    )


def test_a_network_goes_when_its_last_container_has(town: Callable[..., Town], containers: Containers) -> None:
    """Word of what ended on another node may be on its way; who has a container still is named."""
    made = farm(town)
    one, two = made.agents
    theirs = containers.new("theirs")
    attached(two, theirs)
    eventually(lambda: one.client.objects("endpoints", everywhere=True), what="word of the container")
    with pytest.raises(errors.Conflict, match="used by theirs on node2"):
        one.client.delete("networks", "farm")
    two.detach(theirs)
    one.client.delete("networks", "farm")
    eventually(lambda: not known(two, "farm"), what="the other node has forgotten it")
