"""Beside programs that judge everything else: a table of what is for services, once it is known whom it is led to.

Who leads it on does so in netfilter, after the programs on the link that it came from. There is a table only while there are
services and somebody whose egress is isolated, and until then nothing is kept for it in memory either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from fairlead.api.schema import Drift
from fairlead.desired.state import Front, NodeState, Row, Subject
from fairlead.kernel import nft
from fairlead.kernel.errors import Gone
from fairlead.kernel.netlink import NETFILTER, Netlink

from .model import Model
from .plane import Nftables
from .ruleset import BESIDE


class Beside(Nftables):
    """As the plane, but of one table, and nothing of links."""

    table = BESIDE
    families = ("inet",)

    def __init__(self, state: Callable[[], NodeState]) -> None:
        """``state`` answers with the node's state as it is or is about to be."""
        super().__init__(set())
        self._ask_state = state
        self.awake = False
        """Whether there is a table."""

    def change(self, add: Iterable[Row], remove: Iterable[Row]) -> None:
        """What policies and services say, and whom they say it of."""
        add = list(add)
        if self.awake:
            super().change(add, remove)
        elif any(isinstance(row, Front | Subject) for row in add):
            self._wake(self._ask_state())

    def ensure(self, rows: Iterable[Row]) -> None:
        """Put containers under their policies."""
        self.change([row for row in rows if isinstance(row, Subject)], ())

    def rest(self) -> None:
        """Remove the table when nobody needs it any more."""
        if self.awake and not self._model.needed:
            self._sleep()

    def forget(self, rows: Iterable[Row]) -> None:
        """Programs see that a link carries nothing."""

    def check(self, state: NodeState) -> list[Drift]:
        """Compare every chain, rule, map and element, if there is to be a table and anybody has changed any since."""
        return self._check_tables(state) if _is_needed(state) and not self._purged else []

    def check_links(self, rows: Iterable[Row]) -> list[Drift]:
        """Look every address of theirs up where it should be."""
        return super().check_links(row for row in rows if isinstance(row, Subject)) if self.awake else []

    def apply(self, state: NodeState) -> None:
        """Make the table what ``state`` comes to, if there is to be one."""
        if self._purged:
            return
        self._wake(state)
        if not self.awake:
            self._sleep()

    def purge(self) -> None:
        """Remove the table for good."""
        self._purged = True
        self._sleep()

    def _wake(self, state: NodeState) -> None:
        self.awake = _is_needed(state)
        if self.awake:
            self._rebuild(state)

    def _sleep(self) -> None:
        self.awake, self._model, self._right = False, self._made(NodeState()), None
        with suppress(Gone):
            nft.delete_table(self._nft, "inet", BESIDE)

    def _made(self, state: NodeState) -> Model:
        return Model.of(state, beside=True)

    def _gone(self, hosts: Sequence[str]) -> Callable[[str], bool]:  # noqa: ARG002  # the same for each
        return lambda _: True


def _is_needed(state: NodeState) -> bool:
    return bool(state.table(Front)) and any(row.egress for row in state.table(Subject).values())


def remove() -> None:
    """Remove the table, where the plane judges all."""
    with Netlink(NETFILTER) as nl, suppress(Gone):
        nft.delete_table(nl, "inet", BESIDE)
