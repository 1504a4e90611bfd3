"""How the program that sees what comes from other nodes stands at uplinks and tunnels: by tcx, or as a filter."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from fairlead.kernel.bpf import Program, tcx
from tests.kernel.hooks import OPTIONS, dropping, each_way, entered, hooked, programs
from tests.kernel.test_short_way_between import OTHERS, Make, Pair, pair
from tests.kernel.traffic import Traffic
from tests.net import Node
from tests.wait import eventually

__all__ = ["pair"]

pytestmark = [pytest.mark.kernel("ebpf"), pytest.mark.kernel("tcx")]

BEHIND = [*OTHERS[:4], "30000", *OTHERS[5:]]
"""The same filter where it is asked after ours."""


@contextmanager
def theirs(node: Node, program: Program) -> Iterator[tcx.Link]:
    """Somebody else's program on the uplink."""
    with closing(program):
        with entered(node):
            made = tcx.Link.attach(socket.if_nametoindex("eth0"), tcx.RECEIVED, program.fd)
        with closing(made) as link:
            yield link


def mine(both: Pair, *others: tcx.Link) -> int:
    """The link of ours on the first node's uplink."""
    (found,) = {one.link for one in programs(both.town.nodes[0], "eth0")} - {one.info.id for one in others}
    return found


def take_off(both: Pair, *others: tcx.Link) -> None:
    """As somebody would with bpftool."""
    with closing(tcx.Link.numbered(mine(both, *others))) as link:
        link.detach()


def restart(both: Pair, *options: str) -> None:
    both.one.kill()
    both.one.options = options
    both.one.start()


def test_from_one_way_to_the_other(pair: Make) -> None:
    """As at an upgrade from a version that knew filters alone, and back: no packet is lost.

    What would lose one is to make the place for filters, which stays.
    """
    both = pair("--no-tcx", driver="vxlan", direct=True)
    node, filters = both.town.nodes[0], both.one.options
    plain = [one for one in filters if one != "--no-tcx"]
    traffic = Traffic(both.here, both.there, both.at[4])
    for options, way in ((plain, "tcx"), (filters, "filter")) * 2:
        restart(both, *options)
        assert hooked(node, "eth0") == hooked(node, "flx-farm") == way
        assert max(both.pings(4)) <= 4, "the short way"
        assert not both.one.drift()
    lost = traffic.stop()
    assert lost.nothing, lost


@each_way
def test_another_build_takes_its_place(pair: Make, way: str) -> None:
    """Whichever way it stands there; by tcx it is the same link. A killed agent's stays until then."""
    both = pair(*OPTIONS[way], driver="host-gw")
    node, plain = both.town.nodes[0], both.one.options
    before = mine(both) if way == "tcx" else 0
    traffic = Traffic(both.here, both.there, both.at[4])
    both.one.kill()
    assert hooked(node, "eth0") == way
    assert max(both.pings(4)) <= 4, "the short way without an agent"
    restart(both, *plain, "--map-size", "drops=4096")
    assert hooked(node, "eth0") == way
    assert (mine(both) if way == "tcx" else 0) == before
    assert max(both.pings(4)) <= 4
    lost = traffic.stop()
    assert lost.nothing, lost
    assert not both.one.drift()


def test_what_is_taken_off_is_found_and_put_back(pair: Make) -> None:
    """By a comparison, since the kernel tells nobody."""
    both = pair(driver="host-gw", interval=60)
    node = both.town.nodes[0]
    take_off(both)
    assert any("uplinks eth0 missing" in one for one in both.one.drift()), both.one.drift()
    assert both.here.pings(both.at[4]), "by the stack"
    both.one.stop()
    both.one.options = (*both.one.options, "--interval", "1")
    both.one.start()
    assert hooked(node, "eth0") == "tcx"
    take_off(both)
    eventually(lambda: hooked(node, "eth0"), what="the timer finds it")
    for pin in (node.run_dir / "bpf/links").iterdir():
        pin.unlink()
    eventually(lambda: hooked(node, "eth0") and not both.one.drift(), what="and where the pin is removed")
    assert max(both.pings(4)) <= 4


