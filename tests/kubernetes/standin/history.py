"""History: objects by kind, as bytes; every change takes one revision of a counter that all kinds share, as in etcd."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, NamedTuple

import msgspec

Key = tuple[str, str]
"""(namespace, name)."""

Tree = dict[str, Any]

_SNAPSHOTS = 16


class Kept(NamedTuple):
    """One object as it is kept."""

    revision: int
    data: bytes

    @property
    def tree(self) -> Tree:
        found: Tree = msgspec.json.decode(self.data)
        return found


class Change(NamedTuple):
    """One change: what is there now (of a deletion: what was there last, at the deletion's revision), and before it."""

    revision: int
    type: str
    resource: str
    key: Key
    now: Kept
    before: Kept | None


class History:
    """Everything that is kept. ``floor``: what came at or before this revision is forgotten."""

    def __init__(self, keep: int = 10_000) -> None:
        self.revision, self.floor = 1, 0
        self.tables: dict[str, dict[Key, Kept]] = {}
        self.log: deque[Change] = deque()
        self.keep = keep
        self._snapshots: dict[tuple[str, int], list[tuple[Key, Kept]]] = {}
        self.wakes: set[asyncio.Event] = set()

    def get(self, resource: str, key: Key) -> Kept | None:
        return self.tables.get(resource, {}).get(key)

    def put(self, resource: str, key: Key, tree: Tree) -> Kept:
        """Create or replace; the revision is written into it."""
        self.revision += 1
        tree["metadata"]["resourceVersion"] = str(self.revision)
        now = Kept(self.revision, msgspec.json.encode(tree))
        table = self.tables.setdefault(resource, {})
        before = table.get(key)
        table[key] = now
        self._tell(Change(self.revision, "MODIFIED" if before else "ADDED", resource, key, now, before))
        return now

    def drop(self, resource: str, key: Key) -> Kept:
        self.revision += 1
        before = self.tables[resource].pop(key)
        tree = before.tree
        tree["metadata"]["resourceVersion"] = str(self.revision)
        now = Kept(self.revision, msgspec.json.encode(tree))
        self._tell(Change(self.revision, "DELETED", resource, key, now, before))
        return now

    def snapshot(self, resource: str, revision: int | None = None) -> tuple[int, list[tuple[Key, Kept]]] | None:
        """All objects of a kind in order, as they are or as they were at a revision that was handed out; None: forgotten."""
        if revision is not None:
            found = self._snapshots.get((resource, revision))
            return (revision, found) if found is not None and revision >= self.floor else None
        made = sorted(self.tables.get(resource, {}).items())
        self._snapshots[resource, self.revision] = made
        while len(self._snapshots) > _SNAPSHOTS:
            del self._snapshots[next(iter(self._snapshots))]
        return self.revision, made

    def after(self, revision: int) -> list[Change]:
        """What came after a revision."""
        found: list[Change] = []
        for change in reversed(self.log):
            if change.revision <= revision:
                break
            found.append(change)
        return found[::-1]

    def forget(self, keep: int) -> None:
        """Remember the last ``keep`` revisions only."""
        self.floor = max(self.floor, self.revision - keep)
        while self.log and self.log[0].revision <= self.floor:
            self.log.popleft()
        self._snapshots = {at: made for at, made in self._snapshots.items() if at[1] >= self.floor}

    def lose(self, revision: int) -> None:
        """Be at an earlier revision again, as after a restore from a backup: what was handed out since never was."""
        for change in reversed(self.after(revision)):
            table = self.tables[change.resource]
            if change.before:
                table[change.key] = change.before
            else:
                table.pop(change.key, None)
        self.revision = revision
        self.log = deque(change for change in self.log if change.revision <= revision)
        self._snapshots.clear()

    def wake(self) -> None:
        for one in self.wakes:
            one.set()

    def _tell(self, change: Change) -> None:
        self.log.append(change)
        if len(self.log) > self.keep:
            self.floor = self.log.popleft().revision
        self.wake()
