"""Policies: those of every kind, namespaces and nodes, as the store has them, and the kernel that follows.

The rows come from the book, which is pure. Here they get to the plane, which brings them to the kernel in the order that leaves
no gap::

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

from fairlead.api.schema import Applied, RuleHits
from fairlead.datapath.base import UNALLOWED, Hits
from fairlead.desired import build
from fairlead.desired.state import Rows, Subject
from fairlead.flow.record import stamp
from fairlead.kit import fault
from fairlead.model import namespace
from fairlead.model.admin import AdminNetworkPolicy, BaselineAdminNetworkPolicy
from fairlead.model.broken import Broken
from fairlead.model.cluster import ClusterNetworkPolicy
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Conflict, Invalid, Missing, Problem
from fairlead.model.meta import kind
from fairlead.model.namespace import Namespace
from fairlead.model.network import Subnet
from fairlead.model.node import Node as Machine
from fairlead.model.policy import NetworkPolicy
from fairlead.policy.book import Book, Delta
from fairlead.policy.book import Thing as Judged
from fairlead.policy.identity import Numbers
from fairlead.policy.salvage import PLURALS
from fairlead.policy.select import Policy
from fairlead.store.base import Delete, Put, Store, Stored

from .fronts import Fronts
from .here import here, labelled
from .host import Host
from .metrics import Metrics
from .networks import Networks
from .node import Node
from .services import Services
from .unreadable import Unreadable

log = logging.getLogger(__name__)

_NEVER = Hits(0, 0, 0.0)

Thing = Namespace | Machine | Policy

KINDS: tuple[type[Thing], ...] = (
    Namespace,
    Machine,
    NetworkPolicy,
    ClusterNetworkPolicy,
    AdminNetworkPolicy,
    BaselineAdminNetworkPolicy,
)


class Policies:
    """Every policy, namespace and node, in memory as in the store."""

    def __init__(
        self,
        own: str,
        store: Store,
        node: Node,
        networks: Networks,
        *,
        host: Host,
        unreadable: Unreadable,
        metrics: Metrics,
        endpoints: Callable[[], Mapping[str, Endpoint]],
        services: Services,
        numbers: Numbers,
    ) -> None:
        """``own`` is the name of this node; ``endpoints`` answers with all there are, by name."""
        self.book = Book(own, numbers=numbers)
        self.all: dict[str, dict[str, Thing]] = {one.plural: {} for one in KINDS}
        self.here = here(own, (), None)
        self._store, self._node, self._networks, self._ask = store, node, networks, endpoints
        self._host, self._unreadable, self._metrics = host, unreadable, metrics
        self.fronts = Fronts(services.directory)
        services.on_change = self.fronts.touch
        self._changes: dict[str, Rows] = {}
        self._flips: set[str] = set()
        self._unused: dict[str, Rows] = {}
        self._one = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def load(self, stored: Callable[[str], Iterable[Stored]], others: Iterable[Endpoint]) -> None:
        """Take what is stored of each kind, and containers of other nodes; the kernel follows with ``Node.apply``."""
        for plural, known in self.all.items():
            found = list(stored(plural))
            known |= {_name(thing): thing for thing in found if isinstance(thing, KINDS)}
            self._unreadable.note(one for one in found if isinstance(one, Broken))
        self._look_here()
        self._take(self.book.put(*self.depended_on()))
        self._take(self.book.put(*self._endpoints.values(), *others))
        self._flips |= set(self._endpoints)
        self._front()
        self._node.adopt_all({**self._changes, **dict(self._subjects(self._flips)), **self._unused})
        self._changes, self._flips, self._unused = {}, set(), {}

    def depended_on(self) -> Iterator[Thing | Broken]:
        """All that the book knows but endpoints."""
        others = (one for one in self.all[Machine.plural].values() if one.name != self.here.name)
        yield from (self.here, *others)
        for plural, known in self.all.items():
            if plural != Machine.plural:
                yield from known.values()
        for plural in PLURALS:
            yield from self._unreadable.of(plural)

    def _look_here(self) -> bool:
        """Look at this node again; whether it is otherwise."""
        stored = self.all[Machine.plural].get(self.here.name)
        found = here(self.here.name, self._host.reachable(), stored if isinstance(stored, Machine) else None)
        changed, self.here = found != self.here, found
        return changed

    async def renew(self) -> None:
        """The host's addresses may have changed."""
        if self._look_here():
            self._take(self.book.put(self.here))
            await self._flush()

    @property
    def count(self) -> int:
        """How many policies there are, of every kind."""
        return sum(len(known) for plural, known in self.all.items() if plural not in {Namespace.plural, Machine.plural})

    @property
    def _endpoints(self) -> Mapping[str, Endpoint]:
        return self._ask()

    def shown(self) -> dict[str, Mapping[str, Thing]]:
        """All by kind and name, as people are shown them: this node among the nodes."""
        machines = dict(self.all[Machine.plural])
        mine = machines.get(self.here.name)
        if not (isinstance(mine, Machine) and mine.internal):  # nobody has told the store what this node is reached by
            machines[self.here.name] = self.here
        nodes = {name: labelled(one) for name, one in machines.items() if isinstance(one, Machine)}
        return {**self.all, Machine.plural: nodes}

    async def apply(self, thing: Thing) -> Applied:
        """Store it, and answer when the kernel judges by it."""
        thing = placed(thing)
        known, name = self.all[thing.plural], _name(thing)
        before = known.get(name)
        expected = before.metadata.resource_version if before else self._unreadable.expected(thing)
        (stored,) = await self._store.commit(Put(thing, expected))
        assert isinstance(stored, KINDS)
        fault.point("policy.committed")
        known[name] = stored
        righted = self._unreadable.replaced(stored)
        try:
            await self._follow(stored)
        except BaseException:
            if not righted:  # in place of what cannot be read even this is better
                await asyncio.shield(self._take_back(stored, before))
            raise
        result = "configured" if righted else "created" if before is None else "unchanged" if stored == before else "configured"
        return Applied(result=result, kind=kind(thing), name=name, warnings=tuple(self._warnings(stored)))

    async def _follow(self, thing: Thing) -> None:
        """Have the kernel judge by what was stored."""
        if self._is_here(thing):
            await self.renew()
        else:
            self._take(self.book.put(thing))
            await self._flush()

    async def _unfollow(self, thing: Thing) -> None:
        """Have the kernel judge without it."""
        if self._is_here(thing):
            await self.renew()
        else:
            self._take(self.book.drop(thing))
            await self._flush()

    def _is_here(self, thing: Thing) -> bool:
        return thing.plural == Machine.plural and thing.name == self.here.name

    async def _take_back(self, thing: Thing, before: Thing | None) -> None:
        """The kernel refuses what was stored: nobody shall be kept waiting for it."""
        known, name = self.all[thing.plural], _name(thing)
        version = thing.metadata.resource_version
        try:
            if before:
                (known[name],) = await self._store.commit(Put(before, version))  # type: ignore[assignment]  # of the same kind
                await self._follow(before)
            else:
                await self._store.commit(Delete(thing.plural, thing.key, version))
                del known[name]
                await self._unfollow(thing)
        except Problem as problem:
            log.error("%s %s is refused, and not taken back: %s", kind(thing), name, problem)  # noqa: TRY400  # a person reads this

    async def delete(self, plural: str, name: str) -> Thing:
        """Remove it, and answer when the kernel does not judge by it any more."""
        thing = self.all[plural].get(name)
        if thing is None and plural == Machine.plural and name == self.here.name:
            raise Invalid(f"{name} is this node, and stays", field="name")
        if thing is None:
            raise Missing(f"there is no {_word(plural)} {name!r}", field="name")
        if isinstance(thing, Namespace) and (users := self._in(thing.name)):
            raise Conflict(f"namespace {name} holds {', '.join(users[:10])}; remove them first", field="metadata.name")
        await self._store.commit(Delete(plural, thing.key))
        fault.point("policy.forgotten")
        del self.all[plural][name]
        await self._unfollow(thing)
        return thing

    async def discard(self, broken: Broken) -> None:
        """Remove what cannot be read, and answer when the kernel does not judge by it any more."""
        await self._unreadable.delete(broken)
        if broken.plural in PLURALS:
            self._take(self.book.drop(broken))
            await self._flush()

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
            if not self._note(thing, gone=gone):
                continue
            if thing.plural == Machine.plural and thing.name == self.here.name:
                if self._look_here():
                    self._take(self.book.put(self.here))
                continue
            self._take(self.book.drop(thing) if gone else self.book.put(thing))
        try:
            await self._flush()
        except Problem as problem:
            log.warning("not programmed, the timer will: %s", problem)

    def _note(self, thing: Judged, *, gone: bool) -> bool:
        """Remember what was heard; whether it is news."""
        if isinstance(thing, Endpoint):
            return True
        if isinstance(thing, Broken):
            self.all.get(thing.plural, {}).pop(_name(thing), None)
            if gone:
                self._unreadable.replaced(thing)
            else:
                self._unreadable.note((thing,))
            return thing.plural in PLURALS
        known, name = self.all[thing.plural], _name(thing)
        have = known.get(name)
        if gone:
            known.pop(name, None)
        else:
            known[name] = thing
            self._unreadable.replaced(thing)
        return gone or have is None or have.metadata.resource_version != thing.metadata.resource_version

    def fits(self, name: str) -> Callable[[Subnet], bool]:
        """Which subnets are for containers of a namespace."""
        found = self.all[Namespace.plural].get(name or namespace.DEFAULT)
        labels = namespace.labels(name or namespace.DEFAULT, found if isinstance(found, Namespace) else None)
        return lambda subnet: subnet.namespaces is None or subnet.namespaces.matches(labels)

    def rule(self, number: int) -> str:
        """What people call a rule: ``shop/allow-web ingress[0]``; empty if it is no more."""
        found = self.book.rules().get(number)
        return found.title if found else ""

    async def hits(self) -> list[RuleHits]:
        """Every rule and how often it has decided, by policy; at the end the default denial of either direction."""
        found = await self._node.hits()
        rules = sorted(self.book.rules().items(), key=lambda one: (one[1].policy, one[1].direction, one[1].index))
        named = [(rule.policy, rule.direction, rule.index, str(rule.action), rule.name, number) for number, rule in rules]
        unnamed = [("", direction, 0, "Deny", "", number) for direction, number in UNALLOWED.items()]
        return [
            RuleHits(
                policy=policy,
                direction=direction,
                index=index,
                action=action,
                name=name,
                connections=(hit := found.get(number, _NEVER)).connections,
                drops=hit.drops,
                last=stamp(hit.last) if hit.last else "",
            )
            for policy, direction, index, action, name, number in (*named, *unnamed)
        ]

    async def settle(self) -> None:
        """Wait until nothing is on its way to the kernel."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _front(self) -> None:
        """Have the addresses of services be known as such."""
        if self.fronts.stale:
            self._take(self.fronts.settle(self.book))

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
            self._front()
            changes, self._changes = self._changes, {}
            flips, self._flips = self._flips, set()
            unused, self._unused = self._unused, {}
            rows = {**changes, **dict(self._subjects(flips)), **unused}
            try:
                with self._metrics.programming():
                    if rows:
                        await self._node.program(rows)
            except BaseException:
                self._changes, self._unused = {**changes, **self._changes}, {**unused, **self._unused}
                self._flips |= flips
                raise

    async def tend(self) -> None:
        """Bring to the kernel what it refused before, and forget how often rules decided that are no more."""
        if self._changes or self._flips or self._unused or self.fronts.stale:
            await self._flush()
        await self._node.forget_hits({*UNALLOWED.values(), *self.book.rules()})

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
        return build.subject(endpoint, self._networks.get(endpoint.spec.network), *self.book.subject(endpoint))

    def _has_link(self, endpoint: Endpoint) -> bool:
        network = self._networks.all.get(endpoint.spec.network)
        return network is not None and build.has_link(endpoint, network)

    def _in(self, name: str) -> list[str]:
        """What is in a namespace, as people know it."""
        inside = [one.display for one in self._endpoints.values() if (one.metadata.namespace or namespace.DEFAULT) == name]
        policies = [key for key, one in self.all[NetworkPolicy.plural].items() if one.metadata.namespace == name]
        return sorted({*inside, *policies})

    def _warnings(self, thing: Thing) -> Iterator[str]:
        if isinstance(thing, Machine):
            if thing.name == self.here.name and thing.status.addresses:
                yield "it is this node: its addresses are those of the host, whatever is written here"
            return
        if isinstance(thing, Namespace):
            return
        if not isinstance(thing, NetworkPolicy):
            yield from thing.warnings()
        for one in self._endpoints.values():
            if not self._has_link(one) and self.book.selects(thing, one):
                yield f"{one.display} on network {one.spec.network} has no link of ours: nothing is enforced on it"


def placed(thing: Thing) -> Thing:
    """The object in its namespace, if its kind lives in one."""
    if isinstance(thing, NetworkPolicy):
        return replace(thing, metadata=replace(thing.metadata, namespace=thing.metadata.namespace or namespace.DEFAULT))
    if thing.metadata.namespace:
        raise Invalid(f"a {kind(thing)} is in no namespace", field="metadata.namespace")
    return thing


def _name(thing: Thing | Broken) -> str:
    """How it is addressed: ``namespace/name``, or its name."""
    return f"{thing.metadata.namespace}/{thing.name}" if thing.metadata.namespace else thing.name


def _word(plural: str) -> str:
    """What people call one of a kind."""
    return next(kind(one) for one in KINDS if one.plural == plural).lower()
