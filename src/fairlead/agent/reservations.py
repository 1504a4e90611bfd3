"""Reservations: networks and addresses that somebody outside counts on, in memory as in the store.

A reserved address is held in the ledger in the reservation's own name from before it is told until after its deletion is
durable; an endpoint that comes in its holder's name uses it without holding it a second time, so that the address stays
spoken for when the endpoint goes first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from msgspec.structs import replace

from fairlead.api.schema import Attach, Reserve
from fairlead.ipam.ledger import Ledger
from fairlead.ipam.pool import Holder
from fairlead.model.address import Family, Interface
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Invalid, Missing, Problem
from fairlead.model.meta import Meta
from fairlead.model.network import Network
from fairlead.model.reservation import Reservation, ReservationSpec, reservation_name
from fairlead.store.base import Delete, Put, Store

from .host import Host
from .networks import Networks
from .unreadable import Unreadable

log = logging.getLogger(__name__)


class Reservations:
    """Everything that is set aside on this node."""

    def __init__(self, store: Store, ledger: Ledger, networks: Networks, host: Host, unreadable: Unreadable) -> None:
        self._unreadable = unreadable
        self.all: dict[str, Reservation] = {}
        self._store, self._ledger, self._networks, self._host = store, ledger, networks, host
        self._one = asyncio.Lock()

    async def load(self) -> None:
        """Read them from the store; those whose holders ended with an earlier boot go."""
        listing = await self._store.list(Reservation.plural)
        self._unreadable.note(listing.broken)
        for thing in listing.objects:
            assert isinstance(thing, Reservation)
            spec = thing.spec
            if self._unreadable.find(Network.plural, spec.network):
                continue  # it counts again when its network can be read
            if spec.network not in self._networks.all or spec.boot not in {"", self._host.boot}:
                await self._store.commit(Delete(Reservation.plural, thing.key))
                continue
            self.all[thing.name] = thing
            try:
                self._hold(thing)
            except Problem as problem:
                log.error("%s", problem.under(thing.name))  # noqa: TRY400  # what is wrong is in the store, not in the code

    async def reserve(self, request: Reserve) -> Reservation:
        """Set an address or a network aside. Asked again for the same holder, it answers the same."""
        network = self._networks.get(request.network)
        name = reservation_name(request.owner, request.holder, network.name, request.family)
        async with self._one:
            wanted = _made(name, request, "" if request.lasting or not request.family else self._host.boot)
            if request.family:
                wanted = replace(wanted, spec=replace(wanted.spec, address=self._allocate(wanted, request, request.family)))
            if (before := self.all.get(name)) and before.spec == wanted.spec:
                return before
            try:
                (stored,) = await self._store.commit(Put(wanted))
            except BaseException:
                if before is None:
                    self._ledger.release(name)
                raise
            assert isinstance(stored, Reservation)
            self.all[name] = stored
            return stored

    async def delete(self, name: str) -> Reservation:
        """Give it back; durably, before anybody else may have the address."""
        async with self._one:
            found = self.all.get(name)
            if found is None:
                raise Missing(f"there is no reservation {name[:200]!r}", field="name")
            await self._store.commit(Delete(Reservation.plural, found.key))
            del self.all[name]
            self._ledger.release(name)
            return found

    def holders(self, network: str) -> list[str]:
        """Who counts on a network or an address of it, as people know them."""
        return sorted({one.display for one in self.all.values() if one.spec.network == network})

    def split(self, request: Attach) -> tuple[tuple[Interface, ...], tuple[str, ...]]:
        """The addresses of an attach that are reserved in the name it comes in, and its other wishes."""
        mine = {one.spec.address for family in (4, 6) if (one := self._of(request, family))}
        found = tuple(one for one in mine if one and one.address in {wish.partition("/")[0] for wish in request.addresses})
        taken = {str(one.address) for one in found}
        return found, tuple(wish for wish in request.addresses if wish.partition("/")[0] not in taken)

    def without(self, endpoints: Iterable[Endpoint]) -> list[Endpoint]:
        """The endpoints with those addresses alone that they hold themselves."""
        reserved = {(one.spec.network, one.spec.address) for one in self.all.values()}
        return [
            replace(
                one,
                spec=replace(
                    one.spec, addresses=tuple(each for each in one.spec.addresses if (one.spec.network, each) not in reserved)
                ),
            )
            for one in endpoints
        ]

    def _of(self, request: Attach, family: Family) -> Reservation | None:
        return self.all.get(reservation_name(request.owner, request.reserved, request.network, family))

    def _allocate(self, wanted: Reservation, request: Reserve, family: Family) -> Interface:
        wish = request.address
        if wish and wish.family != family:
            raise Invalid(f"{wish} is not an IPv{family} address", field="address")
        wishes = (str(wish),) if wish else ()
        families = (family,)
        (address,) = self._ledger.allocate(
            request.network, _holder(wanted), wishes=wishes, families=families, ranges=request.ranges
        )
        return address

    def _hold(self, thing: Reservation) -> None:
        if thing.spec.address:
            self._ledger.hold(thing.spec.network, thing.spec.address.address, _holder(thing))


def _holder(thing: Reservation) -> Holder:
    return Holder(thing.name, f"{thing.spec.owner} {thing.spec.holder}")


def _made(name: str, request: Reserve, boot: str) -> Reservation:
    try:
        spec = ReservationSpec(network=request.network, owner=request.owner, holder=request.holder, boot=boot)
    except ValueError as problem:
        raise Invalid(str(problem)) from None
    return Reservation(metadata=Meta(name=name), spec=spec)
