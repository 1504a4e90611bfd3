"""Peers: which class has which prefix. The addresses of endpoints, and the CIDRs that policies use, as rows.

A prefix has one row. Of two endpoints with one address the first by name has it, and an endpoint's address goes before a
CIDR that is the same prefix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from fairlead.desired.state import Peer, Rows
from fairlead.model.address import Address, Prefix

from .blocks import Blocks, Spot
from .identity import Class, Face, Profile

Steps = tuple[tuple[str, Rows], ...]


class Moves(NamedTuple):
    """What a change does: the steps, and the classes that some prefix now has and those that none has any more."""

    steps: Steps
    born: dict[int, Face]
    dead: frozenset[int]


class _Seat(NamedTuple):
    who: Profile
    prefixes: tuple[Prefix, ...]


class Peers:
    """Prefixes and their classes. Changes take effect together, with ``settle``."""

    def __init__(self) -> None:
        self.faces: dict[int, Face] = {}
        """Every class that some prefix has, but 0, by number."""
        self._seats: dict[str, _Seat] = {}
        self._holders: dict[Prefix, set[str]] = {}
        self._spots: dict[Prefix, Spot] = {}
        self._blocks = Blocks()
        self._rows: dict[str, tuple[Peer, ...]] = {}
        self._uses: Counter[int] = Counter()
        self._changed_seats: set[str] = set()
        self._changed_blocks: set[Prefix] = set()
        self._toggled: set[Prefix] = set()

    def seat(self, name: str, who: Profile, addresses: Iterable[Address]) -> None:
        """The endpoint ``name`` has the profile ``who`` and these addresses, whatever it had before."""
        self.unseat(name)
        prefixes = tuple(dict.fromkeys(one.host() for one in addresses))
        self._seats[name] = _Seat(who, prefixes)
        for one in prefixes:
            self._touch(one)
            self._holders.setdefault(one, set()).add(name)

    def unseat(self, name: str) -> None:
        """There is no endpoint ``name``."""
        self._changed_seats.add(name)
        seat = self._seats.pop(name, None)
        for one in seat.prefixes if seat else ():
            self._touch(one)
            self._holders[one].discard(name)
            if not self._holders[one]:
                del self._holders[one], self._spots[one]

    def use(self, cidrs: Iterable[Prefix]) -> None:
        """One more policy uses ``cidrs``."""
        self._toggled.update([one for one in cidrs if self._blocks.add(one)])

    def disuse(self, cidrs: Iterable[Prefix]) -> None:
        """One policy less uses ``cidrs``."""
        self._toggled.update([one for one in cidrs if self._blocks.remove(one)])

    def holder(self, address: Address) -> str | None:
        """The endpoint that has the address."""
        return min(self._holders.get(address.host(), ()), default=None)

    def around(self, address: Address) -> tuple[Prefix, ...]:
        """The CIDRs in use that hold the address."""
        return self._blocks.holding(Spot.of(address))

    def settle(self) -> Moves:
        """Make the changes so far true."""
        self._spread()
        classes: dict[int, Class] = {}
        fresh = {f"peers/{name}": self._endpoint_rows(name, classes) for name in sorted(self._changed_seats)}
        fresh |= {f"block/{cidr}": self._block_rows(cidr, classes) for cidr in sorted(self._changed_blocks)}
        self._changed_seats, self._changed_blocks, self._toggled = set(), set(), set()
        fresh = {owner: rows for owner, rows in fresh.items() if rows != self._rows.get(owner, ())}
        steps = self._steps(fresh)
        for owner, rows in fresh.items():
            self._uses.update([row.peer for row in rows])
            self._uses.subtract([row.peer for row in self._rows.pop(owner, ())])
            if rows:
                self._rows[owner] = rows
        born = {peer: Face.of(one) for peer, one in classes.items() if self._uses[peer] and peer not in self.faces}
        dead = frozenset([peer for peer, uses in self._uses.items() if not uses])
        self.faces |= born
        for peer in dead:
            del self._uses[peer]
            self.faces.pop(peer, None)
        return Moves(steps, born, dead)

    def _touch(self, prefix: Prefix) -> None:
        self._changed_seats.update(self._holders.get(prefix, ()))
        self._changed_blocks.add(prefix)
        self._spots.setdefault(prefix, Spot.of(prefix))

    def _spread(self) -> None:
        """A CIDR that came into use or went out of it changes the class of everything that it holds."""
        if not self._toggled:
            return
        came = Blocks()
        for cidr in self._toggled:
            came.add(cidr)
        self._changed_blocks |= self._toggled
        self._changed_blocks.update([one for one in self._blocks if came.holding(Spot.of(one))])
        for prefix, spot in self._spots.items():
            if came.holding(spot):
                self._changed_seats |= self._holders[prefix]

    def _endpoint_rows(self, name: str, classes: dict[int, Class]) -> tuple[Peer, ...]:
        seat = self._seats.get(name)
        if seat is None:
            return ()
        own = [one for one in seat.prefixes if min(self._holders[one]) == name]
        return tuple([_row(one, Class(seat.who, self._blocks.holding(self._spots[one])), classes) for one in own])

    def _block_rows(self, cidr: Prefix, classes: dict[int, Class]) -> tuple[Peer, ...]:
        if cidr not in self._blocks or cidr in self._holders:
            return ()
        return (_row(cidr, Class(None, self._blocks.holding(Spot.of(cidr))), classes),)

    def _steps(self, fresh: dict[str, tuple[Peer, ...]]) -> Steps:
        """All rows of each owner. A prefix that goes from one owner to another is first taken from the one."""
        wins = {row.prefix: owner for owner, rows in fresh.items() for row in rows}
        taken: list[tuple[str, Rows]] = []
        for owner in fresh:
            before = self._rows.get(owner, ())
            left = tuple([row for row in before if wins.get(row.prefix, owner) == owner])
            if left != before:
                taken.append((owner, left))
        done = dict(taken)
        return (*taken, *((owner, rows) for owner, rows in fresh.items() if done.get(owner) != rows))


def _row(prefix: Prefix, of: Class, classes: dict[int, Class]) -> Peer:
    peer = of.number
    classes[peer] = of
    return Peer(prefix=prefix, peer=peer)
