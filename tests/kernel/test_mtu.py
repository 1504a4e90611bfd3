"""How large a packet may be between nodes: to the byte, for every driver and family, and where the way is narrower."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.kernel.agents import address
from tests.kernel.tap import lengths
from tests.kernel.test_cluster import Town, known, town  # noqa: F401
from tests.net import Containers, Namespace
from tests.wait import eventually

pytestmark = pytest.mark.needs("wireguard-go", "tcpdump")
MakeTown = Callable[..., Town]
V4, V6 = "10.60.0.0/16", "fd60::/64"
HEADER = {4: 28, 6: 48}
"""Bytes of an echo request beside what ping calls its size."""

WAYS = {
    "plain": ({"driver": "host-gw"}, {4: 0, 6: 0}),
    "vxlan": ({"driver": "vxlan"}, {4: 50, 6: 70}),
    "wireguard": ({"driver": "vxlan", "encrypt": True}, {4: 60, 6: 80}),
}
"""Spec, and what a packet grows by on an underlay of each family."""


def ping(source: Namespace, target: str, size: int) -> str:
    """What ping says of one packet of ``size`` bytes that may not be fragmented; empty if it was answered."""
    family = 6 if ":" in target else 4
    done = source.attempt("ping", "-n", "-c", 1, "-W", 1, "-M", "do", "-s", size - HEADER[family], target)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def prepared(made: Town, containers: Containers, **spec: object) -> tuple[Namespace, Namespace, dict[int, str]]:
    one, two = made.agents
    one.network("farm", V4, V6, **spec)
    eventually(lambda: known(two, "farm"))
    here, there = containers.new("here"), containers.new("there")
    one.attach(here, "farm")
    attached = two.attach(there, "farm")
    at = {family: address(attached, family) for family in (4, 6)}
    for target in at.values():
        eventually(lambda target=target: here.pings(target), 8)
    return here, there, at


def fitting(way: str, size: int) -> int:
    """The largest packet for which the underlay has ``size`` bytes, less than the device was made for.

    WireGuard fills a packet up to a multiple of 16 bytes, as long as its device's MTU allows it.
    """
    left = size - WAYS[way][1][4]
    return left // 16 * 16 if way == "wireguard" else left


def mtu_of(container: Namespace) -> int:
    (link,) = container.json("ip", "-json", "link", "show", "eth0")
    return int(link["mtu"])


def widen(node: Namespace, container: Namespace, size: int) -> None:
    """Have a container send more than it should, so that the node must say so."""
    (link,) = container.json("ip", "-json", "link", "show", "eth0")
    (peer,) = [one for one in node.json("ip", "-json", "link") if one.get("link_index") == link["ifindex"]]
    node.run("ip", "link", "set", peer["ifname"], "mtu", size)
    container.run("ip", "link", "set", "eth0", "mtu", size)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("underlay", [4, 6])
def test_to_the_byte(town: MakeTown, containers: Containers, way: str, underlay: int) -> None:  # noqa: F811
    """The largest packet arrives, and fills a packet of the underlay to the last byte; one more is refused, with the number."""
    # No plain IPv6 packet goes by a neighbour that has IPv4 alone.
    made = town(2, family=0 if way == "plain" and underlay == 4 else underlay)
    spec, grows = WAYS[way]
    here, _, at = prepared(made, containers, **spec)
    largest = 1500 - grows[underlay]
    assert mtu_of(here) == largest
    for target in at.values():
        with lengths(made.switch) as longest:
            assert not ping(here, target, largest)
            assert longest() == 1500
        assert "message too long" in ping(here, target, largest + 1).lower()
    widen(made.nodes[0], here, 1600)
    for target in at.values():
        assert not ping(here, target, largest)
        assert f"mtu = {largest}" in ping(here, target, largest + 1).replace("mtu=", "mtu = ")


@pytest.mark.parametrize("way", WAYS)
def test_towards_a_node_with_a_smaller_uplink(town: MakeTown, containers: Containers, way: str) -> None:  # noqa: F811
    """Who sends learns it from its node, and TCP from the first packet."""
    made = town(2, mtus=(1500, 1400))
    spec, grows = WAYS[way]
    here, there, at = prepared(made, containers, **spec)
    largest = fitting(way, 1400)
    assert mtu_of(here) == 1500 - grows[4]
    assert mtu_of(there) == 1400 - grows[4]
    for target in at.values():
        assert not ping(here, target, largest)
        assert f"mtu = {largest}" in ping(here, target, largest + 1).replace("mtu=", "mtu = ")
    there.serve("tcp", 80)
    for family, target in at.items():
        assert mss(here, there, target) == largest - (40 if family == 4 else 60)
    assert not made.agents[0].drift()


def mss(source: Namespace, target: Namespace, at: str) -> int:
    """The segment size that a connection asks for, as it arrives."""
    # Not the container's own: it knows what ping was told.
    source.run("ip", "route", "flush", "cache")
    source.run("ip", "-6", "route", "flush", "cache")
    seen = target.start("tcpdump", "-l", "-n", "-c", "1", "-i", "eth0", "--immediate-mode", "tcp dst port 80 and " + _syn(at))
    assert seen.stdout
    while "listening on" not in seen.stdout.readline():
        pass
    assert source.connects(at, 80)
    found = re.search(r"mss (\d+)", seen.communicate(timeout=10)[0])
    assert found
    return int(found[1])


def _syn(at: str) -> str:
    return "tcp[tcpflags] & tcp-syn != 0" if ":" not in at else "ip6[53] & 2 != 0"


@pytest.mark.parametrize("way", WAYS)
def test_a_way_that_is_narrower_than_it_claims(town: MakeTown, containers: Containers, way: str) -> None:  # noqa: F811
    """A switch drops what is too large for one of its links, and tells nobody: it is found, told and minded."""
    made = town(2, narrow=1300)
    spec, grows = WAYS[way]
    one = made.agents[0]
    here, there, at = prepared(made, containers, **spec)
    assert mtu_of(here) == 1500 - grows[4]
    eventually(lambda: one.client.status().narrow, 60, what="it is found")
    (found,) = one.client.status().narrow
    assert (found.node, found.address, found.claimed, found.found) == ("node2", "192.0.2.2", 1500, 1300)
    assert "arrive up to 1300 bytes, not the 1500" in str(one.client.doctor())
    largest = fitting(way, 1300)
    for family, target in at.items():
        size = max(largest, 1280) if family == 6 else largest
        if size == largest:
            assert not ping(here, target, largest)
        assert f"mtu = {size}" in ping(here, target, size + 1).replace("mtu=", "mtu = ")
    there.serve("tcp", 80)
    assert mss(here, there, at[4]) == largest - 40
    assert not one.drift()
    made.switch.run("ip", "link", "set", "port2", "mtu", "1500")
    one.stop()
    one.start()
    eventually(lambda: not ping(here, at[4], 1500 - grows[4]), 10, what="the limit is lifted")
    assert not one.client.status().narrow


def test_a_network_whose_mtu_does_not_fit_is_warned_of(town: MakeTown) -> None:  # noqa: F811
    made = town(1)
    (one,) = made.agents
    one.network("farm", V4, driver="vxlan", encrypt=True, mtu=1450)
    said = "network farm has MTU 1450, of which the uplink carries 1440"
    assert said in str(one.client.doctor())


def test_the_uplinks_mtu_changes(town: MakeTown, containers: Containers) -> None:  # noqa: F811
    """The device follows, other nodes are told, and containers that are there already learn it from their node."""
    made = town(2)
    here, there, at = prepared(made, containers, driver="vxlan", encrypt=True)
    node = made.nodes[1]
    node.run("ip", "link", "set", "eth0", "mtu", 1400)
    eventually(lambda: "mtu 1340" in node.run("ip", "link", "show", "flw1"), 8, what="the device follows")
    assert "mtu = 1328" in eventually(lambda: ping(here, at[4], 1440), 8).replace("mtu=", "mtu = ")
    assert not ping(here, at[4], 1328)
    assert "mtu = 1340" in ping(there, made.nodes[0].v4, 1440).replace("mtu=", "mtu = ")
