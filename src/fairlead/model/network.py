"""Network: a named network that containers attach to, and its pools of addresses."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from .address import Address, Family, InterfaceName, Name, Prefix
from .meta import Object, Value

MTU_MIN = 576
MTU_MIN_IPV6 = 1280
MTU_MAX = 65535


class Driver(StrEnum):
    """How a network moves packets."""

    BRIDGE = "bridge"
    """A Linux bridge on this host, with NAT to the outside, as Docker's default network."""
    HOST = "host"
    """No network of its own: the container shares the host's interfaces, ports and firewall."""
    NONE = "none"
    """Loopback alone."""


class Range(Value, frozen=True, kw_only=True):
    """A run of addresses to give out, both ends included."""

    start: Address
    end: Address

    def __post_init__(self) -> None:
        if self.start.family != self.end.family:
            raise ValueError(f"start {self.start} and end {self.end} are not of one address family")
        if int(self.start.ip) > int(self.end.ip):
            raise ValueError(f"start {self.start} comes after end {self.end}")


class Subnet(Value, frozen=True, kw_only=True):
    """One pool: the prefix, the gateway in it, and which of its addresses may be given out.

    ``gateway`` is the first usable address if left out. ``ranges`` limit what is given out (the whole prefix if empty).
    ``exclude`` holds addresses or prefixes that are never given out. The network and broadcast addresses of IPv4 and the
    subnet-router anycast address of IPv6 (RFC 4291, 2.6.1) never are.
    """

    cidr: Prefix
    gateway: Address | None = None
    ranges: tuple[Range, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_prefix()
        if self.gateway is not None:
            self._check_host("gateway", self.gateway)
        for at, run in enumerate(self.ranges):
            for end in (run.start, run.end):
                if not self.cidr.holds(end):
                    raise ValueError(f"ranges[{at}]: {end} is not in {self.cidr}")
        for at, text in enumerate(self.exclude):
            try:
                inside = self.cidr.overlaps(excluded(text))
            except ValueError as problem:
                raise ValueError(f"exclude[{at}]: {problem}") from None
            if not inside:
                raise ValueError(f"exclude[{at}]: {text} is not in {self.cidr}")

    def _check_prefix(self) -> None:
        host_bits = (32 if self.family == 4 else 128) - self.cidr.length
        if host_bits < 2:
            raise ValueError(f"cidr: {self.cidr} is too small: a bridge network needs at least a /30 (IPv4) or a /126 (IPv6)")
        if self.cidr.length < 8:
            raise ValueError(f"cidr: {self.cidr} is too large: at least /8")
        net = self.cidr.net
        if net.is_loopback or net.is_multicast or net.is_link_local or net.network_address.is_unspecified:
            raise ValueError(f"cidr: {self.cidr} is reserved (loopback, multicast, link-local or unspecified)")

    def _check_host(self, field: str, address: Address) -> None:
        net = self.cidr.net
        if not self.cidr.holds(address):
            raise ValueError(f"{field}: {address} is not in {self.cidr}")
        if address.ip == net.network_address or (self.family == 4 and address.ip == net.broadcast_address):
            raise ValueError(f"{field}: {address} is the network's own or its broadcast address")

    @property
    def family(self) -> Family:
        """4 or 6."""
        return self.cidr.family

    @property
    def router(self) -> Address:
        """The gateway: as written, else the first usable address."""
        return self.gateway or Address(self.cidr.net.network_address + 1)


class NetworkSpec(Value, frozen=True, kw_only=True):
    """What a person may say about a network. ``docs/networks.md`` explains each field with an example.

    ``mtu``: bytes, 576 (1280 with IPv6) to 65535; left out, the uplink's. ``bridge``: name of the Linux bridge; left out,
    made from the network's name. ``internal``: no way out and no way in. ``isolated``: nothing to or from other networks
    but published ports. ``inter_container``: containers of this network reach each other. ``masquerade``: what leaves
    carries the host's address (NAT); off, the network is routed, and reached from outside without published ports.
    """

    driver: Driver = Driver.BRIDGE
    subnets: tuple[Subnet, ...] = ()
    mtu: int | None = None
    bridge: InterfaceName | None = None
    internal: bool = False
    isolated: bool = True
    inter_container: bool = True
    masquerade: bool = True
    dns: tuple[Address, ...] = ()
    options: dict[str, str] = {}

    def __post_init__(self) -> None:
        if self.driver is not Driver.BRIDGE:
            if self.subnets:
                raise ValueError(f"subnets: a network with driver {self.driver} has none")
            return
        for at, subnet in enumerate(self.subnets):
            for before in self.subnets[:at]:
                if subnet.cidr.overlaps(before.cidr):
                    raise ValueError(f"subnets[{at}]: {subnet.cidr} overlaps {before.cidr}")
        low = MTU_MIN_IPV6 if any(s.family == 6 for s in self.subnets) else MTU_MIN
        if self.mtu is not None and not low <= self.mtu <= MTU_MAX:
            raise ValueError(f"mtu: {self.mtu} is not between {low} and {MTU_MAX}")

    @property
    def families(self) -> tuple[Family, ...]:
        """The address families of the subnets, in order, each once."""
        return tuple(dict.fromkeys(subnet.family for subnet in self.subnets))


class Network(Object, frozen=True, kw_only=True, tag="Network"):
    """A network that containers attach to."""

    plural: ClassVar[str] = "networks"

    spec: NetworkSpec = NetworkSpec()

    def __post_init__(self) -> None:
        try:
            Name(self.metadata.name)
        except ValueError as problem:
            raise ValueError(f"metadata.name: {problem}") from None


def excluded(text: str) -> Prefix:
    """An ``exclude`` entry, an address or a prefix, as a prefix."""
    return Prefix(text) if "/" in text else Address(text).host()
