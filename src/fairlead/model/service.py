"""Service: core/v1: a name and addresses under which containers are asked, whoever they are at the moment.

Who stands behind one its EndpointSlices say (``endpointslice``). All that people may write is here; of what a Kubernetes API
tells, only what somebody has a use for is kept (``store.kubernetes.services``).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, ClassVar, Literal

import msgspec

from .address import Address, PortName, Prefix
from .meta import Object, Value
from .policy import PolicyProtocol as Protocol

HEADLESS = "None"
"""What the cluster IP of a service is that has none, on purpose."""


class ServiceType(StrEnum):
    """How far a service is known."""

    CLUSTER = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"
    NAME = "ExternalName"


class Traffic(StrEnum):
    """Which backends traffic goes to: those of every node, or of the node that it comes to."""

    CLUSTER = "Cluster"
    LOCAL = "Local"


class ServicePort(Value, frozen=True, kw_only=True, gc=False):
    """A port of the service, the one of its containers (its own, if left out), and the one of every node, if any."""

    port: int
    name: str = ""
    protocol: Protocol = Protocol.TCP
    target_port: int | str | None = None
    node_port: int = 0
    app_protocol: str = ""

    def __post_init__(self) -> None:
        target = self.target_port if isinstance(self.target_port, int) else self.port
        for field, number in (("port", self.port), ("targetPort", target), ("nodePort", self.node_port or self.port)):
            if not 1 <= number <= 65535:
                raise ValueError(f"{field}: {number} is not a port; ports are 1 to 65535")
        if isinstance(self.target_port, str):
            try:
                PortName(self.target_port)
            except ValueError as problem:
                raise ValueError(f"targetPort: {problem}") from None

    @property
    def word(self) -> str:
        """As kubectl writes it: ``80:30080/TCP``."""
        return f"{self.port}{f':{self.node_port}' if self.node_port else ''}/{self.protocol}"


class ClientIP(Value, frozen=True, kw_only=True, gc=False):
    """How long one client stays with one backend."""

    timeout_seconds: int = 10800


class Affinity(Value, frozen=True, kw_only=True, gc=False):
    """What session affinity comes to."""

    client_ip: ClientIP = msgspec.field(default=ClientIP(), name="clientIP")


def _check_addresses(field: str, words: tuple[str, ...], *others: str) -> None:
    for word in words:
        try:
            Address(word)
        except ValueError as problem:
            if word not in others:
                raise ValueError(f"{field}: {problem}") from None


def _check_ports(ports: tuple[ServicePort, ...]) -> None:
    seen: set[object] = set()
    for at, one in enumerate(ports):
        if not one.name and len(ports) > 1:
            raise ValueError(f"ports[{at}].name: each of several ports needs one")
        for key in ((one.port, one.protocol), one.name):
            if key in seen:
                raise ValueError(f"ports[{at}]: {one.name or one.word} is there twice")
            seen.add(key)


class ServiceSpec(Value, frozen=True, kw_only=True, gc=False):
    """How a service is reached, and whom it is for."""

    type: ServiceType = ServiceType.CLUSTER
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: tuple[str, ...] = msgspec.field(default=(), name="clusterIPs")
    external_ips: tuple[str, ...] = msgspec.field(default=(), name="externalIPs")
    ports: tuple[ServicePort, ...] = ()
    selector: dict[str, str] = {}
    external_name: str = ""
    session_affinity: Literal["None", "ClientIP"] = "None"
    session_affinity_config: Affinity | None = None
    internal_traffic_policy: Traffic = Traffic.CLUSTER
    external_traffic_policy: Traffic = Traffic.CLUSTER
    traffic_distribution: str = ""
    publish_not_ready_addresses: bool = False
    load_balancer_source_ranges: tuple[Prefix, ...] = ()
    health_check_node_port: int = 0
    ip_families: tuple[Literal["IPv4", "IPv6"], ...] = ()
    ip_family_policy: str = ""
    load_balancer_ip: str = msgspec.field(default="", name="loadBalancerIP")
    load_balancer_class: str = ""
    allocate_load_balancer_node_ports: bool = True

    def __post_init__(self) -> None:
        _check_addresses("clusterIP", tuple(filter(None, (self.cluster_ip,))), HEADLESS)
        _check_addresses("clusterIPs", self.cluster_ips, HEADLESS)
        _check_addresses("externalIPs", self.external_ips)
        if self.cluster_ip and self.cluster_ips and self.cluster_ips[0] != self.cluster_ip:
            raise ValueError(f"clusterIPs: must begin with clusterIP, {self.cluster_ip}")
        _check_ports(self.ports)
        if self.type is ServiceType.NAME and not self.external_name:
            raise ValueError("externalName: a service of this type needs one")


class Ingress(Value, frozen=True, kw_only=True, gc=False):
    """Where a load balancer lets traffic in."""

    ip: str = ""
    hostname: str = ""
    ip_mode: str = msgspec.field(default="", name="ipMode")
    ports: tuple[dict[str, Any], ...] = ()


class LoadBalancer(Value, frozen=True, kw_only=True, gc=False):
    """What became of a service's load balancer."""

    ingress: tuple[Ingress, ...] = ()


class ServiceStatus(Value, frozen=True, kw_only=True, gc=False):
    """How a service is."""

    load_balancer: LoadBalancer = LoadBalancer()
    conditions: tuple[dict[str, Any], ...] = ()


class Service(Object, frozen=True, kw_only=True, tag="Service", gc=False):
    """A service."""

    plural: ClassVar[str] = "services"
    namespaced: ClassVar[bool] = True

    api_version: Literal["v1"] = "v1"
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()

    @property
    def headless(self) -> bool:
        """Whether it has no address of its own: who asks for it by name is told its containers'."""
        return self.spec.cluster_ip == HEADLESS

    @property
    def cluster_addresses(self) -> tuple[Address, ...]:
        """Its addresses within the cluster, of each family at most one."""
        words = self.spec.cluster_ips or (self.spec.cluster_ip,)
        return tuple(Address(one) for one in words if one not in {"", HEADLESS})

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Every address of its own: within the cluster, from outside, of its load balancer."""
        return (*self.cluster_addresses, *map(Address, self.spec.external_ips), *self._balanced())

    @property
    def fronts(self) -> tuple[Address, ...]:
        """The addresses from which a node itself leads its containers on; not those where a proxy elsewhere is to be asked.

        As kube-proxy has it, one without an address within the cluster has none at all.
        """
        if self.spec.type is ServiceType.NAME or not self.cluster_addresses:
            return ()
        proxied = {one.ip for one in self.status.load_balancer.ingress if one.ip_mode == "Proxy"}
        return tuple(dict.fromkeys(one for one in self.addresses if one not in proxied))

    def port(self, word: str, protocol: str = "") -> ServicePort | None:
        """Its port of this number or name."""
        for one in self.spec.ports:
            if word in {str(one.port), one.name} and protocol.upper() in {"", one.protocol}:
                return one
        return None

    def _balanced(self) -> Iterator[Address]:
        for one in self.status.load_balancer.ingress:
            try:
                yield Address(one.ip)
            except ValueError:
                continue  # it has a name instead
