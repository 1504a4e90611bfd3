"""What things are called in the kernel, and what a told drop says of itself."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from fairlead.datapath.seen import Reason
from fairlead.desired.state import Span

_MARK = "fairlead"


class Direction(StrEnum):
    """From a container's point of view. ``FRONT``: egress, of what a service's address led to."""

    EGRESS = "egress"
    INGRESS = "ingress"
    FRONT = "front"

    @property
    def way(self) -> Direction:
        """As people are told."""
        return Direction.EGRESS if self is Direction.FRONT else self


ELSE = "front-else"
"""The chain of what no rule allows of those that a service's address led to: the address itself may be allowed."""


_DENIERS = {f"{one}-deny": one for one in (Direction.EGRESS, Direction.INGRESS)}


class Use(NamedTuple):
    """A set of policies, by its number, in the direction that containers are under it."""

    direction: Direction
    policy: int

    @property
    def chain(self) -> str:
        """The chain that asks what the set says; its maps begin with this name."""
        return f"{self.direction}-{self.policy:016x}"


def allow(rule: int) -> str:
    """The chain that lets pass by a rule, and its counter of connections."""
    return f"allow-{rule:016x}"


def deny(direction: Direction, rule: int) -> str:
    """The chain that drops by a rule, and its counter of packets; rule 0: no rule allows it."""
    return ELSE if direction is Direction.FRONT and not rule else f"{direction.way}-deny-{rule:016x}"


def unknown(direction: Direction) -> str:
    """The chain of what nothing is said of."""
    return f"{direction.way}-unknown"


@lru_cache(maxsize=1 << 14)
def ports(direction: Direction, spans: tuple[Span, ...]) -> str:
    """The chain, and its map, of a ruling that tells ports apart: made from all it says."""
    said = repr([(one.protocol, one.first, one.last, one.allow, one.rule) for one in spans])
    return f"{direction}-ports-{blake2b(said.encode(), digest_size=8).hexdigest()}"


class Counted(NamedTuple):
    """For what a counter counts: a rule, or that none allows it in a direction."""

    rule: int
    allows: bool
    direction: Direction | None


def counted(counter: str) -> Counted | None:
    """Of a counter's name; None if it counts for no rule."""
    head, _, number = counter.rpartition("-")
    if head == "allow":
        return Counted(int(number, 16), True, None)
    if head in _DENIERS:
        return Counted(int(number, 16), False, _DENIERS[head])
    return None


def prefix(reason: Reason, direction: Direction | None = None, rule: int = 0) -> str:
    """What is told of a drop beside the packet."""
    return f"{_MARK} {reason:d} {direction.way if direction else '-'} {rule:x} "


class Told(NamedTuple):
    """A prefix, read."""

    reason: Reason
    direction: Direction | None
    rule: int


def told(text: str) -> Told | None:
    """The prefix of a drop of ours; None if it is none."""
    words = text.split()
    if len(words) != 4 or words[0] != _MARK:
        return None
    try:
        direction = None if words[2] == "-" else Direction(words[2])
        return Told(Reason(int(words[1])), direction, int(words[3], 16))
    except ValueError:
        return None
