"""What would change if objects were applied or deleted: a question to two books made for it, in a thread of their own.

Nothing is stored and nothing programmed. Recent flows are asked about too: which of them would be cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from fairlead.api.schema import Difference, Previewed, Proposal
from fairlead.flow.enrich import address
from fairlead.flow.record import FORWARDED, PROTOCOLS, Record
from fairlead.model import codec
from fairlead.model.address import Address
from fairlead.model.errors import Invalid
from fairlead.model.meta import Object, kind
from fairlead.model.namespace import Namespace
from fairlead.model.node import Node
from fairlead.policy.book import Book, Thing
from fairlead.policy.preview import Preview

_FLOWS = 4096
"""Connections, of those seen last, that are asked about."""

Key = tuple[str, str, str]


class Scene(NamedTuple):
    """All that policies depend on, as it is now; ``own`` is this node's name."""

    own: str
    things: Sequence[Thing]
    flows: Sequence[Record]


async def preview(scene: Scene, proposal: Proposal, placed: Callable[[Object], Thing]) -> Previewed:
    """Compare; ``placed`` says where an object would stand, and refuses what is no matter of policies."""
    changed = [_thing(tree, f"apply[{at}]", placed) for at, tree in enumerate(proposal.apply)]
    gone = [_thing(tree, f"delete[{at}]", placed) for at, tree in enumerate(proposal.delete)]
    if not changed and not gone:
        raise Invalid("say what would change", field="apply")
    return await asyncio.to_thread(_compare, scene, changed, gone, proposal.limit)


def _thing(tree: object, field: str, placed: Callable[[Object], Thing]) -> Thing:
    thing = codec.from_item(tree, field)
    try:
        return placed(thing)
    except Invalid as problem:
        raise problem.under(field) from None


def _compare(scene: Scene, changed: Sequence[Thing], gone: Sequence[Thing], limit: int) -> Previewed:
    old, new = (Book(scene.own, everywhere=True) for _ in range(2))
    old.put(*scene.things)
    there = {_key(one): one for one in scene.things}
    there |= {_key(one): one for one in changed}
    for one in gone:
        there.pop(_key(one), None)
    new.put(*there.values())
    peers_change = any(isinstance(one, (Namespace, Node)) for one in (*changed, *gone))
    comparison = Preview(old, new, peers_change=peers_change)
    rows = comparison.rows()
    cut = list(_cut(comparison, scene.flows))
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
    )


def _cut(comparison: Preview, flows: Iterable[Record]) -> Iterator[Record]:
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
        ends = (Address(address(seen.source)), Address(address(seen.destination)))
        if comparison.cut(*ends, protocol, seen.destination_port):
            yield one


def _key(thing: Thing) -> Key:
    return (thing.plural, *thing.key)


def refuse_other(thing: Object) -> Invalid:
    """The refusal of a kind that policies do not depend on."""
    return Invalid(f"a {kind(thing)} changes nothing of who may talk to whom", field="kind")
