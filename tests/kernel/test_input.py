"""Bad input: each a clear answer that names the field and what would be right; nothing half done, nothing lost."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.model import codec, errors
from tests.kernel.agents import Agent
from tests.net import Containers, Node

NETWORKS: dict[str, tuple[dict[str, Any], type[errors.Problem], str]] = {
    "overlap with a network": (
        {"subnets": [{"cidr": "10.50.0.128/25"}]},
        errors.Conflict,
        r"spec.subnets\[0\].cidr: 10.50.0.128/25 overlaps 10.50.0.0/24 of network blue",
    ),
    "overlap in itself": (
        {"subnets": [{"cidr": "10.60.0.0/24"}, {"cidr": "10.60.0.0/16"}]},
        errors.Invalid,
        r"subnets\[1\].*10.60.0.0/16 overlaps 10.60.0.0/24",
    ),
    "a host route": (
        {"subnets": [{"cidr": "203.0.113.128/25"}]},
        errors.Conflict,
        r"203.0.113.128/25 collides with the host's route 203.0.113.0/24 on eth0",
    ),
    "host bits": ({"subnets": [{"cidr": "10.60.0.1/24"}]}, errors.Invalid, r"cidr: '10.60.0.1/24' has host bits.*10.60.0.0/24"),
    "no prefix length": ({"subnets": [{"cidr": "10.60.0.0"}]}, errors.Invalid, "no prefix length"),
    "gateway outside": (
        {"subnets": [{"cidr": "10.60.0.0/24", "gateway": "10.61.0.1"}]},
        errors.Invalid,
        r"gateway: 10.61.0.1 is not in 10.60.0.0/24",
    ),
    "range outside": (
        {"subnets": [{"cidr": "10.60.0.0/24", "ranges": [{"start": "10.60.1.1", "end": "10.60.1.2"}]}]},
        errors.Invalid,
        "10.60.1.1 is not in 10.60.0.0/24",
    ),
    "range backwards": (
        {"subnets": [{"cidr": "10.60.0.0/24", "ranges": [{"start": "10.60.0.9", "end": "10.60.0.2"}]}]},
        errors.Invalid,
        "comes after",
    ),
    "exclude outside": (
        {"subnets": [{"cidr": "10.60.0.0/24", "exclude": ["10.99.0.0/30"]}]},
        errors.Invalid,
        r"exclude\[0\].*10.99.0.0/30 is not in",
    ),
    "too small": ({"subnets": [{"cidr": "10.60.0.0/31"}]}, errors.Invalid, "too small"),
    "loopback": ({"subnets": [{"cidr": "127.5.0.0/16"}]}, errors.Invalid, "reserved"),
    "mtu too small": ({"mtu": 100}, errors.Invalid, "mtu: 100 is not between 576 and 65535"),
    "mtu too small for IPv6": (
        {"mtu": 1279, "subnets": [{"cidr": "fd60::/64"}]},
        errors.Invalid,
        "mtu: 1279 is not between 1280 and 65535",
    ),
    "mtu no number": ({"mtu": "big"}, errors.Invalid, "spec.mtu: expected a whole number"),
    "a driver that is none": ({"driver": "carrier-pigeon"}, errors.Invalid, r"spec.driver"),
    "subnets of a host network": (
        {"driver": "host", "subnets": [{"cidr": "10.60.0.0/24"}]},
        errors.Invalid,
        "a network with driver host has none",
    ),
    "a field that is none": ({"colour": "blue"}, errors.Invalid, "colour"),
    "a bridge that is somebody else's": (
        {"bridge": "eth0"},
        errors.Conflict,
        "spec.bridge: the host already has a veth interface eth0",
    ),
    "a bridge name that is none": ({"bridge": "a/b"}, errors.Invalid, r"spec.bridge.*not an interface name"),
}


@pytest.mark.parametrize("what", NETWORKS)
def test_a_network_that_cannot_be(agent: Agent, node: Node, what: str) -> None:
    agent.network("blue", "10.50.0.0/24")
    before = node.links(), node.run("nft", "-s", "list", "ruleset"), agent.client.objects("networks")
    spec, kind, message = NETWORKS[what]
    with pytest.raises(kind, match=message):
        agent.client.apply(
            codec.from_item({"apiVersion": "fairlead.dev/v1", "kind": "Network", "metadata": {"name": "red"}, "spec": spec})
        )
    assert (node.links(), node.run("nft", "-s", "list", "ruleset"), agent.client.objects("networks")) == before


ATTACHES: dict[str, tuple[dict[str, Any], type[errors.Problem], str]] = {
    "no network": ({"network": "nowhere"}, errors.Missing, "network: there is no network 'nowhere'; there are: blue, default"),
    "no namespace": ({"path": "/run/netns/none-such"}, errors.Invalid, "path: .*No such file"),
    "a file that is no namespace": ({"path": "/etc/hostname"}, errors.Invalid, "path: .*not a .*namespace"),
    "another kind of namespace": ({"path": "/proc/self/ns/mnt"}, errors.Invalid, "path: .*network namespace"),
    "an address outside": (
        {"addresses": ["10.99.0.5"]},
        errors.Invalid,
        r"addresses\[0\]: 10.99.0.5 is not in network blue.*10.50.0.0/24",
    ),
    "the gateway": ({"addresses": ["10.50.0.1"]}, errors.Invalid, "gateway"),
    "the broadcast address": ({"addresses": ["10.50.0.255"]}, errors.Invalid, "broadcast"),
    "an address that is none": ({"addresses": ["ten"]}, errors.Invalid, r"addresses\[0\]: 'ten' is not an IP address"),
    "a taken address": ({"addresses": ["10.50.0.2"]}, errors.Conflict, "10.50.0.2 .*first"),
    "a multicast MAC": ({"mac": "03:00:00:00:00:01"}, errors.Invalid, "mac: .*multicast"),
    "an interface name with a slash": ({"interface": "../eth0"}, errors.Invalid, "interface"),
    "an interface name too long": ({"interface": "a234567890123456"}, errors.Invalid, "1 to 15 bytes"),
    "a container id with a slash": ({"container": "../../etc"}, errors.Invalid, "container"),
    "the interface loopback": ({"interface": "lo"}, errors.Conflict, "already has an interface lo"),
    "a negative rate": ({"bandwidth": {"ingressRate": -1}}, errors.Invalid, "bandwidth.*negative"),
    "a burst without rate": ({"bandwidth": {"egressBurst": 100}}, errors.Invalid, "egressBurst: a burst needs egressRate"),
    "a route that is none": ({"routes": [{"dst": "everywhere"}]}, errors.Invalid, r"routes\[0\].dst"),
}


@pytest.mark.parametrize("what", ATTACHES)
def test_an_attach_that_cannot_be(agent: Agent, node: Node, containers: Containers, what: str) -> None:
    agent.network("blue", "10.50.0.0/24")
    first, second = containers.new("first"), containers.new("second")
    agent.attach(first, "blue")
    before = node.links(), node.run("nft", "-s", "list", "ruleset"), len(agent.client.objects("endpoints"))
    fields, kind, message = ATTACHES[what]
    with pytest.raises(kind, match=message):
        agent.attach(second, **{"network": "blue", **fields})
    assert (
        node.links(),
        node.run("nft", "-s", "list", "ruleset"),
        len(agent.client.objects("endpoints")),
    ) == before
    assert "eth0" not in second.run("ip", "-br", "link")
    held = {pool.network: pool.used for pool in agent.client.status().pools}
    assert held["blue"] == 1, "what the failure claimed is free again"
    assert agent.attach(second, "blue")


def test_the_hosts_own_namespace_is_refused(agent: Agent, node: Node) -> None:
    with pytest.raises(errors.Invalid, match="the host's own network namespace"):
        agent.attach(node)


def test_a_network_in_use_stays(agent: Agent, containers: Containers) -> None:
    agent.network("blue", "10.50.0.0/24")
    agent.attach(containers.new("first"), "blue")
    with pytest.raises(errors.Conflict, match="network blue is used by first"):
        agent.client.delete("networks", "blue")
    with pytest.raises(errors.Conflict, match="cannot go or change gateway while used by first"):
        agent.network("blue", "10.51.0.0/24")
    with pytest.raises(errors.Invalid, match="built in"):
        agent.client.delete("networks", "default")
    with pytest.raises(errors.Missing, match="there is no network 'green'"):
        agent.client.delete("networks", "green")


def test_a_full_pool_names_itself_its_size_and_its_holders(agent: Agent, containers: Containers) -> None:
    agent.network("tiny", "10.60.0.0/30")
    agent.attach(containers.new("alice"), "tiny")
    with pytest.raises(errors.Exhausted, match=r"tiny.*10.60.0.0/30.*1.*alice"):
        agent.attach(containers.new("bob"), "tiny")
    levels = {finding.check: finding for finding in agent.client.doctor().findings}
    assert levels["pools"].level == "error"
    assert "10.60.0.0/30 of network tiny is exhausted: 1 of 1" in levels["pools"].message
