"""What ended without a word is taken away: containers whose namespace is gone, or that their runtime does not know any more.

A live container's address is never freed: everything is looked at twice, some time apart, and once more in the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping

from fairlead.kit import fault
from fairlead.kit.suspects import Suspects
from fairlead.model.endpoint import Endpoint, endpoint_name
from fairlead.model.errors import Problem
from fairlead.store.base import Store

from .endpoints import Endpoints

log = logging.getLogger(__name__)

_DOUBT = 0.5
"""Seconds between the two looks after which a namespace counts as gone."""


class Garbage:
    """Finds endpoints that nobody will detach, and detaches them."""

    def __init__(self, store: Store, endpoints: Endpoints, grace: float) -> None:
        """``grace``: seconds for which a collection spares what it is not told of, while its namespace exists."""
        self._store, self._endpoints = store, endpoints
        self._suspects: Suspects[tuple[str, str]] = Suspects(grace)

    async def collect(
        self, network: str, owner: str, keep: Collection[tuple[str, str]], labels: Mapping[str, str]
    ) -> tuple[Endpoint, ...]:
        """Remove what ``owner`` made on ``network``, with these labels, and does not list as alive; return what was removed.

        The list may have been written before the last attach was answered. So an endpoint that is not on it goes only if its
        namespace is gone too, or if it was missing ``grace`` seconds ago already, and in every collection since.
        """
        kept = {endpoint_name(container, interface) for container, interface in keep}
        missing = [
            one
            for one in self._endpoints.all.values()
            if one.spec.network == network
            and one.spec.owner == owner
            and one.name not in kept
            and labels.items() <= one.metadata.labels.items()
        ]
        scope = (network, owner, frozenset(labels.items()))
        confirmed = self._suspects.confirmed(scope, [(one.name, one.metadata.uid) for one in missing])
        ended = await self._ended(missing)
        dead = [one for one in missing if one in ended or (one.name, one.metadata.uid) in confirmed]
        return await self._endpoints.part(
            [one for one in dead if await self._take_away(one, f"{owner} does not know it any more")]
        )

    async def reap(self) -> tuple[Endpoint, ...]:
        """Remove endpoints whose namespace is gone."""
        dead = await self._ended(self._endpoints.all.values())
        return await self._endpoints.part(
            [one for one in dead if await self._take_away(one, f"its namespace {one.spec.sandbox.path} is gone")]
        )

    async def _ended(self, endpoints: Iterable[Endpoint]) -> list[Endpoint]:
        """Those whose namespace is gone, looked at twice, as a runtime may be moving it."""
        suspects = await self._endpoints.gone(endpoints)
        if not suspects:
            return []
        await asyncio.sleep(_DOUBT)
        return await self._endpoints.gone(one for one in suspects if self._endpoints.all.get(one.name) is one)

    async def _take_away(self, endpoint: Endpoint, why: str) -> bool:
        """Detach exactly this endpoint, not one that took its place, after a last look at the store; whether it went."""
        async with self._endpoints.alone(endpoint.name):
            if self._endpoints.all.get(endpoint.name) is not endpoint:
                return False
            try:
                stored = await self._store.get(Endpoint.plural, endpoint.key)
            except Problem as problem:
                log.error("%s stays, as the store cannot be asked: %s", endpoint.name, problem)  # noqa: TRY400  # tried again later
                return False
            if stored is not None and stored != endpoint:
                log.error("%s stays: the store knows it otherwise", endpoint.name)
                return False
            fault.point("collect.confirmed")
            log.warning("detaching %s (%s): %s", endpoint.name, endpoint.display, why)
            await self._endpoints.forget(endpoint)
            return True
