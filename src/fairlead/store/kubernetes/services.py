"""Services and EndpointSlices as the API tells of them: only what whoever forwards, or names, or explains has a use for.

There may be as many endpoints in slices as pods, so nothing of the pod is kept but its address, its node and how it is; and
what is alike (ports, conditions, nodes) is kept once.
"""

from __future__ import annotations

import msgspec

from fairlead.model.address import Prefix
from fairlead.model.codec import decode
from fairlead.model.endpointslice import Conditions, EndpointSlice, Hints, SliceEndpoint, SlicePort, Zone
from fairlead.model.policy import PolicyProtocol as Protocol
from fairlead.model.service import (
    Affinity,
    ClientIP,
    Ingress,
    LoadBalancer,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
    ServiceType,
    Traffic,
)

from .metadata import NONE, Loose, Many, brief
from .shared import Shared


class _Port(Loose, gc=False):
    port: int
    name: str = ""
    protocol: Protocol = Protocol.TCP
    target_port: int | str | None = None
    node_port: int = 0


class _ClientIP(Loose, gc=False):
    timeout_seconds: int | None = None


class _Affinity(Loose, gc=False):
    client_ip: _ClientIP | None = msgspec.field(default=None, name="clientIP")


class _Spec(Loose, gc=False):
    type: ServiceType = ServiceType.CLUSTER
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: tuple[str, ...] = msgspec.field(default=(), name="clusterIPs")
    external_ips: tuple[str, ...] = msgspec.field(default=(), name="externalIPs")
    ports: tuple[_Port, ...] = ()
    selector: dict[str, str] | None = None
    external_name: str = ""
    session_affinity: str = "None"
    session_affinity_config: _Affinity | None = None
    internal_traffic_policy: Traffic = Traffic.CLUSTER
    external_traffic_policy: Traffic = Traffic.CLUSTER
    traffic_distribution: str = ""
    publish_not_ready_addresses: bool = False
    load_balancer_source_ranges: tuple[str, ...] = ()
    health_check_node_port: int = 0


class _Ingress(Loose, gc=False):
    ip: str = ""
    hostname: str = ""
    ip_mode: str = msgspec.field(default="", name="ipMode")


class _LoadBalancer(Loose, gc=False):
    ingress: tuple[_Ingress, ...] = ()


class _Status(Loose, gc=False):
    load_balancer: _LoadBalancer = msgspec.field(default_factory=_LoadBalancer)


class _Service(Loose, gc=False):
    metadata: Many
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


class _Conditions(Loose, gc=False):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class _Name(Loose, gc=False):
    name: str


class _Hints(Loose, gc=False):
    for_zones: tuple[_Name, ...] = ()
    for_nodes: tuple[_Name, ...] = ()


class _Endpoint(Loose, gc=False):
    addresses: tuple[str, ...]
    conditions: _Conditions = msgspec.field(default_factory=_Conditions)
    hostname: str | None = None
    node_name: str | None = None
    zone: str | None = None
    topology: dict[str, str] | None = None
    hints: _Hints | None = None


class _SlicePort(Loose, gc=False):
    port: int | None = None
    name: str | None = None
    protocol: Protocol | None = None


class _Slice(Loose, gc=False):
    metadata: Many
    address_type: str
    endpoints: tuple[_Endpoint, ...] | None = None
    ports: tuple[_SlicePort, ...] | None = None


def service(data: msgspec.Raw | bytes, shared: Shared) -> Service:
    """One Service."""
    found = decode(bytes(data), _Service)
    spec, balancer = found.spec, found.status.load_balancer
    return Service(
        metadata=brief(found.metadata, shared),
        spec=ServiceSpec(
            type=spec.type,
            cluster_ip=spec.cluster_ip,
            cluster_ips=spec.cluster_ips if len(spec.cluster_ips) > 1 else (),
            external_ips=spec.external_ips,
            ports=shared.one(tuple(_port(one) for one in spec.ports)),
            selector=spec.selector or NONE,
            external_name=spec.external_name,
            session_affinity="ClientIP" if spec.session_affinity == "ClientIP" else "None",
            session_affinity_config=_affinity(spec),
            internal_traffic_policy=spec.internal_traffic_policy,
            external_traffic_policy=spec.external_traffic_policy,
            traffic_distribution=shared.one(spec.traffic_distribution),
            publish_not_ready_addresses=spec.publish_not_ready_addresses,
            load_balancer_source_ranges=tuple(map(Prefix, spec.load_balancer_source_ranges)),
            health_check_node_port=spec.health_check_node_port,
        ),
        status=ServiceStatus(
            load_balancer=LoadBalancer(
                ingress=tuple(Ingress(ip=one.ip, hostname=one.hostname, ip_mode=one.ip_mode) for one in balancer.ingress)
            )
        )
        if balancer.ingress
        else _UNBALANCED,
    )


def endpoints(data: msgspec.Raw | bytes, shared: Shared) -> EndpointSlice:
    """One EndpointSlice."""
    found = decode(bytes(data), _Slice)
    return EndpointSlice(
        metadata=brief(found.metadata, shared),
        address_type=found.address_type,  # type: ignore[arg-type]  # what another one is, is said where it is made
        endpoints=tuple(_endpoint(one, shared) for one in found.endpoints or ()),
        ports=shared.one(tuple(_slice_port(one) for one in found.ports or ())),
    )


_UNBALANCED = ServiceStatus()
_NODE, _ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
"""Where discovery.k8s.io/v1beta1 has an endpoint's node and zone."""


def _port(one: _Port) -> ServicePort:
    return ServicePort(
        port=one.port, name=one.name, protocol=one.protocol, target_port=one.target_port or None, node_port=one.node_port
    )


def _affinity(spec: _Spec) -> Affinity | None:
    said = spec.session_affinity_config.client_ip if spec.session_affinity_config else None
    if spec.session_affinity != "ClientIP" or said is None or said.timeout_seconds is None:
        return None
    return Affinity(client_ip=ClientIP(timeout_seconds=said.timeout_seconds))


def _slice_port(one: _SlicePort) -> SlicePort:
    return SlicePort(port=one.port, name=one.name or "", protocol=one.protocol or Protocol.TCP)


def _endpoint(one: _Endpoint, shared: Shared) -> SliceEndpoint:
    said, where = one.conditions, one.topology or NONE
    return SliceEndpoint(
        addresses=one.addresses[:1],
        conditions=shared.one(Conditions(ready=said.ready, serving=said.serving, terminating=said.terminating)),
        hostname=one.hostname or "",
        node_name=shared.one(one.node_name or where.get(_NODE, "")),
        zone=shared.one(one.zone or where.get(_ZONE, "")),
        hints=shared.one(_hints(one.hints)) if one.hints else None,
    )


def _hints(one: _Hints) -> Hints:
    return Hints(
        for_zones=tuple(Zone(name=each.name) for each in one.for_zones),
        for_nodes=tuple(Zone(name=each.name) for each in one.for_nodes),
    )
