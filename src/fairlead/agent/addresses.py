"""Addresses: what a container gets, from its network's pools, from what was set aside for it, or from another plugin."""

from __future__ import annotations

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

_BLOCKS = 8
"""How often more addresses are asked for, for one container."""


class Addresses:
    """Gives them out and takes them back; who has which is in the ledger."""

    def __init__(
        self, ledger: Ledger, reservations: Reservations, blocks: Blocks, fits: Callable[[str], Callable[[Subnet], bool]]
    ) -> None:
        """``fits`` says which subnets are for containers of a namespace."""
        self._ledger, self._reservations, self._blocks, self._fits = ledger, reservations, blocks, fits

    def restore(self, endpoints: Iterable[Endpoint], freed: Iterable[Endpoint]) -> tuple[Problem, ...]:
        """Note what is so at a start; return what does not fit."""
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
        """The addresses of a new endpoint; ``others`` are those there are."""
        if request.chained is not None:
            return request.chained.addresses
        if not network.spec.connects:
            return ()
        holder = Holder(name, request.display or request.container[:12])
        if request.handover and request.addresses:
            return self._exactly(request, holder, others)
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
        """The kernel has let go of the endpoint: nobody has its addresses any more."""
        self._ledger.release(endpoint.name)
        self._blocks.returned(endpoint.spec.network, [one.address for one in endpoint.spec.addresses])

    def _exactly(self, request: Attach, holder: Holder, others: Iterable[Endpoint]) -> tuple[Interface, ...]:
        """The addresses asked for and no others; those reserved for this endpoint are held already."""
        reserved, wishes = self._reservations.split(request)
        for one in others:
            if one.spec.network == request.network and (twice := {*one.spec.addresses} & {*reserved}):
                raise Conflict(f"{', '.join(twice)} is the address of {one.display} already", field="addresses")
        families = tuple(6 if ":" in wish else 4 for wish in wishes)
        own = self._ledger.allocate(request.network, holder, wishes=wishes, families=families) if wishes else ()
        return tuple(sorted((*reserved, *own), key=lambda one: one.family))
