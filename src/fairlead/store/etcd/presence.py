"""Presence in etcd: a key that lives as long as its lease, and the lease as long as it is renewed.

etcd counts the seconds, not the nodes' clocks. While it has no leader nobody's lease runs out, so a majority that was away
does not take anybody for dead when it returns.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress

from fairlead.model.errors import Unavailable
from fairlead.store.base import Compacted
from fairlead.store.presence import TTL, Hold, check, kept, taken

from .errors import NoLease
from .gateway import Gateway
from .keys import Keys
from .messages import Compare, Grant, Granted, KeyValue, Lease, Op, Put, Range, Ranged, Renewed, Reply, Txn, Txned
from .watch import batches


class Presence:
    """Who is alive, as ``store.presence.Presence`` says it."""

    def __init__(self, gateway: Gateway, keys: Keys) -> None:
        self._gateway, self._keys = gateway, keys

    @asynccontextmanager
    async def hold(self, name: str, holder: str, ttl: float = TTL) -> AsyncIterator[Hold]:
        """Hold a name while the context lasts."""
        check(name, holder, ttl)
        asked = asyncio.get_running_loop().time()
        lease = await self._gateway.ask("/v3/lease/grant", Grant(TTL=math.ceil(ttl)), Granted)
        try:
            await self._take(name, holder, lease.ID)
        except NoLease:
            raise Unavailable(f"{name!r} was not written before its lease ran out; try again") from None
        except BaseException:
            await self._revoke(lease.ID)
            raise

        async def renew() -> bool:
            try:
                renewed = await self._gateway.ask("/v3/lease/keepalive", Lease(ID=lease.ID), Renewed)
            except NoLease:
                return False
            return renewed.result.TTL > 0

        async def release() -> None:
            await self._revoke(lease.ID)

        async with kept(Hold(name, holder), asked, max(ttl, lease.TTL), renew, release) as hold:
            yield hold

    async def present(self) -> AsyncGenerator[Mapping[str, str]]:
        """Which names are held, now and at every change."""
        told: Mapping[str, str] | None = None
        while not self._gateway.closed:
            read = await self._gateway.ask("/v3/kv/range", _all(self._keys), Ranged)
            now = {self._keys.held(one.key): one.value.decode(errors="replace") for one in read.kvs}
            if now != told:
                told = dict(now)
                yield told
            with suppress(Compacted):
                async with aclosing(batches(self._gateway, self._keys.holds(), read.header.revision)) as batched:
                    async for batch in batched:
                        for change in batch:
                            name = self._keys.held(change.kv.key)
                            if change.type == "DELETE":
                                now.pop(name, None)
                            else:
                                now[name] = change.kv.value.decode(errors="replace")
                        if now != told:
                            told = dict(sorted(now.items()))
                            yield told

    async def _take(self, name: str, holder: str, lease: int) -> None:
        """Write the key with our lease, if there is none or it is this holder's own."""
        key = self._keys.hold(name)
        put = Op(request_put=Put(key=key, value=holder.encode(), lease=lease))
        before = KeyValue()
        while True:
            compare = Compare(key=key, mod_revision=before.mod_revision)
            asked = Txn(compare=(compare,), success=(put,), failure=(Op(request_range=Range(key=key)),))
            done = await self._gateway.ask("/v3/kv/txn", asked, Txned)
            if done.succeeded:
                break
            before = done.found[0] if done.found else KeyValue()
            if before.lease == lease:
                break  # it was written when the question was sent before
            if before.mod_revision and before.value != holder.encode():
                raise taken(name, before.value.decode(errors="replace"))
        if before.lease and before.lease != lease:
            await self._revoke(before.lease)  # so that an older hold of this holder learns that it is over

    async def _revoke(self, lease: int) -> None:
        with suppress(NoLease, Unavailable):
            await self._gateway.ask("/v3/lease/revoke", Lease(ID=lease), Reply)


def _all(keys: Keys) -> Range:
    first, end = keys.holds()
    return Range(key=first, range_end=end)
