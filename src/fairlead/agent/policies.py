"""Policies: NetworkPolicies and Namespaces as the store has them, and the kernel that follows.

The rows come from the book, which is pure. Here they get to the kernel in the order that leaves no gap::

    1  what a set of policies says, and who is who      beside what is there
    2  each endpoint's subject                          flips from the old set to the new in one write
    3  sets that nobody is under any more               removed

An endpoint's own come before its link does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping

from msgspec.structs import replace

from fairlead.api.schema import Applied
from fairlead.desired import build, names
from fairlead.desired.state import Rows, Subject
from fairlead.kit import fault
from fairlead.model import namespace
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Conflict, Invalid, Missing, Problem
from fairlead.model.meta import kind
from fairlead.model.namespace import Namespace
from fairlead.model.network import Subnet
from fairlead.model.policy import NetworkPolicy
from fairlead.policy.book import Book, Delta
from fairlead.policy.book import Thing as Judged
from fairlead.store.base import Delete, Put, Store

from .networks import Networks
from .node import Node

log = logging.getLogger(__name__)

Thing = Namespace | NetworkPolicy

_WORDS = {Namespace.plural: "namespace", NetworkPolicy.plural: "policy"}


class Policies:
    """Every policy and namespace of the node, in memory as in the store."""

    def __init__(
        self,
        store: Store,
        node: Node,
        networks: Networks,
        endpoints: Callable[[], Mapping[str, Endpoint]],
        *,
        me: str,
    ) -> None:
        """``endpoints`` answers with all there are on this node, ``me``, by name."""
        self.book = Book(me)
        self.all: dict[str, dict[str, Thing]] = {Namespace.plural: {}, NetworkPolicy.plural: {}}
        self._store, self._node, self._networks, self._ask = store, node, networks, endpoints
        self._changes: dict[str, Rows] = {}
        self._flips: set[str] = set()
        self._unused: dict[str, Rows] = {}
        self._one = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def load(self) -> None:
        """Read them from the store; the kernel follows with ``Node.apply``."""
        for plural, known in self.all.items():
            for thing in (await self._store.list(plural)).objects:
                assert isinstance(thing, (Namespace, NetworkPolicy))
                known[_name(thing)] = thing
        for things in (*self.all.values(), self._endpoints):
            self._take(self.book.put(*things.values()))
        self._flips |= set(self._endpoints)
        self._node.adopt_all({**self._changes, **dict(self._subjects(self._flips)), **self._unused})
        self._changes, self._flips, self._unused = {}, set(), {}

    @property
    def _endpoints(self) -> Mapping[str, Endpoint]:
        return self._ask()

    async def apply(self, thing: Thing) -> Applied:
        """Store it, and answer when the kernel judges by it."""
        if isinstance(thing, NetworkPolicy) and not thing.metadata.namespace:
            thing = replace(thing, metadata=replace(thing.metadata, namespace=namespace.DEFAULT))
        if isinstance(thing, Namespace) and thing.metadata.namespace:
            raise Invalid("a namespace is in no namespace", field="metadata.namespace")
        known, name = self.all[thing.plural], _name(thing)
        before = known.get(name)
        (stored,) = await self._store.commit(Put(thing, before.metadata.resource_version if before else ""))
        assert isinstance(stored, (Namespace, NetworkPolicy))
        fault.point("policy.committed")
        known[name] = stored
        self._take(self.book.put(stored))
        await self._flush()
        result = "created" if before is None else "unchanged" if stored == before else "configured"
        warnings = tuple(self._warnings(stored)) if isinstance(stored, NetworkPolicy) else ()
        return Applied(result=result, kind=kind(thing), name=name, warnings=warnings)

    async def delete(self, plural: str, name: str) -> Thing:
        """Remove it, and answer when the kernel does not judge by it any more."""
        thing = self.all[plural].get(name)
        if thing is None:
            raise Missing(f"there is no {_WORDS[plural]} {name!r}", field="name")
        if isinstance(thing, Namespace) and (users := self._in(thing.name)):
            raise Conflict(f"namespace {name} holds {', '.join(users[:10])}; remove them first", field="metadata.name")
        await self._store.commit(Delete(plural, thing.key))
        fault.point("policy.forgotten")
        del self.all[plural][name]
        self._take(self.book.drop(thing))
        await self._flush()
        return thing

    async def admit(self, endpoint: Endpoint) -> None:
        """Have the kernel know the endpoint and what it is under, before it has a link."""
        self._take(self.book.put(endpoint))
        self._flips.add(endpoint.name)
        await self._flush()

    def dismiss(self, endpoint: Endpoint) -> None:
        """The kernel has let go of the endpoint's link: nobody has its addresses any more."""
        self._take(self.book.drop(endpoint))
        self._flips.add(endpoint.name)
        task = asyncio.create_task(self._tidy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def hear(self, things: Iterable[tuple[Judged, bool]]) -> None:
        """What others wrote, or removed: policies, namespaces, nodes, containers of other nodes."""
        for thing, gone in things:
            if isinstance(thing, (Namespace, NetworkPolicy)):
                known, name = self.all[thing.plural], _name(thing)
                have = known.get(name)
                if not gone and have is not None and have.metadata.resource_version == thing.metadata.resource_version:
                    continue
                if gone:
                    known.pop(name, None)
                else:
                    known[name] = thing
            self._take(self.book.drop(thing) if gone else self.book.put(thing))
        try:
            await self._flush()
        except Problem as problem:
            log.warning("not programmed, the timer will: %s", problem)

    def fits(self, name: str) -> Callable[[Subnet], bool]:
        """Which subnets are for containers of a namespace."""
        found = self.all[Namespace.plural].get(name or namespace.DEFAULT)
        labels = namespace.labels(name or namespace.DEFAULT, found if isinstance(found, Namespace) else None)
        return lambda subnet: subnet.namespaces is None or subnet.namespaces.matches(labels)

    def rule(self, number: int) -> str:
        """What people call a rule: ``shop/allow-web ingress[0]``; empty if it is no more."""
        found = self.book.rules().get(number)
        return f"{found.policy} {found.direction}[{found.index}]" if found else ""

    async def settle(self) -> None:
        """Wait until nothing is on its way to the kernel."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _take(self, delta: Delta) -> None:
        """Remember what a change comes to, until the next flush; the last word on an owner counts."""
        for owner, rows in delta.steps:
            self._changes[owner] = rows
            self._unused.pop(owner, None)
        for owner, rows in delta.after:
            self._unused[owner] = rows
        self._flips |= delta.subjects

    async def _flush(self) -> None:
        """Bring to the kernel what waits, whoever brought it up. What it refuses waits on, for the next flush."""
        async with self._one:
            changes, self._changes = self._changes, {}
            flips, self._flips = self._flips, set()
            unused, self._unused = self._unused, {}
            try:
                for step in (changes, dict(self._subjects(flips)), unused):
                    if step:
                        await self._node.program(step)
            except BaseException:
                self._changes, self._unused = {**changes, **self._changes}, {**unused, **self._unused}
                self._flips |= flips
                raise

    async def retry(self) -> None:
        """Bring to the kernel what it refused before."""
        if self._changes or self._flips or self._unused:
            await self._flush()

    async def _tidy(self) -> None:
        try:
            await self._flush()
        except Problem as problem:
            log.warning("not removed, the next comparison will: %s", problem)

    def _subjects(self, endpoints: Iterable[str]) -> Iterator[tuple[str, Rows]]:
        for name in endpoints:
            endpoint = self._endpoints.get(name)
            yield f"subject/{name}", (self._subject(endpoint),) if endpoint and self._has_link(endpoint) else ()

    def _subject(self, endpoint: Endpoint) -> Subject:
        ingress, egress = self.book.subject(endpoint)
        return Subject(host=names.veth(endpoint.name), ingress=ingress, egress=egress)

    def _has_link(self, endpoint: Endpoint) -> bool:
        network = self._networks.all.get(endpoint.spec.network)
        return network is not None and build.has_link(endpoint, network)

    def _in(self, name: str) -> list[str]:
        """What is in a namespace, as people know it."""
        inside = [one.display for one in self._endpoints.values() if (one.metadata.namespace or namespace.DEFAULT) == name]
        policies = [key for key, one in self.all[NetworkPolicy.plural].items() if one.metadata.namespace == name]
        return sorted({*inside, *policies})

    def _warnings(self, policy: NetworkPolicy) -> Iterator[str]:
        for one in self._endpoints.values():
            same = (one.metadata.namespace or namespace.DEFAULT) == policy.metadata.namespace
            if same and policy.spec.pod_selector.matches(one.metadata.labels) and not self._has_link(one):
                yield f"{one.display} on network {one.spec.network} has no link of ours: nothing is enforced on it"


def _name(thing: Thing) -> str:
    """How it is addressed: ``namespace/name``, or its name."""
    return f"{thing.metadata.namespace}/{thing.name}" if thing.metadata.namespace else thing.name
