"""Nodes that crash, come back, move, and are added, in a lab whose other nodes go on."""

from __future__ import annotations

import json

import pytest

from fairlead.lab.topology import Label, Node, Pod
from fairlead.model import errors
from fairlead.model.address import Address, Name
from tests.lab.conftest import Labs
from tests.lab.test_lifecycle import processes
from tests.lab.town import Town, refusal, told


@pytest.fixture
def town(lab: Labs) -> Town:
    return lab(nodes=3, dual=True)


def ports(town: Town) -> set[str]:
    return {link["ifname"] for link in town.json("switch", "ip", "-json", "link")}


def test_a_node_that_crashes_is_gone_at_once_and_comes_back_with_its_pods(town: Town) -> None:
    one, other = town.pod(1), town.pod(2)
    assert one.reaches(other)
    assert len(processes(town.name, "node2")) == 4  # its first, the agent, the pod and who waits for it

    assert told("stop", "--name", town.name, "node2") == "node2\n"
    assert processes(town.name, "node2") == []
    assert "node2" not in ports(town)
    assert one.misses(other)
    assert one.reaches(town.pod(3))
    said = json.loads(told("status", "--name", town.name, "-o", "json"))
    assert {each["name"]: each["state"] for each in said["machines"] if each["role"] == "node"} == {
        "node1": "ready", "node2": "stopped", "node3": "ready",
    }  # fmt: skip
    assert refusal("exec", "--name", town.name, "node2", "true") == [
        "Error: node: node2 does not run", f"Try: fairlead lab start node2 --name {town.name}",
    ]  # fmt: skip

    assert told("start", "--name", town.name, "node2") == "node2\n"
    assert "node2" in ports(town)
    again = town.pod(2)
    assert again.name == other.name
    assert one.reaches(again)
    assert again.reaches(town.pod(3))
    assert again.reaches(town.outside)


def test_a_node_that_comes_back_elsewhere_is_reached_there(town: Town) -> None:
    town.stop("node2")
    told("start", "--name", town.name, "node2", "--address", "172.16.0.99", "--address", "fd00:16::99")
    assert town.machine("node2").addresses == (Address("172.16.0.99"), Address("fd00:16::99"))
    assert town.pod(1).reaches(town.pod(2))
    assert town.pod(2).reaches(town.pod(3))
    assert town.run("node1", "getent", "ahostsv4", "node2").split()[0] == "172.16.0.99"


def test_a_partition_holds_for_a_node_that_comes_back(town: Town) -> None:
    town.partition("node1", "node2")
    town.stop("node2")
    town.start("node2")
    try:
        assert town.pod(2).reaches(town.pod(3))
        assert town.pod(2).misses(town.pod(1))
    finally:
        town.heal()
    assert town.pod(2).reaches(town.pod(1))


def test_a_host_can_crash_too(town: Town) -> None:
    one = town.pod(1)
    town.stop("outside")
    town.start("outside")
    assert one.reaches(town.outside)


def test_one_node_more_and_one_that_cannot_be_added_and_leaves_the_lab_as_it_was(lab: Labs) -> None:
    with lab.own(nodes=1, underlay="l3") as town:
        before, routes = ports(town), town.run("router", "ip", "route")
        links = town.run("router", "ip", "-brief", "link")
        stray = Node(name=Label("node2"), pods=(Pod(name=Name("stray"), networks=(Name("nowhere"),)),))
        with pytest.raises(errors.Failed, match="there is no network 'nowhere'"):
            town.lab.add(stray)
        assert ports(town) == before
        assert (town.run("router", "ip", "route"), town.run("router", "ip", "-brief", "link")) == (routes, links)
        assert [one.name for one in town.lab.record.spec.nodes] == ["node1"]
        assert told("add", "--name", town.name, "--label", "zone=east") == "node2\n"
        assert town.pod(2).reaches(town.pod(1))
        assert town.pod(1).reaches(town.pod(2))
        assert town.pod(2).reaches(town.outside)
        said = json.loads(told("status", "--name", town.name, "-o", "json"))
        assert next(one for one in said["machines"] if one["name"] == "node2")["labels"] == {"zone": "east"}


def test_what_makes_no_sense_is_refused(town: Town) -> None:
    for words, message in (
        (("stop", "nobody"), "there is no 'nobody' in lab"),
        (("stop", "switch"), "the switch holds all cables and cannot be stopped"),
        (("start", "node1"), "node1 runs already"),
        (("partition", "node1", "node1"), "node1 cannot be cut off from itself"),
        (("partition", "node1", "switch"), "the switch joins all others"),
        (("heal", "node1", "node2"), "node1 and node2 are not cut off from each other"),
        (("heal", "node1"), "say from whom it is cut off"),
        (("add", "node1"), "node1"),
        (("add", "much-too-long-a-name"), "names no machine or subnet: at most 12"),
        (("add", "--address", "10.0.0.1"), "10.0.0.1 is on no subnet of node4"),
        (("add", "--subnet", "nowhere"), "there is no subnet nowhere"),
        (("exec", "nobody", "true"), "there is no 'nobody' in lab"),
    ):
        said = refusal(words[0], "--name", town.name, *words[1:])
        assert message in said[0], said
    town.stop("node3")
    assert "172.16.0.1" in refusal("start", "--name", town.name, "node3", "--address", "172.16.0.1")[0]
