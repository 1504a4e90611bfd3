"""From objects to rows: what a Network and an Endpoint mean in the kernel. Pure: same input, same rows.

``network_rows`` and ``endpoint_rows`` are the whole decision; each looks at one object (and the network it names, and the
container's other ports), so that a change costs the same on an empty node and on a full one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fairlead.model.address import Address, Interface, InterfaceName, Prefix
from fairlead.model.endpoint import Endpoint, PublishedPort
from fairlead.model.network import GATEWAYS, MODES, SUBS, Driver, Network

from . import names
from .state import (
    Bridge,
    Chain,
    Guard,
    Guest,
    Hop,
    Limit,
    Link,
    Local,
    NodeState,
    Publication,
    Realm,
    Row,
    Rows,
    Segment,
    Sub,
    Subject,
)

_ANYWHERE = {4: Prefix("0.0.0.0/0"), 6: Prefix("::/0")}


def build(networks: Mapping[str, Network], endpoints: Iterable[Endpoint], uplink_mtu: int) -> NodeState:
    """The whole node from nothing: what a restart does, and what every chain of changes must equal."""
    state = NodeState()
    for network in networks.values():
        state = state.replace(network_owner(network.name), network_rows(network, uplink_mtu))
    together: dict[str, list[tuple[Endpoint, Network]]] = {}
    for endpoint in endpoints:
        if of := networks.get(endpoint.spec.network):
            together.setdefault(endpoint.spec.sandbox.key, []).append((endpoint, of))
    for pairs in together.values():
        for endpoint, of in pairs:
            state = state.replace(endpoint.name, endpoint_rows(endpoint, of, beside(endpoint, pairs)))
    return state


def beside(endpoint: Endpoint, others: Iterable[tuple[Endpoint, Network]]) -> tuple[InterfaceName, ...]:
    """The ports, on the host, of those among ``others`` that are other links into the same namespace."""
    key = endpoint.spec.sandbox.key
    return tuple(
        sorted(
            names.veth(other.name)
            for other, network in others
            if key and other.spec.sandbox.key == key and other.name != endpoint.name and has_link(other, network)
        )
    )


def network_owner(name: str) -> str:
    """The owner of a network's rows; no endpoint's name can hold a slash."""
    return f"network/{name}"


def network_rows(network: Network, uplink_mtu: int) -> Rows:
    """The bridge of a network and what the packet filter must know of it; nothing for ``host`` and ``none``."""
    spec = network.spec
    if spec.routed:
        return (_realm(network),)
    if spec.driver is not Driver.BRIDGE:
        return ()
    name = names.bridge(network)
    return (
        Bridge(
            name=name,
            mac=names.bridge_mac(network.name),
            mtu=spec.mtu or uplink_mtu,
            gateways=tuple(Interface.of(subnet.router, subnet.cidr) for subnet in spec.subnets),
            network=network.name,
        ),
        Segment(
            bridge=name,
            internal=spec.internal,
            isolated=spec.isolated,
            inter_container=spec.inter_container,
            masquerade=spec.masquerade and not spec.internal,
            prefixes=tuple(subnet.cidr for subnet in spec.subnets),
        ),
    )


def _realm(network: Network) -> Realm:
    spec = network.spec
    return Realm(
        network=network.name,
        internal=spec.internal,
        isolated=spec.isolated,
        inter_container=spec.inter_container,
        masquerade=spec.masquerade and not spec.internal,
        prefixes=tuple(subnet.cidr for subnet in spec.subnets),
        encrypted=spec.encrypt,
    )


def endpoint_rows(endpoint: Endpoint, network: Network, beside: Iterable[InterfaceName] = ()) -> Rows:
    """A container's link with its guard, limits and published ports. A chained endpoint has no link: another plugin made it.

    ``beside``: the ports of the container's other links.
    """
    spec = endpoint.spec
    host = spec.host if spec.chained else names.veth(endpoint.name)
    rows: list[Row] = []
    if has_link(endpoint, network):
        link = _link(endpoint, network)
        short = _takes_the_short_way(endpoint, link, network)
        rows += (link, _guard(link, network, short=short), *((_local(link, network),) if short else ()))
    if spec.chained and host and spec.ports:
        rows.append(Chain(key=endpoint.name, host=host))
    if network.spec.driver in SUBS and not spec.chained:
        rows.append(_sub(endpoint, network))
    if spec.bandwidth and host:
        rows.append(Limit(host=host, ifb=names.ifb(host), bandwidth=spec.bandwidth))
    rows.extend(_publications(endpoint))
    addresses = tuple(interface.address for interface in spec.addresses)
    rows.extend(Guest(host=port, endpoint=endpoint.name, addresses=addresses) for port in beside if addresses)
    return tuple(rows)


def has_link(endpoint: Endpoint, network: Network) -> bool:
    """Whether it has a veth of ours, so that everything it sends and receives passes us."""
    return not endpoint.spec.chained and network.spec.has_links


def _link(endpoint: Endpoint, network: Network) -> Link:
    spec = endpoint.spec
    addresses = tuple(interface.address for interface in spec.addresses)
    routed = network.spec.routed
    return Link(
        key=endpoint.name,
        host=names.veth(endpoint.name),
        bridge=None if routed else names.bridge(network),
        path=spec.sandbox.path,
        cookie=spec.sandbox.cookie,
        name=spec.interface,
        mac=spec.mac or names.endpoint_mac(addresses, endpoint.name),
        mtu=spec.mtu,
        addresses=spec.addresses,
        routes=tuple(_hops(endpoint, network)),
        gateways=tuple(GATEWAYS[family] for family in dict.fromkeys(one.family for one in addresses)) if routed else (),
        alone=not network.spec.inter_container and not routed,
        hairpin=bool(spec.ports) and not routed,
        big_tcp=network.spec.big_tcp,
        handover=spec.handover,
    )


def _sub(endpoint: Endpoint, network: Network) -> Sub:
    spec = endpoint.spec
    assert network.spec.parent is not None
    return Sub(
        key=endpoint.name,
        kind=str(network.spec.driver),
        mode=network.spec.mode or MODES[network.spec.driver][0],
        parent=network.spec.parent,
        path=spec.sandbox.path,
        cookie=spec.sandbox.cookie,
        name=spec.interface,
        mac=spec.mac if network.spec.driver is Driver.MACVLAN else None,
        mtu=spec.mtu,
        addresses=spec.addresses,
        routes=tuple(_hops(endpoint, network)),
    )


def _guard(link: Link, network: Network, *, short: bool) -> Guard:
    spec = network.spec
    return Guard(
        host=link.host,
        mac=link.mac,
        addresses=_own(link),
        checked=spec.anti_spoofing,
        routed=spec.routed,
        network=network.name if short else "",
        gateway=names.veth_mac(link.key) if spec.routed else None,
    )


def subject(endpoint: Endpoint, network: Network, ingress: int, egress: int) -> Subject:
    """The sets of policies that an endpoint with a link is under."""
    link = _link(endpoint, network)
    return Subject(host=link.host, ingress=ingress, egress=egress, via=link.bridge or link.host, addresses=_own(link))


def _own(link: Link) -> tuple[Address, ...]:
    """Its addresses; and where one is of IPv6, the link-local one that the container's kernel makes of its MAC."""
    addresses = tuple(interface.address for interface in link.addresses)
    if any(address.family == 6 for address in addresses):
        addresses += (link.mac.link_local,)
    return addresses


