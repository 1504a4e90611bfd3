"""The network between machines: bridges in the switch, cables to it, addresses and routes, and which of them are cut."""

from __future__ import annotations

import errno
import time
from collections.abc import Collection, Iterable, Mapping

from fairlead.kernel import netns, nft, route
from fairlead.kernel.errors import KernelError
from fairlead.kernel.netlink import Netlink
from fairlead.model.address import Prefix
from fairlead.model.errors import Failed

from .machine import Machine
from .parts import EVERYWHERE, Route, Wire
from .topology import MTU_DEFAULT, Subnet

_PATIENCE = 10.0


class Underlay:
    """What hangs on one switch."""

    def __init__(self, switch: Machine) -> None:
        self._switch = switch

    def add(self, subnets: Iterable[Subnet]) -> None:
        """Make a bridge for each subnet."""
        made = [
            route.new_bridge(one.name, mtu=one.mtu or MTU_DEFAULT, up=True, snooping=False).accepting(errno.EEXIST)
            for one in subnets
        ]
        with self._switch.network() as fd, Netlink(netns=fd) as nl:
            nl.do(*made)

    def lay(self, machine: Machine, wires: Iterable[Wire]) -> None:
        """Cables from a machine to the switch, with the machine's addresses; everything is up when this returns."""
        with (
            self._switch.network() as here,
            machine.network() as there,
            Netlink(netns=here) as at_switch,
            Netlink(netns=there) as at_machine,
        ):
            for wire in wires:
                self._lay(wire, at_switch, at_machine, there)

    def _lay(self, wire: Wire, at_switch: Netlink, at_machine: Netlink, there: int) -> None:
        bridge = route.link(at_switch, wire.subnet)
        if bridge is None:
            raise Failed(f"the switch has lost its bridge {wire.subnet}")
        pair = route.new_veth(wire.port, wire.interface, there, master=bridge.index, mtu=bridge.mtu, mac=wire.mac)
        at_switch.do(*pair)
        found = route.link(at_machine, wire.interface)
        if found is None:
            raise Failed(f"{wire.interface} is gone as soon as it was made")
        at_machine.do(route.set_link(found.index, mtu=wire.mtu, up=True))
        at_machine.do(*(route.new_address(found.index, one) for one in wire.addresses))

    def remove(self, names: Iterable[str]) -> None:
        """Take away bridges, or cables by their ports."""
        with self._switch.network() as fd, Netlink(netns=fd) as nl:
            nl.do(*(route.del_link(one).accepting(errno.ENODEV) for one in names))

    def gone(self, ports: Collection[str]) -> None:
        """Wait until the kernel has taken away the ports of a machine that has ended."""
        end = time.monotonic() + _PATIENCE
        with self._switch.network() as fd, Netlink(netns=fd) as nl:
            while left := [one for one in ports if route.link(nl, one)]:
                if time.monotonic() > end:
                    raise Failed(f"the kernel has not taken {', '.join(left)} away within {_PATIENCE:g} s")
                time.sleep(0.01)


def lead(machine: Machine, routes: Iterable[Route]) -> None:
    """Tell a machine routes, in place of others to the same prefixes."""
    with machine.network() as fd, Netlink(netns=fd) as nl:
        nl.do(*(route.new_route(one.dst, one.via, replace=True) for one in routes))


def forget(machine: Machine, routes: Iterable[Route]) -> None:
    """Take routes from a machine; those that were replaced, or went with the way there, are no matter."""
    with machine.network() as fd, Netlink(netns=fd) as nl:
        nl.do(*(route.del_route(one.dst, one.via).accepting(errno.ESRCH) for one in routes))


def behind(machine: Machine, hops: Collection[str]) -> list[Prefix]:
    """What a router reaches through one of ``hops``."""
    with machine.network() as fd, Netlink(netns=fd) as nl:
        found = route.routes(nl)
    return [Prefix(one.dst) for one in found if one.via in hops and one.dst not in EVERYWHERE.values()]


def cut(machines: Mapping[str, Machine], texts: Mapping[str, str]) -> None:
    """Replace the rules that keep machines apart."""
    for name, text in texts.items():
        machine = machines.get(name)
        if machine is None or not machine.process.alive:
            continue
        with machine.network() as fd, netns.inside(fd):
            try:
                nft.run(text)
            except KernelError as problem:
                raise Failed(f"{name}: {problem}") from None
