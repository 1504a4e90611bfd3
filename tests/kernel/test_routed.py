"""Routed networks: a link for each container and no layer 2 between them, in both families, with real servers and packets."""

from __future__ import annotations

import pytest

from fairlead.model import errors
from tests.kernel.agents import Agent, address
from tests.kernel.test_cni import cni, conf
from tests.net import Containers, Namespace, Node, Outside
from tests.wait import eventually

V4, V6 = "10.50.0.0/24", "fd50::/64"
FAMILIES = pytest.mark.parametrize("family", [4, 6])


def routed(agent: Agent, name: str = "blue", v4: str = V4, v6: str = V6, **spec: object) -> None:
    agent.network(name, v4, v6, driver="routed", **spec)


def beyond(outside: Outside, family: int) -> str:
    return outside.v4 if family == 4 else outside.v6


@FAMILIES
def test_containers_reach_each_other_the_host_and_the_outside(
    agent: Agent, node: Node, outside: Outside, containers: Containers, family: int
) -> None:
    routed(agent)
    one, two = containers.new("one"), containers.new("two")
    agent.attach(one, "blue")
    there = address(agent.attach(two, "blue"), family)
    two.serve("tcp", 80)
    two.serve("udp", 53)
    outside.serve("tcp", 80)
    assert one.pings(there)
    assert one.connects(there, 80)
    assert one.connects(there, 53, "udp")
    assert node.connects(there, 80)
    answer = one.ask(beyond(outside, family), 80)
    assert answer
    assert answer.peer.removeprefix("::ffff:") == (node.v4 if family == 4 else node.v6), "source NAT gives the node's address"
    assert not agent.drift()
    assert "fl-blue" not in node.run("ip", "link")


def test_what_a_container_gets(agent: Agent, node: Node, containers: Containers) -> None:
    routed(agent)
    one = containers.new("one")
    status, result = cni(node, "ADD", one, conf("1.1.0", network="blue"))
    assert status == 0, result
    assert [given["address"] for given in result["ips"]] == ["10.50.0.1/32", "fd50::1/128"]
    assert [given["gateway"] for given in result["ips"]] == ["169.254.1.1", "fe80::1"]
    assert [device["name"] for device in result["interfaces"]][1:] == ["eth0"]
    assert cni(node, "CHECK", one, conf("1.1.0", network="blue", prevResult=result)) == (0, {})
    neighbours = one.run("ip", "neighbour", "show", "nud", "permanent")
    assert "169.254.1.1" in neighbours
    assert "fe80::1" in neighbours
    assert cni(node, "DEL", one, conf("1.1.0", network="blue")) == (0, {})
    eventually(lambda: "10.50.0.1" not in node.run("ip", "route"))


@FAMILIES
def test_networks_are_isolated_unless_both_say_otherwise(agent: Agent, containers: Containers, family: int) -> None:
    routed(agent, "blue")
    routed(agent, "red", "10.51.0.0/24", "fd51::/64")
    routed(agent, "open1", "10.52.0.0/24", "fd52::/64", isolated=False)
    routed(agent, "open2", "10.53.0.0/24", "fd53::/64", isolated=False)
    agent.network("bridged", "10.54.0.0/24", "fd54::/64")
    agent.network("open3", "10.55.0.0/24", "fd55::/64", isolated=False)
    made = {name: containers.new(name) for name in ("blue", "red", "open1", "open2", "open3", "bridged")}
    at = {name: address(agent.attach(one, name), family) for name, one in made.items()}
    for one in made.values():
        one.serve("tcp", 80)
    closed = [("blue", "red"), ("red", "blue"), ("blue", "open1"), ("open1", "blue"), ("bridged", "blue"), ("blue", "bridged")]
    for source, target in closed:
        assert not made[source].connects(at[target], 80, deadline=0.4), f"{source} to {target}"
    for source, target in [("open1", "open2"), ("open2", "open1"), ("open1", "open3"), ("open3", "open1")]:
        assert made[source].connects(at[target], 80), f"{source} to {target}"


@FAMILIES
def test_an_internal_network_has_no_way_out_and_no_way_in(
    agent: Agent, node: Node, outside: Outside, containers: Containers, family: int
) -> None:
    routed(agent, "vault", internal=True)
    one, two = containers.new("one"), containers.new("two")
    here, there = (address(agent.attach(each, "vault"), family) for each in (one, two))
    two.serve("tcp", 80)
    outside.serve("tcp", 80)
    assert one.connects(there, 80)
    gateway = "169.254.1.1" if family == 4 else "fe80::1"
    one.run("ip", f"-{family}", "route", "add", "default", "via", gateway, "dev", "eth0", "onlink")
    assert not one.connects(beyond(outside, family), 80, deadline=0.5), "a default route of its own does not help"
    outside.run("ip", f"-{family}", "route", "add", V4 if family == 4 else V6, "via", node.v4 if family == 4 else node.v6)
    one.serve("tcp", 81)
    assert not outside.connects(here, 81, deadline=0.5)


@FAMILIES
def test_inter_container_traffic_can_be_off(
    agent: Agent, node: Node, outside: Outside, containers: Containers, family: int
) -> None:
    routed(agent, interContainer=False)
    one, two = containers.new("one"), containers.new("two")
    agent.attach(one, "blue")
    there = address(agent.attach(two, "blue"), family)
    two.serve("tcp", 80)
    outside.serve("tcp", 80)
    assert not one.connects(there, 80, deadline=0.5)
    assert one.connects(beyond(outside, family), 80)
    assert node.connects(there, 80)


