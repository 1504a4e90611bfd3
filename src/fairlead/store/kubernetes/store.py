"""The store on the Kubernetes API; see ``base.Store``. A commit is one object, compared and swapped by its resourceVersion.

::

    commit ─► read what is there ─► settle (pure) ─► create, or replace what was read ─► as the API server made it
                     ▲                                     │
                     └──── somebody else was faster, or nobody knows whether it happened: look again

What is replaced keeps what others wrote into it and we do not know: finalizers, owners, a status. When an answer is lost, the
object itself says whether the change happened: it is as we wanted it, and managedFields name this client.

Of nodes, which are kubelet's, only the annotations that are ours are written, by server-side apply. Services and EndpointSlices
are never written, and of pods only annotations, where that is asked for.
"""

from __future__ import annotations

import builtins
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from fairlead.kit.clock import Clock
from fairlead.model.endpointslice import EndpointSlice
from fairlead.model.errors import Conflict, Invalid, Missing, Unavailable, Unsupported
from fairlead.model.meta import Object
from fairlead.model.node import Node
from fairlead.model.pod import Pod
from fairlead.model.service import Service
from fairlead.store.base import (
    Change,
    Compacted,
    Delete,
    Event,
    EventKind,
    Key,
    Listing,
    Put,
    Stored,
    check,
    closed,
    known,
    name_of,
    settle,
)
from fairlead.store.presence import TTL, Hold

from .access import Access
from .client import APPLY, Client
from .discovery import Kinds, elsewhere
from .errors import Absent, Again, Stale, Taken, Unserved, Unsure
from .objects import OURS, Reader, Tree, revision, written
from .presence import Presence
from .resources import Resource, resource
from .status import Condition, annotate, report
from .watch import changes, until_served

_TRIES = 16
_KINDS = {"ADDED": EventKind.ADDED, "MODIFIED": EventKind.MODIFIED, "DELETED": EventKind.DELETED}
_NOT_SERVED = 0
"""The revision of a listing of a kind that the API server does not have."""


