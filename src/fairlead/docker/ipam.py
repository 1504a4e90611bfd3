"""The IPAM driver: pools and addresses for Docker, out of Fairlead's networks.

A pool's id is the pool itself, ``10.208.16.0/20``, with the range to give out behind a comma if there is one; Docker keeps it
and says it with every request, so nothing has to be kept here. Of networks for Docker none overlap: a prefix leads to one. The
order in which Docker asks::

    RequestPool  RequestAddress (gateway, auxiliary)  CreateNetwork          before the network exists: nothing is kept
    RequestAddress (MAC)  CreateEndpoint  ...  DeleteEndpoint  ReleaseAddress        the address is reserved for the MAC
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from fairlead.api.door import Door
from fairlead.api.schema import Reserve
from fairlead.model.address import Address, Family, Interface, Mac, Prefix
from fairlead.model.errors import Conflict, Invalid, Missing
from fairlead.model.network import Network, Range, Subnet

from . import options, orphans
from .protocol import (
    ADDRESS_TYPE,
    GATEWAY,
    MAC,
    AddressGiven,
    Needs,
    Nothing,
    PoolGiven,
    ReleaseAddress,
    ReleasePool,
    RequestAddress,
    RequestPool,
    Spaces,
)

T = TypeVar("T")


class PoolID(NamedTuple):
    """A subnet, and the part of it that ``--ip-range`` names."""

    cidr: Prefix
    part: Prefix | None

    @classmethod
    def of(cls, text: str) -> PoolID:
        """Read an id that was given before."""
        cidr, _, part = text.partition(",")
        return cls(_read(Prefix, cidr, "PoolID"), _read(Prefix, part, "PoolID") if part else None)

    def __str__(self) -> str:
        return f"{self.cidr},{self.part}" if self.part else self.cidr

    @property
    def ranges(self) -> tuple[Subnet, ...]:
        """What may be given out, as the agent is asked for it."""
        return (_subnet(self.cidr, part=self.part),) if self.part else ()


class Ipam:
    """Answers each request through the agent's door."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def capabilities(self, _: Nothing) -> Needs:
        """What Docker must tell."""
        return Needs()

    async def spaces(self, _: Nothing) -> Spaces:
        """One address space for networks of this host; those of a swarm have one that is refused."""
        return Spaces()

    async def request_pool(self, request: RequestPool) -> PoolGiven:
        """The subnet asked for, or that of the network named, or one that is free."""
        if request.address_space not in {"", Spaces().local_default_address_space}:
            raise Invalid("only networks of this host are served, not those of a swarm", field="AddressSpace")
        wish = _read(Prefix, request.pool, "--subnet") if request.pool else None
        part = _read(Prefix, request.sub_pool, "--ip-range") if request.sub_pool else None
        family = 6 if request.v6 else 4
        if wish and wish.family != family:
            raise Invalid(f"{wish} is not an IPv{family} subnet", field="--subnet")
        if part and not wish:
            raise Invalid("a range needs --subnet", field="--ip-range")
        network = self._network(name) if (name := options.pool(request.options)) else self._owner(wish) if wish else None
        if network and orphans.ID in network.metadata.annotations:
            raise Conflict(
                f"Docker has a network with that subnet already, {network.name}; if it does not know of it any more: "
                f"fairlead network rm {network.name}",
                field="--subnet",
            )
        subnet = _shared(network, family, wish) if network else _subnet(wish or self._door.free(family), part=part)
        pool = PoolID(subnet.cidr, part)
        _subnet(pool.cidr, part=part)
        return PoolGiven(pool_id=str(pool), pool=subnet.cidr, data={GATEWAY: Interface.of(subnet.router, subnet.cidr)})

    async def release_pool(self, request: ReleasePool) -> Nothing:
        """A subnet that Docker gives back is no network's of its own any more."""
        await orphans.retire(self._door, PoolID.of(request.pool_id).cidr)
        return Nothing()

    async def request_address(self, request: RequestAddress) -> AddressGiven:
        """An address of a pool: a gateway, one for a container (its MAC is said), or one that is kept for something else."""
        pool = PoolID.of(request.pool_id)
        wish = _read(Address, request.address, "--ip") if request.address else None
        if wish and not pool.cidr.holds(wish):
            raise Invalid(f"{wish} is not in {pool.cidr}", field="--ip")
        said = request.options or {}
        network = self._owner(pool.cidr)
        if said.get(ADDRESS_TYPE) == GATEWAY:
            return AddressGiven(address=Interface.of(_gateway(pool, wish, network), pool.cidr))
        mac = _read(Mac, said[MAC], "--mac-address") if MAC in said else None
        if network is None:
            if mac or wish is None:
                raise Missing(
                    f"{pool.cidr} belongs to no network: use --ipam-driver fairlead together with -d fairlead, or with "
                    f"--ipam-opt {options.NETWORK}=NAME",
                    field="PoolID",
                )
            return AddressGiven(address=Interface.of(wish, pool.cidr))  # CreateNetwork says it again, and keeps it
        return await self._reserve(pool, network, wish, mac)

    async def release_address(self, request: ReleaseAddress) -> Nothing:
        """Give an address back; that it was not reserved is no error."""
        pool, address = PoolID.of(request.pool_id), _read(Address, request.address, "Address")
        network = self._owner(pool.cidr)
        if network:
            await orphans.give_back(self._door, network, address)
        return Nothing()

    async def _reserve(self, pool: PoolID, network: Network, wish: Address | None, mac: Mac | None) -> AddressGiven:
        await orphans.sweep(self._door)
        holder = mac or wish
        if holder is None:
            raise Invalid("neither an address nor a MAC is said", field=MAC)
        self._refuse_used(network, mac)
        reserved = await self._door.reserve(
            Reserve(
                network=network.name,  # type: ignore[arg-type]  # a network's name is checked
                owner=orphans.OWNER,
                holder=holder,
                family=4 if pool.cidr.family == 4 else 6,
                address=wish,
                ranges=() if wish else pool.ranges,
                lasting=mac is None,
            )
        )
        assert reserved.spec.address
        return AddressGiven(address=reserved.spec.address)

    def _refuse_used(self, network: Network, mac: Mac | None) -> None:
        """One MAC is one holder: a second container with it would get the first one's address."""
        for one in orphans.endpoints(self._door):
            if mac and (one.spec.network, one.spec.mac) == (network.name, mac) and one.spec.sandbox.path:
                raise Conflict(f"a container on network {network.name} has {mac} already", field="--mac-address")

    def _network(self, name: str) -> Network:
        if found := self._door.network(name):
            return found
        raise Missing(f"there is no network {name}; make it first: fairlead network create {name}", field=options.NETWORK)

    def _owner(self, cidr: Prefix) -> Network | None:
        """The network that has this subnet."""
        return next(
            (one for one in orphans.networks(self._door) if any(subnet.cidr == cidr for subnet in one.spec.subnets)), None
        )


