"""Presence in Kubernetes: a Lease of coordination.k8s.io for each name, in Fairlead's own namespace.

Nobody compares his clock with another's. A holder counts from before he asked; whoever looks counts from when he saw the Lease
change, which is later. One who has just begun to look, and so has seen nothing change yet, asks the API server's own clock how
long ago that was: managedFields say when, and every answer says what time it is there.

It is for what only one may do, and for machines that are no nodes of the cluster. Whether a *node* of a cluster lives its own
kubelet and the node controller say already, by its condition Ready: a thousand nodes that also watched each other's Leases
would be more than an API server should bear.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from fairlead.model.errors import Conflict, Problem, Unavailable
from fairlead.store.base import Compacted, closed
from fairlead.store.presence import TTL, Hold, check, kept, taken

from .client import Client
from .errors import Absent, Again, Stale, Taken, Unserved, Unsure
from .objects import revision
from .resources import NAME, Resource, slug
from .watch import changes

LABEL = "fairlead.dev/presence"
"""On every Lease of ours, so that those of others in the namespace are passed over."""

_API = "coordination.k8s.io/v1"
_TRIES = 16
_GRACE = 3.0
"""Seconds that the API server's clock may be off by: it tells whole ones, and there may be several servers."""


class _Managed(msgspec.Struct):
    time: str = ""


class _Meta(msgspec.Struct, rename="camel"):
    name: str = ""
    uid: str = ""
    resource_version: str = ""
    annotations: dict[str, str] = {}
    managed_fields: list[_Managed] = []


class _Spec(msgspec.Struct, rename="camel"):
    holder_identity: str = ""
    lease_duration_seconds: int = 0
    renew_time: str = ""
    lease_transitions: int = 0


class _Lease(msgspec.Struct):
    metadata: _Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)

    @property
    def name(self) -> str:
        """What is held."""
        return self.metadata.annotations.get(NAME, self.metadata.name)


class _Leases(msgspec.Struct):
    metadata: _Meta
    items: list[_Lease] = []


class _Seen(NamedTuple):
    """A Lease as it was when it was last seen to change. ``until``: when it runs out, on this process's own clock."""

    lease: _Lease
    until: float


