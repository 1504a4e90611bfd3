"""EndpointSlice: discovery.k8s.io/v1: some of the containers that stand behind a service, and at which ports.

A service may have several, which together say it all; while something moves from one to another it may be in both.
"""

from __future__ import annotations

import ipaddress
from typing import Any, ClassVar, Literal

from .meta import Object, Value
from .policy import PolicyProtocol as Protocol

SERVICE_LABEL = "kubernetes.io/service-name"
"""On an EndpointSlice: the service, of its own namespace, that it is of."""


class Conditions(Value, frozen=True, kw_only=True, gc=False):
    """How somebody behind a service is. What is not said counts as ready, and as serving what it is as ready."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Zone(Value, frozen=True, kw_only=True, gc=False):
    """A zone, or a node."""

    name: str


class Hints(Value, frozen=True, kw_only=True, gc=False):
    """For whom somebody is meant to be."""

    for_zones: tuple[Zone, ...] = ()
    for_nodes: tuple[Zone, ...] = ()


class Target(Value, frozen=True, kw_only=True, gc=False):
    """Which object it is."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    resource_version: str = ""
    field_path: str = ""


class SliceEndpoint(Value, frozen=True, kw_only=True, gc=False):
    """Somebody behind a service. Its addresses are one and the same container's: whoever looks takes the first."""

    addresses: tuple[str, ...]
    conditions: Conditions = Conditions()
    hostname: str = ""
    node_name: str = ""
    zone: str = ""
    hints: Hints | None = None
    target_ref: Target | None = None
    deprecated_topology: dict[str, str] = {}

    @property
    def ready(self) -> bool:
        """Whether it takes new connections."""
        return self.conditions.ready is not False

    @property
    def serving(self) -> bool:
        """Whether it would still take them, though it is on its way out."""
        return self.ready if self.conditions.serving is None else self.conditions.serving


class SlicePort(Value, frozen=True, kw_only=True, gc=False):
    """A port of all of them; its name is that of the service's port."""

    port: int | None = None
    name: str = ""
    protocol: Protocol = Protocol.TCP
    app_protocol: str = ""


class EndpointSlice(Object, frozen=True, kw_only=True, tag="EndpointSlice", gc=False):
    """Some of those behind a service."""

    plural: ClassVar[str] = "endpointslices"
    namespaced: ClassVar[bool] = True

    api_version: Literal["discovery.k8s.io/v1"] = "discovery.k8s.io/v1"
    address_type: Literal["IPv4", "IPv6", "FQDN"]
    endpoints: tuple[SliceEndpoint, ...] = ()
    ports: tuple[SlicePort, ...] = ()

    def __post_init__(self) -> None:
        family: Any = {"IPv4": ipaddress.IPv4Address, "IPv6": ipaddress.IPv6Address}.get(self.address_type)
        for at, one in enumerate(self.endpoints if family else ()):
            for word in one.addresses:
                try:
                    family(word)
                except ValueError:
                    raise ValueError(f"endpoints[{at}].addresses: {word[:80]!r} is no {self.address_type} address") from None

    @property
    def service(self) -> tuple[str, str]:
        """The (namespace, name) of the service that it is of; no name if it is of none."""
        return (self.metadata.namespace, self.metadata.labels.get(SERVICE_LABEL, ""))
