"""What an attach asks for: the endpoint it comes to, and what no network can give it. Pure: nothing is looked up here."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from msgspec.structs import replace

from fairlead.api.schema import AnyPort, Attach, Change
from fairlead.desired import build, names
from fairlead.model.address import Interface, Prefix
from fairlead.model.endpoint import Endpoint, EndpointSpec, PublishedPort, Route, Sandbox, endpoint_name
from fairlead.model.errors import Conflict, Invalid
from fairlead.model.meta import Meta
from fairlead.model.network import Driver, Network


def endpoint(request: Attach, network: Network, addresses: tuple[Interface, ...], sandbox: Sandbox) -> Endpoint:
    """The object that is stored: what was asked for, and every choice made."""
    routes = list(request.routes)
    if request.gateway and not network.spec.internal and request.chained is None:
        asked = {Prefix(route.dst) for route in routes}
        families = dict.fromkeys(one.family for one in addresses)
        routes = [Route(dst=str(one)) for one in build.default_routes(families) if one not in asked] + routes
    spec = EndpointSpec(
        container=request.container,
        interface=request.interface,
        network=request.network,
        sandbox=sandbox,
        display=request.display,
        owner=request.owner,
        mac=(request.chained.mac if request.chained else request.mac)
        or (names.endpoint_mac(tuple(one.address for one in addresses), request.container) if addresses else None),
        addresses=addresses,
        routes=tuple(routes),
        ports=request.ports,
        named_ports=request.named_ports,
        bandwidth=request.bandwidth,
        aliases=request.aliases,
        dns=request.dns,
        chained=request.chained is not None,
        host=request.chained.host if request.chained else None,
        handover=request.handover,
    )
    meta = Meta(name=endpoint_name(request.container, request.interface), namespace=request.namespace, labels=request.labels)
    return Endpoint(metadata=meta, spec=spec)


def refuse_unfit(request: Attach, network: Network) -> None:
    """What the network cannot give, said before anything is touched."""
    if not network.spec.connects and request.chained is None:
        for field, value in (("ports", request.ports), ("addresses", request.addresses), ("mac", request.mac)):
            if value:
                raise Invalid(
                    f"network {network.name} has driver {network.spec.driver}, which gives none of its own", field=field
                )
    if network.spec.parent and request.bandwidth:
        raise Invalid(
            f"network {network.name} has driver {network.spec.driver}: nothing on this host limits it", field="bandwidth"
        )
    if network.spec.routed and request.handover:
        raise Invalid(f"network {network.name} has driver {network.spec.driver}, which hands no link over", field="handover")
    if network.spec.driver is Driver.IPVLAN and request.mac:
        raise Invalid(f"network {network.name} has driver ipvlan: its containers have the parent's MAC", field="mac")
    for at, route in enumerate(request.routes):
        try:
            ipaddress.ip_network(route.dst)
        except ValueError as problem:
            raise Invalid(str(problem), field=f"routes[{at}].dst") from None
    refuse_unfit_ports(request.ports, network)


def refuse_unfit_ports(ports: Iterable[PublishedPort | AnyPort], network: Network) -> None:
    """Ports that cannot be published from this network."""
    for at, port in enumerate(ports):
        if network.spec.parent:
            raise Invalid(
                f"network {network.name} has driver {network.spec.driver}: its containers are reached at their own addresses",
                field="ports",
            )
        if network.spec.internal:
            raise Invalid(f"network {network.name} is internal: nothing can be published from it", field="ports")
        if port.host_ip and network.spec.subnets and port.host_ip.family not in network.spec.families:
            raise Invalid(
                f"network {network.name} has no IPv{port.host_ip.family} subnet to lead {port} to", field=f"ports[{at}].hostIp"
            )


def labelled(existing: Endpoint, request: Change) -> Endpoint:
    """The endpoint with the labels that a change wants; ``Conflict`` names one that may not be overwritten."""
    labels = existing.metadata.labels
    for key, value in request.labels.items():
        if not request.overwrite and value is not None and labels.get(key, value) != value:
            raise Conflict(f"{existing.display} has {key}={labels[key]} already", field="labels")
    wanted = {**labels, **request.labels}
    kept = {key: value for key, value in wanted.items() if value is not None}
    return replace(existing, metadata=replace(existing.metadata, labels=kept))


def answers(existing: Endpoint, request: Attach, cookie: int) -> bool:
    """Whether the endpoint that is there is what is asked for: the same container on the same network."""
    spec = existing.spec
    if spec.handover or request.handover:
        wishes = [wish.partition("/")[0] for wish in request.addresses]
        same = request.mac in {None, spec.mac} and (not wishes or wishes == [one.address for one in spec.addresses])
        return spec.handover and request.handover and same and spec.network == request.network
    return spec.sandbox.cookie == cookie and spec.network == request.network
