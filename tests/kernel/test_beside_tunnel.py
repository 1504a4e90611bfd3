"""Somebody else's VXLAN device on the port of ours, as Calico's is: each gets its own, though ours is opened at the uplink."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kernel.agents import address
from tests.kernel.hooks import OPTIONS, hooked
from tests.kernel.test_cluster import Station, Town, known
from tests.net import Containers
from tests.wait import eventually

PLANES = {
    **{way: ("ebpf", options) for way, options in OPTIONS.items()},
    "nftables": ("nftables", ()),
}
ADDRESSES = {4: "10.9.0.{}", 6: "fd09::{}"}
"""Of the other network's devices, by the numbers of their nodes."""


def tunnel(here: Station, there: Station) -> None:
    """As Calico's felix makes it: nothing is learnt, who is where is written down."""
    made = ("vxlan.calico", "address", mac(here), "mtu", 1450, "type", "vxlan")
    here.run("ip", "link", "add", *made, "id", 4096, "dstport", 4789, "local", here.v4, "dev", "eth0", "nolearning")
    here.run("ip", "link", "set", "vxlan.calico", "up")
    here.run("bridge", "fdb", "append", mac(there), "dev", "vxlan.calico", "dst", there.v4)
    for family, of in ADDRESSES.items():
        own, far = of.format(here.number), of.format(there.number)
        here.run("ip", "address", "add", own, "dev", "vxlan.calico", *(["nodad"] if family == 6 else []))
        here.run("ip", "neighbour", "replace", far, "lladdr", mac(there), "dev", "vxlan.calico", "nud", "permanent")
        here.run("ip", "route", "replace", far, "dev", "vxlan.calico")


def mac(node: Station) -> str:
    return f"66:00:00:00:00:0{node.number}"


@pytest.mark.parametrize("first", ["theirs first", "ours first"])
@pytest.mark.parametrize(
    "plane",
    [
        pytest.param("tcx", marks=[pytest.mark.kernel("ebpf"), pytest.mark.kernel("tcx")]),
        pytest.param("filter", marks=pytest.mark.kernel("ebpf")),
        "nftables",
    ],
)
def test_two_tunnels_share_the_port(cleanup: ExitStack, tmp_path: Path, containers: Containers, plane: str, first: str) -> None:
    enforced, options = PLANES[plane]
    town = Town(cleanup, tmp_path, 2, *options, plane=enforced, interval=1)
    one, two = town.nodes
    if first == "theirs first":
        tunnel(one, two)
        tunnel(two, one)
    town.agents[0].network("farm", "10.60.0.0/16", "fd60::/64", driver="vxlan")
    eventually(lambda: known(town.agents[1], "farm"), what="the other node knows the network")
    here, there = containers.new("here"), containers.new("there")
    town.agents[0].attach(here, "farm")
    at = town.agents[1].attach(there, "farm")
    if first == "ours first":
        tunnel(one, two)
        tunnel(two, one)
    there.serve("tcp", 80)
    two.serve("tcp", 81)
    if enforced == "ebpf":
        eventually(lambda: all(hooked(node, "eth0") == plane for node in town.nodes), what="tunnels are opened at the uplink")
    for family, of in ADDRESSES.items():
        eventually(lambda family=family: here.pings(address(at, family)), what="the way through ours")
        assert here.connects(address(at, family), 80)
        for _ in range(3):
            assert one.pings(of.format(2)), "theirs"
            assert two.pings(of.format(1)), "theirs, the other way"
        assert one.connects(of.format(2), 81)
    for agent in town.agents:
        assert not agent.drift()
        assert "Calico is here too: vxlan.calico" in str(agent.client.doctor())
