"""Several nodes with real agents that share a store: their containers reach each other."""

from __future__ import annotations

from collections.abc import Callable
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
        self, cleanup: ExitStack, folder: Path, count: int, *, etcd: bool = False, plane: str = "auto", interval: float = 2
    ) -> None:
        self.switch = switch = kept(cleanup, Namespace("switch"))
        switch.run("ip", "link", "add", "switch", "up", "type", "bridge")
        switch.run("ip", "address", "add", "192.0.2.250/24", "dev", "switch")
        self.etcd = Etcd(switch, folder)
        store = f"sqlite://{folder}/shared.db"
        if etcd:
            self.etcd.start()
            store = f"etcd://{self.etcd.address}"
        self.nodes = [kept(cleanup, Station(folder / f"node{at}", at, switch)) for at in range(1, count + 1)]
        self.agents = []
        for node in self.nodes:
            words = ("--node", f"node{node.number}", "--store", store, "--plane", plane)
            agent = Agent(node, *words, "--interval", str(interval), "--ttl", "2")
            cleanup.callback(agent.remove)
            agent.start()
            self.agents.append(agent)


def known(agent: Agent, network: str) -> bool:
    return network in {one.name for one in agent.client.objects("networks")}


@pytest.fixture
def town(cleanup: ExitStack, tmp_path: Path, enforced: str) -> Callable[..., Town]:
    return lambda count, **options: Town(cleanup, tmp_path, count, plane=enforced, **options)


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


def farm(town: Callable[..., Town], count: int = 2, driver: str = "vxlan", *, interval: float = 2, **spec: object) -> Town:
    made = town(count, interval=interval)
    subnets = [str(spec.pop("subnet", "10.60.0.0/16"))]
    made.agents[0].network("farm", *subnets, driver=driver, **spec)
    for agent in made.agents:
        eventually(lambda agent=agent: known(agent, "farm"), what="every node knows the network")
    return made


def routes(node: Node) -> dict[str, str]:
    """Our routes: destination to what stands behind it."""
    lines = (line.split() for line in node.run("ip", "route", "show", "proto", "102").splitlines())
    return {words[1] if words[0] == "unreachable" else words[0]: " ".join(words) for words in lines if words}


def test_a_node_that_dies_is_not_sent_to_and_comes_back(town: Callable[..., Town], containers: Containers) -> None:
    made = farm(town)
    one, two = made.agents
    here, there = containers.new("here"), containers.new("there")
    attached(one, here)
    at = attached(two, there)
    eventually(lambda: here.pings(at))
    (block,) = [dst for dst in routes(made.nodes[0]) if "flx-farm" in routes(made.nodes[0])[dst]]
    two.kill()
    made.nodes[1].run("ip", "link", "set", "eth0", "down")
    eventually(lambda: block not in routes(made.nodes[0]), deadline=12, what="the dead node's block has no route")
    assert "does not answer" in str(one.client.doctor())
    made.nodes[1].run("ip", "link", "set", "eth0", "up")
    made.nodes[1].run("ip", "-6", "address", "replace", f"{made.nodes[1].v6}/64", "dev", "eth0", "nodad")
    two.start()
    eventually(lambda: here.pings(at), deadline=10, what="the way is back")
    assert not two.drift()


def test_an_agent_that_is_away_takes_nothing_from_its_containers(town: Callable[..., Town], containers: Containers) -> None:
    made = farm(town)
    one, two = made.agents
    here, there = containers.new("here"), containers.new("there")
    attached(one, here)
    at = attached(two, there)
    eventually(lambda: here.pings(at))
    two.kill()
    flood = here.start("ping", "-n", "-i", "0.02", "-c", "300", "-q", at)
    eventually(lambda: "its agent is away" in str(one.client.doctor()), deadline=12, what="it is noticed")
    said, _ = flood.communicate(timeout=20)
    assert " 0% packet loss" in said, said


def test_a_node_gets_another_address(town: Callable[..., Town], containers: Containers) -> None:
    made = farm(town)
    one, two = made.agents
    here, there = containers.new("here"), containers.new("there")
    attached(one, here)
    at = attached(two, there)
    eventually(lambda: here.pings(at))
    made.nodes[1].run("ip", "address", "del", "192.0.2.2/24", "dev", "eth0")
    made.nodes[1].run("ip", "address", "add", "192.0.2.77/24", "dev", "eth0")
    eventually(lambda: here.pings(at), deadline=8, what="the tunnel leads to the new address")
    eventually(lambda: not one.drift() and not two.drift())


def test_what_somebody_breaks_between_nodes_is_repaired(town: Callable[..., Town], containers: Containers) -> None:
    made = farm(town, interval=60)
    one, two = made.agents
    here, there = containers.new("here"), containers.new("there")
    attached(one, here)
    at = attached(two, there)
    eventually(lambda: here.pings(at))
    node = made.nodes[0]
    block = next(dst for dst, line in routes(node).items() if "flx-farm" in line)
    for act in (
        lambda: node.run("ip", "link", "delete", "flx-farm"),
        lambda: node.run("ip", "route", "delete", block),
        lambda: node.run("bridge", "fdb", "flush", "dev", "flx-farm"),
        lambda: node.run("ip", "-6", "neighbour", "flush", "dev", "flx-farm", "nud", "permanent"),
        lambda: node.run("ip", "link", "set", "flx-farm", "down"),
    ):
        act()
        eventually(lambda: not one.drift() and here.pings(at), deadline=8, what="the way is back")


@BOTH
def test_policies_know_containers_of_other_nodes(town: Callable[..., Town], containers: Containers) -> None:
    made = farm(town)
    one, two = made.agents
    web, rogue, db = (containers.new(name) for name in ("web", "rogue", "db"))
    attached(one, web, labels={"app": "web"})
    attached(one, rogue)
    at = attached(two, db, labels={"app": "db"})
    db.serve("tcp", 80)
    eventually(lambda: rogue.connects(at, 80))
    policy = """
    apiVersion: networking.k8s.io/v1
    kind: NetworkPolicy
    metadata: {name: db}
    spec:
      podSelector: {matchLabels: {app: db}}
      ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]
    """
    one.client.apply(codec.from_yaml(policy)[0])
    eventually(lambda: not rogue.connects(at, 80, deadline=0.4), what="the policy is known on the other node")
    assert web.connects(at, 80)
    late = containers.new("late")
    attached(one, late, labels={"app": "web"})
    eventually(lambda: late.connects(at, 80, deadline=0.4), what="the new container is known there")
    eventually(lambda: "rogue" in str(two.client.flows(verdict="dropped")), what="flows name the other node's container")


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
