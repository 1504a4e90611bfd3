"""The nftables plane: policies as chains and maps of two tables, for machines without the eBPF that the other needs.

What packets meet is in ``ruleset.py`` and ``sets.py``; ``model.py`` knows what should be there, ``tables.py`` how to make it
so. Here the one becomes the other, each act as one transaction a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from fairlead.api.schema import Drift
from fairlead.datapath.base import Answer, Hits, Look, Question, at_once
from fairlead.desired.state import Bridge, Front, Judgement, Link, NodeState, Peer, Row, Ruling, Subject
from fairlead.kernel import nft, route
from fairlead.kernel.errors import Exists, Gone, KernelError
from fairlead.kernel.netlink import NETFILTER, Message, Netlink

from . import bridges, subjects, tables
from .hits import Reading
from .model import Change, Model
from .question import ask
from .ruleset import NAME, TABLES
from .subjects import Place, Places, Touched

_POLICIES = (Peer, Judgement, Ruling)
_FEW = 16
_BOUNDLESS = 2**32 - 1


class Nftables:
    """Holds a socket of nftables and one of interfaces; not for several threads at once."""

    name = "nftables"
    table: str = NAME
    families: tuple[str, ...] = TABLES
    """What its tables are called, and of which families there is one."""

    def __init__(self, forgotten: set[str], *, node_access: bool = True) -> None:
        """``forgotten``: links that one of several threads' planes has shut, known to all of them.

        ``node_access``: whether this node reaches its containers whatever policies say.
        """
        self._node_access = node_access
        self._nft, self._links = Netlink(NETFILTER), Netlink()
        self._forgotten = forgotten
        self._model = self._made(NodeState())
        self._hits = Reading()
        self._purged = False
        self._right: nft.Mark | None = None
        """When the tables were seen to be what the model says. As long as nobody else changes anything they stay it."""

    def change(self, add: Iterable[Row], remove: Iterable[Row]) -> None:
        """What policies say, whom they say it of, then what they no longer say: all in one transaction.

        Each that adds a jump has the kernel go through all chains once.
        """
        add, remove = list(add), list(remove)
        new = {row.key: row for row in add if isinstance(row, Subject)}
        left = [row.host for row in remove if isinstance(row, Subject) and row.key not in new]
        said, kept = [row for row in add if isinstance(row, _POLICIES)], {(type(row), row.key) for row in add}
        unsaid = [row for row in remove if isinstance(row, _POLICIES) and (type(row), row.key) not in kept]
        fronts, closed = [row for row in add if isinstance(row, Front)], [row for row in remove if isinstance(row, Front)]
        doubted = new.keys() & self._forgotten
        steps: list[Change] = []
        if fronts:
            steps.append(self._front(fronts, ()))
        if said:
            steps.append(self._model.change(said, ()))
        if new:
            steps.append(self._model.put(new.values(), sure=not doubted))
        if left:
            steps.append(self._model.drop(left, gone=self._gone(left)))
        if unsaid:
            steps.append(self._model.change((), unsaid))
        if closed := [row for row in closed if (Front, row.key) not in kept]:
            steps.append(self._front((), closed))
        self._commit(*steps)
        self._forgotten -= doubted

    def ensure(self, rows: Iterable[Row]) -> None:
        """Put containers under their policies, and see that what goes over a bridge comes by here."""
        rows = list(rows)
        links = [row for row in rows if isinstance(row, Link)]
        under = [row for row in rows if isinstance(row, Subject)]
        bridges.ensure(self._links, links)
        known = {row.host for row in under}
        strange = [subjects.nobody(row) for row in links if row.host not in known]
        self._put(under, strange)

    def forget(self, rows: Iterable[Row]) -> None:
        """Say of every address that it carries nothing."""
        for row in rows:
            if isinstance(row, Link):
                self._forgotten.add(row.host)
                said = subjects.places(subjects.nobody(row), self._model.manner, shut=True)
                # Nothing may be known of it, or another thread writes it right now, which knows that it is forgotten.
                with suppress(Gone, Exists):
                    self._transact(subjects.touched(subjects.doubted(said), said))

    def check(self, state: NodeState) -> list[Drift]:
        """Compare every chain, rule, map and element, if anybody has changed any since; and what bridges hand over."""
        if self._purged:
            return []
        return self._check_tables(state) + bridges.check(self._links, state.table(Link).values())

    def _check_tables(self, state: NodeState) -> list[Drift]:
        model, now = self._made(state), nft.mark(self._nft)
        known = model.same(self._model)
        drift: list[Drift] = []
        if not (known and self._right and nft.untouched(self._nft, self._right)):
            drift = [one for family in self.families for one in self._drifts(family, model)]
            self._right = now if known and not drift else None
        return drift

    @property
    def looks(self) -> Sequence[Look]:
        """All of it, at once: what nobody has changed is not read again."""
        return (at_once(self.check),)

    def check_links(self, rows: Iterable[Row]) -> list[Drift]:
        """Look every address of theirs up where it should be."""
        rows = list(rows)
        links = [row for row in rows if isinstance(row, Link)]
        under = {row.host: row for row in rows if isinstance(row, Subject)}
        strange = [subjects.nobody(row) for row in links if row.host not in under]
        said = Places()
        for row in under.values():
            said |= subjects.places(row, self._model.manner)
        for row in strange:
            said |= subjects.places(row, self._model.manner, shut=True)
        drift = [one for place, wanted in said.items() for one in self._missing(place, wanted)]
        return drift + bridges.check(self._links, links)

    def apply(self, state: NodeState) -> None:
        """Make the tables what ``state`` comes to; what is right is not touched."""
        if self._purged:
            return
        self._forgotten.clear()
        bridges.ensure(self._links, state.table(Link).values())
        self._rebuild(state)
        self.hits()  # what is counted by now no later reading shall take for news

    def lead(self, state: NodeState, rows: Iterable[Row]) -> None:
        """Its tables see what comes by any device."""

    def holds(self, index: int) -> bool:  # noqa: ARG002  # the same for each
        """There are no programs."""
        return False

    def ask(self, question: Question) -> Answer | None:
        """Go the way of a packet through what the kernel says it has."""
        return ask(self._nft, self.table, question, self._model.via(question.host))

    def fill(self) -> dict[str, tuple[int, int]]:
        """Of each kind of rows how many there are; there is no limit but memory."""
        return {name: (count, _BOUNDLESS) for name, count in self._model.fill().items()}

    def hits(self) -> dict[int, Hits]:
        """Read the counters."""
        return self._hits.read(self._counters())

    def forget_hits(self, rules: Iterable[int]) -> None:
        """A rule's counter goes with the rule."""

    def purge(self) -> None:
        """Remove the tables; what is still on its way finds none, and none is made by a late comparison."""
        self._purged = True
        remove()

    def close(self) -> None:
        """Close the sockets."""
        self._nft.close()
        self._links.close()

    def _commit(self, *steps: Change) -> None:
        """Have the kernel do it all. Where it has something else than it was told, everything is compared and put right."""
        if self._purged:
            return
        try:
            try:
                self._transact(*(one.touched for one in steps))
            except (Gone, Exists):
                self._mend()
        except KernelError:
            for one in reversed(steps):
                one.undo()
            raise

    def _rebuild(self, state: NodeState) -> None:
        """Make the tables what ``state`` comes to; what is right is not touched."""
        self._model = self._made(state)
        self._mend()

    def _made(self, state: NodeState) -> Model:
        """The model of a node's state."""
        return Model.of(state)

    def _front(self, add: Sequence[Front], remove: Sequence[Front]) -> Change:
        """There are other services. The first, and that the last is gone, changes the chains of all."""
        if not self._model.toggles(add, remove):
            return self._model.front(add, remove)
        before, after = self._model, self._model.led(add, remove)
        touched = {
            family: (before.parts(family, node_access=self._node_access), after.parts(family, node_access=self._node_access))
            for family in self.families
        }
        self._model = after

        def take_back() -> None:
            self._model = before

        return Change(touched, take_back)

    def _mend(self) -> None:
        now = nft.mark(self._nft)
        messages: list[Message] = []
        for family in self.families:
            want = self._model.parts(family, node_access=self._node_access)
            have = tables.read(self._nft, family, want, self.table)
            if have is None or have.foreign:
                messages += tables.anew(family, want, self.table, there=have is not None)
            else:
                messages += tables.difference(family, have.parts, want, self.table)
        if messages:
            nft.transact(self._nft, messages)
        self._right = now

    def _drifts(self, family: str, model: Model) -> Iterator[Drift]:
        want = model.parts(family, node_access=self._node_access)
        unused = model.unused()
        for one in tables.drifts(family, tables.read(self._nft, family, want, self.table), want, self.table):
            if one.kind != "unexpected" or not any(chain in one.key for chain in unused):
                yield one

    def _missing(self, place: Place, wanted: nft.Verdict | None) -> Iterator[Drift]:
        element = nft.Element(place.key, None, wanted)
        found = nft.element(self._nft, place.family, self.table, place.name, place.key)
        if found != element:
            yield tables.element_drift(place.family, place.name, element, "different" if found else "missing")

    def _put(self, under: Sequence[Subject], strange: Sequence[Subject]) -> None:
        hosts = {row.host for row in (*under, *strange)}
        if hosts:
            doubted = hosts & self._forgotten
            self._commit(self._model.put(under, strange, sure=not doubted))
            self._forgotten -= doubted

    def _transact(self, *steps: Touched) -> None:
        """Both tables in one transaction, one step after the other."""
        messages = [
            one
            for touched in steps
            for family, sides in touched.items()
            for one in tables.difference(family, *sides, self.table)
        ]
        if messages:
            nft.transact(self._nft, messages)

    def _counters(self) -> dict[str, nft.Tally]:
        try:
            return nft.counters(self._nft, "inet", self.table)
        except Gone:
            return {}

    def _gone(self, hosts: Sequence[str]) -> Callable[[str], bool]:
        if len(hosts) > _FEW:
            there = {one.name for one in route.links(self._links)}
            return lambda host: host not in there
        return lambda host: route.link(self._links, host) is None


def present() -> bool:
    """Whether an agent has made our tables."""
    with Netlink(NETFILTER) as nl:
        return any(nft.table_exists(nl, family, NAME) for family in TABLES)


def remove(rows: Iterable[Bridge] = ()) -> None:
    """Remove both tables; these bridges hand nothing over any more."""
    with Netlink(NETFILTER) as nl:
        for family in TABLES:
            with suppress(Gone):
                nft.delete_table(nl, family, NAME)
    with Netlink() as nl:
        bridges.release(nl, rows)
