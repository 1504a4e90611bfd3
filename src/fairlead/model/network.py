"""Network: a named network that containers attach to, and its pools of addresses."""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from typing import ClassVar, Literal

from .address import Address, Family, InterfaceName, Name, Prefix
from .meta import GROUP, Object, Value
from .selector import Selector

MTU_MIN = 576
MTU_MIN_IPV6 = 1280
MTU_MAX = 65535
SUBNETS_MAX, RANGES_MAX, EXCLUDE_MAX = 64, 256, 1024
"""How many of each a network, or one subnet, may have."""


RESERVED: tuple[tuple[Prefix, str], ...] = (
    (Prefix("0.0.0.0/8"), "this host (RFC 1122)"),
    (Prefix("127.0.0.0/8"), "loopback"),
    (Prefix("169.254.0.0/16"), "link-local"),
    (Prefix("224.0.0.0/4"), "multicast"),
    (Prefix("255.255.255.255/32"), "broadcast"),
    (Prefix("::/127"), "unspecified and loopback"),
    (Prefix("::ffff:0:0/96"), "IPv4 written as IPv6"),
    (Prefix("fe80::/10"), "link-local"),
    (Prefix("ff00::/8"), "multicast"),
)
"""What no container can have as its own address, and what it is instead."""


class Driver(StrEnum):
    """How a network moves packets."""

    BRIDGE = "bridge"
    """A Linux bridge on this host, with NAT to the outside, as Docker's default network."""
    ROUTED = "routed"
    """A routed link for each container and no layer 2: an address alone, and a link-local gateway behind its veth."""
    VXLAN = "vxlan"
    """Routed links, on every node; between nodes, packets travel inside UDP (RFC 7348)."""
    HOST_GW = "host-gw"
    """Routed links, on every node; each node is the others' gateway to its containers, on their common subnet."""
    BGP = "bgp"
    """Routed links, on every node; the nodes and the routers around them tell each other by BGP (RFC 4271)."""
    MACVLAN = "macvlan"
    """Each container is a station with its own MAC on the network of a host interface, ``parent``."""
    IPVLAN = "ipvlan"
    """As macvlan, with the MAC of ``parent``."""
    HOST = "host"
    """No network of its own: the container shares the host's interfaces, ports and firewall."""
    NONE = "none"
    """Loopback alone."""


SUBS = (Driver.MACVLAN, Driver.IPVLAN)
"""Drivers whose containers share an interface of the host."""

CLUSTER = (Driver.VXLAN, Driver.HOST_GW, Driver.BGP)
"""Drivers of networks that reach over all nodes: each node gives out addresses of blocks of its own."""

ROUTED = (Driver.ROUTED, *CLUSTER)
"""Drivers whose containers have a routed link."""

VXLAN_PORT = 4789
"""UDP port, by IANA."""
VNI_MAX = 2**24 - 1

BLOCK: dict[Family, int] = {4: 26, 6: 122}
"""The prefix length of a node's block of addresses where a subnet says nothing."""

GATEWAYS: dict[Family, Address] = {4: Address("169.254.1.1"), 6: Address("fe80::1")}
"""The gateway of every routed link, by family. It is on no interface: containers are told its MAC."""

MODES = {Driver.MACVLAN: ("bridge", "private", "vepa", "passthru"), Driver.IPVLAN: ("l2", "l3", "l3s")}
"""The modes of each, the default first."""


_USEFUL: dict[Driver, tuple[str, ...]] = {
    Driver.BRIDGE: ("bridge", "bigTcp"),
    Driver.ROUTED: ("bigTcp",),
    Driver.VXLAN: ("vni", "port", "direct", "encrypt", "bigTcp"),
    Driver.HOST_GW: ("encrypt", "bigTcp"),
    Driver.BGP: ("encrypt", "bigTcp"),
}
"""The fields that only some drivers have."""


class Range(Value, frozen=True, kw_only=True):
    """A run of addresses to give out, both ends included."""

    start: Address
    end: Address

    def __post_init__(self) -> None:
        if self.start.family != self.end.family:
            raise ValueError(f"start {self.start} and end {self.end} are not of one address family")
        if int(self.start.ip) > int(self.end.ip):
            raise ValueError(f"start {self.start} comes after end {self.end}")


