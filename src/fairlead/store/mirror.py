"""Mirror: what is known of one kind, and what is new about it. Pure: listings and events in, changes to what is known out.

A change is told once, in the words of whoever knows only what was told before: what is new to him is added, whatever the
store called it. One that was deleted and made again meanwhile, which its uid shows, is told as both.
"""

from __future__ import annotations

from collections.abc import Iterable

from .base import Event, EventKind, Key, Listing, Stored


class Mirror:
    """The objects of one kind, also those that cannot be read. ``since``: all up to this revision of the store is in them."""

    def __init__(self, objects: Iterable[Stored] = ()) -> None:
        self.objects: dict[Key, Stored] = {one.key: one for one in objects}
        self.since = 0

    def listed(self, listing: Listing) -> tuple[Event, ...]:
        """Know what a listing says; what that changes: first what is gone, so that what it held is free for the rest."""
        found: tuple[Stored, ...] = (*listing.objects, *listing.broken)
        there = {one.key: one for one in found}
        gone = [one for key, one in self.objects.items() if key not in there or _another(one, there[key])]
        for one in gone:
            del self.objects[one.key]
        changes = [Event(EventKind.DELETED, one, listing.revision) for one in gone]
        for key, one in there.items():
            known = self.objects.get(key)
            if known != one:
                changes.append(Event(EventKind.MODIFIED if known else EventKind.ADDED, one, listing.revision))
        self.objects, self.since = there, listing.revision
        return tuple(changes)

    def told(self, event: Event) -> tuple[Event, ...]:
        """Know what an event says; what that changes, which is nothing where it is known already."""
        key, known = event.object.key, self.objects.get(event.object.key)
        self.since = max(self.since, event.since)
        if known is not None and event.revision <= int(known.metadata.resource_version or 0):
            return ()
        if event.kind is EventKind.DELETED:
            return (event,) if self.objects.pop(key, None) else ()
        self.objects[key] = event.object
        if known is None:
            return (Event(EventKind.ADDED, event.object, event.revision),)
        if _another(known, event.object):
            gone = Event(EventKind.DELETED, known, event.revision)
            return (gone, Event(EventKind.ADDED, event.object, event.revision))
        return (Event(EventKind.MODIFIED, event.object, event.revision),)


def _another(one: Stored, other: Stored) -> bool:
    """Whether two objects of one name are not the same one, changed."""
    return one.metadata.uid != other.metadata.uid
