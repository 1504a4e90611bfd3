"""What enforces on packets what the rows say: the filter, and one of two planes.

The **filter** is the same on every machine: nftables tables with networks, published ports, translation. A **plane** decides by
policies: eBPF programs on the links of containers, or nftables. One contract suite holds both planes to the same behaviour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from fairlead.api.schema import Drift
from fairlead.desired.state import NodeState, Row
from fairlead.kit.gently import Rest
from fairlead.model.address import Address

PLANE = "policy"
"""What the tables that drift of a plane names begin with."""
Comparison = Callable[[Rest], list[Drift]]
"""What finds the differences in what was seen, in any thread; it takes what it does now and then, to rest."""
Look = Callable[[NodeState], Comparison]
"""Keeps the kernel thread for the looking alone."""


class Question(NamedTuple):
    """What a container's link would do with the first packet of a connection; ``sends``: the container is who opens it.

    ``protocol`` is IP's number; ``port`` the destination's, 0 where the protocol has none. ``front``: the service's address and
    port, if it begins with these and is led to the destination.
    """

    host: str
    sends: bool
    source: Address
    destination: Address
    protocol: int
    port: int
    front: tuple[Address, int] | None = None


class Answer(NamedTuple):
    """Whether the kernel lets it pass, the reason in words if not, and the number of the rule that decided or 0."""

    allowed: bool
    reason: str
    rule: int


UNALLOWED = {"egress": 1, "ingress": 2}
"""Numbers that no rule has: what is counted of those whom a policy isolates, and no rule allows it."""


class Hits(NamedTuple):
    """How often a rule decided: connections that it let through, packets that it dropped; and when last, in Unix seconds."""

    connections: int
    drops: int
    last: float


def at_once(check: Callable[[NodeState], list[Drift]]) -> Look:
    """A look of something that is compared while it is looked at."""

    def look(state: NodeState) -> Comparison:
        drift = check(state)
        return lambda _: drift

    return look


class Plane(Protocol):
    """Decides by policies. All verbs run in the agent's kernel thread and return when the kernel has acknowledged."""

    name: str

    def change(self, add: Iterable[Row], remove: Iterable[Row]) -> None:
        """Program ``add``, forget what is removed and not added again: what policies say (Peer, Ruling, Judgement).

        And what is known of links that there are (Subject, Guard, Guest, Local); those of a link that is made later come with
        ``ensure``. And what is known of ways to other nodes (Realm, Path). Then have every connection decided again. Other rows
        are ignored; removing what is not there is no error.
        """

    def ensure(self, rows: Iterable[Row]) -> None:
        """Program what is known of links (Subject, Guard, Guest, Local), then see that every Link of ``rows`` is guarded.

        What is there and right is left. ``Gone`` if a link is not there.
        """

    def forget(self, rows: Iterable[Row]) -> None:
        """Links are about to be deleted: from now on they carry nothing. Rows as in ``ensure``; gone is no error."""

    def check(self, state: NodeState) -> list[Drift]:
        """Compare the kernel with ``state`` without touching it; a link that is not guarded is drift of ``PLANE links``."""

    @property
    def looks(self) -> Sequence[Look]:
        """The same in parts, which may be of states one after the other: between two of them the thread is others'."""

    def check_links(self, rows: Iterable[Row]) -> list[Drift]:
        """The same for some links alone, rows as in ``ensure``: what of them is missing or different."""

    def apply(self, state: NodeState) -> None:
        """Make what the kernel knows of policies and endpoints equal ``state``; only what differs is written."""

    def lead(self, state: NodeState, rows: Iterable[Row]) -> None:
        """``rows`` have come or gone, and now it is ``state``: see to the devices over which ways lead to other nodes."""

    def holds(self, index: int) -> bool:
        """Whether programs of ours are to stand at this interface, by what was last done. From memory, for any thread."""

    def ask(self, question: Question) -> Answer | None:
        """Have the kernel answer, as it would for a packet; nothing is remembered or reported. None: it cannot be asked."""

    def hits(self) -> dict[int, Hits]:
        """How often each rule decided, by its number; those that never did may be missing; also by ``UNALLOWED``."""

    def forget_hits(self, rules: Iterable[int]) -> None:
        """These rules are no more: what was counted for them is forgotten."""

    def fill(self) -> dict[str, tuple[int, int]]:
        """By map: how many entries it held when it was last compared, and how many it can hold. From memory, for any thread."""

    def purge(self) -> None:
        """Once every link is gone: leave nothing in the kernel."""

    def close(self) -> None:
        """Let go of what this thread holds; the kernel goes on."""
