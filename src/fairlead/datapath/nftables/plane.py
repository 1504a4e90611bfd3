"""The nftables plane: policies without eBPF."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.api.schema import Drift
from fairlead.datapath.base import Answer, Question
from fairlead.desired.state import NodeState, Row, Subject
from fairlead.model.errors import Unsupported


class Nftables:
    """Lets endpoints be that are under no policy; every other is refused."""

    name = "nftables"

    def change(self, add: Iterable[Row], remove: Iterable[Row]) -> None:
        """Nobody is judged by them."""

    def ensure(self, rows: Iterable[Row]) -> None:
        """Refuse who is under a policy."""
        for row in rows:
            if isinstance(row, Subject) and (row.ingress or row.egress):
                raise Unsupported("policies need eBPF, which this agent may not use; start it with: fairlead up --plane auto")

    def forget(self, rows: Iterable[Row]) -> None:
        """Nothing is known."""

    def check(self, state: NodeState) -> list[Drift]:  # noqa: ARG002  # the protocol's signature
        """Nothing to miss."""
        return []

    def apply(self, state: NodeState) -> None:
        """Nothing to bring in line."""
        self.ensure(state.table(Subject).values())

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