class Presence:
    """Who is alive, as ``store.presence.Presence`` says it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._path = f"/apis/{_API}/namespaces/{client.access.namespace}/leases"
        self._seen: dict[str, _Seen] = {}

    @asynccontextmanager
    async def hold(self, name: str, holder: str, ttl: float = TTL) -> AsyncIterator[Hold]:
        """Hold a name while the context lasts."""
        if self._client.closed:
            raise closed()
        check(name, holder, ttl)
        asked = asyncio.get_running_loop().time()
        mine = _Mine(name, holder, ttl)
        lease = await self._take(mine)

        async def renew() -> bool:
            nonlocal lease
            try:
                lease = await self._write(mine, lease)
            except (Absent, Unserved):
                return False
            except (Stale, Unsure) as problem:
                now = await self._look(mine.spelt)
                if now is None or not mine.owns(now):
                    return False
                lease = now
                if isinstance(problem, Unsure):
                    raise Unavailable(str(problem)) from None
            except Again as problem:
                raise Unavailable(str(problem)) from None
            return True

        async def release() -> None:
            with suppress(Absent, Again, Unserved, Problem):
                await self._let_go(mine, lease)

        async with kept(Hold(name, holder), asked, ttl, renew, release) as hold:
            yield hold

    async def present(self) -> AsyncGenerator[Mapping[str, str]]:
        """Which names are held, now and at every change."""
        told: Mapping[str, str] | None = None
        while not self._client.closed:
            known, at = await self._list()
            news: asyncio.Queue[BaseException | None] = asyncio.Queue()
            following = asyncio.create_task(self._follow(known, at, news))
            try:
                while True:
                    alive = {name: seen for name, seen in known.items() if seen.until > _now()}
                    holders = {name: seen.lease.spec.holder_identity for name, seen in sorted(alive.items())}
                    if holders != told:
                        told = holders
                        yield holders
                    soonest = min((seen.until for seen in alive.values()), default=None)
                    with suppress(TimeoutError):
                        async with asyncio.timeout_at(soonest):
                            ended = await news.get()
                            if isinstance(ended, Compacted):
                                break
                            if ended is not None:
                                raise ended
                            if following.done() and news.empty():
                                return
            finally:
                following.cancel()
                await asyncio.wait([following])

    async def _follow(self, known: dict[str, _Seen], since: int, news: asyncio.Queue[BaseException | None]) -> None:
        """Keep ``known`` as the API server tells; say when something is new, and how it ended."""
        try:
            async with aclosing(changes(self._client, _RESOURCE, self._path, since, LABEL)) as told:
                async for change in told:
                    lease = msgspec.json.decode(change.data, type=_Lease)
                    if change.type == "DELETED":
                        known.pop(lease.name, None)
                        self._seen.pop(lease.name, None)
                    else:
                        known[lease.name] = self._note(lease)
                    news.put_nowait(None)
        except Problem as problem:
            news.put_nowait(problem)
        except (msgspec.MsgspecError, Unserved) as problem:
            news.put_nowait(Unavailable(f"a Lease cannot be read: {problem}"))
        news.put_nowait(None)

    async def _list(self) -> tuple[dict[str, _Seen], int]:
        try:
            answer, date = await self._client.read_dated(self._path, {"labelSelector": LABEL})
            found = msgspec.json.decode(answer, type=_Leases)
        except (msgspec.MsgspecError, Unserved) as problem:
            raise Unavailable(f"the Leases cannot be read: {problem}") from None
        at = revision(_RESOURCE, found.metadata.resource_version)
        known = {one.name: self._note(one, date) for one in found.items}
        self._seen = {name: seen for name, seen in self._seen.items() if name in known}
        return known, at

    def _note(self, lease: _Lease, date: float | None = None) -> _Seen:
        """A Lease was seen. ``date``: the API server's time, where nobody may have seen it change."""
        before = self._seen.get(lease.name)
        if before is None or before.lease.metadata.resource_version != lease.metadata.resource_version:
            ttl = float(lease.spec.lease_duration_seconds)
            until = _now() + ttl
            if date is not None and before is None and (changed := _changed(lease)) and date - changed > ttl + _GRACE:
                until = 0.0
            before = self._seen[lease.name] = _Seen(lease, until)
        return before

    async def _look(self, spelt: str) -> _Lease | None:
        """A Lease as it is; noted as seen."""
        try:
            answer, date = await self._client.read_dated(f"{self._path}/{spelt}")
        except Absent:
            return None
        lease = msgspec.json.decode(answer, type=_Lease)
        self._note(lease, date)
        return lease

    async def _take(self, mine: _Mine) -> _Lease:
        """Write the Lease, if there is none, it has run out, or it is this holder's own."""
        try:
            for _ in range(_TRIES):
                before = await self._look(mine.spelt)
                if before is not None:
                    if mine.owns(before):
                        return before  # it was written when nobody could say so
                    alive = self._seen[before.name].until > _now()
                    if alive and before.spec.holder_identity not in {"", mine.holder}:
                        raise taken(mine.name, before.spec.holder_identity)
                with suppress(Stale, Taken, Absent, Unsure):
                    return await self._write(mine, before)
        except Again as problem:
            raise Unavailable(str(problem)) from None
        except (Unserved, msgspec.MsgspecError) as problem:
            raise Unavailable(f"the Leases of namespace {self._client.access.namespace} cannot be used: {problem}") from None
        raise Conflict(f"others take {mine.name!r} all the time; try again")

    async def _write(self, mine: _Mine, before: _Lease | None) -> _Lease:
        body = msgspec.json.encode(mine.tree(self._client.access.namespace, before))
        query = {"fieldManager": self._client.access.who}
        if before is None:
            answer = await self._client.change("POST", self._path, body, query=query)
        else:
            answer = await self._client.change("PUT", f"{self._path}/{mine.spelt}", body, query=query)
        return msgspec.json.decode(answer, type=_Lease)

    async def _let_go(self, mine: _Mine, lease: _Lease | None) -> None:
        """Remove the Lease while it is this hold's; a renewal that was broken off may have come through."""
        for _ in range(_TRIES):
            if lease is None or not mine.owns(lease):
                return
            meta = lease.metadata
            wanted = {"preconditions": {"uid": meta.uid, "resourceVersion": meta.resource_version}}
            try:
                await self._client.change("DELETE", f"{self._path}/{meta.name}", msgspec.json.encode(wanted))
            except Stale:
                lease = await self._look(mine.spelt)
            else:
                return


_TOKEN = "fairlead.dev/token"  # noqa: S105  # it proves nothing, it tells one hold from the next


class _Mine:
    """One hold of ours: what its Lease says. The token tells it from an older one of the same holder."""

    def __init__(self, name: str, holder: str, ttl: float) -> None:
        self.name, self.holder, self._ttl = name, holder, ttl
        self.spelt = slug("", name)
        self._token = secrets.token_hex(8)

    def owns(self, lease: _Lease) -> bool:
        """Whether a Lease is this very hold's."""
        return lease.metadata.annotations.get(_TOKEN) == self._token

    def tree(self, namespace: str, before: _Lease | None) -> dict[str, object]:
        """The Lease, as it is after ``before``."""
        meta: dict[str, object] = {
            "name": self.spelt,
            "namespace": namespace,
            "labels": {LABEL: ""},
            "annotations": {NAME: self.name, _TOKEN: self._token},
        }
        turns = 0
        if before is not None:
            meta["resourceVersion"] = before.metadata.resource_version
            turns = before.spec.lease_transitions + (before.spec.holder_identity != self.holder)
        spec = {
            "holderIdentity": self.holder,
            "leaseDurationSeconds": -int(-self._ttl // 1),
            "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "leaseTransitions": turns,
        }
        return {"apiVersion": _API, "kind": "Lease", "metadata": meta, "spec": spec}


def _now() -> float:
    return asyncio.get_running_loop().time()


def _changed(lease: _Lease) -> float:
    """When a Lease was last changed, by the API server's clock; 0 if it does not say."""
    said = max((one.time for one in lease.metadata.managed_fields), default="")
    try:
        return datetime.fromisoformat(said).timestamp()
    except ValueError:
        return 0.0


_RESOURCE = Resource(object, _API, "leases", namespaced=True)  # type: ignore[arg-type]  # no kind of the model
