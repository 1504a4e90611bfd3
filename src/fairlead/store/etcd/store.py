"""The store on etcd; see ``base.Store``. An object is one key, its revision etcd's own, and a commit one transaction.

::

    commit ─► read what it touches ─► settle (pure) ─► compare that nothing of it has changed, then write ─► revision
                     ▲                                                   │
                     └───────────────── something has: this is how it is now ┘

What is only created is not read first: the comparison says whether something was there. The revision stands in no value,
because etcd gives it when it writes; whoever reads puts it into the object.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Final

from msgspec.structs import replace

from fairlead.kit.clock import Clock
from fairlead.model.codec import KINDS, encode
from fairlead.model.errors import Conflict, Invalid, Unavailable
from fairlead.model.meta import Object
from fairlead.store.base import (
    MAX_CHANGES,
    Change,
    Compacted,
    Event,
    EventKind,
    Key,
    Listing,
    Put,
    Settled,
    Stored,
    check,
    closed,
    kind_of,
    known,
    read,
    settle,
)
from fairlead.store.presence import TTL, Hold

from . import messages
from .gateway import Access, Gateway
from .keys import Keys, Span
from .messages import Compare, DeleteRange, KeyValue, Op, Range, Ranged, Txn, Txned
from .presence import Presence
from .slots import Slots
from .watch import batches

_FIRST, _MOST, _BYTES = 32, 1000, 1 << 20
"""Objects in the first page of a listing, in any page, and how large a page is to be."""

_TRIES = 64
"""How often a commit is decided anew because somebody else was faster, or a listing begun anew because it took too long."""

_RANGE = "/v3/kv/range"
_PLURALS = {one.plural: one for one in KINDS}


class Etcd:
    """A store that several nodes share; bound to the event loop that made it."""

    at_once: Final = MAX_CHANGES
    orders_all: Final = True

    def __init__(self, access: Access, *, clock: Clock = time.time) -> None:
        """Ask nobody anything yet: an agent starts also while its store is away."""
        self._keys = Keys(access.prefix)
        self._gateway = Gateway(access)
        self._slots = Slots(self._gateway, self._keys)
        self._presence = Presence(self._gateway, self._keys)
        self._clock = clock
        self._closed = False

    async def get(self, plural: str, key: Key) -> Stored | None:
        known(plural, key)
        at = self._keys.object(plural, key)
        read = await self._gateway.ask(_RANGE, Range(key=at), Ranged)
        return self._object(plural, read.kvs[0]) if read.kvs else None

    async def list(self, plural: str) -> Listing:
        kind_of(plural)
        span = self._keys.objects(plural)
        for _ in range(_TRIES):
            found: list[Stored] = []
            revision = 0
            try:
                async with aclosing(self._pages(span)) as pages:
                    async for page in pages:
                        revision = revision or page.header.revision
                        found += [self._object(plural, one) for one in page.kvs if self._keys.named(one.key)]
            except Compacted:
                continue  # it took so long that etcd has forgotten the revision of the first page
            return Listing.of(sorted(found, key=lambda one: one.key), revision)
        raise Unavailable(
            f"the {plural} cannot be listed: etcd forgets each revision at once; look at --auto-compaction-retention"
        )

    async def commit(self, *changes: Change) -> tuple[Stored | None, ...]:
        self._open()
        check(changes)
        if not changes:
            return ()
        if len(changes) > MAX_CHANGES:
            raise Invalid(f"{len(changes)} changes are more than etcd takes in one commit, {MAX_CHANGES}; make several")
        at = [self._keys.object(change.plural, change.key) for change in changes]
        async with self._slots.one() as slot:
            # Nothing is read where all is to be new.
            new = all(isinstance(change, Put) and change.expect in {"", 0, "0"} for change in changes)
            seen = {} if new else await self._read(at)
            for _ in range(_TRIES):
                settled = settle(changes, self._look(seen), 0, self._clock())
                writes = tuple(_op(key, one) for key, one in zip(at, settled, strict=True) if one.event)
                if not writes:
                    return tuple(one.result for one in settled)
                compare = tuple(Compare(key=key, mod_revision=seen[key].mod_revision if key in seen else 0) for key in at)
                done = await self._slots.commit(slot, compare, writes)
                if done.succeeded:
                    return tuple(_result(one, done.header.revision) for one in settled)
                seen = {one.key: one for one in done.found}
        raise Conflict("others change the same objects all the time; try again")

    async def watch(self, plural: str | None, since: int) -> AsyncGenerator[Event]:
        self._open()
        if plural is not None:
            kind_of(plural)
        async with aclosing(batches(self._gateway, self._keys.objects(plural), since)) as told:
            async for batch in told:
                events = [event for change in batch if (event := self._event(change))]
                for left, event in zip(reversed(range(len(events))), events, strict=True):
                    yield Event(event.kind, event.object, event.revision, more=left > 0)

    async def deleted(self, plural: str) -> tuple[Object, ...]:
        # What every node of all has deleted is of no use to one; what was its own is in its copy (store.snapshot).
        self._open()
        kind_of(plural)
        return ()

    def hold(self, name: str, holder: str, ttl: float = TTL) -> AbstractAsyncContextManager[Hold]:
        return self._presence.hold(name, holder, ttl)

    async def present(self) -> AsyncGenerator[Mapping[str, str]]:
        self._open()
        async with aclosing(self._presence.present()) as told:
            async for holders in told:
                yield holders

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._slots.close()
            await self._gateway.close()

    def _open(self) -> None:
        if self._closed:
            raise closed()

    async def _read(self, keys: Iterable[bytes]) -> dict[bytes, KeyValue]:
        """What is there of some keys, at one moment."""
        asked = Txn(success=tuple(Op(request_range=Range(key=key)) for key in keys))
        done = await self._gateway.ask("/v3/kv/txn", asked, Txned)
        return {one.key: one for one in done.found}

    def _look(self, seen: Mapping[bytes, KeyValue]) -> Callable[[str, Key], Stored | None]:
        """How ``settle`` sees what was read."""

        def look(plural: str, key: Key) -> Stored | None:
            kept = seen.get(self._keys.object(plural, key))
            return self._object(plural, kept) if kept else None

        return look

    async def _pages(self, span: Span) -> AsyncGenerator[Ranged]:
        """All of some keys as they were at one moment, a page at a time. The first is small: objects may be large."""
        asked = Range(key=span.first, range_end=span.end, limit=_FIRST)
        while True:
            page = await self._gateway.ask(_RANGE, asked, Ranged)
            yield page
            if not page.more:
                return
            each = max(1, sum(len(one.value) for one in page.kvs) // len(page.kvs))
            asked = replace(
                asked,
                key=page.kvs[-1].key + b"\0",
                limit=min(max(_BYTES // each, 1), _MOST),
                revision=asked.revision or page.header.revision,
            )

    def _object(self, plural: str, kept: KeyValue) -> Stored:
        """What a key holds, with the revision that etcd gave it."""
        named = self._keys.named(kept.key)
        return _at(read(plural, kept.value, named[1] if named else None), kept.mod_revision)

    def _event(self, change: messages.Change) -> Event | None:
        """What a change says of an object; None of what is no object of a kind known here."""
        revision = change.kv.mod_revision
        named = self._keys.named(change.kv.key)
        if named is None or named[0] not in _PLURALS:
            return None
        if change.type != "DELETE":
            kind = EventKind.ADDED if change.kv.create_revision == revision else EventKind.MODIFIED
            return Event(kind, self._object(named[0], change.kv), revision)
        if change.prev_kv is None:
            raise Compacted(f"etcd has forgotten what it deleted at revision {revision}; list again")
        return Event(EventKind.DELETED, _at(self._object(named[0], change.prev_kv), revision), revision)


def _op(key: bytes, settled: Settled) -> Op:
    """What a change does to its key."""
    assert settled.event
    if settled.event.kind is EventKind.DELETED:
        return Op(request_delete_range=DeleteRange(key=key))
    return Op(request_put=messages.Put(key=key, value=encode(_at(settled.event.object, 0))))


def _result(settled: Settled, revision: int) -> Stored | None:
    """What a change came to, now that its revision is known."""
    return _at(settled.event.object, revision) if settled.event else settled.result


def _at(thing: Stored, revision: int) -> Stored:
    """An object at a revision; at 0, as it is kept."""
    return replace(thing, metadata=replace(thing.metadata, resource_version=str(revision or "")))
