"""The network driver: Docker's networks and endpoints as Fairlead's.

Docker's driver makes a pair on the host, and Docker itself moves one end into the container, names it and gives it addresses
and routes. So Fairlead is asked for a link that is handed over: until Join its container is unknown, from then on what is
inside is Docker's. What Docker calls by an id is found again by that id::

    network 4f2a...   network docker-4f2a..., made with it; or the one that -o fairlead.network names, reserved under the id
    endpoint 9c1e...  endpoint 9c1e...:eth

What is gone already is no error when it is to go: Docker would forget it anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, TypeVar

from msgspec.structs import replace

from fairlead.api.door import Door
from fairlead.api.schema import Attach, Change, Detach, Reserve
from fairlead.desired import names
from fairlead.model import codec
from fairlead.model.address import Address, ContainerID, InterfaceName, Mac, Name, Prefix
from fairlead.model.address import Interface as Addressed
from fairlead.model.endpoint import Endpoint as Attachment
from fairlead.model.endpoint import endpoint_name
from fairlead.model.errors import Conflict, Invalid, Missing
from fairlead.model.meta import Meta
from fairlead.model.network import Driver as Kind
from fairlead.model.network import Network, NetworkSpec

from . import options, orphans
from .orphans import ID, OWNER, release, reservations
from .protocol import (
    INTERNAL,
    Allocated,
    CreateEndpoint,
    CreateNetwork,
    DeleteNetwork,
    Discovery,
    Endpoint,
    EndpointCreated,
    Info,
    Interface,
    Join,
    Joined,
    Nothing,
    Pool,
    ProgramExternalConnectivity,
    Scope,
    SkipGateway,
    Spaces,
)
from .protocol import (
    InterfaceName as Moved,
)

T = TypeVar("T")

ETH = InterfaceName("eth")
ANNOTATION = "docker.fairlead.dev/"


class Driver:
    """Answers each request through the agent's door."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def capabilities(self, _: Nothing) -> Scope:
        """Networks of one host."""
        return Scope()

    async def allocate_network(self, request: CreateNetwork) -> Allocated:
        """Asked of the manager of a swarm, for drivers of wider scope than this: nothing is to be allocated."""
        return Allocated(options=codec.from_tree(request.options or {}, dict[str, str], field="Options"))

    async def free_network(self, _: DeleteNetwork) -> Nothing:
        """Nothing was allocated."""
        return Nothing()

    async def gateway_check(self, _: CreateNetwork) -> SkipGateway:
        """Every subnet has a gateway."""
        return SkipGateway()

    async def discover(self, _: Discovery) -> Nothing:
        """Other nodes of a swarm do not concern networks of one host."""
        return Nothing()

    # ---- networks ----

    async def create_network(self, request: CreateNetwork) -> Nothing:
        """A network of its own, or one that is there already. Asked again, it is the same."""
        asked = options.network(request.options)
        internal = bool((request.options or {}).get(INTERNAL))
        if asked.network is None:
            await self._make(request, asked, internal=internal)
        else:
            _refuse_unlike(self._shared(asked.network), request, asked, internal=internal)
            await self._door.reserve(Reserve(network=asked.network, owner=OWNER, holder=request.network_id))
        return Nothing()

    async def delete_network(self, request: DeleteNetwork) -> Nothing:
        """The network goes with Docker's; one that was there before stays."""
        for one in reservations(self._door):
            if one.spec.holder == request.network_id:
                await release(self._door, one)
        if own := self._own(request.network_id):
            await orphans.remove(self._door, own)
        return Nothing()

    async def _make(self, request: CreateNetwork, asked: options.NetworkOptions, *, internal: bool) -> None:
        name = _own_name(request.network_id)
        if (other := self._door.network(name)) and not self._own(request.network_id):
            raise Conflict(f"network {other.name} exists and is not Docker's", field="NetworkID")
        for pool in request.pools:
            if pool.address_space != Spaces().local_default_address_space:  # Docker's own, which gives no subnet twice
                await orphans.retire(self._door, _read(Prefix, pool.pool, "--subnet"), but=name)
            self._refuse_shared(pool, name)
        subnets = [_subnet_tree(pool) for pool in request.pools]
        spec = codec.from_tree({**asked.spec, "subnets": subnets, "internal": internal}, NetworkSpec)
        kept = {f"{ANNOTATION}{option.removeprefix('com.docker.network.')}": text for option, text in asked.kept.items()}
        meta = Meta(name=name, annotations={ID: request.network_id, **kept})
        await self._door.apply(Network(metadata=meta, spec=spec))

    def _shared(self, name: Name) -> Network:
        if found := self._door.network(name):
            return found
        raise Missing(
            f"there is no network {name}; make it first: fairlead network create {name}", field=f"-o {options.NETWORK}"
        )

    def _refuse_shared(self, pool: Pool, name: Name) -> None:
        """A subnet that is a network's is shared only by saying so."""
        for other in orphans.networks(self._door):
            if other.name != name and any(pool.pool == subnet.cidr for subnet in other.spec.subnets):
                raise Conflict(
                    f"{pool.pool} is the subnet of network {other.name}; to share that: -o {options.NETWORK}={other.name}",
                    field="--subnet",
                )

    def _own(self, network_id: str) -> Network | None:
        """The network that was made for Docker's, if it was."""
        found = self._door.network(_own_name(network_id))
        return found if found and found.metadata.annotations.get(ID) == network_id else None

    def _network(self, network_id: str) -> Network:
        """What Docker means by a network's id."""
        shared = (
            one.spec.network for one in reservations(self._door) if one.spec.holder == network_id and not one.spec.address
        )
        if found := self._own(network_id) or self._door.network(next(shared, "")):
            return found
        raise Missing(
            f"Docker's network {network_id[:12]} is none here any more; remove it and make it again: docker network rm",
            field="NetworkID",
        )

    # ---- endpoints ----

    async def create_endpoint(self, request: CreateEndpoint) -> EndpointCreated:
        """A link, both ends of it on the host. Docker says the addresses, and learns what it did not say."""
        network = self._network(request.network_id)
        said = request.interface or Interface()
        addresses = [_read(Addressed, text, "--ip") for text in (said.address, said.address_ipv6) if text]
        mac = _read(Mac, said.mac_address, "--mac-address") if said.mac_address else None
        asked = options.endpoint(request.options)
        await orphans.sweep(self._door)
        await self._evict(request, network, [one.address for one in addresses])
        attached = await self._door.attach(
            Attach(
                container=ContainerID(request.endpoint_id),
                path="",
                network=Name(network.name),
                interface=ETH,
                namespace=asked.namespace,
                labels=asked.labels,
                named_ports=asked.named_ports,
                owner=OWNER,
                addresses=tuple(addresses),
                mac=mac,
                handover=True,
                reserved=mac or "",
            )
        )
        return EndpointCreated(interface=_unsaid(said, attached.endpoint))

    async def _evict(self, request: CreateEndpoint, network: Network, addresses: list[Address]) -> None:
        """Docker gives these addresses to this endpoint: another one that has them is forgotten."""
        if self._find(request.endpoint_id) is None:
            await orphans.evict(self._door, network, addresses)

    async def delete_endpoint(self, request: Endpoint) -> Nothing:
        """The link goes; when this returns the kernel has let go of it."""
        await self._door.detach(Detach(container=ContainerID(request.endpoint_id), interface=ETH))
        return Nothing()

    async def endpoint_info(self, request: Endpoint) -> Info:
        """What ``docker network inspect`` cannot know otherwise."""
        endpoint = self._endpoint(request)
        return Info(
            value={
                "fairlead.network": endpoint.spec.network,
                "fairlead.interface": names.veth(endpoint.name),
                "fairlead.ports": [str(port) for port in endpoint.spec.ports],
            }
        )

    async def join(self, request: Join) -> Joined:
        """A container gets the endpoint: where its end is to be moved from, and which way is out."""
        endpoint, network = self._endpoint(request), self._network(request.network_id)
        attached = await self._door.change(replace(_change(endpoint), path=_sandbox(request.sandbox_key)))
        prefix = network.metadata.annotations.get(f"{ANNOTATION}container_iface_prefix", ETH)
        gateways = {} if network.spec.internal else {one.family: str(one) for one in attached.gateways}
        return Joined(
            interface_name=Moved(src_name=names.handover(endpoint.name), dst_prefix=prefix),
            gateway=gateways.get(4, ""),
            gateway_ipv6=gateways.get(6, ""),
        )

    async def leave(self, request: Endpoint) -> Nothing:
        """The container gives the endpoint back; Docker moves its end to the host again."""
        if found := self._find(request.endpoint_id):
            await self._door.change(replace(_change(found), path=""))
        return Nothing()

    async def program(self, request: ProgramExternalConnectivity) -> Nothing:
        """Publish the container's ports here; from an internal network nothing is published, as with Docker's own."""
        endpoint, network = self._endpoint(request), self._network(request.network_id)
        if network.spec.internal:
            return Nothing()
        binding = network.metadata.annotations.get(f"{ANNOTATION}bridge.host_binding_ipv4", "")
        ports = options.ports(request.options, binding)
        await self._door.change(replace(_change(endpoint), ports=ports.fixed, any_ports=ports.chosen))
        return Nothing()

    async def revoke(self, request: Endpoint) -> Nothing:
        """Publish nothing here any more."""
        if found := self._find(request.endpoint_id):
            await self._door.change(replace(_change(found), ports=()))
        return Nothing()

    def _endpoint(self, request: Endpoint) -> Attachment:
        """The endpoint meant, which must be on the network that is said."""
        found = self._find(request.endpoint_id)
        if found is None:
            raise Missing(f"there is no endpoint {request.endpoint_id[:12]}", field="EndpointID")
        if found.spec.network != (network := self._network(request.network_id)).name:
            raise Invalid(f"endpoint {found.display} is on network {found.spec.network}, not {network.name}", field="NetworkID")
        return found

    def _find(self, endpoint_id: str) -> Attachment | None:
        name = endpoint_name(endpoint_id, ETH)
        return next((one for one in orphans.endpoints(self._door) if one.name == name), None)


