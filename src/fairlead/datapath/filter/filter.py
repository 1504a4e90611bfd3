"""The filter: networks, published ports and who may send as whom, as elements of our nftables tables.

A change is a few set elements over netlink, at a cost that does not grow with their number. The structure is put in place
by one libnftables transaction that holds every element too, so that no packet ever meets a table without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from fairlead.api.schema import OUTDATED, Drift
from fairlead.desired.state import Guard, Guest, NodeState, Publication, Realm, Row, Segment
from fairlead.desired.ways import Fellow
from fairlead.kernel import nft
from fairlead.kernel.netlink import NETFILTER, Message, Netlink
from fairlead.kit import fault

from . import layout, stale
from .elements import Elements, elements
from .ruleset import FILTER
from .sealing import SEALING
from .spoofing import SPOOFING
from .table import Table

TABLES = (SPOOFING, FILTER, SEALING)
"""Every table of ours. Sets of the same name have the same elements."""


class Filter:
    """Holds one netlink socket; not for several threads at once."""

    def __init__(self, run_dir: Path) -> None:
        """``run_dir``: where the structures' fingerprints are kept for the next start of the agent."""
        self._netlink = Netlink(NETFILTER)
        self._run = run_dir

    @property
    def made(self) -> bool:
        """Whether its tables have been put in place before, since the machine started."""
        return any(self._memory(table).exists() for table in TABLES)

    def change(self, add: Iterable[Row], remove: Iterable[Row]) -> None:
        """Program ``add`` and forget ``remove`` in one transaction; what both mean stays untouched.

        A table that gets something to do wakes with it, and one that has nothing left falls asleep.
        """
        new, old = elements(add), elements(remove)
        changes = [one for table in TABLES for one in _changes(table, new, old)]
        wake = [_lull(table, asleep=False) for table in TABLES if table.wakes and table.is_needed(new)]
        losing = [table for table in TABLES if table.wakes and table.is_needed(old) and not table.is_needed(new)]
        if not losing:
            nft.change(self._netlink, changes, *wake)
            return
        with nft.alone():  # another thread may be giving it something to do
            lulls = [_lull(table, asleep=True) for table in losing if not table.is_needed(self._left(table, old))]
            nft.change(self._netlink, changes, *wake, *lulls)

    def settle(self, added: Iterable[Row], removed: Iterable[Row]) -> None:
        """Forget tracked connections that what was added would never see, and those that what was removed led somewhere."""
        stale.forget(self._netlink, added, removed)

    def check(self, state: NodeState) -> list[Drift]:
        """Of each table every element that is missing or unexpected, or the one drift that its structure is not ours."""
        want = elements(_rows(state))
        return [drift for table in TABLES for drift in self._check(table, want)]

    def apply(self, state: NodeState) -> None:
        """Put the tables whose structure is not ours in place whole, all at once; of the others the elements that differ."""
        want = elements(_rows(state))
        wrong = [table for table in TABLES if self._structure(table)]
        if wrong:
            nft.run("".join(table.text(want) for table in wrong))
            fault.point("filter.swapped")
            for table in wrong:
                self._memory(table).write_text(f"{table.version} {self._fingerprint(table)}")
        changes: list[nft.Change] = []
        lulls = []
        for table in (one for one in TABLES if one not in wrong):
            changes += _changes(table, want, {name: self._elements(table, name) for name in table.sets})
            asleep = not table.is_needed(want)
            if table.wakes and self._sleeps(table) != asleep:
                lulls.append(_lull(table, asleep=asleep))
        nft.change(self._netlink, changes, *lulls)

    def close(self, *, purge: bool = False) -> None:
        """Close the socket; with ``purge`` delete the tables first."""
        if purge:
            nft.run("".join(f"add table {table.path}\ndelete table {table.path}\n" for table in TABLES))
            for table in TABLES:
                self._memory(table).unlink(missing_ok=True)
        self._netlink.close()

    def _check(self, table: Table, want: Elements) -> Iterator[Drift]:
        if wrong := self._structure(table):
            yield wrong
            return
        if table.wakes and table.is_needed(want) and self._sleeps(table):  # awake in vain it only costs time
            yield Drift(table="nftables", key=table.path, kind="different", want="in force", have="dormant")
        for name in table.sets:
            have, wanted = self._elements(table, name), want.get(name, set())
            yield from (_drift(table, name, one, "missing") for one in wanted - have)
            yield from (_drift(table, name, one, "unexpected") for one in have - wanted)

    def _structure(self, table: Table) -> Drift | None:
        """The drift that a table's chains and rules are not as we last put them, or None."""
        have = self._fingerprint(table)
        try:
            known = self._memory(table).read_text()
        except OSError:
            known = ""
        if have and known == f"{table.version} {have}":
            return None
        version = known.partition(" ")[0]
        other = bool(version) and version != table.version
        if have is None:
            # Without a memory nobody has removed it: an earlier version had none, or there was no version yet.
            kind = "missing" if known else OUTDATED
            return Drift(table="nftables", key=table.path, kind=kind, want=f"table {table.path}")
        return Drift(
            table="nftables",
            key=table.path,
            kind=OUTDATED if other else "different",
            want=f"the chains, rules and sets of {table.path}",
            have="as another version left it" if other else "changed by somebody else",
        )

    def _elements(self, table: Table, name: str) -> set[nft.Element]:
        return nft.elements(self._netlink, table.family, table.name, name)

    def _left(self, table: Table, gone: Elements) -> Elements:
        """What keeps a table awake, once ``gone`` is: who removes rows does not know what other rows there are."""
        return {name: self._elements(table, name) - gone.get(name, set()) for name in table.wakes}

    def _fingerprint(self, table: Table) -> str | None:
        return nft.fingerprint(self._netlink, table.family, table.name, flags=not table.wakes)

    def _sleeps(self, table: Table) -> bool:
        return nft.sleeps(self._netlink, table.family, table.name)

    def _memory(self, table: Table) -> Path:
        return self._run / f"nftables-{table.family}-{table.name}.fingerprint"


def _changes(table: Table, new: Elements, old: Elements) -> Iterator[nft.Change]:
    """What makes ``new`` of ``old``."""
    for name in table.sets:
        wanted, have = new.get(name, set()), old.get(name, set())
        if wanted != have:
            yield nft.Change(table.family, table.name, name, wanted - have, have - wanted)


def _lull(table: Table, *, asleep: bool) -> Message:
    return nft.lull(table.family, table.name, asleep=asleep)


def _rows(state: NodeState) -> Iterable[Row]:
    yield from state.table(Segment).values()
    yield from state.table(Realm).values()
    yield from state.table(Fellow).values()
    yield from state.table(Publication).values()
    yield from state.table(Guard).values()
    yield from state.table(Guest).values()


def _drift(table: Table, name: str, element: nft.Element, kind: str) -> Drift:
    shown = layout.text(table.sets[name], element)
    return Drift(
        table=f"nftables {table.family} {name}",
        key=shown,
        kind=kind,
        want=shown if kind == "missing" else "",
        have="" if kind == "missing" else shown,
    )
