"""Who is each machine's next hop, to every subnet and to what lies behind nodes. Pure.

Machines send what they have no route for to the first router on their subnets, or where there is none to the first host.
Routers know the way to every subnet. The management network leads nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from fairlead.model.address import Address, Family, Prefix

from .parts import EVERYWHERE, Planned, Role, Route
from .topology import MANAGEMENT, Label, Subnet

Behind = Mapping[str, Sequence[Prefix]]
"""Prefixes that are reached through a node: those of its containers, where the lab itself routes them."""


class Routes:
    """The routes of each machine."""

    def __init__(self, subnets: Iterable[Subnet], machines: Sequence[Planned], behind: Behind) -> None:
        self._cidrs = {(one.name, cidr.family): cidr for one in subnets for cidr in one.cidrs if one.name != MANAGEMENT}
        self._machines = machines
        self._behind = behind

    def of(self, machine: Planned) -> Iterator[Route]:
        """All that one machine needs beyond its own subnets."""
        if machine.role in {Role.STORE, Role.SWITCH}:
            return
        for family, everywhere in EVERYWHERE.items():
            hops = self._hops(machine, family)
            if machine.role is Role.ROUTER:
                yield from (Route(self._cidrs[name, family], via) for name, via in hops.items())
            elif gateway := self._gateway(machine, family):
                yield Route(everywhere, gateway)
            yield from self._inward(machine, family, hops)

    def _hops(self, machine: Planned, family: Family) -> dict[Label, Address]:
        """To each subnet that a machine is not on, the next router: breadth first, so that it is the shortest way."""
        own = {wire.subnet for wire in machine.wires if (wire.subnet, family) in self._cidrs}
        first: dict[Label, Address | None] = dict.fromkeys(own)
        queue = sorted(own)
        while queue:
            here = queue.pop(0)
            for router in self._routers(here, family):
                wire = router.on(here)
                via = first[here] or (wire.address(family) if wire else None)
                for onward in router.wires:
                    if onward.subnet not in first and (onward.subnet, family) in self._cidrs:
                        first[onward.subnet] = via
                        queue.append(onward.subnet)
        return {name: via for name, via in first.items() if via}

    def _routers(self, subnet: Label, family: Family) -> list[Planned]:
        there = ((one, one.on(subnet)) for one in self._machines if one.role is Role.ROUTER)
        return [one for one, wire in there if wire and wire.address(family)]

    def _gateway(self, machine: Planned, family: Family) -> Address | None:
        for wire in machine.wires:
            for router in self._routers(wire.subnet, family):
                if found := router.on(wire.subnet):
                    return found.address(family)
        if machine.role is not Role.NODE:
            return None
        hosts = (one.on(machine.wires[0].subnet) for one in self._machines if one.role is Role.HOST)
        return next((wire.address(family) for wire in hosts if wire and wire.address(family)), None)

    def _inward(self, machine: Planned, family: Family, hops: Mapping[Label, Address]) -> Iterator[Route]:
        """To what lies behind nodes: through the node, where it is a neighbour; routers also through each other."""
        for node in self._machines:
            if node is machine:
                continue
            for prefix in self._behind.get(node.name, ()):
                if prefix.family != family:
                    continue
                near = (wire for wire in node.wires if wire.subnet != MANAGEMENT and machine.on(wire.subnet))
                onward = hops.get(node.wires[0].subnet) if machine.role is Role.ROUTER else None
                if via := next(filter(None, (wire.address(family) for wire in near)), onward):
                    yield Route(prefix, via)
