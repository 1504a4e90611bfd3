"""Store: where objects live. One interface, several stores behind it, one contract suite for all of them.

Every change of an object takes one revision of the store's counter, which only grows. An object carries the revision of
its last change as ``metadata.resourceVersion``; a watch names the revision it has seen and gets what came after::

    list ──► (objects, revision 7)            watch(since 7) ──► 8 added, 9 modified, 10 deleted, ...
      ▲                                             │
      └──────────── Compacted: the store no longer remembers what came after that revision

What each store guarantees:

==============  ==========================  ============================  ==================================
store           one commit, many objects    durable when commit returns   other writers
==============  ==========================  ============================  ==================================
memory          atomic                      no, and is not meant to be    none: one process
sqlite          atomic                      yes (fsync)                   processes of this machine
etcd            atomic (one transaction)    yes (a quorum)                every node; its events of one commit
                                                                          share a revision
Kubernetes API  one object a commit; more   yes                           every client of the cluster; each kind has
                is refused with Unsupported                               revisions of its own (``orders_all``), and
                (``at_once``)                                             what a deletion took is not told
==============  ==========================  ============================  ==================================

The decisions common to all (what a change does to an object, when it is refused) are pure and stand here: ``settle``.
A store adds nothing to them but keeping. Nothing here knows what the objects mean.

What is stored and cannot be read, because another version or a person wrote it, is handed over as ``Broken`` beside the rest:
it can be replaced and deleted like any object (``read``).
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from fairlead.kit.clock import rfc3339
from fairlead.model.broken import Broken
from fairlead.model.codec import KINDS, decode, encode
from fairlead.model.errors import Conflict, Invalid, Missing, Unavailable
from fairlead.model.meta import Object

Key = tuple[str, str]
"""(namespace, name)."""

Stored = Object | Broken
"""What a store can find."""

MAX_OBJECT = 1 << 20
"""Bytes of one encoded object; etcd and the Kubernetes API take little more."""

MAX_CHANGES = 127
"""Changes in one commit that every store takes: etcd has 128 in a transaction (--max-txn-ops), and keeps one for itself."""

KEEP = 4096
"""How many revisions a store remembers for watches, and how many deletions of each kind."""

_KINDS = {one.plural: one for one in KINDS}


class Compacted(Unavailable):
    """The store no longer knows what came after the revision asked for: list again, and watch from that revision."""


class EventKind(StrEnum):
    """What happened to an object."""

    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one object. Of a deletion ``object`` is what it last was, with the revision of its deletion.

    ``more``: the same commit has more events to tell, at the same revision.
    """

    kind: EventKind
    object: Stored
    revision: int
    more: bool = False

    @property
    def since(self) -> int:
        """What a watch is handed that goes on after this event: it misses nothing, and tells a commit left half told again."""
        return self.revision - self.more


@dataclass(frozen=True, slots=True)
class Listing:
    """Every object of a kind, by key, and the revision of the store at which this was so; beside them what cannot be read."""

    objects: tuple[Object, ...]
    revision: int
    broken: tuple[Broken, ...] = ()

    @classmethod
    def of(cls, found: Iterable[Stored], revision: int) -> Listing:
        """All that was found, by key."""
        things = tuple(found)
        broken = tuple(one for one in things if isinstance(one, Broken))
        return cls(tuple(one for one in things if not isinstance(one, Broken)), revision, broken)


@dataclass(frozen=True, slots=True)
class Put:
    """Create or replace. ``expect``: None whatever is there, "" or 0 nothing, else the revision of what is there."""

    object: Object
    expect: str | int | None = None

    @property
    def plural(self) -> str:
        """The kind of the object."""
        return self.object.plural

    @property
    def key(self) -> Key:
        """The key of the object."""
        return self.object.key


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove. Without ``expect`` it is no error that nothing is there; with a revision, it must be what is there."""

    plural: str
    key: Key
    expect: str | int | None = None


Change = Put | Delete


class Store(Protocol):
    """Where objects live. Every method raises ``model.errors.Problem`` and nothing else."""

    @property
    def at_once(self) -> int:
        """How many changes one commit takes: ``MAX_CHANGES``, or 1."""

    @property
    def orders_all(self) -> bool:
        """Whether the changes of all kinds have one order. Where not, each kind is watched by itself."""

    async def get(self, plural: str, key: Key) -> Stored | None:
        """One object, or None."""

    async def list(self, plural: str) -> Listing:
        """All objects of a kind, as they were at one moment."""

    async def commit(self, *changes: Change) -> tuple[Stored | None, ...]:
        """Do all of it or nothing; raise ``Conflict`` or ``Missing`` if an expectation does not hold.

        For each change the object as it now is (of a deletion, as it last was; None if nothing was there). A put that
        changes nothing takes no revision. When a call is cancelled its commit may have happened or not; the same is so
        where ``Unavailable`` says that it is not known.
        """

    def watch(self, plural: str | None, since: int) -> AsyncGenerator[Event]:
        """Every change after revision ``since``, of one kind or of all, in order, each once; ends when the store is closed.

        Who leaves off and goes on later names the ``since`` of the last event. Raises ``Compacted`` if the store does not
        remember that far back, or never was at that revision; ``Unavailable`` once it has been away for too long.
        """

    async def deleted(self, plural: str) -> tuple[Object, ...]:
        """The last deleted objects of a kind, oldest first, as far back as the store remembers; perhaps none.

        For one who needs to know after a restart what he let go, and in which order. Where many nodes write, a store that
        remembers all of theirs for each is not what keeps this: a node's own copy is (``store.snapshot``).
        """

    async def close(self) -> None:
        """Finish what was begun and let go. Again is no error."""


class Settled(NamedTuple):
    """What one change comes to. Without an event nothing changes; ``data`` is the event's object, encoded."""

    result: Stored | None
    event: Event | None
    data: bytes


