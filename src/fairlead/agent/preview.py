"""What would change if objects were applied or deleted: a question to two books made for it, in a thread of their own.

Nothing is stored and nothing programmed. Recent flows are asked about too: which of them would be cut. So is each port of a
service (``policy.gates``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

from fairlead.api.schema import Difference, Previewed, Proposal
from fairlead.flow.enrich import address
from fairlead.flow.record import FORWARDED, PROTOCOLS, Record
from fairlead.model import codec
from fairlead.model.address import FAMILIES, Address
from fairlead.model.endpoint import Endpoint
from fairlead.model.endpointslice import EndpointSlice
from fairlead.model.errors import Invalid
from fairlead.model.meta import Object, kind
from fairlead.model.namespace import Namespace
from fairlead.model.node import Node
from fairlead.model.service import Service, ServiceType
from fairlead.policy import gates
from fairlead.policy.book import Book, Thing
from fairlead.policy.gates import Gate
from fairlead.policy.preview import Door, Preview
from fairlead.service.directory import Directory
from fairlead.service.directory import Thing as Served
from fairlead.service.selected import selected

from .fronts import Fronts

_FLOWS = 4096
"""Connections, of those seen last, that are asked about."""

Key = tuple[str, ...]


class Scene(NamedTuple):
    """All that policies depend on, as it is now; ``own`` is this node's name. ``services``: with their slices."""

    own: str
    things: Sequence[Thing]
    flows: Sequence[Record]
    services: Sequence[Served] = ()


class World(NamedTuple):
    """What there is before a change, or after: the book, the services beside it, and each port of theirs.

    ``doors``: the gates by what a connection begins with.
    """

    book: Book
    directory: Directory
    gates: Sequence[Gate]
    doors: Mapping[Door, Gate]


async def preview(scene: Scene, proposal: Proposal, placed: Callable[[Object], Thing | Served]) -> Previewed:
    """Compare; ``placed`` says where an object would stand, and refuses what is no matter of policies."""
    changed = [_thing(tree, f"apply[{at}]", placed) for at, tree in enumerate(proposal.apply)]
    gone = [_thing(tree, f"delete[{at}]", placed) for at, tree in enumerate(proposal.delete)]
    if not changed and not gone:
        raise Invalid("say what would change", field="apply")
    return await asyncio.to_thread(_compare, scene, changed, gone, proposal.limit)


def _thing(tree: object, field: str, placed: Callable[[Object], Thing | Served]) -> Thing | Served:
    thing = codec.from_item(tree, field)
    try:
        return placed(thing)
    except Invalid as problem:
        raise problem.under(field) from None


def _compare(scene: Scene, changed: Sequence[Thing | Served], gone: Sequence[Thing | Served], limit: int) -> Previewed:
    before = {_key(one): one for one in (*scene.things, *scene.services)}
    after = before | {_key(one): one for one in changed}
    for one in gone:
        after.pop(_key(one), None)
    _follow(before, after, changed)
    old, new = (_world(scene, side.values()) for side in (before, after))
    peers_change = any(isinstance(one, (Namespace, Node)) for one in (*changed, *gone))
    comparison = Preview(old.book, new.book, peers_change=peers_change)
    rows = comparison.rows(gates.changes(comparison, old.gates, new.gates))
    cut = list(_cut(comparison, (old, new), scene.flows))
    return Previewed(
        differences=tuple(
            Difference(
                allowed=one.allowed, sources=one.sources, destinations=one.destinations, ports=one.ports, pairs=one.pairs
            )
            for one in rows[:limit]
        ),
        more=max(len(rows) - limit, 0),
        flows=tuple(one.flow() for one in cut[:limit]),
        more_flows=max(len(cut) - limit, 0),
        warnings=tuple(_warnings(changed, new.directory)),
    )


def _follow(before: Mapping[Key, Thing | Served], after: dict[Key, Thing | Served], changed: Iterable[Thing | Served]) -> None:
    """Do in ``after`` as a controller would: slices of services that are new, or select otherwise, where no file has them."""
    told = {one.service for one in changed if isinstance(one, EndpointSlice)}
    slices = [one for one in after.values() if isinstance(one, EndpointSlice)]
    for one in changed:
        if not isinstance(one, Service) or one.key in told or not one.spec.selector or _key(one) not in after:
            continue
        theirs = [each for each in slices if each.service == one.key]
        was = before.get(_key(one))
        if theirs and isinstance(was, Service) and (was.spec.selector, was.spec.ports) == (one.spec.selector, one.spec.ports):
            continue
        for each in theirs:
            del after[_key(each)]
        endpoints = (each for each in after.values() if isinstance(each, Endpoint))
        after.update((_key(each), each) for each in selected(one, endpoints))


def _world(scene: Scene, things: Iterable[Thing | Served]) -> World:
    book, directory = Book(scene.own, everywhere=True), Directory()
    fronts = Fronts(directory)
    judged: list[Thing] = []
    for one in things:
        if isinstance(one, Service | EndpointSlice):
            directory.put(one)
            if isinstance(one, Service):
                fronts.touch(one.key)
        else:
            judged.append(one)
    book.put(*judged)
    fronts.settle(book)
    found = list(_gates(directory))
    doors = {(one.front, one.protocol, one.port): one for one in reversed(found) if one.front}
    return World(book, directory, found, doors)


def _gates(directory: Directory) -> Iterator[Gate]:
    for _, service in sorted(directory.services.items()):
        fronts = {one.family: one for one in service.cluster_addresses}
        for family, port in product(FAMILIES, service.spec.ports):
            behind = tuple((one.address, one.port) for one in directory.backends(service, port, family))
            if behind:
                front = fronts.get(family)
                yield Gate("/".join(service.key), family, port.protocol.lower(), port.port, front, behind)


def _warnings(changed: Iterable[Thing | Served], directory: Directory) -> Iterator[str]:
    """Services of which nobody knows whom they stand for."""
    for one in changed:
        if isinstance(one, Service) and one.spec.type is not ServiceType.NAME and not directory.is_told(one):
            name = "/".join(one.key)
            if one.spec.selector:
                labels = ",".join(f"{key}={value}" for key, value in one.spec.selector.items())
                yield f"service {name}: not compared, as no container that is known here has the labels {labels}"
            else:
                yield f"service {name}: not compared, as no EndpointSlice says who is behind it; give the slices in a file too"


def _cut(comparison: Preview, worlds: tuple[World, World], flows: Iterable[Record]) -> Iterator[Record]:
    """The connections seen last that could not be opened any more, the latest first, each once."""
    asked: set[tuple[bytes, bytes, int, int]] = set()
    for one in reversed(list(flows)):
        seen = one.seen
        key = (seen.source, seen.destination, seen.protocol, seen.destination_port)
        if one.verdict != FORWARDED or key in asked:
            continue
        if len(asked) == _FLOWS:
            return
        asked.add(key)
        protocol = PROTOCOLS.get(seen.protocol, "") or str(seen.protocol)
        source, destination = Address(address(seen.source)), Address(address(seen.destination))
        old, new = (world.doors.get((destination, protocol, seen.destination_port)) for world in worlds)
        if gates.shut(comparison, source, old, new) if old else comparison.cut(source, destination, protocol, key[3]):
            yield one


def _key(thing: Thing | Served) -> Key:
    return (thing.plural, *thing.key)


def refuse_other(thing: Object) -> Invalid:
    """The refusal of a kind that policies do not depend on."""
    return Invalid(f"a {kind(thing)} changes nothing of who may talk to whom; leave it out of what is previewed", field="kind")