def _takes_the_short_way(endpoint: Endpoint, link: Link, network: Network) -> bool:
    """Not where that would be a way past somebody: a limit, another's address, containers kept apart.

    It leads into another namespace alone, so that a link that is handed over takes it once it is known which.
    """
    spec = network.spec
    there = bool(link.path) or not link.handover
    return spec.anti_spoofing and spec.inter_container and not endpoint.spec.bandwidth and there


def _local(link: Link, network: Network) -> Local:
    return Local(
        host=link.host,
        network=network.name,
        mac=link.mac,
        mtu=link.mtu,
        addresses=tuple(interface.address for interface in link.addresses),
        gateway=names.veth_mac(link.key) if network.spec.routed else None,
    )


def _hops(endpoint: Endpoint, network: Network) -> Iterable[Hop]:
    """The routes asked for, each through the gateway it names or the subnet's own.

    A routed link's addresses stand alone, so that a network's other containers need a route too.
    """
    routers = gateways(network, endpoint.spec.addresses)
    if network.spec.routed:
        yield from (Hop(dst=one.cidr, via=routers[one.family]) for one in network.spec.subnets if one.family in routers)
    for route in endpoint.spec.routes:
        dst = Prefix(route.dst)
        yield Hop(dst=dst, via=route.gw or routers.get(dst.family))


def gateways(network: Network, addresses: Iterable[Interface]) -> dict[int, Address]:
    """The gateway of each family: that of the subnet in which the endpoint's first address of the family lies."""
    found: dict[int, Address] = {}
    for interface in addresses:
        for subnet in network.spec.subnets:
            if subnet.cidr.holds(interface.address):
                found.setdefault(interface.family, network.spec.gateway(subnet))
    return found


def default_routes(families: Iterable[int]) -> tuple[Prefix, ...]:
    """The default route of each family."""
    return tuple(_ANYWHERE[family] for family in families)


def _publications(endpoint: Endpoint) -> Iterable[Publication]:
    first = {interface.family: interface for interface in reversed(endpoint.spec.addresses)}
    for interface in first.values():
        for port in endpoint.spec.ports:
            if port.serves(interface.family):
                yield _publication(endpoint, interface.address, port)


def _publication(endpoint: Endpoint, target: Address, port: PublishedPort) -> Publication:
    unspecified = port.host_ip is not None and port.host_ip.ip.is_unspecified
    return Publication(
        owner=endpoint.name,
        protocol=port.protocol,
        family=target.family,
        host=None if unspecified else port.host_ip,
        first=port.host_port,
        count=port.count,
        target=target,
        target_first=port.container_port,
    )
