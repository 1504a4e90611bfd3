"""Pod: core/v1, as much of it as a network needs. What else it says is not kept, so that fifty thousand fit into memory.

Nobody here writes one: kubelet and the scheduler do. To policies and flows a pod is what a container of another node is in
every other store (``peer``); the containers of one's own node are known from its own record, and better.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import ClassVar, Literal

import msgspec

from .address import Address, ContainerID, Interface, InterfaceName, Name, NamedPort, PortName
from .endpoint import Endpoint, EndpointSpec, Sandbox, endpoint_name
from .meta import Meta, Object, Value

INTERFACE = InterfaceName("eth0")
"""What a pod's first interface is called."""
OWNER = "kubernetes"

UID_LABEL = "fairlead.dev/pod-uid"
"""On an endpoint: the UID of the pod that it is of."""
CONFIG_HASH = "kubernetes.io/config.hash"
"""Annotation: the UID by which kubelet knows a static pod; its object, which mirrors it, has another."""

_OVER = frozenset({"Succeeded", "Failed"})
_NOWHERE = Sandbox(path="")
_NONE: dict[str, str] = {}


class _Part(Value, frozen=True, kw_only=True, forbid_unknown_fields=False, gc=False):
    """A part of a pod: without what we have no use for."""


class PodPort(_Part, frozen=True, kw_only=True, gc=False):
    """A port of a container, perhaps with a name, perhaps published on the node."""

    container_port: int
    name: str = ""
    protocol: str = "TCP"
    host_port: int = 0
    host_ip: str = msgspec.field(default="", name="hostIP")


class PodContainer(_Part, frozen=True, kw_only=True, gc=False):
    """One container. ``restart_policy``: of an init container that runs on beside the others, Always."""

    ports: tuple[PodPort, ...] = ()
    restart_policy: str = ""


class PodIP(_Part, frozen=True, kw_only=True, gc=False):
    """One address."""

    ip: str = ""


class PodSpec(_Part, frozen=True, kw_only=True, gc=False):
    """Where it runs, and its containers."""

    node_name: str = ""
    host_network: bool = False
    containers: tuple[PodContainer, ...] = ()
    init_containers: tuple[PodContainer, ...] = ()


class PodStatus(_Part, frozen=True, kw_only=True, gc=False):
    """How far it is, and its addresses."""

    phase: str = ""
    pod_ips: tuple[PodIP, ...] = msgspec.field(default=(), name="podIPs")


class Pod(Object, frozen=True, kw_only=True, tag="Pod", forbid_unknown_fields=False, gc=False):
    """A pod."""

    plural: ClassVar[str] = "pods"
    namespaced: ClassVar[bool] = True

    api_version: Literal["v1"] = "v1"
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def over(self) -> bool:
        """Whether it has run to its end: its addresses are others' then, whatever its status still says."""
        return self.status.phase in _OVER

    @property
    def uids(self) -> tuple[str, ...]:
        """By which it is known: to the API server, and a static one to kubelet."""
        return (self.metadata.uid, *filter(None, (self.metadata.annotations.get(CONFIG_HASH),)))

    @property
    def addresses(self) -> tuple[Interface, ...]:
        """Its own addresses, of each family at most one. On the host's network it has none: they are the node's."""
        if self.over or self.spec.host_network:
            return ()
        return tuple(self._interfaces())

    @property
    def ports(self) -> Iterator[PodPort]:
        """The ports of all containers that run at the same time."""
        for one in self.spec.containers:
            yield from one.ports
        for one in self.spec.init_containers:
            if one.restart_policy == "Always":
                yield from one.ports

    @property
    def named_ports(self) -> dict[str, NamedPort]:
        """Its ports by their names. Of two with one name the first counts, as in Kubernetes."""
        return _named(tuple(one for one in self.ports if one.name))

    def _interfaces(self) -> Iterator[Interface]:
        for one in self.status.pod_ips:
            try:
                yield Address(one.ip).alone
            except ValueError:
                continue


@lru_cache(maxsize=4096)
def _named(ports: tuple[PodPort, ...]) -> dict[str, NamedPort]:
    """Many pods have the same: they are worked out once, and nobody may change what he is handed."""
    found: dict[str, NamedPort] = {}
    for one in ports:
        if one.name not in found:
            try:
                found[PortName(one.name)] = NamedPort(f"{one.container_port}/{one.protocol.lower()}")
            except ValueError:
                continue  # the API server would not have taken it
    return found


_network = lru_cache(maxsize=64)(Name)


def peer(pod: Pod, network: str) -> Endpoint | None:
    """The pod as policies and flows see a container of another node; None while it has no address of its own.

    Its name is made from the UID: a pod that is made again under the same name is another endpoint.
    """
    addresses = pod.addresses
    if not addresses:
        return None
    meta = pod.metadata
    spec = EndpointSpec(
        container=ContainerID(meta.uid),
        interface=INTERFACE,
        network=_network(network),
        sandbox=_NOWHERE,
        display=meta.name,
        owner=OWNER,
        addresses=addresses,
        named_ports=pod.named_ports,
        node=pod.spec.node_name,
    )
    name = endpoint_name(meta.uid, INTERFACE)
    about = Meta(
        name=name,
        namespace=meta.namespace,
        labels=meta.labels,
        annotations=_NONE,
        uid=meta.uid,
        resource_version=meta.resource_version,
    )
    return Endpoint(metadata=about, spec=spec)
