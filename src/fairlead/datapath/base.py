"""What a plane is: that which enforces on packets what the rows say. One contract suite holds every plane to this.

Beside it stand the hooks: eBPF programs on containers' links, or none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from fairlead.api.schema import Drift
from fairlead.desired.state import NodeState, Row
from fairlead.model.address import Address


class Plane(Protocol):
    """Four verbs. All are synchronous, run in the agent's kernel thread and return when the kernel has acknowledged."""

    name: str

    def change(self, add: Iterable[Row], remove: Iterable[Row]) -> None:
        """Program and forget rows in one transaction; adding what is there and removing what is not are no errors."""

    def settle(self, added: Iterable[Row], removed: Iterable[Row]) -> None:
        """After a change, when nobody waits: forget connections that outlived the rules they were made under."""

    def check(self, state: NodeState) -> list[Drift]:
        """Compare the kernel with ``state`` without touching it."""

    def apply(self, state: NodeState) -> None:
        """Make the kernel equal ``state`` in one transaction; nothing is without rules in between."""

    def close(self, *, purge: bool = False) -> None:
        """Let go of what this process holds; with ``purge`` remove everything from the kernel."""


HOOKS = "hooks"
"""The table that drift of hooks names."""


class Question(NamedTuple):
    """What a container's link would do with the first packet of a connection; ``sends``: the container is who opens it.

    ``protocol`` is IP's number; ``port`` the destination's, 0 where the protocol has none.
    """

    host: str
    sends: bool
    source: Address
    destination: Address
    protocol: int
    port: int


class Answer(NamedTuple):
    """Whether the kernel lets it pass, the reason in words if not, and the number of the rule that decided or 0."""

    allowed: bool
    reason: str
    rule: int


class Hooks(Protocol):
    """Programs on the links of containers. Like a plane's verbs, these run in the agent's kernel thread."""

    def change(self, add: Iterable[Row], remove: Iterable[Row]) -> None:
        """Program what policies say (Peer, Ruling, Judgement), forget what is removed and not added again.

        Then have every connection decided again. Other rows are ignored; removing what is not there is no error.
        """

    def ensure(self, rows: Iterable[Row]) -> None:
        """Put every endpoint (Subject) under its policies, then the programs on every link of ``rows``; the links exist.

        Programs that are there and others are replaced or left. ``Gone`` if a link is not there.
        """

    def forget(self, rows: Iterable[Row]) -> None:
        """Links of these endpoints (Subject) are about to be deleted: from now on they carry nothing. Gone is no error."""

    def check(self, state: NodeState) -> list[Drift]:
        """Name every link whose programs are not there, or are not these; what the maps lack, have wrong or too many."""

    def apply(self, state: NodeState) -> None:
        """Make what the programs know of policies and endpoints equal ``state``; only what differs is written."""

    def ask(self, question: Question) -> Answer | None:
        """Have the kernel answer, as it would for a packet; nothing is remembered or reported. None: nobody there decides."""

    def fill(self) -> dict[str, tuple[int, int]]:
        """By map of policies: how many entries it holds, and how many it can hold."""

    def purge(self) -> None:
        """Once every link is gone: leave no program or map in the kernel."""

    def close(self) -> None:
        """Let go of what this thread holds; the programs stay."""


class NoHooks:
    """No programs on any link."""

    def change(self, add: Iterable[Row], remove: Iterable[Row]) -> None:
        """Nobody to tell."""

    def ensure(self, rows: Iterable[Row]) -> None:
        """Nothing to put anywhere."""

    def forget(self, rows: Iterable[Row]) -> None:
        """Nothing is known."""

    def apply(self, state: NodeState) -> None:
        """Nothing to bring in line."""

    def check(self, state: NodeState) -> list[Drift]:  # noqa: ARG002  # the protocol's signature
        """Nothing to miss."""
        return []

    def ask(self, question: Question) -> Answer | None:  # noqa: ARG002  # the protocol's signature
        """Nobody decides."""
        return None

    def fill(self) -> dict[str, tuple[int, int]]:
        """There are no maps."""
        return {}

    def purge(self) -> None:
        """Nothing is there."""

    def close(self) -> None:
        """Nothing is held."""
