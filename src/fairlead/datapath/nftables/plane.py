"""The nftables plane: rows of the desired state as elements of our one table.

A change is a few set elements over netlink, at a cost that does not grow with their number. The structure is put in place
by one libnftables transaction that holds every element too, so that no packet ever meets a table without them.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

from fairlead.api.schema import Drift
from fairlead.desired.state import NodeState, Publication, Row, Segment
from fairlead.kernel import nft
from fairlead.kernel.netlink import NETFILTER, Netlink
from fairlead.kit import fault

from . import layout, ruleset, stale
from .elements import Elements, elements

_FAMILY = "inet"


class Nftables:
    """Holds one netlink socket; not for several threads at once."""

    name = "nftables"

    def __init__(self, run_dir: Path) -> None:
        """``run_dir``: where the structure's fingerprint is kept for the next start of the agent."""
        self._netlink = Netlink(NETFILTER)
        self._memory = run_dir / "nftables.fingerprint"

    def change(self, add: Iterable[Row], remove: Iterable[Row]) -> None:
        """Program ``add`` and forget ``remove`` in one transaction; what both mean stays untouched."""
        new, old = elements(add), elements(remove)
        changes = [
            (name, new.get(name, set()) - old.get(name, set()), old.get(name, set()) - new.get(name, set()))
            for name in {*new, *old}
        ]
        changes = [(name, plus, minus) for name, plus, minus in changes if plus or minus]
        if changes:
            nft.change(self._netlink, _FAMILY, ruleset.TABLE, changes)

    def settle(self, added: Iterable[Row], removed: Iterable[Row]) -> None:
        """Forget tracked connections that what was added would never see, and those that what was removed led somewhere."""
        stale.forget(self._netlink, added, removed)

    def check(self, state: NodeState) -> list[Drift]:
        """Every element that is missing or unexpected, or the one drift that the structure is not ours."""
        if wrong := self._structure():
            return [wrong]
        want = elements(_rows(state))
        drift: list[Drift] = []
        for name in layout.LAYOUTS:
            have, wanted = nft.elements(self._netlink, _FAMILY, ruleset.TABLE, name), want.get(name, set())
            drift += [_drift(name, one, "missing") for one in wanted - have]
            drift += [_drift(name, one, "unexpected") for one in have - wanted]
        return drift

    def apply(self, state: NodeState) -> None:
        """Put the whole table in place, or only the elements that differ where the structure is right."""
        if self._structure():
            self._swap(elements(_rows(state)))
            return
        want = elements(_rows(state))
        changes = []
        for name in layout.LAYOUTS:
            have, wanted = nft.elements(self._netlink, _FAMILY, ruleset.TABLE, name), want.get(name, set())
            if have != wanted:
                changes.append((name, wanted - have, have - wanted))
        if changes:
            nft.change(self._netlink, _FAMILY, ruleset.TABLE, changes)

    def close(self, *, purge: bool = False) -> None:
        """Close the socket; with ``purge`` delete the table first."""
        if purge:
            nft.run(f"add table {_FAMILY} {ruleset.TABLE}\ndelete table {_FAMILY} {ruleset.TABLE}\n")
            self._memory.unlink(missing_ok=True)
        self._netlink.close()

    def _structure(self) -> Drift | None:
        """The drift that the table's chains and rules are not as we last put them, or None."""
        have = nft.fingerprint(self._netlink, _FAMILY, ruleset.TABLE)
        if have is None:
            return Drift(table="nftables", key=ruleset.TABLE, kind="missing", want=f"table {_FAMILY} {ruleset.TABLE}")
        try:
            known = self._memory.read_text()
        except OSError:
            known = ""
        if known == f"{_version()} {have}":
            return None
        return Drift(
            table="nftables",
            key=ruleset.TABLE,
            kind="different",
            want=f"the chains, rules and sets of {_FAMILY} {ruleset.TABLE}",
            have="changed by somebody else, or left by another version",
        )

    def _swap(self, want: Elements) -> None:
        lines = [
            f"add element {_FAMILY} {ruleset.TABLE} {name} {{ {', '.join(layout.text(name, one) for one in sorted(found))} }}"
            for name, found in want.items()
        ]
        nft.run(ruleset.text() + "\n".join(lines) + "\n")
        fault.point("plane.swapped")
        have = nft.fingerprint(self._netlink, _FAMILY, ruleset.TABLE)
        self._memory.write_text(f"{_version()} {have}")


def _rows(state: NodeState) -> Iterable[Row]:
    yield from state.table(Segment).values()
    yield from state.table(Publication).values()


def _drift(name: str, element: nft.Element, kind: str) -> Drift:
    shown = layout.text(name, element)
    return Drift(
        table=f"nftables {name}",
        key=shown,
        kind=kind,
        want=shown if kind == "missing" else "",
        have="" if kind == "missing" else shown,
    )


def _version() -> str:
    return blake2b(ruleset.text().encode(), digest_size=8).hexdigest()
