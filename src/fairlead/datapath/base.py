"""What a plane is: that which enforces on packets what the rows say. One contract suite holds every plane to this."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from fairlead.api.schema import Drift
from fairlead.desired.state import NodeState, Row


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
