"""Unreadable: what the store holds and nobody here can read. It disables nothing else; people are told, and can put it right.

An object is replaced by applying it anew and goes by deleting it, like any other. What is enforced of it meanwhile
``policy.salvage`` tells for policies and namespaces; of other kinds nothing is done, and nothing undone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from fairlead.api.schema import Unread
from fairlead.model.broken import Broken
from fairlead.model.meta import Object
from fairlead.store.base import Delete, Store

log = logging.getLogger(__name__)

Key = tuple[str, str, str]
"""(plural, namespace, name)."""


class Unreadable:
    """All there are, by key."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._all: dict[Key, Broken] = {}

    def note(self, found: Iterable[Broken]) -> None:
        """Remember what a listing has found."""
        for one in found:
            self._all[one.plural, *one.key] = one
            log.error("%s %s cannot be read: %s", one.plural, _name(one), one.reason)

    def of(self, plural: str) -> list[Broken]:
        """Those of a kind."""
        return [one for (kind, _, _), one in self._all.items() if kind == plural]

    def find(self, plural: str, name: str) -> Broken | None:
        """One by its name, or ``namespace/name``."""
        return next((one for one in self.of(plural) if name in {one.name, _name(one)}), None)

    def expected(self, thing: Object) -> str | None:
        """What a put of an object that is not known expects to be there: nothing, or what cannot be read, whatever it is."""
        return None if (thing.plural, *thing.key) in self._all else ""

    def replaced(self, thing: Object | Broken) -> bool:
        """An object was put in the place of one; whether there was one."""
        return self._all.pop((thing.plural, *thing.key), None) is not None

    async def delete(self, broken: Broken) -> None:
        """Have the store forget it."""
        await self._store.commit(Delete(broken.plural, broken.key))
        self._all.pop((broken.plural, *broken.key), None)

    def told(self) -> Iterator[Unread]:
        """As people are told."""
        for one in self._all.values():
            yield Unread(plural=one.plural, name=_name(one), reason=one.reason)


def _name(one: Broken) -> str:
    """How it is addressed: ``namespace/name``, or its name."""
    return "/".join(part for part in one.key if part)
