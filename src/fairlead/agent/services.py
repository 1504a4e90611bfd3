"""Services: those that the store has, and who stands behind them.

They name flows and answer questions (``answer``); nothing is forwarded by them here: kube-proxy does that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from msgspec.structs import replace

from fairlead.api.schema import Applied
from fairlead.flow.enrich import service
from fairlead.model.broken import Broken
from fairlead.model.endpointslice import SERVICE_LABEL, EndpointSlice
from fairlead.model.errors import Missing
from fairlead.model.meta import kind
from fairlead.model.namespace import DEFAULT
from fairlead.model.service import Service
from fairlead.service.directory import Directory, Thing
from fairlead.store.base import Delete, Put, Store, Stored

from .unreadable import Unreadable

KINDS: tuple[type[Thing], ...] = (Service, EndpointSlice)


class Services:
    """Every service and EndpointSlice, in memory as in the store, by ``namespace/name``."""

    def __init__(self, store: Store, unreadable: Unreadable) -> None:
        self.directory = Directory()
        self.on_change: Callable[[tuple[str, str]], None] = lambda _: None
        """Is told which service is new, another or gone."""
        self._store, self._unreadable = store, unreadable

    @property
    def all(self) -> dict[str, Mapping[str, Thing]]:
        """All of each kind, by its plural."""
        tables: dict[str, Mapping[tuple[str, str], Thing]] = {
            Service.plural: self.directory.services,
            EndpointSlice.plural: self.directory.slices,
        }
        return {plural: {"/".join(key): one for key, one in table.items()} for plural, table in tables.items()}

    def load(self, stored: Callable[[str], Iterable[Stored]]) -> None:
        """Take what is stored."""
        for of in KINDS:
            for thing in stored(of.plural):
                self.hear(thing, gone=False)

    def hear(self, thing: Stored, *, gone: bool) -> None:
        """One is new, another or gone."""
        if isinstance(thing, KINDS):
            self._change(thing, gone=gone)
            self._unreadable.replaced(thing)
        elif isinstance(thing, Broken):
            if (before := self._known(thing.plural, thing.key)) is not None:
                self._change(before, gone=True)
            if gone:
                self._unreadable.replaced(thing)
            else:
                self._unreadable.note((thing,))

    def _change(self, thing: Thing, *, gone: bool) -> None:
        (self.directory.drop if gone else self.directory.put)(thing)
        if isinstance(thing, Service):
            self.on_change(thing.key)

    def named(self, address: str) -> str | None:
        """Whose address it is, as flows call him."""
        found = self.directory.at(address)
        return service(*found.key) if found else None

    async def apply(self, thing: Thing) -> Applied:
        """Store it."""
        thing = placed(thing)
        before = self._known(thing.plural, thing.key)
        expected = before.metadata.resource_version if before else self._unreadable.expected(thing)
        (stored,) = await self._store.commit(Put(thing, expected))
        assert isinstance(stored, KINDS)
        result = "created" if before is None else "unchanged" if stored == before else "configured"
        if self._unreadable.replaced(stored):
            result = "configured"
        self.hear(stored, gone=False)
        return Applied(result=result, kind=kind(thing), name=stored.name, warnings=tuple(self._warnings(stored)))

    async def delete(self, plural: str, name: str) -> Thing:
        """Remove it."""
        namespace, _, short = name.rpartition("/")
        thing = self._known(plural, (namespace or DEFAULT, short))
        if thing is None:
            raise Missing(f"there is no {plural.removesuffix('s')} {name!r}", field="name")
        await self._store.commit(Delete(plural, thing.key))
        self.hear(thing, gone=True)
        return thing

    def _known(self, plural: str, key: tuple[str, str]) -> Thing | None:
        return (self.directory.services if plural == Service.plural else self.directory.slices).get(key)

    def _warnings(self, thing: Thing) -> Iterator[str]:
        """What is written and comes to less than it seems."""
        if isinstance(thing, EndpointSlice):
            if not thing.service[1]:
                yield f"metadata.labels: without {SERVICE_LABEL} it is of no service"
            return
        yield "it names flows and is explained; nothing is forwarded to its containers by Fairlead"
        for address in thing.addresses:
            holder = self.directory.at(address)
            if holder is not None and holder.key != thing.key:
                yield f"{address} is an address of service {'/'.join(holder.key)} too, which has it"


def placed(thing: Thing) -> Thing:
    """The object in its namespace."""
    return replace(thing, metadata=replace(thing.metadata, namespace=thing.metadata.namespace or DEFAULT))
