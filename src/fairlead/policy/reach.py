"""Reach: the ports at which one may open connections to another, as a value that can be cut, compared and said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from fairlead.desired.state import Span

from .ports import PROTOCOLS

Runs = tuple[tuple[int, int], ...]
"""Ports, (first, last), in order and apart."""

_EVERY: Runs = ((0, 65535),)


class Reach(NamedTuple):
    """Ports by protocol, and whether all protocols that have no ports, or are none of these, pass."""

    tcp: Runs
    udp: Runs
    sctp: Runs
    others: bool

    def __bool__(self) -> bool:
        return self != NOTHING

    def holds(self, protocol: str, port: int) -> bool:
        """Whether a port of a protocol is among it."""
        runs = dict(zip(PROTOCOLS, self[:3], strict=True))[protocol]
        return any(first <= port <= last for first, last in runs)

    def __and__(self, other: Reach) -> Reach:
        """What both allow."""
        mine, theirs = self[:3], other[:3]
        tcp, udp, sctp = (_both(one, another) for one, another in zip(mine, theirs, strict=True))
        return Reach(tcp, udp, sctp, self.others and other.others)

    def __sub__(self, other: Reach) -> Reach:
        """What ``other`` does not allow of it."""
        mine, theirs = self[:3], other[:3]
        tcp, udp, sctp = (_both(one, _rest(another)) for one, another in zip(mine, theirs, strict=True))
        return Reach(tcp, udp, sctp, self.others and not other.others)

    def __str__(self) -> str:
        """As people say it: ``everything``, ``tcp 80,443; every udp port``, ``everything but tcp 22``."""
        if self in {EVERYTHING, NOTHING}:
            return "everything" if self == EVERYTHING else "nothing"
        if self.others:
            return f"everything but {'; '.join(_words(EVERYTHING - self))}"
        return "; ".join(_words(self))


EVERYTHING = Reach(_EVERY, _EVERY, _EVERY, others=True)
NOTHING = Reach((), (), (), others=False)


def ports(found: Iterable[tuple[str, int]]) -> Reach:
    """These ports of protocols alone."""
    known = sorted(found)
    tcp, udp, sctp = (tuple(_joined((port, port) for name, port in known if name == one)) for one in PROTOCOLS)
    return Reach(tcp, udp, sctp, others=False)


def of(spans: Sequence[Span] | None) -> Reach:
    """What the spans of a ruling allow; None: nobody is asked."""
    if spans is None:
        return EVERYTHING
    rest = spans[-1].allow
    tcp, udp, sctp = (_runs([one for one in spans if one.protocol == number], rest) for number in PROTOCOLS.values())
    return Reach(tcp, udp, sctp, rest)


def refused(spans: Sequence[Span]) -> Reach:
    """What rules deny, which is more than that no rule allows it."""
    return of([replace(one, allow=not one.allow and bool(one.rule)) for one in spans])


def _runs(spans: Iterable[Span], rest: bool) -> Runs:
    """The ports that pass: those that spans allow, and where ``rest`` passes, those that none speaks of."""
    told = sorted((one.first, one.last, one.allow) for one in spans)
    found: list[tuple[int, int]] = []
    at = 0
    for first, last, allow in [*told, (65536, 65536, False)]:
        if rest and at < first:
            found.append((at, first - 1))
        if allow:
            found.append((first, last))
        at = last + 1
    return tuple(_joined(found))


def _joined(runs: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Runs that touch, as one."""
    open_: tuple[int, int] | None = None
    for first, last in runs:
        if open_ and first == open_[1] + 1:
            open_ = (open_[0], last)
            continue
        if open_:
            yield open_
        open_ = (first, last)
    if open_:
        yield open_


def _both(one: Runs, other: Runs) -> Runs:
    """Ports that are in both."""
    if other in {one, _EVERY}:
        return one
    pairs = ((max(a, c), min(b, d)) for a, b in one for c, d in other)
    return tuple(sorted(pair for pair in pairs if pair[0] <= pair[1]))


def _rest(runs: Runs) -> Runs:
    """Ports that are in none."""
    found, at = [], 0
    for first, last in [*runs, (65536, 65536)]:
        if at < first:
            found.append((at, first - 1))
        at = last + 1
    return tuple(found)


def _words(reach: Reach) -> Iterator[str]:
    """Protocol by protocol."""
    for name, runs in zip(PROTOCOLS, reach[:3], strict=True):
        if runs == _EVERY:
            yield f"every {name} port"
        elif runs:
            yield f"{name} " + ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
    if reach.others:
        yield "icmp and other protocols"
