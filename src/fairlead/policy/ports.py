"""Ports: what rules say of protocols and ports, whichever kind they stand in, and what a port's name stands for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fairlead.model.address import NamedPort
from fairlead.model.admin import AdminPort
from fairlead.model.cluster import ProtocolMatch
from fairlead.model.policy import PolicyPort

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
"""The protocols that have ports, by their numbers in IP."""
NAMES = {number: name for name, number in PROTOCOLS.items()}

Named = Mapping[str, NamedPort]
"""The named ports of a container."""


class Run(NamedTuple):
    """Ports of one protocol, by its number."""

    protocol: int
    first: int
    last: int


class Ports(NamedTuple):
    """One entry of a rule: a run of ports of a protocol, or a ``name``; protocol 0 is whichever the name stands for."""

    protocol: int
    first: int = 0
    last: int = 65535
    name: str = ""

    def __str__(self) -> str:
        """As people say it: ``tcp 80-90``, ``every udp port``, ``port http``."""
        protocol = NAMES.get(self.protocol, "")
        if self.name:
            return f"{protocol or 'port'} {self.name}"
        if (self.first, self.last) == (0, 65535):
            return f"every {protocol} port"
        return f"{protocol} {self.first}" + (f"-{self.last}" if self.last > self.first else "")

    @classmethod
    def of(cls, one: PolicyPort | ProtocolMatch | AdminPort) -> Ports:
        """An entry of any kind of policy."""
        if isinstance(one, PolicyPort):
            return _of_policy(one)
        return _of_cluster(one) if isinstance(one, ProtocolMatch) else _of_admin(one)

    def run(self, named: Named) -> Run | None:
        """The ports it means at a container with these names; None if it means none there."""
        if not self.name:
            return Run(self.protocol, self.first, self.last)
        port = named.get(self.name)
        if port is None or self.protocol not in {0, PROTOCOLS[port.protocol]}:
            return None
        return Run(PROTOCOLS[port.protocol], port.number, port.number)


def runs(ports: Iterable[Ports], named: Named) -> tuple[Run, ...]:
    """What entries mean at a container with these names; perhaps nothing."""
    return tuple([run for one in ports if (run := one.run(named))])


def _of_policy(one: PolicyPort) -> Ports:
    protocol = PROTOCOLS[one.protocol.lower()]
    if isinstance(one.port, str):
        return Ports(protocol, name=one.port)
    if one.port is None:
        return Ports(protocol)
    return Ports(protocol, one.port, one.end_port or one.port)


def _of_cluster(one: ProtocolMatch) -> Ports:
    if one.destination_named_port is not None:
        return Ports(0, name=one.destination_named_port)
    found = {"tcp": one.tcp, "udp": one.udp, "sctp": one.sctp}
    return next(Ports(PROTOCOLS[name], *at.destination_port.span) for name, at in found.items() if at)


def _of_admin(one: AdminPort) -> Ports:
    if one.port_number:
        return Ports(PROTOCOLS[one.port_number.protocol.lower()], one.port_number.port, one.port_number.port)
    if one.port_range:
        return Ports(PROTOCOLS[one.port_range.protocol.lower()], one.port_range.start, one.port_range.end)
    return Ports(0, name=one.named_port or "")
