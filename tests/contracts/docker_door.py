"""The agent's door in memory, with what Docker's edge asks of it beyond the others."""

from __future__ import annotations

from msgspec.structs import replace

from fairlead.api.schema import Applied, Attach, Attached, Change, Detach, Detached, Reserve
from fairlead.kit.clock import rfc3339
from fairlead.model.address import Address, Family, Interface, Prefix
from fairlead.model.endpoint import Endpoint, EndpointSpec, PublishedPort, Sandbox, endpoint_name
from fairlead.model.errors import Conflict, Invalid, Missing
from fairlead.model.meta import Meta, Object
from fairlead.model.network import Network
from fairlead.model.reservation import Reservation, ReservationSpec, reservation_name
from tests.contracts.fake_door import FakeDoor, network


class DockerDoor(FakeDoor):
    """Networks, reservations and endpoints in three dictionaries; ``now`` is when things are made."""

    def __init__(self) -> None:
        super().__init__(network("office", "10.79.0.0/24", "fd79::/64"))
        self.attached: dict[str, Attached] = {}
        self.reservations: dict[str, Reservation] = {}
        self.now = 2e9
        self._subnets = 0

    async def attach(self, request: Attach) -> Attached:
        found = self.networks.get(request.network)
        if found is None:
            raise Missing(f"no network {request.network}", field="network")
        name = endpoint_name(request.container, request.interface)
        used = {one.address for each in self.attached.values() for one in each.endpoint.spec.addresses}
        addresses = tuple(Interface(wish) for wish in request.addresses) or tuple(
            Interface.of(self._next(one.cidr), one.cidr) for one in found.spec.subnets
        )
        if name not in self.attached and used & {one.address for one in addresses}:
            raise Conflict("taken", field="addresses[0]")
        spec = EndpointSpec(
            container=request.container,
            interface=request.interface,
            network=request.network,
            sandbox=Sandbox(path=request.path),
            owner=request.owner,
            mac=request.mac or "0a:58:00:00:00:01",  # type: ignore[arg-type]  # a MAC
            addresses=addresses,
            handover=request.handover,
            named_ports=request.named_ports,
        )
        meta = replace(self._meta(name), namespace=request.namespace, labels=request.labels)
        made = self.attached.get(name) or self._attached(Endpoint(metadata=meta, spec=spec), found)
        self.attached[name] = made
        return made

    async def change(self, request: Change) -> Attached:
        name = endpoint_name(request.container, request.interface)
        if name not in self.attached:
            raise Missing(f"no endpoint {name}", field="container")
        before = self.attached[name].endpoint
        spec = before.spec
        if request.path is not None:
            spec = replace(spec, sandbox=Sandbox(path=request.path))
        if request.display is not None:
            spec = replace(spec, display=request.display)
        if request.ports is not None:
            chosen = tuple(
                PublishedPort(host_port=any_port.first, container_port=any_port.container_port, protocol=any_port.protocol)
                for any_port in request.any_ports
            )
            spec = replace(spec, ports=(*request.ports, *chosen))
        self.attached[name] = self._attached(replace(before, spec=spec), self.networks[spec.network])
        return self.attached[name]

    async def detach(self, request: Detach) -> Detached:
        gone = [one for one in self.attached.values() if one.endpoint.container == request.container]
        for one in gone:
            del self.attached[one.endpoint.name]
        return Detached(endpoints=tuple(one.endpoint for one in gone))

    async def reserve(self, request: Reserve) -> Reservation:
        found = self.networks.get(request.network)
        if found is None:
            raise Missing(f"no network {request.network}", field="network")
        name = reservation_name(request.owner, request.holder, request.network, request.family)
        if name not in self.reservations:
            address = None
            if request.family:
                cidr = next((one.cidr for one in found.spec.subnets if one.family == request.family), None)
                if cidr is None:
                    raise Invalid("no such family", field="families")
                address = Interface.of(request.address or self._next(cidr), cidr)
                if address in {one.spec.address for one in self.reservations.values()}:
                    raise Conflict(f"{address} is held", field="addresses[0]")
            spec = ReservationSpec(
                network=request.network, owner=request.owner, holder=request.holder, address=address,
                boot="" if request.lasting else "boot",
            )  # fmt: skip
            self.reservations[name] = Reservation(metadata=self._meta(name), spec=spec)
        return self.reservations[name]

    async def apply(self, thing: Object) -> Applied:
        assert isinstance(thing, Network)
        self.networks[thing.name] = thing
        return Applied(result="created", kind="Network", name=thing.name)

    async def delete(self, plural: str, name: str) -> Object:
        table: dict[str, Reservation] | dict[str, Network] = (
            self.reservations if plural == Reservation.plural else self.networks
        )
        if name not in table:
            raise Missing(f"no {name}", field="name")
        if plural == Network.plural and any(one.endpoint.spec.network == name for one in self.attached.values()):
            raise Conflict("in use", field="metadata.name")
        return table.pop(name)

    def objects(self, plural: str) -> list[Object]:
        return {
            Network.plural: list(self.networks.values()),
            Reservation.plural: list(self.reservations.values()),
            Endpoint.plural: [one.endpoint for one in self.attached.values()],
        }[plural]  # type: ignore[return-value]  # objects, of three kinds

    def free(self, family: Family) -> Prefix:
        self._subnets += 1
        return Prefix(f"10.210.{self._subnets}.0/24" if family == 4 else f"fd10:{self._subnets}::/64")

    def _next(self, cidr: Prefix) -> Address:
        used = {one.spec.address.address for one in self.reservations.values() if one.spec.address}
        return next(address for number in range(2, 99) if (address := Address(cidr.net[number])) not in used)

    def _meta(self, name: str) -> Meta:
        return Meta(name=name, creation_timestamp=rfc3339(self.now))

    def _attached(self, endpoint: Endpoint, on: Network) -> Attached:
        routers = {one.family: one.router for one in on.spec.subnets}
        return Attached(endpoint=endpoint, gateways=tuple(routers[one.family] for one in endpoint.spec.addresses))
