"""A set of policies as chains and maps; pure: from the index to parts of the table.

::

    egress-SET     ct original daddr   -> egress-SET-hosts4, -hosts6      an address of which it says something of its own
                                       -> egress-SET-blocks4, -blocks6    runs of addresses, if it has any
                                       -> otherwise what it says of everybody
    egress-ports-DIGEST                -> by protocol and port: rules, or a map; a ruling that tells none apart is left out
    allow-RULE, egress-deny-RULE       counted; let pass by going back to where the hook goes on, dropped and told

Of a set of egress there is another, ``front-SET``, of what services lead to, which is never the address of one. Beside programs
the first has nothing but those addresses of services that it allows something at, since no others are judged there.

Every packet takes the same few steps, however many peers and rules there are. Chains of rulings and rules are shared by all
sets that lead to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from functools import lru_cache, partial
from typing import NamedTuple

from fairlead.datapath.seen import Reason
from fairlead.desired.state import Span
from fairlead.kernel.nft import Chain, Collection, Element, Rule, Verdict, field, interval
from fairlead.kernel.nft.rule import GOTO, between, choose, count, equal, goto, has
from fairlead.kernel.nft.structure import PROTOCOL, SERVICE
from fairlead.model.address import Family

from . import words
from .index import Host, Index
from .ruleset import CONFIRMED, CT_PROTOCOL, DENIALS, FAMILIES, ICMP, ICMPV6, L4PROTO, PARTS, PEER, PORT, SIZE, STATUS, deny
from .words import Direction, Use

CHAIN, MAP, COUNTER = "chain", "map", "counter"
_FEW = 3
_ERRORS = (ICMP, ICMPV6)
"""By what errors about a connection are told."""


Key = tuple[str, str]
"""Of a part: its kind and its name."""
ALWAYS: tuple[Key, ...] = tuple((kind, name) for name in DENIALS.values() for kind in (COUNTER, CHAIN))
"""Parts that sets share and that are there without them."""


class Part(NamedTuple):
    """A chain, a map with its elements, or a counter; exactly one. Its name is its key within its kind."""

    chain: Chain | None = None
    collection: Collection | None = None
    elements: frozenset[Element] = frozenset()
    counter: str = ""

    @property
    def key(self) -> Key:
        """(kind, name)."""
        if self.chain:
            return CHAIN, self.chain.name
        if self.collection:
            return MAP, self.collection.name
        return COUNTER, self.counter

    @classmethod
    def named(cls, key: Key) -> Part:
        """A part of which only the name counts: one that goes."""
        kind, name = key
        if kind == CHAIN:
            return cls(chain=Chain(name))
        return cls(collection=Collection(name, ())) if kind == MAP else cls(counter=name)


Parts = dict[Key, Part]


Said = tuple[Span, ...] | None
"""What a ruling says; None: it is not known."""


def followed(index: Index, use: Use) -> dict[int | None, Said]:
    """The rulings that the set's verdicts lead to."""
    return {ruling: index.spans(ruling) for ruling in index.rulings(use.policy)}


def made(direction: Direction, several: Iterable[Said], wanted: AbstractSet[Key]) -> Parts:
    """The parts of these rulings, which sets share, that are wanted."""
    needed = (said for said in several if not wanted.isdisjoint(keys(direction, said)))
    return {part.key: part for said in needed for part in _ruling(direction, said) if part.key in wanted}


Only = Callable[[Use, Host], bool]
"""Whether a set has anything to say of an address where it is asked."""


def own(index: Index, use: Use, only: Only, *, bare: bool = False) -> Parts:
    """The chain and the maps of the set alone. ``bare``: it allows some single addresses, and nothing else."""
    parts = [hosts(index, use, n, index.named(use.policy, n, partial(only, use))) for n in FAMILIES]
    parts += [one for n in FAMILIES for one in [blocks(index, use, n)] if one.elements and not bare]
    rest = words.deny(use.direction, 0) if bare else _chain(use.direction, index.spans(index.rest(use.policy)))
    chain = Chain(use.chain, (*_lookups(use, [one.collection for one in parts if one.collection]), goto(rest)))
    return {one.key: one for one in (Part(chain=chain), *parts)}


def own_names(index: Index, use: Use, *, bare: bool = False) -> Parts:
    """The same by name alone, to be removed."""
    names = [_hosts_map(use, n).name for n in FAMILIES]
    names += [f"{use.chain}-blocks{n}" for n in FAMILIES if not bare and index.runs(use.policy, n)]
    return {key: Part.named(key) for key in ((CHAIN, use.chain), *((MAP, name) for name in names))}


def hosts(index: Index, use: Use, family: Family, named: Iterable[tuple[Host, int | None]]) -> Part:
    """The map of single addresses, with those that are ``named``."""
    elements = frozenset(Element(host.packed, None, _target(index, use, ruling)) for host, ruling in named)
    return Part(collection=_hosts_map(use, family), elements=elements)


