"""Peerings: what people wrote about BGP, as the store has it: configurations, peers, filters, and the Secrets they name.

It decides nothing; ``bgp`` follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from msgspec.structs import replace

from fairlead.api.schema import Applied
from fairlead.model.bgp import REFLECTOR, BGPConfiguration, BGPPeer
from fairlead.model.bgpfilter import BGPFilter
from fairlead.model.broken import Broken
from fairlead.model.errors import Invalid, Missing
from fairlead.model.meta import Object, kind
from fairlead.model.namespace import DEFAULT
from fairlead.model.node import Node as Machine
from fairlead.model.secret import Password, Secret, SecretKeyRef
from fairlead.store.base import Delete, Put, Store, Stored

from .unreadable import Unreadable

T = TypeVar("T", BGPConfiguration, BGPPeer, BGPFilter, Secret)
Thing = BGPConfiguration | BGPPeer | BGPFilter | Secret
KINDS: tuple[type[Thing], ...] = (BGPConfiguration, BGPPeer, BGPFilter, Secret)


class Peerings:
    """Every one of them, in memory as in the store, by its name, a Secret's with its namespace."""

    def __init__(self, store: Store, unreadable: Unreadable, machines: Callable[[], Mapping[str, Machine]]) -> None:
        """``machines`` answers with the nodes that are known, by name."""
        self._things: dict[str, dict[str, Thing]] = {of.plural: {} for of in KINDS}
        self._store, self._unreadable, self._machines = store, unreadable, machines

    @property
    def all(self) -> dict[str, Mapping[str, Object]]:
        """All of each kind, by its plural; Secrets sealed."""
        sealed = {name: one.closed for name, one in self.of(Secret).items()}
        return {**self._things, Secret.plural: sealed}

    def of(self, kind: type[T]) -> dict[str, T]:
        """All of one kind."""
        return {name: one for name, one in self._things[kind.plural].items() if isinstance(one, kind)}

    def load(self, stored: Callable[[str], Iterable[Stored]]) -> None:
        """Take what is stored of each kind."""
        for of in KINDS:
            found = list(stored(of.plural))
            self._unreadable.note(one for one in found if isinstance(one, Broken))
            for thing in found:
                if isinstance(thing, KINDS):
                    self.hear(thing, gone=False)

    def hear(self, thing: Thing, *, gone: bool) -> None:
        """One is new, another or gone."""
        if gone:
            self._things[thing.plural].pop(_name(thing), None)
        else:
            self._things[thing.plural][_name(thing)] = thing

    async def apply(self, thing: Thing) -> Applied:
        """Store it."""
        thing = _settled(thing)
        before = self._things[thing.plural].get(_name(thing))
        expected = before.metadata.resource_version if before else self._unreadable.expected(thing)
        (stored,) = await self._store.commit(Put(thing, expected))
        assert isinstance(stored, KINDS)
        self.hear(stored, gone=False)
        righted = self._unreadable.replaced(stored)
        result = "configured" if righted else "created" if before is None else "unchanged" if stored == before else "configured"
        return Applied(result=result, kind=kind(thing), name=stored.name, warnings=tuple(self._warnings(stored)))

    async def delete(self, plural: str, name: str) -> Thing:
        """Remove it; a Secret comes back sealed."""
        known = self._things[plural]
        thing = known.get(name) or known.get(f"{DEFAULT}/{name}")
        if thing is None:
            raise Missing(f"there is no {plural.removesuffix('s')} {name!r}", field="name")
        await self._store.commit(Delete(plural, thing.key))
        self.hear(thing, gone=True)
        return thing.closed if isinstance(thing, Secret) else thing

    def secret(self, reference: SecretKeyRef) -> bytes | None:
        """A value; None if there is none."""
        found = self.of(Secret).get(f"{reference.namespace}/{reference.name}")
        value = found.data.get(reference.key) if found else None
        return value.value if value is not None else None

    def _warnings(self, thing: Thing) -> Iterator[str]:
        """What is written and comes to nothing, or not to what it seems."""
        if isinstance(thing, BGPPeer):
            yield from self._about_peer(thing)
        elif isinstance(thing, BGPConfiguration):
            yield from self._unknown(thing.spec.node_mesh_password, "spec.nodeMeshPassword")
            node = thing.name.removeprefix("node.")
            if node != thing.name and node not in self._machines():
                yield f"metadata.name: there is no node {node}"

    def _about_peer(self, peer: BGPPeer) -> Iterator[str]:
        spec = peer.spec
        yield from self._unknown(spec.password, "spec.password")
        for at, name in enumerate(spec.filters):
            if name not in self._things[BGPFilter.plural]:
                yield f"spec.filters[{at}]: there is no BGPFilter {name}: no route passes"
        if not any(peer.selects(one.name, one.labels) for one in self._machines().values()):
            yield "spec: it selects no node"
        if selector := spec.peer_selector:
            chosen = [one for one in self._machines().values() if selector.matches(one.labels)]
            if not chosen:
                yield "spec.peerSelector: it selects no node"
            elif not any(REFLECTOR in one.metadata.annotations for one in chosen):
                yield f"spec.peerSelector: no node that it selects has the annotation {REFLECTOR}: nothing is reflected"
        if (spec.multihop or (spec.ttl_security or 1) > 1) and spec.reachable_by is None:
            yield "spec.reachableBy: left out; what the router tells is used only if its next hop is on a subnet of the node"

    def _unknown(self, password: Password | None, field: str) -> Iterator[str]:
        if password and self.secret(password.secret_key_ref) is None:
            yield f"{field}: there is no Secret {password.secret_key_ref} yet: without it no session is tried"


def _settled(thing: Thing) -> Thing:
    """As it is stored."""
    if not isinstance(thing, Secret):
        if thing.metadata.namespace:
            raise Invalid(f"a {kind(thing)} is in no namespace", field="metadata.namespace")
        return thing
    try:
        whole = thing.open
    except ValueError as problem:
        field, _, said = str(problem).partition(": ")
        raise Invalid(said, field=field) from None
    return replace(whole, metadata=replace(whole.metadata, namespace=whole.metadata.namespace or DEFAULT))


def _name(thing: Thing) -> str:
    return "/".join(thing.key) if isinstance(thing, Secret) else thing.name
