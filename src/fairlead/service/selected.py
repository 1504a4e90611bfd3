"""Selected: the slices of a service by its selector, as a controller would write them if all that it selects were ready.

For what is asked before there are any: slices come with the service, which is not applied yet. A target port that is a name
stands for another number in each container that has it, so that one service may come to several slices of a family.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from fairlead.model.address import FAMILIES, Address, Family
from fairlead.model.endpoint import Endpoint
from fairlead.model.endpointslice import SERVICE_LABEL, EndpointSlice, SliceEndpoint, SlicePort
from fairlead.model.meta import Meta
from fairlead.model.namespace import DEFAULT
from fairlead.model.service import Service, ServicePort

PRIMARY = "eth0"
"""The interface by whose address a container with several is known."""


def selected(service: Service, endpoints: Iterable[Endpoint]) -> list[EndpointSlice]:
    """Of each family and each run of numbers its ports have one slice; none without a selector, or if nobody is selected."""
    found: defaultdict[tuple[Family, tuple[SlicePort, ...]], list[SliceEndpoint]] = defaultdict(list)
    chosen = list(_chosen(service, endpoints))
    for family in _families(service, chosen):
        for one in chosen:
            if address := _address(one, family):
                ports = tuple(_ports(service, one))
                found[family, ports].append(SliceEndpoint(addresses=(address,), node_name=one.spec.node))
    return [
        EndpointSlice(
            metadata=Meta(
                name=f"{service.name}-{at}", namespace=service.metadata.namespace, labels={SERVICE_LABEL: service.name}
            ),
            address_type=f"IPv{family}",  # type: ignore[arg-type]  # one of the two words
            endpoints=tuple(behind),
            ports=ports,
        )
        for at, ((family, ports), behind) in enumerate(found.items())
    ]


def _chosen(service: Service, endpoints: Iterable[Endpoint]) -> Iterator[Endpoint]:
    """Each container once, of several attachments the primary one."""
    selector, space = service.spec.selector.items(), service.metadata.namespace
    fits = [
        one
        for one in endpoints
        if selector and (one.metadata.namespace or DEFAULT) == space and selector <= one.metadata.labels.items()
    ]
    first: dict[str, Endpoint] = {}
    for one in sorted(fits, key=lambda one: (one.spec.interface != PRIMARY, one.spec.interface)):
        first.setdefault(one.container, one)
    return iter(first.values())


def _families(service: Service, chosen: Iterable[Endpoint]) -> Iterable[Family]:
    """Those that it says it has, or has addresses of; else the one it would get: that of the containers, of both IPv4."""
    said = {word.removeprefix("IPv") for word in service.spec.ip_families} | {
        f"{one.family}" for one in service.cluster_addresses
    }
    if said:
        return [one for one in FAMILIES if f"{one}" in said]
    return [family for family in FAMILIES if any(_address(one, family) for one in chosen)][:1]


def _address(endpoint: Endpoint, family: Family) -> Address | None:
    return next((one.address for one in endpoint.spec.addresses if one.family == family), None)


def _ports(service: Service, endpoint: Endpoint) -> Iterator[SlicePort]:
    for one in service.spec.ports:
        if number := _number(one, endpoint):
            yield SlicePort(port=number, name=one.name, protocol=one.protocol)


def _number(port: ServicePort, endpoint: Endpoint) -> int:
    """The container's own port; 0 if it has none of that name and protocol."""
    if not isinstance(port.target_port, str):
        return port.target_port or port.port
    named = endpoint.spec.named_ports.get(port.target_port)
    return named.number if named and named.protocol == port.protocol.lower() else 0
