"""Addresses: what a container gets, from its network's pools, from what was set aside for it, or from another plugin."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

from fairlead.api.schema import Attach
from fairlead.ipam.ledger import Lacking, Ledger
from fairlead.ipam.pool import Holder
from fairlead.model.address import Interface
from fairlead.model.broken import Broken
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Conflict, Exhausted, Problem
from fairlead.model.network import Network, Subnet

from .blocks import Blocks
from .reservations import Reservations
from .rest import Rest

_BLOCKS = 8
"""How often more addresses are asked for, for one container."""


class Addresses:
    """Gives them out and takes them back; who has which is in the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        reservations: Reservations,
        blocks: Blocks,
        fits: Callable[[str], Callable[[Subnet], bool]],
        rest: Rest,
    ) -> None:
        """``fits`` says which subnets are for containers of a namespace. ``rest``: for how long what was freed lies idle."""
        self._ledger, self._reservations, self._blocks, self._fits = ledger, reservations, blocks, fits
        self._rest = rest

    def restore(self, endpoints: Iterable[Endpoint], freed: Iterable[Endpoint]) -> tuple[Problem, ...]:
        """Note what is so at a start; return what does not fit. When it was freed is not known: perhaps just now."""
        freed = list(freed)
        for one in freed:
            self._rest.begin(one.spec.network, [each.address for each in one.spec.addresses])
        return self._ledger.restore(self._reservations.without(endpoints), freed)

    def keep(self, broken: Iterable[Broken]) -> None:
        """Keep what containers have that cannot be read, as far as that can: they may be alive."""
        for one in broken:
            network, texts = one.spec.get("network"), one.spec.get("addresses")
            for text in texts if isinstance(texts, list) else ():
                with suppress(Problem, ValueError):
                    address = Interface(str(text)).address
                    self._ledger.hold(str(network), address, Holder(one.name, f"{one.name}, which cannot be read,"))

    async def claim(self, request: Attach, network: Network, name: str, others: Iterable[Endpoint]) -> tuple[Interface, ...]:
        """The addresses of a new endpoint; ``others`` are those there are. They have rested when this answers."""
        if request.chained is not None:
            return request.chained.addresses
        if not network.spec.connects:
            return ()
        holder = Holder(name, request.display or request.container[:12])
        if request.handover and request.addresses:
            return self._exactly(request, holder, others)
        given = await self._allocate(request, network, holder)
        if self._blocks.shared(network):
            try:
                await self._rest.over(network.name, [one.address for one in given])
            except BaseException:
                self._ledger.release(name)
                raise
        return given

    async def _allocate(self, request: Attach, network: Network, holder: Holder) -> tuple[Interface, ...]:
        fits = self._fits(request.namespace)
        for _ in range(_BLOCKS):
            try:
                return self._ledger.allocate(network.name, holder, wishes=request.addresses, ranges=request.ranges, fits=fits)
            except Lacking as lacking:
                await self._blocks.more(network, lacking, fits)
        raise Exhausted(f"network {network.name}: others were quicker {_BLOCKS} times; try again", field="network")

    def release(self, name: str) -> None:
        """The endpoint never came to be."""
        self._ledger.release(name)

    def returned(self, endpoint: Endpoint) -> None:
        """The kernel has let go of the endpoint: nobody has its addresses any more. Others have theirs back after the rest."""
        self._ledger.release(endpoint.name)
        network, addresses = endpoint.spec.network, [one.address for one in endpoint.spec.addresses]
        self._rest.begin(network, addresses)
        if self._rest.seconds:
            asyncio.get_running_loop().call_later(self._rest.seconds, self._blocks.returned, network, addresses)
        else:
            self._blocks.returned(network, addresses)

    def _exactly(self, request: Attach, holder: Holder, others: Iterable[Endpoint]) -> tuple[Interface, ...]:
        """The addresses asked for and no others; those reserved for this endpoint are held already."""
        reserved, wishes = self._reservations.split(request)
        for one in others:
            if one.spec.network == request.network and (twice := {*one.spec.addresses} & {*reserved}):
                raise Conflict(f"{', '.join(twice)} is the address of {one.display} already", field="addresses")
        families = tuple(6 if ":" in wish else 4 for wish in wishes)
        own = self._ledger.allocate(request.network, holder, wishes=wishes, families=families) if wishes else ()
        return tuple(sorted((*reserved, *own), key=lambda one: one.family))