class _Page(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    cont: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    metadata: _Page
    items: list[msgspec.Raw] | None = None


_lists = msgspec.json.Decoder(_List)


class Kubernetes:
    """A store that a whole cluster shares; bound to the event loop that made it."""

    at_once: Final = 1
    orders_all: Final = False

    def __init__(self, access: Access, *, clock: Clock = time.time) -> None:
        """Ask nobody anything yet: an agent starts also while its API server is away."""
        self._client = Client(access)
        self._presence = Presence(self._client)
        self._reader = Reader()
        self._kinds = Kinds()
        self._elsewhere: dict[str, Resource] = {}
        self._clock = clock
        self._closed = False

    async def get(self, plural: str, key: Key) -> Stored | None:
        known(plural, key)
        self._open()
        of = self._resource(plural)
        try:
            of.path(key)
        except Invalid:  # there can be no such object; but whoever asks may want to know whether anybody answers
            try:
                await self._listed(of, {"limit": "1"})
            except Unserved:
                if of.ours:
                    raise self._uninstalled(of) from None
            return None
        return self._stored(of, await self._tree(of, key))

    async def list(self, plural: str) -> Listing:
        self._open()
        for _ in range(_TRIES):
            of = self._resource(plural)
            try:
                found, at = await self._pages(of)
            except Compacted:
                continue  # it took so long that the API server has forgotten the revision of the first page
            except Unserved:
                if of.ours:
                    raise self._uninstalled(of) from None
                if other := await elsewhere(self._client, of):
                    self._elsewhere[plural] = other
                    continue
                self._kinds.lacks(plural)
                return Listing((), _NOT_SERVED)
            self._kinds.has(plural)
            return Listing.of(sorted(found, key=lambda one: one.key), at)
        raise Unavailable(f"the {plural} cannot be listed: the API server forgets each revision at once")

    async def commit(self, *changes: Change) -> tuple[Stored | None, ...]:
        self._open()
        check(changes)
        if not changes:
            return ()
        if len(changes) > 1:
            raise Unsupported(f"the Kubernetes API changes one object in a commit; these are {len(changes)}")
        of = resource(changes[0].plural)
        if of.of is Pod:
            raise Unsupported("pods are made by Kubernetes, not by Fairlead", field="kind")
        if of.of in {Service, EndpointSlice}:  # of which less is read than there is
            raise Unsupported(f"{of.plural} of a Kubernetes cluster are written with kubectl", field="kind")
        try:
            return (await self._commit(of, changes[0]),)
        except Again as problem:
            raise Unavailable(str(problem)) from None
        except Unserved as problem:
            raise (self._uninstalled(of) if of.ours else Missing(str(problem))) from None

    async def _commit(self, of: Resource, change: Change) -> Stored | None:
        doubt: Tree | None = None
        unsure = False
        # Nothing is read where it is to be new.
        unread = isinstance(change, Put) and change.expect in {"", 0, "0"}
        for _ in range(_TRIES):
            before = None if unread else await self._tree(of, change.key)
            unread = False
            if unsure and (done := self._happened(of, change, doubt, before)):
                return done
            (settled,) = settle((change,), lambda *_: self._stored(of, before), 0, self._clock())  # noqa: B023  # called at once
            if settled.event is None:
                return settled.result
            try:
                return await self._write(of, change, before)
            except (Absent, Taken, Stale):
                continue
            except Unsure:
                unsure, doubt = True, before
        raise Conflict(f"others change {name_of(change)} all the time; try again")

    async def watch(self, plural: str | None, since: int) -> AsyncGenerator[Event]:
        self._open()
        if plural is None:
            raise Unsupported("Kubernetes orders the changes of one kind, not those of all: watch each kind by itself")
        of = self._resource(plural)
        if since == _NOT_SERVED and not of.ours:
            await until_served(self._client, of)
            if self._closed:
                return
            raise Compacted(f"the API server has {plural} by now; list them")
        try:
            async with aclosing(changes(self._client, of, of.everything, since)) as told:
                async for one in told:
                    if kind := _KINDS.get(one.type):
                        yield Event(kind, self._reader.read(of, one.data), one.revision)
        except Unserved:
            raise (self._uninstalled(of) if of.ours else Compacted(f"the API server has no {plural} any more")) from None

    async def deleted(self, plural: str) -> tuple[Object, ...]:
        # What every node of all has deleted is of no use to one; what was its own is in its copy (store.snapshot).
        resource(plural)
        self._open()
        return ()

    def hold(self, name: str, holder: str, ttl: float = TTL) -> AbstractAsyncContextManager[Hold]:
        return self._presence.hold(name, holder, ttl)

    async def present(self) -> AsyncGenerator[Mapping[str, str]]:
        self._open()
        async with aclosing(self._presence.present()) as told:
            async for holders in told:
                yield holders

    async def report(self, plural: str, key: Key, *conditions: Condition, **facts: str) -> None:
        """Write into an object's status what this node finds of it; ``Missing`` if there is no such object."""
        self._open()
        await report(self._client, resource(plural), key, conditions, facts)

    async def annotate(self, pod: Pod, annotations: Mapping[str, str]) -> None:
        """Write annotations of a pod; ``Missing`` if it is no more. It takes a right that agents do not have by themselves."""
        self._open()
        await annotate(self._client, resource(pod.plural), pod.metadata, annotations)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._client.close()

    def _open(self) -> None:
        if self._closed:
            raise closed()

    def _resource(self, plural: str) -> Resource:
        """Where a kind lies on this API server, as far as is known."""
        return self._elsewhere.get(plural) or resource(plural)

    def _uninstalled(self, of: Resource) -> Unavailable:
        text = f"the cluster does not know {of.plural}.{of.api_version.partition('/')[0]}"
        return Unavailable(f"{text}; install the definitions: kubectl apply --server-side -f deploy/kubernetes/base/crds.yaml")

    def _stored(self, of: Resource, tree: Tree | None) -> Stored | None:
        return None if tree is None else self._reader.read(of, msgspec.json.encode(tree))

    async def _tree(self, of: Resource, key: Key) -> Tree | None:
        """One object as the API has it."""
        try:
            answer = await self._client.read(of.path(key))
        except Absent:
            return None
        except Unserved:
            if of.ours:
                raise self._uninstalled(of) from None
            return None
        tree: Tree = msgspec.json.decode(answer)
        return tree

    async def _pages(self, of: Resource) -> tuple[Sequence[Stored], int]:
        """All objects of a kind as they were at one moment, a page at a time."""
        found: builtins.list[Stored] = []
        query = {"limit": str(self._client.access.page)}
        at = 0
        while True:
            page = await self._listed(of, query)
            at = at or revision(of, page.metadata.resource_version)
            found += [self._reader.read(of, one) for one in page.items or ()]
            if not page.metadata.cont:
                return found, at
            query = {**query, "continue": page.metadata.cont}

    async def _listed(self, of: Resource, query: Mapping[str, str]) -> _List:
        """One page."""
        try:
            return _lists.decode(await self._client.read(of.everything, query))
        except msgspec.MsgspecError as problem:
            raise Unavailable(f"a listing of {of.plural} is none: {problem}") from None

    async def _write(self, of: Resource, change: Change, before: Tree | None) -> Stored | None:
        """Do what was decided, once."""
        if isinstance(change, Delete):
            assert before is not None
            meta = before["metadata"]
            wanted = {"preconditions": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}}
            await self._client.change("DELETE", of.path(change.key), msgspec.json.encode(wanted))
            return self._stored(of, before)
        if of.of is Node:
            return await self._annotate(of, change.object, before)
        body = _encoded(change, written(of, change.object, before))
        query = {"fieldManager": self._client.access.who}
        if before is None:
            answer = await self._client.change("POST", of.collection(change.key), body, query=query)
        else:
            answer = await self._client.change("PUT", of.path(change.key), body, query=query)
        return self._reader.read(of, answer)

    async def _annotate(self, of: Resource, thing: Object, before: Tree | None) -> Stored:
        """Of a node: what we say of it."""
        if before is None:
            raise Missing(f"the cluster has no node {thing.name}; kubelet makes it when it joins", field="metadata.name")
        ours = {name: text for name, text in thing.metadata.annotations.items() if name.startswith(OURS)}
        said = before["metadata"].get("annotations") or {}
        if all(said.get(name) == text for name, text in ours.items()) and not (set(filter(_is_ours, said)) - set(ours)):
            return self._reader.read(of, msgspec.json.encode(before))
        meta = {"name": thing.name, "uid": before["metadata"]["uid"], "annotations": ours}
        tree = {"apiVersion": of.api_version, "kind": of.kind, "metadata": meta}
        query = {"fieldManager": "fairlead", "force": "true"}
        answer = await self._client.change("PATCH", of.path(thing.key), msgspec.json.encode(tree), APPLY, query)
        return self._reader.read(of, answer)

    def _happened(self, of: Resource, change: Change, before: Tree | None, now: Tree | None) -> Stored | None:
        """What a change came to whose answer was lost, if it happened: the object is as this client wanted it and wrote it."""
        if isinstance(change, Delete):
            gone = now is None or (before is not None and now["metadata"]["uid"] != before["metadata"]["uid"])
            return self._stored(of, before) if gone else None
        if now is None:
            return None
        wanted = change.object
        found = self._reader.read(of, msgspec.json.encode(now))
        mine = any(one.get("manager") == self._client.access.who for one in now["metadata"].get("managedFields", ()))
        given = replace(
            wanted,
            metadata=replace(
                wanted.metadata,
                namespace=found.metadata.namespace,
                uid=found.metadata.uid,
                creation_timestamp=found.metadata.creation_timestamp,
                resource_version=found.metadata.resource_version,
                deletion_timestamp=found.metadata.deletion_timestamp,
            ),
        )
        return found if mine and found == given else None


def _is_ours(name: str) -> bool:
    return name.startswith(OURS)


def _encoded(change: Put, tree: Any) -> bytes:
    try:
        return msgspec.json.encode(tree)
    except UnicodeEncodeError as problem:
        raise Invalid(f"{name_of(change)} holds text that is not Unicode: {problem.reason}") from None
