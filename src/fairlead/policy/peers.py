"""Peers: which class has which prefix. The addresses of endpoints and nodes, and the CIDRs that policies use, as rows.

A prefix has one row. Of two endpoints with one address the first by name has it, and so of two nodes; an endpoint's address
goes before a node's, and that before a CIDR which is the same prefix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

from fairlead.desired.state import Peer, Rows
from fairlead.model.address import Address, Prefix

from .blocks import Blocks, Spot
from .identity import Class, Face, Labels, Profile

Steps = tuple[tuple[str, Rows], ...]
W = TypeVar("W")


class Moves(NamedTuple):
    """What a change does: the steps, and the classes that some prefix now has and those that none has any more."""

    steps: Steps
    born: dict[int, Face]
    dead: dict[int, Face]


class _Seat(NamedTuple, Generic[W]):
    """``who`` has these prefixes."""

    who: W
    prefixes: tuple[Prefix, ...]


class _Hall(Generic[W]):
    """Who sits where: seats by the owner of the rows, owners by prefix."""

    def __init__(self) -> None:
        self.seats: dict[str, _Seat[W]] = {}
        self.holders: dict[Prefix, set[str]] = {}

    def first(self, prefix: Prefix) -> str | None:
        """The one of those who sit there that counts."""
        return min(self.holders.get(prefix, ()), default=None)

    def take(self, owner: str, seat: _Seat[W]) -> None:
        """Sit down."""
        self.seats[owner] = seat
        for one in seat.prefixes:
            self.holders.setdefault(one, set()).add(owner)

    def leave(self, owner: str) -> tuple[Prefix, ...]:
        """Get up; the prefixes it had."""
        seat = self.seats.pop(owner, None)
        for one in seat.prefixes if seat else ():
            self.holders[one].discard(owner)
            if not self.holders[one]:
                del self.holders[one]
        return seat.prefixes if seat else ()


class Peers:
    """Prefixes and their classes. Changes take effect together, with ``settle``."""

    def __init__(self) -> None:
        self.faces: dict[int, Face] = {}
        """Every class that some prefix has, but 0, by number."""
        self._endpoints: _Hall[Profile] = _Hall()
        self._nodes: _Hall[Labels] = _Hall()  # the labels that matter
        self._spots: dict[Prefix, Spot] = {}
        self._blocks = Blocks()
        self._rows: dict[str, tuple[Peer, ...]] = {}
        self._uses: Counter[int] = Counter()
        self._changed: set[str] = set()
        self._changed_blocks: set[Prefix] = set()
        self._toggled: set[Prefix] = set()

    def seat(self, name: str, who: Profile, addresses: Iterable[Address]) -> None:
        """The endpoint ``name`` has the profile ``who`` and these addresses, whatever it had before."""
        self._sit(self._endpoints, f"peers/{name}", who, addresses)

    def seat_node(self, name: str, labels: Labels, addresses: Iterable[Address]) -> None:
        """The node ``name`` has these labels that matter, and these addresses."""
        self._sit(self._nodes, f"node/{name}", labels, addresses)

    def unseat(self, name: str) -> None:
        """There is no endpoint ``name``."""
        self._rise(self._endpoints, f"peers/{name}")

    def unseat_node(self, name: str) -> None:
        """There is no node ``name``, or nobody looks at nodes."""
        self._rise(self._nodes, f"node/{name}")

    def use(self, cidrs: Iterable[Prefix]) -> None:
        """One more policy uses ``cidrs``."""
        self._toggled.update([one for one in cidrs if self._blocks.add(one)])

    def disuse(self, cidrs: Iterable[Prefix]) -> None:
        """One policy less uses ``cidrs``."""
        self._toggled.update([one for one in cidrs if self._blocks.remove(one)])

    def holder(self, address: Address) -> str | None:
        """The endpoint that has the address."""
        found = self._endpoints.first(address.host())
        return found.removeprefix("peers/") if found else None

    def at(self, address: Address, who: Profile | None) -> Class:
        """The class of an address that somebody with the profile ``who`` has, or nobody."""
        return Class(who, self._blocks.holding(Spot.of(address)), self._node(address.host()))

    def settle(self) -> Moves:
        """Make the changes so far true."""
        self._spread()
        classes: dict[int, Class] = {}
        fresh = {owner: self._seat_rows(owner, classes) for owner in sorted(self._changed)}
        fresh |= {f"block/{cidr}": self._block_rows(cidr, classes) for cidr in sorted(self._changed_blocks)}
        self._changed, self._changed_blocks, self._toggled = set(), set(), set()
        fresh = {owner: rows for owner, rows in fresh.items() if rows != self._rows.get(owner, ())}
        steps = self._steps(fresh)
        for owner, rows in fresh.items():
            self._uses.update([row.peer for row in rows])
            self._uses.subtract([row.peer for row in self._rows.pop(owner, ())])
            if rows:
                self._rows[owner] = rows
        born = {peer: Face.of(one) for peer, one in classes.items() if self._uses[peer] and peer not in self.faces}
        gone = [peer for peer, uses in self._uses.items() if not uses]
        self.faces |= born
        for peer in gone:
            del self._uses[peer]
        return Moves(steps, born, {peer: self.faces.pop(peer) for peer in gone if peer in self.faces})

    def _sit(self, hall: _Hall[W], owner: str, who: W, addresses: Iterable[Address]) -> None:
        self._rise(hall, owner)
        seat = _Seat(who, tuple(dict.fromkeys(one.host() for one in addresses)))
        for one in seat.prefixes:
            self._touch(one)
        hall.take(owner, seat)

    def _rise(self, hall: _Hall[W], owner: str) -> None:
        self._changed.add(owner)
        for one in hall.leave(owner):
            self._touch(one)
            if one not in self._endpoints.holders and one not in self._nodes.holders:
                del self._spots[one]

    def _touch(self, prefix: Prefix) -> None:
        self._changed.update(self._endpoints.holders.get(prefix, ()), self._nodes.holders.get(prefix, ()))
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
                self._changed.update(self._endpoints.holders.get(prefix, ()), self._nodes.holders.get(prefix, ()))

    def _node(self, prefix: Prefix) -> Labels | None:
        """The labels that matter of the node that has an address."""
        owner = self._nodes.first(prefix)
        return self._nodes.seats[owner].who if owner else None

    def _seat_rows(self, owner: str, classes: dict[int, Class]) -> tuple[Peer, ...]:
        who: Profile | None = None
        if seat := self._endpoints.seats.get(owner):
            who, own = seat.who, [one for one in seat.prefixes if self._endpoints.first(one) == owner]
        elif of := self._nodes.seats.get(owner):
            free = (one for one in of.prefixes if one not in self._endpoints.holders)
            own = [one for one in free if self._nodes.first(one) == owner]
        else:
            return ()
        return tuple([_row(one, Class(who, self._blocks.holding(self._spots[one]), self._node(one)), classes) for one in own])

    def _block_rows(self, cidr: Prefix, classes: dict[int, Class]) -> tuple[Peer, ...]:
        if cidr not in self._blocks or cidr in self._endpoints.holders or cidr in self._nodes.holders:
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
