"""Peers: which class has which prefix. The addresses of endpoints and nodes, and the CIDRs that policies use, as rows.

A prefix has one row. Of two endpoints with one address the one of this node has it, else the first by name, and so of two
nodes. The row is the endpoint's, if one has the address, else that of the prefix itself, whoever has it: a node, a service, a
policy that uses it, or, where policies tell endpoints from everybody else, nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

from fairlead.desired.state import Front, Peer, Rows
from fairlead.model.address import Address, Prefix

from .blocks import Blocks, Spot
from .identity import Class, Face, FrontPorts, Labels, Numbers, Profile, Register

_EVERYWHERE = (Prefix("0.0.0.0/0"), Prefix("::/0"))
_SEAT = "peers/"
"""What the owners of endpoints' rows begin with."""
Steps = tuple[tuple[str, Rows], ...]
W = TypeVar("W")


class Moves(NamedTuple):
    """What a change does: the steps, and the classes that some prefix now has and those that none has any more."""

    steps: Steps
    born: dict[int, Face]
    dead: dict[int, Face]


class Known(NamedTuple):
    """A class that is in use: how many prefixes have it, and the endpoints that do, by name."""

    number: int
    face: Face
    addresses: int
    endpoints: tuple[str, ...]


class _Seat(NamedTuple, Generic[W]):
    """``who`` has these prefixes."""

    who: W
    prefixes: tuple[Prefix, ...]


class _Hall(Generic[W]):
    """Who sits where: seats by name, names by prefix."""

    def __init__(self) -> None:
        self.seats: dict[str, _Seat[W]] = {}
        self.holders: dict[Prefix, tuple[str, ...]] = {}  # mostly one: a set would take four times as much
        self.near: set[str] = set()
        """Who is known at first hand."""

    def first(self, prefix: Prefix) -> str | None:
        """The one of those who sit there that counts."""
        return min(self.holders.get(prefix, ()), default=None, key=lambda name: (name not in self.near, name))

    def take(self, name: str, seat: _Seat[W]) -> None:
        """Sit down."""
        self.seats[name] = seat
        for one in seat.prefixes:
            self.holders[one] = (*self.holders.get(one, ()), name)

    def leave(self, name: str) -> tuple[Prefix, ...]:
        """Get up; the prefixes it had."""
        seat = self.seats.pop(name, None)
        for one in seat.prefixes if seat else ():
            if left := tuple([other for other in self.holders[one] if other != name]):
                self.holders[one] = left
            else:
                del self.holders[one]
        return seat.prefixes if seat else ()


