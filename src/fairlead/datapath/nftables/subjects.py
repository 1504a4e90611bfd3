"""Containers as elements: each address in the same maps always, and what the element says is under which policies it is.

So a container that comes under policies, changes them or leaves is elements whose verdicts change, and none is ever missing: an
address that is not here belongs to nobody of ours.
"""

from __future__ import annotations

from typing import NamedTuple

from fairlead.desired.state import Link, Subject
from fairlead.kernel.nft import Element, Verdict, ifname
from fairlead.kernel.nft.rule import BREAK, CONTINUE, GOTO, JUMP
from fairlead.model.address import Address

from . import ruleset
from .ruleset import CLOSED, ISOLATED, LOCAL, NOBODY, STRAY
from .sets import Part, Parts
from .words import Direction, Use

OPEN = Verdict(CONTINUE)
SHUT = Verdict(GOTO, NOBODY)
_SOMETHING = Verdict(BREAK)
"""What an element says of which it is only known that it is there."""


class Place(NamedTuple):
    """Where an element is: the table's family, the map or set, the key."""

    family: str
    name: str
    key: bytes


Places = dict[Place, Verdict | None]
"""What is said at each place; None: being there is all."""
Touched = dict[str, tuple[Parts, Parts]]
"""By the family of the table: parts before and after."""


class Manner(NamedTuple):
    """Which table it is. ``fronted``: there are services. ``beside``: programs judge all else but what is for these."""

    fronted: bool = False
    beside: bool = False


def places(row: Subject, manner: Manner, *, shut: bool = False) -> Places:
    """All elements of a container; ``shut``: its link carries nothing."""
    if manner.beside:
        return _beside(row) if manner.fronted else {}
    egress, ingress = (_judged(use) for use in (Use(Direction.EGRESS, row.egress), Use(Direction.INGRESS, row.ingress)))
    stray = Verdict(GOTO, STRAY) if row.egress or row.ingress else OPEN
    said = {"opener": egress, "responder": ingress, "either": stray}
    found: Places = {}
    for address in row.addresses:
        for end, verdict in said.items():
            found[_place(end, row, address)] = SHUT if shut else verdict
    if manner.fronted:
        found |= _led(row, shut=shut)
    if row.via == row.host:
        return found
    host = ifname(row.host)
    isolated = Verdict(JUMP, ISOLATED) if row.egress or row.ingress else OPEN
    to = Verdict(JUMP, CLOSED) if row.ingress else isolated
    found[Place("bridge", "from", host)] = SHUT if shut else isolated
    found[Place("bridge", "to", host)] = SHUT if shut else to
    for address in row.addresses:
        found[Place("bridge", f"own{address.family}", host + address.packed)] = None
    return found


def _led(row: Subject, *, shut: bool = False) -> Places:
    """What is said of where services lead it."""
    said = _judged(Use(Direction.FRONT, row.egress))
    return {Place("inet", f"led{one.family}", one.packed): SHUT if shut else said for one in row.addresses}


def _beside(row: Subject) -> Places:
    """Who is not isolated is not asked about."""
    if not row.egress:
        return {}
    own, found = _judged(Use(Direction.EGRESS, row.egress)), _led(row)
    for one in row.addresses:
        found[Place("inet", f"opener{one.family}", one.packed)] = own
        found[Place("inet", f"either{one.family}", one.packed)] = Verdict(GOTO, STRAY)
    return found


def uses(row: Subject, manner: Manner) -> set[Use]:
    """The sets that a container is under."""
    found = {Use(Direction.EGRESS, row.egress)}
    if manner.fronted:
        found.add(Use(Direction.FRONT, row.egress))
    if not manner.beside:
        found.add(Use(Direction.INGRESS, row.ingress))
    return {one for one in found if one.policy}


def nobody(row: Link) -> Subject:
    """The subject of a link of which nothing is known, to be shut."""
    addresses = tuple(one.address for one in row.addresses)
    local = (row.mac.link_local,) if any(one.family == 6 for one in addresses) else ()
    return Subject(host=row.host, via=row.bridge or row.host, addresses=addresses + local)


def parts(said: Places, family: str) -> Parts:
    """Elements as parts of the maps of one table."""
    found: dict[str, set[Element]] = {}
    for place, verdict in said.items():
        if place.family == family:
            found.setdefault(place.name, set()).add(Element(place.key, None, verdict))
    made = ruleset.collections(family)
    several = (Part(collection=made[name], elements=frozenset(elements)) for name, elements in found.items())
    return {one.key: one for one in several}


def touched(was: Places, now: Places) -> Touched:
    """What makes one of the other, by the family of the table. A map of which only one side speaks neither comes nor goes."""
    found = {}
    for family in ruleset.TABLES:
        before, after = parts(was, family), parts(now, family)
        for key in before.keys() ^ after.keys():
            side, other = (before, after) if key in before else (after, before)
            other[key] = side[key]._replace(elements=frozenset())
        found[family] = (before, after)
    return found


def doubted(said: Places) -> Places:
    """The same places, whatever is said there: so that what should be there is written even if it is there already."""
    return {place: None if verdict is None else _SOMETHING for place, verdict in said.items()}


def _judged(use: Use) -> Verdict:
    return Verdict(JUMP, use.chain) if use.policy else OPEN


def _place(end: str, row: Subject, address: Address) -> Place:
    if address.family == 6 and address.ip.is_link_local:
        return Place("inet", LOCAL[end], ifname(row.via or row.host) + address.packed)
    return Place("inet", f"{end}{address.family}", address.packed)
