"""What Docker has forgotten, told by what it asks for or gives back later.

Docker sends a call again when the agent ended in the middle of it, but without its content; such a call fails, and Docker
goes on as if nothing had been made, or as if all were gone. A daemon that is killed forgets in the same way. So::

    an endpoint whose address Docker gives back, or gives to another one    it is no container's: removed at once
    an endpoint that no container has had for a minute                      removed when the next is made
    an address without an endpoint for a minute, on a network of Docker's   given back when the next is asked for
    a network whose subnet Docker gives back                                removed

Within a minute Docker has done what it still does. What a container has is never touched.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import datetime

from fairlead.api.door import Door
from fairlead.api.schema import Detach
from fairlead.kit.clock import rfc3339
from fairlead.model.address import Address, Prefix
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Conflict, Missing
from fairlead.model.meta import Meta
from fairlead.model.network import Network
from fairlead.model.reservation import Reservation

log = logging.getLogger(__name__)

OWNER = "docker"
ID = "docker.fairlead.dev/network-id"
"""The annotation that tells a network made for Docker, with Docker's id of it."""

_DOUBT = 60.0
"""Seconds within which Docker completes what it has begun; it repeats a call for 30."""


def endpoints(door: Door) -> list[Endpoint]:
    """Docker's endpoints."""
    found = (one for one in door.objects(Endpoint.plural) if isinstance(one, Endpoint))
    return [one for one in found if one.spec.owner == OWNER]


def reservations(door: Door) -> list[Reservation]:
    """What is reserved for Docker."""
    found = (one for one in door.objects(Reservation.plural) if isinstance(one, Reservation))
    return [one for one in found if one.spec.owner == OWNER]


def networks(door: Door) -> list[Network]:
    """Every network."""
    return [one for one in door.objects(Network.plural) if isinstance(one, Network)]


async def release(door: Door, reservation: Reservation) -> None:
    """Give a reservation back; somebody else may have done so meanwhile."""
    try:
        await door.delete(Reservation.plural, reservation.name)
    except Missing:
        return


async def remove(door: Door, network: Network) -> None:
    """Remove a network made for Docker, with what is still reserved of it; ``Conflict`` if a container is on it."""
    if not any(isinstance(one, Endpoint) and one.spec.network == network.name for one in door.objects(Endpoint.plural)):
        for one in reservations(door):
            if one.spec.network == network.name:
                await release(door, one)
    await door.delete(Network.plural, network.name)


async def give_back(door: Door, network: Network, address: Address) -> None:
    """Docker needs the address no more: no endpoint of its has it, and it is free."""
    await evict(door, network, [address])
    used = {one.address for each in _on(door, network) for one in each.spec.addresses}
    for one in reservations(door):
        if one.spec.network == network.name and one.spec.address and one.spec.address.address == address:
            if address in used:
                log.warning("Docker gives %s of network %s back, but a container has it; kept", address, network.name)
            else:
                await release(door, one)


async def evict(door: Door, network: Network, addresses: list[Address]) -> None:
    """Docker says that these addresses are nobody's: remove endpoints that have them and that no container has."""
    for one in _on(door, network):
        if not one.spec.sandbox.path and any(each.address in addresses for each in one.spec.addresses):
            await _detach(door, one)


async def retire(door: Door, cidr: Prefix, *, but: str = "") -> None:
    """Docker says that the subnet is nobody's: remove the network that was made for it, if nobody uses that."""
    for one in networks(door):
        mine = ID in one.metadata.annotations and one.name != but
        if mine and any(subnet.cidr == cidr for subnet in one.spec.subnets):
            try:
                await remove(door, one)
            except (Conflict, Missing) as problem:
                log.info("%s stays: %s", one.name, problem)


async def sweep(door: Door) -> None:
    """Remove endpoints without a container, and give back addresses without an endpoint, that have waited too long."""
    for endpoint in endpoints(door):
        if not endpoint.spec.sandbox.path and _old(endpoint.metadata):
            await _detach(door, endpoint)
    for reservation in _abandoned(door):
        log.warning("nobody came for %s of network %s; it is free", reservation.spec.address, reservation.spec.network)
        await release(door, reservation)


def _abandoned(door: Door) -> Iterator[Reservation]:
    used = {(one.spec.network, address) for one in endpoints(door) for address in one.spec.addresses}
    own = {one.name for one in networks(door) if ID in one.metadata.annotations}
    for one in reservations(door):
        spec = one.spec
        if (
            spec.address
            and spec.boot
            and spec.network in own
            and (spec.network, spec.address) not in used
            and _old(one.metadata)
        ):
            yield one


def _on(door: Door, network: Network) -> list[Endpoint]:
    return [one for one in endpoints(door) if one.spec.network == network.name]


def _old(metadata: Meta) -> bool:
    born = datetime.fromisoformat(metadata.creation_timestamp or rfc3339(0)).timestamp()
    return time.time() - born > _DOUBT


async def _detach(door: Door, endpoint: Endpoint) -> None:
    log.warning("Docker has forgotten endpoint %s of network %s; removed", endpoint.display, endpoint.spec.network)
    await door.detach(Detach(container=endpoint.spec.container, interface=endpoint.spec.interface))
