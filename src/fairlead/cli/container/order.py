"""What was asked of ``run`` or ``attach``, and the attachments it comes to. Pure.

The first network that leads outside is the primary one: the default route goes through it and published ports lead to it.
Static addresses find their network by the subnet they lie in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fairlead.api.schema import Attach
from fairlead.cli.fault import remedy
from fairlead.model.address import Address, ContainerID, InterfaceName, Mac, NamedPort
from fairlead.model.endpoint import Bandwidth, Dns, PublishedPort
from fairlead.model.errors import Invalid
from fairlead.model.network import Driver, Network

HOST_GIVES_UP = (
    "shares the host's network; --network host gives up:",
    "  ports       every port it opens is a port of the host, and can be taken by others",
    "  interfaces  it sees, and as root can change, all interfaces, routes and addresses of the host",
    "  firewall    Fairlead filters, limits and translates nothing for it",
    "  localhost   services that listen on the host's 127.0.0.1 and ::1 are open to it",
)
"""What a person must know before a container runs in the host's network namespace."""


@dataclass(frozen=True)
class Wish:
    """What a container is to have on its networks, as values already checked one by one."""

    addresses: tuple[Address, ...] = ()
    mac: Mac | None = None
    ports: tuple[PublishedPort, ...] = ()
    named_ports: dict[str, NamedPort] = field(default_factory=dict)
    bandwidth: Bandwidth | None = None
    dns: tuple[Address, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    namespace: str = "default"


@dataclass(frozen=True)
class Target:
    """The namespace that is to be attached: what the agent calls the container, and where it lies."""

    container: ContainerID
    path: str
    display: str


def driver(names: Sequence[str]) -> Driver:
    """What kind of network the names ask for: ``host`` and ``none`` stand alone."""
    for alone in (Driver.HOST, Driver.NONE):
        if alone in names and len(set(names)) > 1:
            others = ", ".join(name for name in names if name != alone)
            raise Invalid(f"{alone} cannot be combined with another network ({others})", field="network")
        if alone in names:
            return alone
    return Driver.BRIDGE


def check_alone(kind: Driver, wish: Wish) -> None:
    """Refuse what makes no sense without a network of its own."""
    why = "the container uses the host's" if kind is Driver.HOST else "it has loopback alone"
    given = {
        "ip": wish.addresses,
        "mac": wish.mac,
        "publish": wish.ports,
        "port-name": wish.named_ports,
        "ingress-rate": wish.bandwidth and wish.bandwidth.ingress_rate,
        "egress-rate": wish.bandwidth and wish.bandwidth.egress_rate,
        "dns": wish.dns if kind is Driver.HOST else (),
    }
    for name, value in given.items():
        if value:
            raise Invalid(f"cannot be used with --network {kind}: {why}", field=name)


def attaches(
    target: Target, wish: Wish, networks: Sequence[Network], interfaces: Sequence[InterfaceName]
) -> tuple[Attach, ...]:
    """One request a network, in the order in which they were named."""
    names = [network.name for network in networks]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise Invalid(f"{twice} is named twice; a container is attached to a network once", field="network")
    primary = next((at for at, network in enumerate(networks) if not network.spec.internal), None)
    if primary is None and wish.ports:
        raise Invalid(f"nothing outside reaches {', '.join(names)}: internal", field="publish")
    wanted = _place(wish.addresses, networks)
    return tuple(
        Attach(
            container=target.container,
            path=target.path,
            network=network.metadata.name,  # type: ignore[arg-type]  # Network checks that its name is a Name
            interface=interface,
            display=target.display,
            namespace=wish.namespace,
            labels=wish.labels,
            addresses=tuple(wanted[at]),
            mac=wish.mac if at == 0 else None,
            ports=wish.ports if at == primary else (),
            named_ports=wish.named_ports,
            bandwidth=wish.bandwidth,
            dns=Dns(nameservers=wish.dns),
            gateway=at == primary,
        )
        for at, (network, interface) in enumerate(zip(networks, interfaces, strict=True))
    )


def _place(addresses: Sequence[Address], networks: Sequence[Network]) -> list[list[Address]]:
    """Each address at the network whose subnet holds it, at most one a family and network."""
    placed: list[list[Address]] = [[] for _ in networks]
    for address in addresses:
        at = _home(address, networks)
        if same := [before for before in placed[at] if before.family == address.family]:
            raise Invalid(f"{same[0]} and {address} are both IPv{address.family} on {networks[at].name}; give one", field="ip")
        placed[at].append(address)
    return placed


def _home(address: Address, networks: Sequence[Network]) -> int:
    for at, network in enumerate(networks):
        if any(subnet.cidr.holds(address) for subnet in network.spec.subnets):
            return at
    held = "; ".join(f"{n.name} has {', '.join(s.cidr for s in n.spec.subnets) or 'no subnet'}" for n in networks)
    raise remedy(
        Invalid(f"{address} is in no subnet of its network: {held}", field="ip"), f"fairlead network inspect {networks[0].name}"
    )