def _span(prefix: Prefix) -> tuple[int, int]:
    """First and last address as numbers; IPv6 lies above all of IPv4, so that families never meet."""
    above = 2**32 if prefix.family == 6 else 0
    return above + int(prefix.net.network_address), above + int(prefix.net.broadcast_address)


def _refuse_overlaps(cidrs: list[Prefix]) -> None:
    """Compare neighbours only: networks that overlap include two that lie side by side once sorted."""
    spans = [_span(cidr) for cidr in cidrs]
    order = sorted(range(len(spans)), key=lambda at: spans[at])
    for one, other in pairwise(order):
        if spans[other][0] <= spans[one][1]:
            first, last = sorted((one, other))
            raise ValueError(f"subnets[{last}]: {cidrs[last]} overlaps {cidrs[first]}")


class Subnet(Value, frozen=True, kw_only=True):
    """One pool: the prefix, the gateway in it, and which of its addresses may be given out.

    ``gateway`` is the first usable address if left out. ``ranges`` limit what is given out (the whole prefix if empty).
    ``exclude`` holds addresses or prefixes that are never given out. The network and broadcast addresses of IPv4 and the
    subnet-router anycast address of IPv6 (RFC 4291, 2.6.1) never are.

    Of a network that reaches over several nodes: ``block_size`` is the prefix length of the blocks that nodes take for
    themselves; at 32 (IPv6: 128) each address is agreed on by itself. ``nodes`` and ``namespaces`` say by labels which nodes
    take blocks of it, and whose containers get its addresses (everyone's, if left out).
    """

    cidr: Prefix
    gateway: Address | None = None
    ranges: tuple[Range, ...] = ()
    exclude: tuple[str, ...] = ()
    block_size: int | None = None
    nodes: Selector | None = None
    namespaces: Selector | None = None

    def __post_init__(self) -> None:
        for field, given, most in (("ranges", self.ranges, RANGES_MAX), ("exclude", self.exclude, EXCLUDE_MAX)):
            if len(given) > most:
                raise ValueError(f"{field}: {len(given)} entries; at most {most}")
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
        if self.block_size is not None and not self.cidr.length <= self.block_size <= self.bits:
            raise ValueError(f"blockSize: {self.block_size} is not between {self.cidr.length} and {self.bits}")
        host_bits = self.bits - self.cidr.length
        if host_bits < 2:
            raise ValueError(f"cidr: {self.cidr} is too small: a network needs at least a /30 (IPv4) or a /126 (IPv6)")
        if self.cidr.length < 8:
            raise ValueError(f"cidr: {self.cidr} is too large: at least /8")
        for reserved, what in RESERVED:
            if self.cidr.overlaps(reserved):
                raise ValueError(f"cidr: {self.cidr} holds reserved addresses: {reserved} is {what}")

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
    def bits(self) -> int:
        """How long an address is."""
        return 32 if self.family == 4 else 128

    @property
    def block_length(self) -> int:
        """The prefix length of a node's block."""
        return self.block_size or max(BLOCK[self.family], self.cidr.length)

    @property
    def single(self) -> bool:
        """Whether each address is agreed on by itself: a block holds one."""
        return self.block_length == self.bits

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
    ``parent`` and ``mode``: of macvlan and ipvlan, whose gateway is a router on the parent's network.
    ``vni``, 1 to 16777215, and ``port``: of vxlan; left out, the one is chosen and the other is 4789. ``direct``: of vxlan,
    nodes on one subnet route to each other as with host-gw. ``encrypt``: what travels between nodes does so inside WireGuard.
    ``anti_spoofing``: a container cannot send as another (docs/spoofing.md). ``big_tcp``: TCP over IPv4 hands on pieces of up
    to 192 KiB: faster from container to container, slower to where they must be cut (docs/networks.md).
    """

    driver: Driver = Driver.BRIDGE
    subnets: tuple[Subnet, ...] = ()
    mtu: int | None = None
    bridge: InterfaceName | None = None
    internal: bool = False
    isolated: bool = True
    inter_container: bool = True
    masquerade: bool = True
    parent: InterfaceName | None = None
    mode: str = ""
    vni: int | None = None
    port: int | None = None
    direct: bool = False
    encrypt: bool = False
    anti_spoofing: bool = True
    big_tcp: bool = False
    dns: tuple[Address, ...] = ()
    options: dict[str, str] = {}

    def __post_init__(self) -> None:
        self._check_driver()
        if len(self.subnets) > SUBNETS_MAX:
            raise ValueError(f"subnets: {len(self.subnets)} entries; at most {SUBNETS_MAX}")
        _refuse_overlaps([subnet.cidr for subnet in self.subnets])
        low = MTU_MIN_IPV6 if any(s.family == 6 for s in self.subnets) else MTU_MIN
        if self.mtu is not None and not low <= self.mtu <= MTU_MAX:
            raise ValueError(f"mtu: {self.mtu} is not between {low} and {MTU_MAX}")

    def _check_driver(self) -> None:
        """Each field that the driver has no use for is empty, and each that it needs is there."""
        own = {
            "subnets": self.subnets,
            "mtu": self.mtu,
            "bridge": self.bridge,
            "parent": self.parent,
            "mode": self.mode,
            "vni": self.vni,
            "port": self.port,
            "direct": self.direct,
            "encrypt": self.encrypt,
            "bigTcp": self.big_tcp,
        }
        useful = {"subnets", "mtu", *_USEFUL.get(self.driver, ("parent", "mode"))}
        for field, value in own.items():
            if value and (not self.connects or field not in useful):
                raise ValueError(f"{field}: a network with driver {self.driver} has none")
        if self.vni is not None and not 1 <= self.vni <= VNI_MAX:
            raise ValueError(f"vni: {self.vni} is not between 1 and {VNI_MAX}")
        if self.port is not None and not 1 <= self.port <= 65535:
            raise ValueError(f"port: {self.port} is not a port; ports are 1 to 65535")
        self._check_subnets()
        if self.driver not in SUBS:
            return
        for field in ("parent", "subnets"):
            if not own[field]:
                raise ValueError(f"{field}: a network with driver {self.driver} needs it: those of the network it joins")
        if self.mode and self.mode not in MODES[self.driver]:
            raise ValueError(f"mode: {self.mode!r} is none of {self.driver}; there are: {', '.join(MODES[self.driver])}")

    def _check_subnets(self) -> None:
        for at, subnet in enumerate(self.subnets):
            if self.routed and subnet.gateway is not None:
                raise ValueError(f"subnets[{at}].gateway: a network with driver {self.driver} has {GATEWAYS[subnet.family]}")
            for field in ("block_size", "nodes", "namespaces"):
                if not self.shared and getattr(subnet, field) is not None:
                    camel = "blockSize" if field == "block_size" else field
                    raise ValueError(f"subnets[{at}].{camel}: a network with driver {self.driver} is each node's own")

    @property
    def connects(self) -> bool:
        """Whether a container gets an interface of this network, with addresses of its own."""
        return self.has_links or self.driver in SUBS

    @property
    def has_links(self) -> bool:
        """Whether a container gets a veth whose near end is on this host and ours."""
        return self.driver is Driver.BRIDGE or self.routed

    @property
    def routed(self) -> bool:
        """Whether that veth is a routed link, on no bridge."""
        return self.driver in ROUTED

    @property
    def shared(self) -> bool:
        """Whether it is one network on all nodes, so that no address may be given out twice among them."""
        return self.driver in CLUSTER or self.driver in SUBS

    def gateway(self, subnet: Subnet) -> Address:
        """Through whom containers of a subnet leave it."""
        return GATEWAYS[subnet.family] if self.routed else subnet.router

    @property
    def families(self) -> tuple[Family, ...]:
        """The address families of the subnets, in order, each once."""
        return tuple(dict.fromkeys(subnet.family for subnet in self.subnets))


class Network(Object, frozen=True, kw_only=True, tag="Network"):
    """A network that containers attach to."""

    plural: ClassVar[str] = "networks"

    api_version: Literal["fairlead.dev/v1"] = GROUP
    spec: NetworkSpec = NetworkSpec()

    def __post_init__(self) -> None:
        try:
            Name(self.metadata.name)
        except ValueError as problem:
            raise ValueError(f"metadata.name: {problem}") from None


def excluded(text: str) -> Prefix:
    """An ``exclude`` entry, an address or a prefix, as a prefix."""
    return Prefix(text) if "/" in text else Address(text).host()
