"""What a lab is made of: machines, their cables to the switch, and their routes, each with every detail. Values alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from fairlead.model.address import Address, Family, Interface, Mac, Prefix

from .topology import MANAGEMENT, Label, Subnet

EVERYWHERE: dict[Family, Prefix] = {4: Prefix("0.0.0.0/0"), 6: Prefix("::/0")}


class Role(StrEnum):
    """What a machine is there for."""

    SWITCH = "switch"
    ROUTER = "router"
    HOST = "host"
    STORE = "store"
    NODE = "node"


@dataclass(frozen=True)
class Wire:
    """One cable: ``interface`` of a machine, and ``port`` of the switch, on the bridge of a subnet."""

    subnet: Label
    interface: str
    port: str
    mac: Mac
    addresses: tuple[Interface, ...]
    mtu: int

    def address(self, family: Family) -> Address | None:
        """Its address of a family."""
        return next((one.address for one in self.addresses if one.family == family), None)


@dataclass(frozen=True)
class Route:
    """Where packets to a prefix go next."""

    dst: Prefix
    via: Address


@dataclass(frozen=True)
class Planned:
    """One machine with its cables."""

    name: Label
    role: Role
    wires: tuple[Wire, ...] = ()
    routes: tuple[Route, ...] = ()

    @property
    def addresses(self) -> tuple[Interface, ...]:
        """Of all its interfaces but that of the management network."""
        return tuple(one for wire in self.wires if wire.subnet != MANAGEMENT for one in wire.addresses)

    def on(self, subnet: str) -> Wire | None:
        """Its cable to a subnet."""
        return next((one for one in self.wires if one.subnet == subnet), None)


@dataclass(frozen=True)
class Plan:
    """All machines but the switch, whose bridges are ``subnets``. In the order in which they are to be built."""

    subnets: tuple[Subnet, ...]
    machines: dict[str, Planned] = field(default_factory=dict)

    def of(self, role: Role) -> list[Planned]:
        """The machines of a role."""
        return [one for one in self.machines.values() if one.role is role]
