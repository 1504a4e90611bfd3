"""Endpoint: one attachment of one container to one network, and what was asked for it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import ClassVar, Literal

from .address import Address, ContainerID, Family, Interface, InterfaceName, Mac, Name, NamedPort, PortName, Prefix
from .meta import GROUP, Object, Value


class Protocol(StrEnum):
    """The transport protocols that have ports."""

    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"


class PublishedPort(Value, frozen=True, kw_only=True):
    """A port of the host, or a run of ``count`` ports, that leads to the container.

    Host port ``host_port + i`` leads to container port ``container_port + i``. Without ``host_ip`` every address of the
    host serves it, of each family that the endpoint has.
    """

    host_port: int
    container_port: int
    protocol: Protocol = Protocol.TCP
    count: int = 1
    host_ip: Address | None = None

    def __post_init__(self) -> None:
        for field, first in (("hostPort", self.host_port), ("containerPort", self.container_port)):
            if not 1 <= first <= 65535:
                raise ValueError(f"{field}: {first} is not a port; ports are 1 to 65535")
            if self.count < 1:
                raise ValueError(f"count: {self.count} ports cannot be published; at least 1")
            if first + self.count - 1 > 65535:
                raise ValueError(f"{field}: {self.count} ports from {first} go past 65535")
        if self.host_ip is not None and self.host_ip.ip.is_multicast:
            raise ValueError(f"hostIp: {self.host_ip} is a multicast address; an address of the host is needed")

    @property
    def last(self) -> int:
        """The last host port."""
        return self.host_port + self.count - 1

    def serves(self, family: Family) -> bool:
        """Whether this port is published for ``family``."""
        return self.host_ip is None or self.host_ip.family == family

    def collides(self, other: PublishedPort) -> bool:
        """Whether one packet could match both."""
        overlap = self.host_port <= other.last and other.host_port <= self.last
        return overlap and self.protocol is other.protocol and _meet(self.host_ip, other.host_ip)

    def __str__(self) -> str:
        host = f"[{self.host_ip}]:" if self.host_ip and self.host_ip.family == 6 else f"{self.host_ip}:" if self.host_ip else ""
        ports = f"{self.host_port}-{self.last}" if self.count > 1 else f"{self.host_port}"
        inner = f"{self.container_port}-{self.container_port + self.count - 1}" if self.count > 1 else f"{self.container_port}"
        return f"{host}{ports}->{inner}/{self.protocol}"


class Bandwidth(Value, frozen=True, kw_only=True):
    """Limits seen from the container: ingress is what it receives. Rates in bit/s, bursts in bits; 0 is no limit."""

    ingress_rate: int = 0
    ingress_burst: int = 0
    egress_rate: int = 0
    egress_burst: int = 0

    def __post_init__(self) -> None:
        for way, rate, burst in (
            ("ingress", self.ingress_rate, self.ingress_burst),
            ("egress", self.egress_rate, self.egress_burst),
        ):
            if rate < 0 or burst < 0:
                raise ValueError(f"{way}: rate and burst cannot be negative")
            if burst and not rate:
                raise ValueError(f"{way}Burst: a burst needs {way}Rate")
            if rate and rate < 8:
                raise ValueError(f"{way}Rate: {rate} bit/s is below the kernel's smallest, 8")
            if burst > 8 * (2**32 - 1):
                raise ValueError(f"{way}Burst: {burst} bits is more than the kernel can hold, {8 * (2**32 - 1)}")


class Route(Value, frozen=True, kw_only=True):
    """A route inside the container. Without ``gw`` the network's gateway of the same family is used."""

    dst: str
    gw: Address | None = None

    def __post_init__(self) -> None:
        try:
            family = Prefix(self.dst).family
        except ValueError as problem:
            raise ValueError(f"dst: {problem}") from None
        if self.gw is not None and self.gw.family != family:
            raise ValueError(f"gw: {self.gw} and dst {self.dst} are not of one address family")


