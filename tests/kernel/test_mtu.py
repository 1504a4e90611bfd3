"""How large a packet may be between nodes: to the byte, for every driver and family, and where the way is narrower."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from fairlead.desired import names
from fairlead.model.endpoint import endpoint_name
from tests.kernel.agents import address
from tests.kernel.tap import lengths
from tests.kernel.test_cluster import Town, known
from tests.net import Containers, Namespace
from tests.wait import eventually

pytestmark = pytest.mark.needs("wireguard-go", "tcpdump", "bird")
HEADER = {4: 28, 6: 48}
"""Bytes of an echo request beside what ping calls its size."""

WAYS: dict[str, tuple[dict[str, object], dict[int, int]]] = {
    "host-gw": ({"driver": "host-gw"}, {4: 0, 6: 0}),
    "bgp": ({"driver": "bgp"}, {4: 0, 6: 0}),
    "vxlan": ({"driver": "vxlan"}, {4: 50, 6: 70}),
    "direct": ({"driver": "vxlan", "direct": True}, {4: 50, 6: 70}),
    "wireguard": ({"driver": "vxlan", "encrypt": True}, {4: 60, 6: 80}),
}
"""Spec, and what a packet may grow by on an underlay of each family: ``direct`` keeps room for nodes beyond the subnet."""


class Pair:
    """A container on each of two nodes, on a network of one way."""

    def __init__(self, made: Town, containers: Containers, way: str) -> None:
        number = list(WAYS).index(way)
        one, two = made.agents
        one.network(way, f"10.{60 + number}.0.0/16", f"fd6{number}::/64", **WAYS[way][0])
        eventually(lambda: known(two, way))
        self.here, self.there = containers.new("here"), containers.new("there")
        one.attach(self.here, way)
        attached = two.attach(self.there, way)
        self.at = {family: address(attached, family) for family in (4, 6)}
        for target in self.at.values():
            eventually(lambda target=target: self.here.pings(target), 15, what=f"the way, {way}")


class Street:
    """Two nodes, and a pair on each way between them."""

    def __init__(self, cleanup: ExitStack, made: Town) -> None:
        self.town, self._containers = made, Containers(cleanup)
        self._pairs: dict[str, Pair] = {}

    def pair(self, way: str) -> Pair:
        if way not in self._pairs:
            self._pairs[way] = Pair(self.town, self._containers, way)
        return self._pairs[way]


MakeStreet = Callable[..., Street]


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeStreet]:
    """Streets by what is given for their towns; each is made once."""
    made: dict[str, Street] = {}
    with ExitStack() as cleanup:

        def get(**given: Any) -> Street:
            key = repr(sorted(given.items()))
            if key not in made:
                made[key] = Street(cleanup, Town(cleanup, tmp_path_factory.mktemp("street"), 2, **given))
            return made[key]

        yield get


def ping(source: Namespace, target: str, size: int) -> str:
    """What ping says of one packet of ``size`` bytes that may not be fragmented; empty if it was answered."""
    family = 6 if ":" in target else 4
    done = source.attempt("ping", "-n", "-c", 1, "-W", 1, "-M", "do", "-s", size - HEADER[family], target)
    return "" if done.returncode == 0 else (done.stdout + done.stderr).replace("mtu=", "mtu = ")


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
    node.run("ip", "link", "set", names.veth(endpoint_name(container.name, "eth0")), "mtu", size)
    container.run("ip", "link", "set", "eth0", "mtu", size)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("underlay", [4, 6])
def test_to_the_byte(streets: MakeStreet, way: str, underlay: int) -> None:
    """The largest packet arrives, and fills a packet of the underlay to the last byte; one more is refused, with the number."""
    # With addresses of both families nodes reach each other by IPv4; plain IPv6 packets go by nobody who has IPv4 alone.
    street = streets(family=0 if underlay == 4 else 6)
    pair = street.pair(way)
    largest = 1500 - WAYS[way][1][underlay]
    assert mtu_of(pair.here) == largest
    with lengths(street.town.switch) as longest:
        for target in pair.at.values():
            assert not ping(pair.here, target, largest)
            assert "message too long" in ping(pair.here, target, largest + 1).lower()
        heard = longest()
        assert max(heard) <= 1500
        assert heard.count(largest if way == "direct" else 1500) >= 4, (
            "two requests, two answers; and perhaps those by which nodes sound the way"
        )


@pytest.mark.parametrize("underlay", [4, 6])
def test_who_sends_more_all_the_same_is_told(streets: MakeStreet, underlay: int) -> None:
    """A container that thinks its packets may be larger learns from its node what fits."""
    street = streets(family=0 if underlay == 4 else 6)
    pairs = {way: street.pair(way) for way in WAYS}
    street.town.agents[0].stop()  # which would put it right
    for way, pair in pairs.items():
        widen(street.town.nodes[0], pair.here, 1600)
        largest = 1500 - WAYS[way][1][underlay]
        for target in pair.at.values():
            assert not ping(pair.here, target, largest)
            assert f"mtu = {largest}" in ping(pair.here, target, largest + 1), way
    street.town.agents[0].start()


@pytest.mark.parametrize("way", WAYS)
def test_towards_a_node_with_a_smaller_uplink(streets: MakeStreet, way: str) -> None:
    """Who sends learns it from its node, and TCP from the first packet."""
    street = streets(mtus=(1500, 1400))
    pair = street.pair(way)
    grows, largest = WAYS[way][1][4], fitting(way, 1400)
    assert mtu_of(pair.here) == 1500 - grows
    assert mtu_of(pair.there) == 1400 - grows
    for target in pair.at.values():
        assert not ping(pair.here, target, largest)
        assert f"mtu = {largest}" in ping(pair.here, target, largest + 1)
    pair.there.serve("tcp", 80)
    for family, target in pair.at.items():
        assert mss(pair.here, pair.there, target) == largest - (40 if family == 4 else 60)
    assert not street.town.agents[0].drift()


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


def test_a_way_that_is_narrower_than_it_claims(streets: MakeStreet) -> None:
    """A switch drops what is too large for one of its links, and tells nobody: it is found, told and minded."""
    street = streets(narrow=1300)
    one, node = street.town.agents[0], street.town.nodes[0]
    pairs = {way: street.pair(way) for way in WAYS}
    eventually(lambda: one.client.status().narrow, 60, what="it is found")
    (found,) = one.client.status().narrow
    assert (found.node, found.address, found.claimed, found.found) == ("node2", "192.0.2.2", 1500, 1300)
    numbers = "arrive up to 1300 bytes, not the 1500"
    assert numbers in str(one.client.doctor())
    for verb in ("doctor", "status"):
        assert numbers in node.attempt(sys.executable, "-m", "fairlead.cli", verb).stdout
    for way, pair in pairs.items():
        largest = fitting(way, 1300)
        for family, target in pair.at.items():
            size = max(largest, 1280) if family == 6 else largest
            if size == largest:
                assert not ping(pair.here, target, largest)
            refused = partial(ping, pair.here, target, size + 1)
            eventually(lambda size=size, refused=refused: f"mtu = {size}" in refused(), what=f"{way}, IPv{family}")
        pair.there.serve("tcp", 80)
        assert mss(pair.here, pair.there, pair.at[4]) == largest - 40
    assert not one.drift()
    street.town.switch.run("ip", "link", "set", "port2", "mtu", "1500")
    one.stop()
    one.start()
    for way, pair in pairs.items():
        wide = 1500 - WAYS[way][1][4]
        eventually(lambda pair=pair, wide=wide: passes(pair, wide), 10, what=f"{way}: the limit is lifted")
    assert not one.client.status().narrow


def passes(pair: Pair, size: int) -> bool:
    """Whether a packet gets there, whatever the container was told before, which it believes for ten minutes."""
    pair.here.run("ip", "route", "flush", "cache")
    return not ping(pair.here, pair.at[4], size)


def test_a_network_whose_mtu_does_not_fit_is_warned_of(streets: MakeStreet) -> None:
    one, _ = streets(family=0).town.agents
    one.network("wide", "10.70.0.0/16", driver="vxlan", encrypt=True, mtu=1450)
    assert "network wide has MTU 1450, of which the uplink carries 1440" in str(one.client.doctor())
    one.client.delete("networks", "wide")


def test_the_uplinks_mtu_changes(streets: MakeStreet) -> None:
    """The device follows, other nodes are told, and containers that are there already learn it from their node."""
    street = streets(family=0)
    pair, node = street.pair("wireguard"), street.town.nodes[1]
    node.run("ip", "link", "set", "eth0", "mtu", 1400)
    eventually(lambda: "mtu 1340" in node.run("ip", "link", "show", "flw1"), 8, what="the device follows")
    # Until the other node knows, what it sends is lost on the way, and nobody says why.
    eventually(lambda: "mtu = 1328" in ping(pair.here, pair.at[4], 1440), 8, what="the other node is told")
    assert not ping(pair.here, pair.at[4], 1328)
    assert "mtu = 1340" in ping(pair.there, street.town.nodes[0].v4, 1440)