def kind_of(plural: str) -> type[Object]:
    """The class of a kind; ``Missing`` if there is no such kind."""
    if found := _KINDS.get(plural):
        return found
    raise Missing(f"{plural!r} is not a kind known here; known: {', '.join(_KINDS)}")


def read(plural: str, data: bytes, key: Key | None = None) -> Stored:
    """What is stored as ``data``, under ``key`` if that is known, as an object, or as what cannot be read and why."""
    kind = _KINDS.get(plural)
    if kind is None:
        return Broken.of(plural, data, f"{plural[:80]} is not a kind known here", key)
    try:
        found = decode(data, kind)
    except Invalid as problem:
        return Broken.of(plural, data, str(problem), key)
    if key is not None and found.key != key:
        return Broken.of(plural, data, f"metadata: it is stored as {_path(key)}, and says that it is {_path(found.key)}", key)
    return found


def readable(found: Iterable[Stored]) -> tuple[Object, ...]:
    """Those that can be read."""
    return tuple(one for one in found if not isinstance(one, Broken))


def known(plural: str, key: Key) -> type[Object]:
    """The class of an object that is asked for; raise if no store can have such a one."""
    kind = kind_of(plural)
    try:
        "".join(key).encode()
    except UnicodeEncodeError as problem:
        raise Invalid(f"{key!r:.100} holds text that is not Unicode: {problem.reason}", field="metadata.name") from None
    return kind


def check(changes: Sequence[Change]) -> None:
    """Raise unless the changes can be one commit: kinds known, names that are text, no object twice."""
    seen = set()
    for change in changes:
        known(change.plural, change.key)
        if (at := (change.plural, change.key)) in seen:
            raise Invalid(f"{name_of(change)} is changed twice in one commit")
        seen.add(at)


def settle(
    changes: Sequence[Change], look: Callable[[str, Key], Stored | None], revision: int, now: float
) -> tuple[Settled, ...]:
    """What the changes come to in a store that is at ``revision`` and holds what ``look`` finds; raise if they may not be."""
    settled = []
    for change in changes:
        before = look(change.plural, change.key)
        _expect(change, before)
        event = _event(change, before, revision + 1, now)
        if event is not None:
            revision = event.revision
        settled.append(Settled(event.object if event else before, event, _encoded(change, event)))
    return tuple(settled)


def name_of(change: Change) -> str:
    """What a change is about, for people: ``networks/blue``."""
    return f"{change.plural}/{_path(change.key)}"


def _path(key: Key) -> str:
    return "/".join(part for part in key if part)


def closed() -> Unavailable:
    """The answer of a store that was closed."""
    return Unavailable("the store is closed")


def compacted(since: int, floor: int, revision: int) -> Compacted:
    """The answer to a watch that asks for what is not remembered."""
    return Compacted(f"revision {since} is not among those remembered, {floor} to {revision}; list again")


def _expect(change: Change, before: Stored | None) -> None:
    if change.expect is None:
        return
    try:
        expected = int(change.expect or 0)
    except ValueError:
        raise Invalid(f"{change.expect!r} is not a revision of this store", field="metadata.resourceVersion") from None
    held = before.metadata.resource_version if before else ""
    if expected and before is None:
        raise Missing(f"{name_of(change)} does not exist; revision {expected} of it was expected")
    if not expected and before is not None:
        raise Conflict(f"{name_of(change)} exists already, at revision {held}", field="metadata.name", revision=held)
    if before is not None and str(expected) != held:
        raise Conflict(
            f"{name_of(change)} was changed meanwhile: it is at revision {held}, expected {expected}; read it again",
            field="metadata.resourceVersion",
            revision=held,
        )


def _event(change: Change, before: Stored | None, revision: int, now: float) -> Event | None:
    if isinstance(change, Delete):
        if before is None:
            return None
        gone = replace(before, metadata=replace(before.metadata, resource_version=str(revision)))
        return Event(EventKind.DELETED, gone, revision)
    given = change.object.metadata
    if before is None:
        born = replace(given, uid=str(uuid.uuid4()), creation_timestamp=rfc3339(now), resource_version=str(revision))
        return Event(EventKind.ADDED, replace(change.object, metadata=born), revision)
    kept = replace(
        given,
        deletion_timestamp=before.metadata.deletion_timestamp,
        uid=before.metadata.uid,
        creation_timestamp=before.metadata.creation_timestamp,
        resource_version=before.metadata.resource_version,
    )
    if replace(change.object, metadata=kept) == before:
        return None
    return Event(EventKind.MODIFIED, replace(change.object, metadata=replace(kept, resource_version=str(revision))), revision)


def _encoded(change: Change, event: Event | None) -> bytes:
    if event is None:
        return b""
    if isinstance(event.object, Broken):
        return event.object.data
    try:
        data = encode(event.object)
    except UnicodeEncodeError as problem:
        raise Invalid(f"{name_of(change)} holds text that is not Unicode: {problem.reason}") from None
    if len(data) > MAX_OBJECT:
        raise Invalid(f"{name_of(change)} has {len(data)} bytes; an object has at most {MAX_OBJECT}")
    return data