def _own_name(network_id: str) -> Name:
    """Docker does not say a network's name, so it has that of its id's beginning."""
    return Name(f"docker-{network_id[:12]}")


def _change(endpoint: Attachment) -> Change:
    return Change(container=endpoint.spec.container, interface=endpoint.spec.interface)


def _subnet_tree(pool: Pool) -> dict[str, Any]:
    """A pool as a network's spec has it; auxiliary addresses are never given out."""
    tree: dict[str, Any] = {"cidr": pool.pool}
    if pool.gateway:
        tree["gateway"] = str(_read(Addressed, pool.gateway, "--gateway").address)
    if pool.aux_addresses:
        tree["exclude"] = [str(_read(Addressed, text, "--aux-address").address) for text in pool.aux_addresses.values()]
    return tree


def _refuse_unlike(network: Network, request: CreateNetwork, asked: options.NetworkOptions, *, internal: bool) -> None:
    """A network that is there already is taken as it is; what Docker would have otherwise is refused."""
    if network.spec.driver is not Kind.BRIDGE:
        raise Invalid(f"network {network.name} has driver {network.spec.driver}", field=f"-o {options.NETWORK}")
    if asked.spec or asked.kept:
        raise Invalid(f"network {network.name} is there already and keeps its own options", field="-o")
    if internal and not network.spec.internal:
        raise Invalid(f"network {network.name} is not internal", field="--internal")
    routers = {subnet.cidr: subnet.router for subnet in network.spec.subnets}
    for pool in request.pools:
        router = routers.get(_read(Prefix, pool.pool, "--subnet"))
        if router is None:
            raise Invalid(
                f"{pool.pool} is not of network {network.name}; name its own: --ipam-driver fairlead "
                f"--subnet {', '.join(routers)}",
                field="--subnet",
            )
        if pool.gateway and _read(Addressed, pool.gateway, "--gateway").address != router:
            raise Invalid(f"the gateway of network {network.name} is {router}", field="--gateway")


def _unsaid(said: Interface, endpoint: Attachment) -> Interface:
    """What the endpoint has that Docker did not say; what it said it must not hear."""
    have = {one.family: str(one) for one in endpoint.spec.addresses}
    return Interface(
        address="" if said.address else have.get(4, ""),
        address_ipv6="" if said.address_ipv6 else have.get(6, ""),
        mac_address="" if said.mac_address else str(endpoint.spec.mac or ""),
    )


def _sandbox(text: str) -> str:
    path = PurePosixPath(text)
    if not path.is_absolute() or ".." in path.parts or not text.isprintable():
        raise Invalid(f"{text[:200]!r} is not the path of a network namespace", field="SandboxKey")
    return str(path)


def _read(make: Callable[[str], T], text: str, field: str) -> T:
    try:
        return make(text)
    except ValueError as problem:
        raise Invalid(str(problem), field=field) from None
