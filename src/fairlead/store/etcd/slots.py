"""Slots: a commit that had to be sent more than once happens once.

When a member dies with a commit in its hands, nobody can tell whether it happened, and so it is sent again. Comparing the
objects' revisions keeps it from happening twice, but it does not tell whose doing what is there now is: two nodes that both
wrote the same must not both believe that they were first. So each commit also writes a key of its client, its slot, with a
token nobody else has, and compares that the slot is as the client left it::

    compare  objects as they were read, slot at revision 17
    then     write the objects, slot := token                        it happened, now
    else     read the objects and the slot ── token is in it ─────►  it had happened, when it was sent before
                                           └─ otherwise ──────────►  somebody else changed an object: read, decide again

An old copy of the commit that reaches etcd late finds the slot changed and does nothing. A slot serves one commit at a time;
a client has as many as it makes commits at once. They live on a lease and go away with their client.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fairlead.model.errors import Unavailable

from .errors import NoLease
from .gateway import Gateway
from .keys import Keys
from .messages import Compare, Grant, Granted, Header, KeyValue, Lease, Op, Put, Range, Reply, Txn, Txned

SLOTS = 16
"""How many commits of one client may be on their way at once."""

_TTL = 3600
"""Seconds for which the slots of a client that died stay behind."""

_GOODBYE = 1.0
"""Seconds that the end may wait for etcd."""


class Slot:
    """One key of this client. ``revision``: as it was left; ``known``: nothing is on its way to it."""

    def __init__(self, key: bytes, lease: int) -> None:
        self.key, self.lease = key, lease
        self.revision = 0
        self.known = True


class Slots:
    """The slots of one client."""

    def __init__(self, gateway: Gateway, keys: Keys) -> None:
        self._gateway, self._keys = gateway, keys
        self._client = secrets.token_hex(8)
        self._made = 0
        self._free: list[Slot] = []
        self._turn = asyncio.Semaphore(SLOTS)
        self._lease = 0
        self._until = 0.0
        self._leasing = asyncio.Lock()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Slot]:
        """A slot that nobody else uses. One that something may still be on its way to is not used again."""
        async with self._turn:
            lease = await self._leased()
            slot = self._free.pop() if self._free else self._new(lease)
            try:
                yield slot
            finally:
                if slot.known and slot.lease == self._lease:
                    self._free.append(slot)

    async def commit(self, slot: Slot, compare: tuple[Compare, ...], write: tuple[Op, ...]) -> Txned:
        """Do it once: ``succeeded`` and the revision, or else what is there now of all that was compared."""
        token = secrets.token_hex(8).encode()
        asked = Txn(
            compare=(*compare, Compare(key=slot.key, mod_revision=slot.revision)),
            success=(*write, Op(request_put=Put(key=slot.key, value=token, lease=slot.lease))),
            failure=(*(Op(request_range=Range(key=one.key)) for one in compare), Op(request_range=Range(key=slot.key))),
        )
        slot.known = False
        try:
            done = await self._gateway.ask("/v3/kv/txn", asked, Txned)
        except NoLease:
            raise self._unknown() from None
        if done.succeeded:
            slot.known, slot.revision = True, done.header.revision
            return done
        return self._missed(slot, token, done)

    def _missed(self, slot: Slot, token: bytes, done: Txned) -> Txned:
        """A comparison failed: because this very commit had happened before, or because of what others did."""
        last = done.found[-1] if done.found and done.found[-1].key == slot.key else KeyValue()
        if last.value == token:
            slot.known, slot.revision = True, last.mod_revision
            return Txned(header=Header(revision=last.mod_revision), succeeded=True)
        if last.mod_revision != slot.revision:
            raise self._unknown()
        slot.known = True
        return done

    def _unknown(self) -> Unavailable:
        """The lease is gone, and with it the slots, which know: begin anew."""
        self._until = 0.0
        return Unavailable("etcd lost what this client keeps there; whether the commit happened is not known: read again")

    async def close(self) -> None:
        """Wait for what is on its way, and let go of the slots."""
        for _ in range(SLOTS):
            await self._turn.acquire()
        if self._lease:
            with suppress(NoLease, Unavailable, TimeoutError):
                async with asyncio.timeout(_GOODBYE):
                    await self._gateway.ask("/v3/lease/revoke", Lease(ID=self._lease), Reply)
        for _ in range(SLOTS):
            self._turn.release()

    def _new(self, lease: int) -> Slot:
        self._made += 1
        return Slot(self._keys.slot(self._client, self._made - 1), lease)

    async def _leased(self) -> int:
        """A lease that lasts much longer than a commit may take. With a new one, all slots are new."""
        loop = asyncio.get_running_loop()
        async with self._leasing:
            if loop.time() >= self._until:
                granted = await self._gateway.ask("/v3/lease/grant", Grant(TTL=_TTL), Granted)
                self._lease, self._until = granted.ID, loop.time() + granted.TTL / 2
                self._free.clear()
            return self._lease
