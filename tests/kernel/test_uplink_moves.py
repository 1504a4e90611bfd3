"""A node's address moves to another interface: what leads to other nodes follows by what the kernel tells, not by the timer."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kernel.agents import address
from tests.kernel.test_cluster import BOTH, Town, Watch, known
from tests.kernel.traffic import Traffic
from tests.net import Containers, Namespace, machine
from tests.wait import eventually

pytestmark = [pytest.mark.alone, pytest.mark.needs("wireguard-go", "bird")]
WAYS: dict[str, dict[str, object]] = {
    "vxlan": {"driver": "vxlan"},
    "direct": {"driver": "vxlan", "direct": True},
    "host-gw": {"driver": "host-gw"},
    "bgp": {"driver": "bgp"},
    "wireguard": {"driver": "vxlan", "encrypt": True},
}
SOON, BGP_SOON = 1.5, 2.5
"""Seconds within which containers reach each other again; BIRD waits for one before it connects."""
GATEWAY = "192.0.2.250"


class Street(Town):
    """Two nodes with a container on each, and agents whose timer is a minute away."""

    def __init__(self, cleanup: ExitStack, folder: Path, way: str, plane: str) -> None:
        super().__init__(cleanup, folder, 2, plane=plane, interval=60)
        for node in self.nodes:
            node.run("ip", "route", "add", "default", "via", GATEWAY)
        containers = Containers(cleanup)
        one, two = self.agents
        one.network("farm", "10.60.0.0/16", "fd60::/64", **WAYS[way])
        eventually(lambda: known(two, "farm"), what="the other node knows the network")
        self.here, self.there = containers.new("here"), containers.new("there")
        mine, theirs = one.attach(self.here, "farm"), two.attach(self.there, "farm")
        self._ways = [(self.here, address(theirs, family)) for family in (4, 6)]
        self._ways += [(self.there, address(mine, family)) for family in (4, 6)]
        eventually(self.works, 15, what=f"the way, {way}")
        eventually(lambda: self.whole, what="nothing differs")
        self._soon = BGP_SOON if way == "bgp" else SOON
        self.traffic = Traffic(self.here, self.there, address(theirs))
        eventually(lambda: "ESTAB" in self.here.run("ss", "-Htn"), what="the connection stands")

    def works(self) -> bool:
        """Whether containers reach each other, by both families and from both sides."""
        return all(source.pings(target, 0.1) for source, target in self._ways)

    @property
    def whole(self) -> bool:
        """Whether both nodes are as they should be, programs on uplinks among it."""
        return not any(agent.drift() for agent in self.agents)

    def cable(self, name: str) -> None:
        """Another interface of the second node, on the same switch."""
        _cable(self.switch, self.nodes[1], name)

    def settle(self, name: str) -> None:
        """Give an interface of the second node its addresses, and the default route, which went with them."""
        node = self.nodes[1]
        node.run("ip", "address", "replace", f"{node.v4}/24", "dev", name)
        node.run("ip", "address", "replace", f"{node.v6}/64", "dev", name, "nodad")
        node.run("ip", "route", "replace", "default", "via", GATEWAY)

    def again(self) -> str:
        """See that all is well in time, by what it takes now and by what was lost on the way; return the figures."""
        took = Watch().until(self.works, "containers reach each other")
        sound = Watch().until(lambda: self.whole, "nothing differs")
        lost = self.traffic.stop()
        assert took < self._soon, took
        assert sound < self._soon, sound
        assert lost.bytes_sent == lost.bytes_taken > 0, lost
        return f"{took:.2f} s after the move; {lost}"


def _cable(switch: Namespace, node: Namespace, name: str) -> None:
    port = f"to-{name}"
    machine("ip", "link", "add", name, "netns", node.name, "type", "veth", "peer", "name", port, "netns", switch.name)
    switch.run("ip", "link", "set", port, "master", "switch", "up")
    node.run("sysctl", "-q", "-w", f"net.ipv6.conf.{name}.accept_dad=0")
    node.run("ip", "link", "set", name, "up")


@pytest.mark.parametrize("way", WAYS)
@BOTH
def test_an_address_moves_to_another_interface(
    cleanup: ExitStack, tmp_path: Path, enforced: str, way: str, record_figures: list[str]
) -> None:
    """The old one stays, up and with its routes, and leads nowhere."""
    made = Street(cleanup, tmp_path, way, enforced)
    made.cable("eth1")
    node = made.nodes[1]
    node.run("ip", "address", "del", f"{node.v4}/24", "dev", "eth0")
    node.run("ip", "address", "del", f"{node.v6}/64", "dev", "eth0")
    made.switch.run("ip", "link", "set", "port2", "nomaster")
    made.settle("eth1")
    record_figures.append(f"an address moves, {way}, {enforced}: {made.again()}")


@pytest.mark.parametrize("way", WAYS)
@BOTH
def test_an_interface_is_made_anew_under_another_name(
    cleanup: ExitStack, tmp_path: Path, enforced: str, way: str, record_figures: list[str]
) -> None:
    """With another MAC, which neighbours are told of; the routes over it went without a word."""
    made = Street(cleanup, tmp_path, way, enforced)
    made.nodes[1].run("ip", "link", "delete", "eth0")
    made.cable("wan0")
    made.settle("wan0")
    record_figures.append(f"an uplink is made anew, {way}, {enforced}: {made.again()}")


@pytest.mark.parametrize("way", ["direct", "host-gw"])
def test_an_interface_is_down_for_a_moment(cleanup: ExitStack, tmp_path: Path, way: str, record_figures: list[str]) -> None:
    """All is as before when it is looked at, but for the routes."""
    made = Street(cleanup, tmp_path, way, "auto")
    made.nodes[1].run("sh", "-c", "ip link set eth0 down; ip link set eth0 up")
    made.settle("eth0")
    record_figures.append(f"an uplink is down for a moment, {way}: {made.again()}")


def test_an_uplink_gets_another_mtu(cleanup: ExitStack, tmp_path: Path, record_figures: list[str]) -> None:
    made = Street(cleanup, tmp_path, "vxlan", "auto")
    node = made.nodes[1]
    node.run("ip", "link", "set", "eth0", "mtu", 1400)
    took = Watch().until(lambda: "mtu 1350" in node.run("ip", "link", "show", "flx-farm"), "the tunnel follows")
    assert took < SOON
    record_figures.append(f"an uplink gets another MTU: its tunnel has it after {took:.2f} s; {made.again()}")