def _hosts_map(use: Use, family: Family) -> Collection:
    return Collection(f"{use.chain}-hosts{family}", (PARTS[family],), verdicts=True)


def blocks(index: Index, use: Use, family: Family) -> Part:
    """Runs of addresses. They may be none: then the set has no such map."""
    found: list[Element] = []
    for run in index.runs(use.policy, family):
        first, last = (number.to_bytes(SIZE[family], "big") for number in (run.first, run.last))
        found += interval(first, last, _target(index, use, run.label))
    name = f"{use.chain}-blocks{family}"
    return Part(collection=Collection(name, (PARTS[family],), verdicts=True, interval=True), elements=frozenset(found))


def _lookups(use: Use, maps: Iterable[Collection]) -> Iterator[Rule]:
    for one in maps:
        family = next(n for n in FAMILIES if one.key == (PARTS[n],))
        yield choose(one.name, PEER[use.direction][family])


def _target(index: Index, use: Use, ruling: int | None) -> Verdict:
    return Verdict(GOTO, _chain(use.direction, index.spans(ruling)))


def _chain(direction: Direction, spans: Said) -> str:
    """Where a ruling leads."""
    if spans is None:
        return words.unknown(direction)
    if len(spans) == 1:
        return _leaf(direction, spans[0])
    return words.ports(direction, spans)


def _leaf(direction: Direction, span: Span) -> str:
    return words.allow(span.rule) if span.allow else words.deny(direction, span.rule)


@lru_cache(maxsize=1 << 14)
def keys(direction: Direction, spans: Said) -> tuple[Key, ...]:
    """The parts that a ruling needs, each once."""
    names = {words.unknown(direction)} if spans is None else {_leaf(direction, span) for span in spans} - {words.ELSE}
    found = [(kind, name) for name in sorted(names) for kind in (COUNTER, CHAIN)]
    if spans and len(spans) > 1:
        name = words.ports(direction, spans)
        found += [(kind, name) for kind in ((MAP, CHAIN) if len(spans) - 1 > _FEW else (CHAIN,))]
    return tuple(found)


def _ruling(direction: Direction, spans: Said) -> Iterator[Part]:
    if spans is None:
        name = words.unknown(direction)
        yield Part(counter=name)
        yield Part(chain=deny(name, Reason.NO_RULING, direction))
        return
    for span in spans:
        name = _leaf(direction, span)
        if name != words.ELSE:
            yield Part(counter=name)
        if span.allow:
            first = (*has(STATUS, CONFIRMED, any_of=False), *count(name))
            yield Part(chain=Chain(name, (first,)))
        elif name != words.ELSE:
            yield Part(chain=deny(name, Reason.POLICY, direction, span.rule))
    if len(spans) > 1:
        yield from _ports(direction, spans)


def _ports(direction: Direction, spans: tuple[Span, ...]) -> Iterator[Part]:
    """By protocol and port of the connection: a few as rules, of which the kernel can hold more than of maps, many as a map.

    nft reads no rule back that speaks of a connection's port before it has spoken of a protocol: so there is one for each
    protocol that a packet can be, which for an ICMP error about a connection is not the connection's own.
    """
    name = words.ports(direction, spans)
    listed = [span for span in spans if span.protocol]
    (rest,) = (span for span in spans if not span.protocol)
    if len(listed) <= _FEW:
        rules = [rule for span in listed for rule in _rules_of(direction, span)]
    else:
        ranges = any(span.first != span.last for span in listed)
        elements = frozenset(_span(span, Verdict(GOTO, _leaf(direction, span)), ranges=ranges) for span in listed)
        yield Part(collection=Collection(name, (PROTOCOL, SERVICE), verdicts=True, interval=ranges), elements=elements)
        carriers = dict.fromkeys([*(bytes([span.protocol]) for span in listed), *_ERRORS])
        rules = [(*equal(L4PROTO, carrier), *choose(name, CT_PROTOCOL, PORT[direction])) for carrier in carriers]
    yield Part(chain=Chain(name, (*rules, goto(_leaf(direction, rest)))))


def _rules_of(direction: Direction, span: Span) -> Iterator[Rule]:
    protocol = bytes([span.protocol])
    first, last = span.first.to_bytes(2, "big"), span.last.to_bytes(2, "big")
    port = equal(PORT[direction], first) if first == last else between(PORT[direction], first, last)
    for carrier in dict.fromkeys((protocol, *_ERRORS)):
        yield (*equal(L4PROTO, carrier), *equal(CT_PROTOCOL, protocol), *port, *goto(_leaf(direction, span)))


def _span(span: Span, verdict: Verdict, *, ranges: bool) -> Element:
    first, last = (field(bytes([span.protocol])) + field(port.to_bytes(2, "big")) for port in (span.first, span.last))
    return Element(first, last if ranges else None, verdict)