def _shared(network: Network, family: Family, wish: Prefix | None) -> Subnet:
    """The subnet of a network that is there already.

    It must be named: otherwise Docker asks again and again, without end, until it gets one that the host has no route to.
    """
    subnets = [one for one in network.spec.subnets if one.family == family and wish in {None, one.cidr}]
    if not subnets:
        known = ", ".join(one.cidr for one in network.spec.subnets) or "none"
        raise Invalid(f"network {network.name} has no {wish or f'IPv{family} subnet'}; its subnets: {known}", field="--subnet")
    if wish is None:
        raise Invalid(
            f"Docker takes a subnet that the host has a route to only by its name: add --subnet {subnets[0].cidr}",
            field="--subnet",
        )
    return subnets[0]


def _gateway(pool: PoolID, wish: Address | None, network: Network | None) -> Address:
    if network is None:
        return _subnet(pool.cidr, gateway=wish).router
    router = next(one.router for one in network.spec.subnets if one.cidr == pool.cidr)
    if wish not in {None, router}:
        raise Invalid(f"the gateway of network {network.name} is {router}", field="--gateway")
    return router


def _subnet(cidr: Prefix, *, gateway: Address | None = None, part: Prefix | None = None) -> Subnet:
    if part and not (part.family == cidr.family and cidr.overlaps(part) and part.length >= cidr.length):
        raise Invalid(f"{part} is not in {cidr}", field="--ip-range")
    ranges = (Range(start=Address(part.net[0]), end=Address(part.net[-1])),) if part else ()
    try:
        return Subnet(cidr=cidr, gateway=gateway, ranges=ranges)
    except ValueError as problem:
        raise Invalid(str(problem), field="--subnet") from None


def _read(make: Callable[[str], T], text: str, field: str) -> T:
    try:
        return make(text)
    except ValueError as problem:
        raise Invalid(str(problem), field=field) from None