class Peers:
    """Prefixes and their classes. Changes take effect together, with ``settle``."""

    def __init__(self, numbers: Numbers) -> None:
        self.faces: dict[int, Face] = {}
        """Every class that some prefix has, but 0, by number."""
        self._register = Register(numbers)
        self._endpoints: _Hall[Profile] = _Hall()
        self._nodes: _Hall[Labels] = _Hall()  # the labels that matter
        self._fronts: _Hall[FrontPorts] = _Hall()
        self._shown: dict[str, tuple[Front, ...]] = {}
        self._spots: dict[Prefix, Spot] = {}
        self._blocks = Blocks()
        self._rows: dict[str, tuple[Peer, ...]] = {}
        self._uses: Counter[int] = Counter()
        self._changed: set[str] = set()
        self._changed_blocks: set[Prefix] = set()
        self._toggled: set[Prefix] = set()
        self._outside = False

    def tell_outside(self, *, apart: bool) -> None:
        """Whether who is no endpoint, and in no CIDR in use, is of a class of its own."""
        if apart != self._outside:
            self._outside = apart
            self._changed_blocks.update(_EVERYWHERE)

    def seat(self, name: str, who: Profile, addresses: Iterable[Address], *, near: bool = False) -> None:
        """The endpoint ``name`` has the profile ``who`` and these addresses, whatever it had before. ``near``: on this node."""
        (self._endpoints.near.add if near else self._endpoints.near.discard)(name)
        self._sit(self._endpoints, name, who, addresses)

    def seat_node(self, name: str, labels: Labels, addresses: Iterable[Address]) -> None:
        """The node ``name`` has these labels that matter, and these addresses."""
        self._sit(self._nodes, name, labels, addresses)

    def seat_front(self, name: str, ports: FrontPorts, addresses: Iterable[Address]) -> None:
        """The service ``name`` has these addresses, and these ports at each."""
        self._sit(self._fronts, name, ports, addresses)

    def unseat_front(self, name: str) -> None:
        """There is no service ``name``, or it has no address."""
        self._rise(self._fronts, name)

    def unseat(self, name: str) -> None:
        """There is no endpoint ``name``."""
        self._rise(self._endpoints, name)
        self._endpoints.near.discard(name)

    def unseat_node(self, name: str) -> None:
        """There is no node ``name``, or nobody looks at nodes."""
        self._rise(self._nodes, name)

    def use(self, cidrs: Iterable[Prefix]) -> None:
        """One more policy uses ``cidrs``."""
        self._toggled.update([one for one in cidrs if self._blocks.add(one)])

    def disuse(self, cidrs: Iterable[Prefix]) -> None:
        """One policy less uses ``cidrs``."""
        self._toggled.update([one for one in cidrs if self._blocks.remove(one)])

    def holder(self, address: Address) -> str | None:
        """The endpoint that has the address."""
        return self._endpoints.first(address.host())

    def at(self, address: Address, who: Profile | None) -> Class:
        """The class of an address that somebody with the profile ``who`` has, or nobody."""
        front = () if who else self._front(address.host())
        return Class(who, self._blocks.holding(Spot.of(address)), self._node(address.host()), self._outside, front)

    @property
    def blocks(self) -> set[Prefix]:
        """The CIDRs in use."""
        return set(self._blocks)

    def within(self, cidr: Prefix) -> int:
        """The class of addresses of a CIDR that nobody has and no longer one in use holds."""
        return self.number(Class(None, self._blocks.holding(Spot.of(cidr)), outside=self._outside))

    def number(self, of: Class) -> int:
        """The number of a class; 0 for everybody of whom policies know nothing."""
        return self._register.number(content) if (content := of.content) else 0

    def known(self) -> list[Known]:
        """The classes in use, by number."""
        holders: dict[int, list[str]] = {peer: [] for peer in sorted(self.faces)}
        for owner, rows in self._rows.items():
            if owner.startswith(_SEAT):
                for peer in {row.peer for row in rows}:
                    holders[peer].append(owner.removeprefix(_SEAT))
        return [Known(peer, self.faces[peer], self._uses[peer], tuple(names)) for peer, names in holders.items()]

    def settle(self) -> Moves:
        """Make the changes so far true."""
        self._spread()
        classes: dict[int, Class] = {}
        fresh = {f"{_SEAT}{name}": self._seat_rows(name, classes) for name in sorted(self._changed)}
        fresh |= {f"block/{cidr}": self._block_rows(cidr, classes) for cidr in sorted(self._changed_blocks)}
        fronts = self._front_steps()
        self._changed, self._changed_blocks, self._toggled = set(), set(), set()
        fresh = {owner: rows for owner, rows in fresh.items() if rows != self._rows.get(owner, ())}
        steps = (*fronts, *self._steps(fresh))
        lost: dict[int, None] = {}
        for owner, rows in fresh.items():
            before = [row.peer for row in self._rows.pop(owner, ())]
            lost |= dict.fromkeys(before)
            self._uses.update([row.peer for row in rows])
            self._uses.subtract(before)
            if rows:
                self._rows[owner] = rows
        born = {peer: Face.of(one) for peer, one in classes.items() if self._uses[peer] and peer not in self.faces}
        gone = [peer for peer in lost if not self._uses[peer]]
        self.faces |= born
        for peer in gone:
            del self._uses[peer]
            self._register.drop(peer)
        return Moves(steps, born, {peer: self.faces.pop(peer) for peer in gone if peer in self.faces})

    def _sit(self, hall: _Hall[W], name: str, who: W, addresses: Iterable[Address]) -> None:
        self._rise(hall, name)
        seat = _Seat(who, tuple(dict.fromkeys(one.host() for one in addresses)))
        for one in seat.prefixes:
            self._touch(one)
        hall.take(name, seat)
        if hall is self._endpoints:
            self._changed.add(name)

    def _rise(self, hall: _Hall[W], name: str) -> None:
        if hall is self._endpoints:
            self._changed.add(name)
        for one in hall.leave(name):
            self._touch(one)
            if not any(one in each.holders for each in (self._endpoints, self._nodes, self._fronts)):
                del self._spots[one]

    def _touch(self, prefix: Prefix) -> None:
        self._changed.update(self._endpoints.holders.get(prefix, ()))
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
                self._changed.update(self._endpoints.holders.get(prefix, ()))
                self._changed_blocks.update([prefix] if self._is_known(prefix) else ())

    def _node(self, prefix: Prefix) -> Labels | None:
        """The labels that matter of the node that has an address."""
        name = self._nodes.first(prefix)
        return self._nodes.seats[name].who if name else None

    def _front(self, prefix: Prefix) -> FrontPorts:
        """The ports of all services that have an address."""
        found = {port for name in self._fronts.holders.get(prefix, ()) for port in self._fronts.seats[name].who}
        return tuple(sorted(found))

    def _front_steps(self) -> Steps:
        """Of addresses that changed, the ports of services; of one that an endpoint has none."""
        found = []
        for prefix in sorted(self._changed_blocks):
            ports = () if prefix in self._endpoints.holders else self._front(prefix)
            address = Address(prefix.net.network_address)
            rows = tuple([Front(address=address, protocol=one, port=port) for one, port in ports])
            owner = f"front/{address}"
            if rows != self._shown.get(owner, ()):
                found.append((owner, rows))
                self._shown[owner] = rows
                if not rows:
                    del self._shown[owner]
        return tuple(found)

    def _is_known(self, prefix: Prefix) -> bool:
        """Whether it is an address of a node or of a service."""
        return prefix in self._nodes.holders or prefix in self._fronts.holders

    def _seat_rows(self, name: str, classes: dict[int, Class]) -> tuple[Peer, ...]:
        seat = self._endpoints.seats.get(name)
        if seat is None:
            return ()
        own = [one for one in seat.prefixes if self._endpoints.first(one) == name]
        blocks, spots = self._blocks, self._spots
        return tuple([self._row(one, Class(seat.who, blocks.holding(spots[one]), self._node(one)), classes) for one in own])

    def _block_rows(self, prefix: Prefix, classes: dict[int, Class]) -> tuple[Peer, ...]:
        known = prefix in self._blocks or self._is_known(prefix) or (self._outside and prefix in _EVERYWHERE)
        if not known or prefix in self._endpoints.holders:
            return ()
        blocks = self._blocks.holding(Spot.of(prefix))
        return (self._row(prefix, Class(None, blocks, self._node(prefix), self._outside, self._front(prefix)), classes),)

    def _row(self, prefix: Prefix, of: Class, classes: dict[int, Class]) -> Peer:
        peer = self._register.take(of.content)
        classes[peer] = of
        return Peer(prefix=prefix, peer=peer)

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