@FAMILIES
def test_without_masquerade_containers_are_known_outside_as_they_are(
    agent: Agent, node: Node, outside: Outside, containers: Containers, family: int
) -> None:
    routed(agent, masquerade=False)
    one = containers.new("one")
    here = address(agent.attach(one, "blue"), family)
    outside.run("ip", f"-{family}", "route", "add", V4 if family == 4 else V6, "via", node.v4 if family == 4 else node.v6)
    outside.serve("tcp", 80)
    one.serve("tcp", 81)
    answer = one.ask(beyond(outside, family), 80)
    assert answer
    assert answer.peer.removeprefix("::ffff:") == here
    assert outside.connects(here, 81)


def test_published_ports(agent: Agent, node: Node, outside: Outside, containers: Containers) -> None:
    routed(agent)
    one, two, other = (containers.new(name) for name in ("one", "two", "other"))
    agent.attach(
        one, "blue", ports=[{"hostPort": 8080, "containerPort": 80}, {"hostPort": 8053, "containerPort": 53, "protocol": "udp"}]
    )
    agent.attach(two, "blue")
    agent.attach(other)
    one.serve("tcp", 80)
    one.serve("udp", 53)
    for who in (outside, node, two, one, other):
        for where in (node.v4, node.v6) if who is not other else (node.v4,):
            assert who.connects(where, 8080), f"{who.name} by {where}"
            assert who.connects(where, 8053, "udp"), f"{who.name} by {where}"
    assert node.connects("127.0.0.1", 8080)
    answer = outside.ask(node.v4, 8080)
    assert answer
    assert answer.peer.removeprefix("::ffff:") == outside.v4, "the container sees who asks"


def test_a_container_on_routed_and_bridge_networks(agent: Agent, outside: Outside, containers: Containers) -> None:
    routed(agent)
    routed(agent, "red", "10.51.0.0/24", "fd51::/64")
    agent.network("bridged", "10.54.0.0/24", "fd54::/64")
    many = containers.new("many")
    peers = {name: containers.new(name) for name in ("blue", "red", "bridged")}
    at = {}
    for number, (name, one) in enumerate(peers.items()):
        agent.attach(many, name, interface=f"eth{number}")
        at[name] = address(agent.attach(one, name))
        one.serve("tcp", 80)
    outside.serve("tcp", 80)
    for name in peers:
        assert many.connects(at[name], 80), name
    assert many.connects(outside.v4, 80)
    assert not agent.drift()


def test_nobody_speaks_for_another(agent: Agent, containers: Containers) -> None:
    routed(agent)
    one, two, three = (containers.new(name) for name in ("one", "two", "three"))
    agent.attach(one, "blue")
    at = address(agent.attach(two, "blue"))
    agent.attach(three, "blue")
    two.serve("udp", 53)
    one.run("ip", "address", "add", "10.50.0.77/32", "dev", "eth0")
    one.run("ip", "route", "replace", at, "via", "169.254.1.1", "dev", "eth0", "onlink", "src", "10.50.0.77")
    assert not one.pings(at)
    assert three.pings(at)


def test_what_is_broken_is_repaired(agent: Agent, node: Node, containers: Containers) -> None:
    routed(agent)
    one, two = containers.new("one"), containers.new("two")
    agent.attach(one, "blue")
    attached = agent.attach(two, "blue")
    host, there = attached.host_interface, address(attached)
    for act in (
        lambda: node.run("ip", "link", "set", host, "down"),
        lambda: node.run("ip", "link", "delete", host),
        lambda: two.run("ip", "link", "set", "eth0", "down"),
        lambda: two.run("ip", "link", "delete", "eth0"),
    ):
        act()
        eventually(lambda: one.pings(there), what="the link is back")
    agent.stop()
    node.run("ip", "route", "delete", f"{there}/32")
    node.run("ip", "neighbour", "flush", "dev", host, "nud", "permanent")
    two.run("ip", "neighbour", "delete", "169.254.1.1", "dev", "eth0")
    agent.start()
    assert one.pings(there)
    assert not agent.drift()


def test_what_makes_no_sense_is_refused(agent: Agent, containers: Containers) -> None:
    for field, spec in (
        ("bridge", {"bridge": "br0"}),
        ("parent", {"parent": "eth0"}),
        ("gateway", {"subnets": [{"cidr": V4, "gateway": "10.50.0.1"}]}),
    ):
        with pytest.raises(errors.Invalid, match=field):
            agent.network("blue", driver="routed", **spec)
    routed(agent)
    with pytest.raises(errors.Invalid) as refused:
        agent.attach(containers.new("one"), "blue", handover=True)
    assert refused.value.field == "handover"


def test_the_largest_packets(agent: Agent, containers: Containers) -> None:
    routed(agent, mtu=1400)
    one, two = containers.new("one"), containers.new("two")
    agent.attach(one, "blue")
    there = address(agent.attach(two, "blue"))
    assert _fits(one, there, 1400)
    assert not _fits(one, there, 1401)


def _fits(one: Namespace, there: str, size: int) -> bool:
    return one.attempt("ping", "-n", "-c", 1, "-W", 1, "-M", "do", "-s", size - 28, there).returncode == 0
