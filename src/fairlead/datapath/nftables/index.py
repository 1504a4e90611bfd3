"""Index: the rows of policies by what they are asked for, so that a change costs what it touches.

The kernel's maps of this plane hold the join of two tables, ``Peer`` (who is of which class) and ``Judgement`` (what a set of
policies says of a class): a set has an element for each address of which it says something. Nothing here knows the kernel.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from fairlead.desired.state import Judgement, Peer, Row, Ruling, Span
from fairlead.model.address import Family, Prefix
from fairlead.policy.blocks import BITS, Blocks, Spot

from .segments import Segment, segments

FAMILIES = (4, 6)


class Host(NamedTuple):
    """One address, as the kernel has it."""

    family: Family
    packed: bytes


class Touched(NamedTuple):
    """What a change may alter: what some sets say of some addresses, the rulings of some sets, of others everything."""

    hosts: dict[int, set[Host]]
    judged: set[int]
    whole: set[int]


class Index:
    """Peers, judgements and rulings; ``apply`` changes them."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._classes: dict[Prefix, int] = {}
        self._hosts: dict[Host, int] = {}
        self._members: dict[int, set[Host]] = {}
        self._blocks = Blocks()
        self._nets: dict[Family, dict[Spot, int]] = {4: {}, 6: {}}  # the classes of prefixes that are no host's
        self._wide: Counter[int] = Counter()  # the classes that have such a prefix
        self._judged: dict[int, dict[int, int]] = {}
        self._judging: dict[int, set[int]] = {}
        self._rulings: dict[int, tuple[Span, ...]] = {}
        self._following: dict[int, Counter[int]] = {}  # ruling -> sets, and how many of their judgements follow it
        self.apply(rows, ())

    @property
    def rows(self) -> tuple[dict[Prefix, int], dict[int, dict[int, int]], dict[int, tuple[Span, ...]]]:
        """All that is known, to be compared with another's: classes by prefix, rulings by set and class, spans by ruling."""
        return self._classes, self._judged, self._rulings

    def spans(self, ruling: int | None) -> tuple[Span, ...] | None:
        """What a ruling says; None if it is not known."""
        return self._rulings.get(ruling) if ruling is not None else None

    def policies(self) -> Iterable[int]:
        """The sets of which anything is said."""
        return self._judged.keys()

    def fill(self) -> dict[str, int]:
        """How many rows there are of each kind."""
        judgements = sum(map(len, self._judged.values()))
        return {"peers": len(self._classes), "judgements": judgements, "rulings": len(self._rulings)}

    def rulings(self, own: int) -> set[int | None]:
        """The rulings that a set's verdicts may follow; None where something that it needs is not known."""
        judged = self._judged.get(own, {})
        found = {one if one in self._rulings else None for one in judged.values()}
        return found if 0 in judged else found | {None}

    def rest(self, own: int) -> int | None:
        """The ruling on everybody of whom a set says nothing else."""
        return self.judged(own, 0)

    def judged(self, own: int, peer: int) -> int | None:
        """The ruling of a set on a class; None if there is none, or it is not known."""
        judged = self._judged.get(own, {})
        ruling = judged.get(peer, judged.get(0))
        return ruling if ruling in self._rulings else None

    def on(self, own: int, family: Family, packed: bytes) -> int | None:
        """The ruling of a set on an address, the longest prefix counting."""
        host = Host(family, packed)
        return self.judged(own, self._hosts[host] if host in self._hosts else self._around(host))

    def apart(self, own: int, hosts: Iterable[Host]) -> Iterator[tuple[Host, int | None]]:
        """Those of ``hosts`` that a set must name, and what it says: something else than of the addresses around them."""
        for host in hosts:
            of = self._hosts.get(host)
            if of is not None and (ruling := self.judged(own, of)) != self.judged(own, self._around(host)):
                yield host, ruling

    def named(self, own: int, family: Family, only: Callable[[Host], bool]) -> Iterator[tuple[Host, int | None]]:
        """The addresses that a set must name, and what it says of them; ``only`` those that it is asked about."""
        judged = self._judged.get(own, {})
        if any(peer in self._wide for peer in judged):
            near: Iterable[Host] = self._hosts
        else:
            near = (host for peer in judged for host in self._members.get(peer, ()))
        return self.apart(own, (host for host in near if host.family == family and only(host)))

    def silenced(self, add: Iterable[Row], remove: Iterable[Row]) -> set[int]:
        """The sets of which nothing is said any more after ``apply`` with the same rows."""
        added = {row.policy for row in add if isinstance(row, Judgement)}
        judged = (row for row in remove if isinstance(row, Judgement))
        gone = Counter(row.policy for row in judged if row.peer in self._judged.get(row.policy, {}))
        return {own for own, count in gone.items() if own not in added and count == len(self._judged[own])}

    def runs(self, own: int, family: Family) -> list[Segment[int | None]]:
        """The runs of addresses of which a set says something else than of everybody, by prefixes that are no host's."""
        judged = self._judged.get(own, {})
        if not any(peer in self._wide for peer in judged):
            return []
        rest = self.rest(own)
        nets = sorted(self._nets[family].items())
        outer = [spot for spot, peer in nets if peer in judged]
        inside = {spot: peer for one in outer for spot, peer in _within(nets, one)}
        found = segments(Segment(*_ends(spot), self.judged(own, peer)) for spot, peer in inside.items())
        return [one for one in found if one.label != rest]

    def touched(self, add: Iterable[Row], remove: Iterable[Row], live: AbstractSet[int]) -> Touched:
        """What ``apply`` with the same rows will alter at most of the sets that are ``live``."""
        found = Touched({}, set(), set())
        came: dict[int, set[int]] = {}
        judgements = [row for row in (*add, *remove) if isinstance(row, Judgement) and row.policy in live]
        for row in judgements:
            came.setdefault(row.peer, set()).add(row.policy)
            found.judged.add(row.policy)
        fresh: dict[int, list[Prefix]] = {}
        for one in (row for row in (*add, *remove) if isinstance(row, Peer)):
            fresh.setdefault(one.peer, []).append(one.prefix)
            self._touch_prefix(one, came, found)
        for row in judgements:
            near = found.hosts.setdefault(row.policy, set())
            near.update(self._members.get(row.peer, ()))
            near.update(_host(one) for one in fresh.get(row.peer, ()) if _is_host(one))
            if row.peer == 0 or row.peer in self._wide or not all(map(_is_host, fresh.get(row.peer, ()))):
                found.whole.add(row.policy)
        for ruling in (row for row in (*add, *remove) if isinstance(row, Ruling)):
            found.whole.update(self._following.get(ruling.number, ()))
        return found

    def apply(self, add: Iterable[Row], remove: Iterable[Row]) -> None:
        """Know ``add``, and what of ``remove`` is not added no more."""
        add = list(add)
        kept = {(type(row), row.key) for row in add}
        for row in remove:
            if (type(row), row.key) not in kept:
                self._forget(row)
        for row in add:
            self._know(row)

    def prior(self, rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
        """What ``apply`` takes to undo a change of ``rows``: what is known now under their keys, and what is not."""
        known, fresh = [], []
        for row in rows:
            was = self._row(row)
            if was:
                known.append(was)
            else:
                fresh.append(row)
        return known, fresh

    def _row(self, like: Row) -> Row | None:
        """What is known under the key of a row."""
        match like:
            case Peer() if (peer := self._classes.get(like.prefix)) is not None:
                return Peer(prefix=like.prefix, peer=peer)
            case Judgement() if (ruling := self._judged.get(like.policy, {}).get(like.peer)) is not None:
                return Judgement(policy=like.policy, peer=like.peer, ruling=ruling)
            case Ruling() if (spans := self._rulings.get(like.number)) is not None:
                return Ruling(number=like.number, spans=spans)
            case _:
                return None

    def _touch_prefix(self, row: Peer, came: dict[int, set[int]], found: Touched) -> None:
        prefix = row.prefix
        spot = Spot.of(prefix)
        around = self._holding(spot._replace(length=spot.length - 1)) if spot.length else 0
        peers = {row.peer, self._classes.get(prefix, 0), around} - {0}
        sets = {own for peer in peers for own in (*self._judging.get(peer, ()), *came.get(peer, ()))}
        if _is_host(prefix):
            for own in sets:
                found.hosts.setdefault(own, set()).add(_host(prefix))
        else:
            found.whole.update(sets)

    def _know(self, row: Row) -> None:
        match row:
            case Peer():
                if self._classes.get(row.prefix) != row.peer:
                    self._forget_peer(row.prefix)
                    self._know_peer(row.prefix, row.peer)
            case Judgement():
                self._forget_judgement(row)
                self._judged.setdefault(row.policy, {})[row.peer] = row.ruling
                self._judging.setdefault(row.peer, set()).add(row.policy)
                self._following.setdefault(row.ruling, Counter())[row.policy] += 1
            case Ruling():
                self._rulings[row.number] = row.spans
            case _:
                pass

    def _forget(self, row: Row) -> None:
        match row:
            case Peer():
                self._forget_peer(row.prefix)
            case Judgement():
                self._forget_judgement(row)
            case Ruling():
                self._rulings.pop(row.number, None)
            case _:
                pass

    def _know_peer(self, prefix: Prefix, peer: int) -> None:
        self._classes[prefix] = peer
        if _is_host(prefix):
            self._hosts[_host(prefix)] = peer
            self._members.setdefault(peer, set()).add(_host(prefix))
        else:
            self._blocks.add(prefix)
            self._nets[prefix.family][Spot.of(prefix)] = peer
            self._wide[peer] += 1

    def _forget_peer(self, prefix: Prefix) -> None:
        peer = self._classes.pop(prefix, None)
        if peer is None:
            return
        if _is_host(prefix):
            host = _host(prefix)
            del self._hosts[host]
            self._members[peer].discard(host)
            if not self._members[peer]:
                del self._members[peer]
        else:
            self._blocks.remove(prefix)
            del self._nets[prefix.family][Spot.of(prefix)]
            self._wide[peer] -= 1
            if not self._wide[peer]:
                del self._wide[peer]

    def _forget_judgement(self, row: Judgement) -> None:
        ruling = self._judged.get(row.policy, {}).pop(row.peer, None)
        if ruling is None:
            return
        if not self._judged[row.policy]:
            del self._judged[row.policy]
        self._judging[row.peer].discard(row.policy)
        if not self._judging[row.peer]:
            del self._judging[row.peer]
        self._following[ruling][row.policy] -= 1
        if not self._following[ruling][row.policy]:
            del self._following[ruling][row.policy]
        if not self._following[ruling]:
            del self._following[ruling]

    def _around(self, host: Host) -> int:
        """The class of the longest prefix, but a host's, that holds an address; 0 if none does."""
        if not self._nets[host.family]:
            return 0
        return self._holding(Spot(host.family, int.from_bytes(host.packed, "big"), BITS[host.family]))

    def _holding(self, spot: Spot) -> int:
        holding = self._blocks.holding(spot)
        return self._classes[holding[-1]] if holding else 0


def _within(nets: list[tuple[Spot, int]], outer: Spot) -> Iterator[tuple[Spot, int]]:
    """Of sorted prefixes those that lie in one of them, itself included."""
    last = _ends(outer)[1]
    for spot, peer in nets[bisect_left(nets, (outer, 0)) :]:
        if spot.value > last:
            return
        yield spot, peer


def _ends(spot: Spot) -> tuple[int, int]:
    return spot.value, spot.value | (1 << BITS[spot.family] - spot.length) - 1


def _is_host(prefix: Prefix) -> bool:
    return prefix.length == BITS[prefix.family]


def _host(prefix: Prefix) -> Host:
    return Host(prefix.family, prefix.net.network_address.packed)
