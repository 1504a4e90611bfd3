"""Sets: the sets of policies that endpoints are under, and the terms in them matched against the classes of peers.

Each term is matched against each class once, when the later of them appears, and only where they share a drawer. What a new
class costs then depends on the sets whose terms mean it, not on all that there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from fairlead.desired.state import Rows
from fairlead.model.policy import PolicyType

from .compile import PolicySet, own_ports, set_content
from .drawers import Drawers
from .identity import Face, Numbers, Register
from .peers import Moves
from .ports import Named
from .select import Prepared
from .terms import Term


class Turn(NamedTuple):
    """The steps of a change: ``first`` before a peer or subject refers to what is new, ``last`` when none does to the old."""

    first: tuple[tuple[str, Rows], ...]
    last: tuple[tuple[str, Rows], ...]


class Sets:
    """Sets in use. Changes take effect together, with ``settle``."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._register = Register(numbers)
        self._sets: dict[int, PolicySet] = {}
        self._coming: dict[int, PolicySet] = {}
        self._uses: Counter[int] = Counter()
        self._terms: dict[bytes, Term] = {}
        self._lying: Drawers[bytes] = Drawers()
        self._faces: Drawers[int] = Drawers()
        self._users: dict[bytes, set[int]] = {}
        self._meant: dict[bytes, set[int]] = {}
        self._meaning: dict[int, set[bytes]] = {}

    def __getitem__(self, own: int) -> PolicySet:
        return self._sets[own]

    def hold(self, direction: PolicyType, policies: list[Prepared], named: Named) -> int:
        """Use the set of ``policies`` for containers with these named ports once more: its number, 0 if there are none."""
        policies = sorted(policies, key=lambda one: one.order)
        named = own_ports(direction, policies, named)
        content = set_content(direction, policies, named)
        if not content:
            return 0
        own = self._register.take(content)
        self._uses[own] += 1
        if own not in self._sets and own not in self._coming:
            self._coming[own] = PolicySet(own, direction, policies, named, self._numbers)
        return own

    def release(self, own: int) -> None:
        """Use the set once less."""
        if own:
            self._uses[own] -= 1

    def settle(self, moves: Moves, faces: Mapping[int, Face]) -> Turn:
        """Make the changes so far true, with the classes that ``moves`` brings and takes; ``faces`` are all that stay."""
        gone = {own for own, uses in self._uses.items() if not uses}
        for own in gone:
            del self._uses[own]
            self._register.drop(own)
            self._coming.pop(own, None)
        grown = {own for peer, face in moves.born.items() for own in self._enter(peer, face)}
        first = [(self._sets[own].owner, self._sets[own].rows()) for own in sorted(grown)]
        shrunk = {own for peer, face in moves.dead.items() for own in self._leave(peer, face)}
        first += [(one.owner, one.rows()) for own in sorted(self._coming) for one in [self._open(own, faces)]]
        last = [(self._sets[own].owner, self._sets[own].rows()) for own in sorted(shrunk - gone)]
        last += [(self._close(own).owner, ()) for own in sorted(gone & self._sets.keys())]
        return Turn(tuple(first), tuple(last))

    def _enter(self, peer: int, face: Face) -> list[int]:
        """A class appears; the sets that say something of it."""
        drawers = tuple(face.drawers())
        self._faces.lay(peer, drawers)
        meaning = self._meaning[peer] = {key for key in self._lying.near(drawers) if self._terms[key].matches(face)}
        masks: dict[int, int] = {}
        for key in meaning:
            self._meant[key].add(peer)
            for own in self._users[key]:
                masks[own] = masks.get(own, 0) | self._sets[own].bits[key]
        return [own for own, mask in masks.items() if self._sets[own].judge(peer, face, mask)]

    def _leave(self, peer: int, face: Face) -> list[int]:
        """A class is no more; the sets that said something of it."""
        self._faces.take(peer, face.drawers())
        meaning = self._meaning.pop(peer, set())
        for key in meaning:
            self._meant[key].discard(peer)
        return [own for own in {own for key in meaning for own in self._users[key]} if self._sets[own].forget(peer)]

    def _open(self, own: int, faces: Mapping[int, Face]) -> PolicySet:
        """A set comes into use."""
        one = self._sets[own] = self._coming.pop(own)
        for key, term in one.terms.items():
            if key not in self._terms:
                self._terms[key] = term
                self._lying.lay(key, (term.drawer,))
                self._users[key] = set()
                self._meant[key] = {peer for peer in self._faces.near((term.drawer,)) if term.matches(faces[peer])}
                for peer in self._meant[key]:
                    self._meaning[peer].add(key)
            self._users[key].add(own)
        masks: dict[int, int] = {}
        for key, bits in one.bits.items():
            for peer in self._meant[key]:
                masks[peer] = masks.get(peer, 0) | bits
        one.judge_all(masks, faces)
        return one

    def _close(self, own: int) -> PolicySet:
        """A set goes out of use."""
        one = self._sets.pop(own)
        for key, term in one.terms.items():
            self._users[key].discard(own)
            if self._users[key]:
                continue
            for peer in self._meant.pop(key):
                self._meaning[peer].discard(key)
            del self._terms[key], self._users[key]
            self._lying.take(key, (term.drawer,))
        return one