class Sandbox(Value, frozen=True, kw_only=True):
    """The network namespace: its path, and the kernel's cookie for it (SO_NETNS_COOKIE), unique since boot.

    Of an endpoint that is handed over the path is empty until its container is known, and there is no cookie.
    """

    path: str
    cookie: int = 0

    @property
    def key(self) -> str:
        """What tells it from others: the cookie, else the path. Empty as long as neither is known."""
        return str(self.cookie) if self.cookie else self.path


_WORD = re.compile(r"[!-~]{1,255}")


class Dns(Value, frozen=True, kw_only=True):
    """What a container's resolver should use. Each entry is one word of its resolv.conf, which it cannot break out of."""

    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for at, server in enumerate(self.nameservers):
            try:
                Address(server.partition("%")[0])
            except ValueError as problem:
                raise ValueError(f"nameservers[{at}]: {problem}") from None
        domain = (self.domain,) if self.domain else ()
        for field, words in (
            ("nameservers", self.nameservers),
            ("domain", domain),
            ("search", self.search),
            ("options", self.options),
        ):
            for word in words:
                if not _WORD.fullmatch(word):
                    raise ValueError(f"{field}: {word[:80]!r} is not one word of printable ASCII, at most 255 characters")


class EndpointSpec(Value, frozen=True, kw_only=True):
    """One attachment. ``container`` and ``interface`` are its identity; the rest is what it was given.

    ``owner`` says who asked: ``cni``, ``cli`` or ``docker``. ``chained``: another CNI plugin made the link,
    whose near end is ``host``, and Fairlead only adds ports and limits to it. ``handover``: the container's end of the link
    is made on the host, and who asked moves, names and configures it; ``interface`` is what its name will begin with.
    ``standby``: ports that another attachment of the container publishes, and this one does when that goes.
    ``named_ports``: ports of the container by the names that policies may use. ``node``: on which it is, where nodes tell
    each other of theirs.
    """

    container: ContainerID
    interface: InterfaceName
    network: Name
    sandbox: Sandbox
    display: str = ""
    owner: str = "cli"
    mac: Mac | None = None
    addresses: tuple[Interface, ...] = ()
    routes: tuple[Route, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    standby: tuple[PublishedPort, ...] = ()
    named_ports: dict[str, NamedPort] = {}
    node: str = ""
    bandwidth: Bandwidth | None = None
    aliases: tuple[str, ...] = ()
    dns: Dns = Dns()
    mtu: int = 0
    chained: bool = False
    host: InterfaceName | None = None
    handover: bool = False
    boot: str = ""

    def __post_init__(self) -> None:
        check_port_names(self.named_ports)


class Endpoint(Object, frozen=True, kw_only=True, tag="Endpoint"):
    """One attachment of one container to one network. Its name is ``<container>:<interface>``."""

    plural: ClassVar[str] = "endpoints"

    api_version: Literal["fairlead.dev/v1"] = GROUP
    spec: EndpointSpec

    @property
    def container(self) -> str:
        """The id of the container."""
        return self.spec.container

    @property
    def display(self) -> str:
        """How people know the container: the name it was given, else the beginning of its id."""
        return self.spec.display or self.spec.container[:12]


def _meet(one: Address | None, other: Address | None) -> bool:
    """Whether two host addresses, where None is every address, can be one packet's destination."""
    if one is None or other is None:
        return True
    if one.family != other.family:
        return False
    return one == other or one.ip.is_unspecified or other.ip.is_unspecified


def check_port_names(named: Iterable[str]) -> None:
    """Raise ``ValueError`` unless each is a name that a port can have."""
    for name in named:
        try:
            PortName(name)
        except ValueError as problem:
            raise ValueError(f"namedPorts: {problem}") from None


def endpoint_name(container: str, interface: str) -> str:
    """The name of the endpoint object. Neither part can hold a colon, so that no two pairs make one name."""
    return f"{container}:{interface}"
