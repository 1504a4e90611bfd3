"""Who reaches whom over bridge networks, in both families, with real servers and real packets."""

from __future__ import annotations

import pytest

from tests.kernel.agents import Agent, address
from tests.net import Containers, Node, Outside

V4, V6 = "10.50.0.0/24", "fd50::/64"
FAMILIES = pytest.mark.parametrize("family", [4, 6])


@pytest.fixture
def enforced(plane: str) -> str:
    """Each plane in turn."""
    return plane


@FAMILIES
def test_containers_of_one_network_reach_each_other_the_host_and_the_outside(
    agent: Agent, node: Node, outside: Outside, containers: Containers, family: int
) -> None:
    agent.network("blue", V4, V6)
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
    answer = one.ask(outside.v4 if family == 4 else outside.v6, 80)
    assert answer
    assert answer.peer.removeprefix("::ffff:") == (node.v4 if family == 4 else node.v6), "source NAT gives the node's address"


@FAMILIES
def test_networks_are_isolated_unless_both_say_otherwise(agent: Agent, containers: Containers, family: int) -> None:
    agent.network("blue", V4, V6)
    agent.network("red", "10.51.0.0/24", "fd51::/64")
    agent.network("open1", "10.52.0.0/24", "fd52::/64", isolated=False)
    agent.network("open2", "10.53.0.0/24", "fd53::/64", isolated=False)
    blue, red, open1, open2 = (containers.new(role) for role in ("blue", "red", "open1", "open2"))
    at = {one.name: address(agent.attach(one, one.name.rsplit("-", 1)[-1]), family) for one in (blue, red, open1, open2)}
    for one in (blue, red, open1, open2):
        one.serve("tcp", 80)

    assert not blue.connects(at[red.name], 80, deadline=0.5)
    assert not red.connects(at[blue.name], 80, deadline=0.5)
    assert not blue.connects(at[open1.name], 80, deadline=0.5)
    assert open1.connects(at[open2.name], 80)
    assert open2.connects(at[open1.name], 80)


@FAMILIES
def test_an_internal_network_has_no_way_out_and_no_way_in(
    agent: Agent, node: Node, outside: Outside, containers: Containers, family: int
) -> None:
    agent.network("vault", V4, V6, internal=True)
    one, two = containers.new("one"), containers.new("two")
    here, there = (address(agent.attach(each, "vault"), family) for each in (one, two))
    two.serve("tcp", 80)
    outside.serve("tcp", 80)
    beyond = outside.v4 if family == 4 else outside.v6

    assert one.connects(there, 80)
    assert not one.connects(beyond, 80, deadline=0.5)
    one.run("ip", f"-{family}", "route", "add", "default", "via", "10.50.0.1" if family == 4 else "fd50::1")
    assert not one.connects(beyond, 80, deadline=0.5), "a default route of its own does not help"
    outside.run("ip", f"-{family}", "route", "add", V4 if family == 4 else V6, "via", node.v4 if family == 4 else node.v6)
    one.serve("tcp", 81)
    assert not outside.connects(here, 81, deadline=0.5)
    other = containers.new("other")
    agent.attach(other, ports=[{"hostPort": 8080, "containerPort": 80}])
    other.serve("tcp", 80)
    assert outside.connects(node.v4, 8080)
    assert not one.connects("10.50.0.1", 8080, deadline=0.5), "nor to another network's published port"


@FAMILIES
@pytest.mark.parametrize("bridged", ["0", "1"], ids=["frames-by-bridge", "frames-through-netfilter"])
def test_inter_container_traffic_can_be_off(
    agent: Agent, node: Node, containers: Containers, family: int, bridged: str
) -> None:
    node.run("sysctl", "-qw", f"net.bridge.bridge-nf-call-iptables={bridged}", f"net.bridge.bridge-nf-call-ip6tables={bridged}")
    agent.network("quiet", V4, V6, interContainer=False)
    one, two = containers.new("one"), containers.new("two")
    agent.attach(one, "quiet")
    there = address(agent.attach(two, "quiet"), family)
    two.serve("tcp", 80)

    assert not one.connects(there, 80, deadline=0.5)
    assert not one.pings(there)
    assert node.connects(there, 80)


@FAMILIES
def test_a_routed_network_keeps_its_addresses_and_is_reached_from_outside(
    agent: Agent, node: Node, outside: Outside, containers: Containers, family: int
) -> None:
    agent.network("routed", V4, V6, masquerade=False)
    agent.network("nat", "10.51.0.0/24", "fd51::/64")
    one, hidden = containers.new("one"), containers.new("hidden")
    here = address(agent.attach(one, "routed"), family)
    behind = address(agent.attach(hidden, "nat"), family)
    one.serve("tcp", 80)
    hidden.serve("tcp", 80)
    outside.serve("tcp", 81)
    for cidr in (V4, "10.51.0.0/24") if family == 4 else (V6, "fd51::/64"):
        outside.run("ip", f"-{family}", "route", "add", cidr, "via", node.v4 if family == 4 else node.v6)

    assert outside.connects(here, 80)
    assert not outside.connects(behind, 80, deadline=0.5), "a network with NAT is reached by published ports alone"
    answer = one.ask(outside.v4 if family == 4 else outside.v6, 81)
    assert answer
    assert answer.peer.removeprefix("::ffff:") == here


def test_a_container_on_two_networks_reaches_both(agent: Agent, containers: Containers) -> None:
    agent.network("blue", V4)
    agent.network("red", "10.51.0.0/24")
    middle, blue, red = (containers.new(role) for role in ("middle", "blue", "red"))
    agent.attach(middle, "blue")
    agent.attach(middle, "red", interface="eth1", gateway=False)
    at_blue, at_red = address(agent.attach(blue, "blue")), address(agent.attach(red, "red"))

    assert middle.pings(at_blue)
    assert middle.pings(at_red)
    assert not blue.pings(at_red)
    assert [route["dev"] for route in middle.json("ip", "-j", "route", "show", "default")] == ["eth0"]


def test_no_other_table_is_touched(agent: Agent, node: Node, containers: Containers, plane: str) -> None:
    node.run("nft", "add table inet others; add chain inet others c; add rule inet others c counter accept")
    before = node.run("nft", "list", "table", "inet", "others")
    one = containers.new("one")
    agent.network("blue", V4)
    agent.attach(one, "blue", ports=[{"hostPort": 8080, "containerPort": 80}])
    agent.detach(one)
    agent.client.delete("networks", "blue")
    assert node.run("nft", "list", "table", "inet", "others") == before
    tables = {
        (row["table"]["family"], row["table"]["name"]) for row in node.json("nft", "-j", "list", "tables")["nftables"][1:]
    }
    names = ("fairlead", "fairlead-policy") if plane == "nftables" else ("fairlead",)
    ours = {(family, name) for family in ("inet", "bridge") for name in names} | {("inet", "fairlead-sealing")}
    assert tables == {*ours, ("inet", "others")}


def test_the_mtu_is_the_networks_else_the_uplinks(agent: Agent, containers: Containers) -> None:
    agent.network("small", V4, mtu=1400)
    one, two = containers.new("one"), containers.new("two")
    agent.attach(one, "small")
    agent.attach(two, "default")
    assert one.json("ip", "-j", "link", "show", "eth0")[0]["mtu"] == 1400
    assert two.json("ip", "-j", "link", "show", "eth0")[0]["mtu"] == 1500