def test_an_uplink_that_comes_anew(pair: Make) -> None:
    """Its link is as gone as it is; the timer sees to the new one."""
    both = pair(driver="host-gw", interval=1)
    node, switch = both.town.nodes[0], both.town.switch
    node.run("ip", "link", "delete", "eth0")
    node.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "port1", "netns", switch.name)
    switch.run("ip", "link", "set", "port1", "master", "switch", "up")
    node.run("ip", "address", "add", f"{node.v4}/24", "dev", "eth0")
    node.run("ip", "link", "set", "eth0", "up")
    eventually(lambda: hooked(node, "eth0") == "tcx", deadline=10)
    eventually(lambda: len(list((node.run_dir / "bpf/links").iterdir())) == 1, what="the old pin is forgotten")
    eventually(lambda: not both.one.drift(), what="all of the node is right again")


def test_others_programs_stay_and_have_their_say(pair: Make) -> None:
    both = pair(driver="host-gw", interval=1)
    node = both.town.nodes[0]
    assert max(both.pings(4)) <= 4
    with theirs(node, Program.passing()) as other:
        take_off(both, other)
        eventually(lambda: hooked(node, "eth0"), what="ours is put back, behind theirs")
        assert programs(node, "eth0")[0].link == other.info.id
        assert max(both.pings(4)) <= 4
        restart(both, *both.one.options, "--map-size", "drops=4096")
        assert programs(node, "eth0")[0].link == other.info.id, "an upgrade keeps the order"
        with closing(dropping()) as drops:
            other.update(drops.fd)
        assert not both.here.pings(both.at[4], deadline=0.3), "it is asked first"
        both.one.detach(both.here)
        both.two.detach(both.there)
        both.one.client.purge()
        assert [one.link for one in programs(node, "eth0")] == [other.info.id]


def test_filters_that_are_asked_first_stay_first(pair: Make) -> None:
    """A tcx program would be asked before all of them: where somebody wants to be first, ours is a filter too."""
    both = pair(driver="host-gw", interval=1)
    node = both.town.nodes[0]
    node.run("tc", "qdisc", "add", "dev", "eth0", "clsact")
    node.run("tc", "filter", "add", *BEHIND)
    assert not both.one.drift(), "behind ours is where it belongs"
    assert hooked(node, "eth0") == "tcx"
    traffic = Traffic(both.here, both.there, both.at[4])
    node.run("tc", "filter", "add", *OTHERS)
    eventually(lambda: hooked(node, "eth0") == "filter", what="ours stands behind it")
    assert max(both.pings(4)) <= 4
    node.run("tc", "filter", "delete", "dev", "eth0", "ingress", "pref", "7")
    eventually(lambda: hooked(node, "eth0") == "tcx", what="and is by itself again")
    lost = traffic.stop()
    assert lost.nothing, lost
    both.one.client.purge()
    assert not hooked(node, "eth0")
    assert "pref 30000" in node.run("tc", "filter", "show", "dev", "eth0", "ingress")


@each_way
def test_nothing_is_left(pair: Make, way: str) -> None:
    """Of a purge, and of an agent whose successor has the other plane."""
    both = pair(*OPTIONS[way], driver="vxlan", direct=True)
    one, two = both.town.nodes
    restart(both, *both.one.options, "--plane", "nftables")
    assert not hooked(one, "eth0")
    assert not hooked(one, "flx-farm")
    both.one.detach(both.here)
    both.two.detach(both.there)
    both.two.client.purge()
    assert not hooked(two, "eth0")
    assert not programs(two, "eth0")
    assert "clsact" not in two.run("tc", "qdisc", "show", "dev", "eth0")
    assert not (two.run_dir / "bpf").exists()
    assert not (two.run_dir / "places").exists()
