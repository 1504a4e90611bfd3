"""What keeps machines apart that are to be cut off from each other: packet filter rules for the switch and the routers. Pure.

Two machines on one subnet are told apart by their ports at the switch. Packets that a router carries are told by the MAC of
who sent them and by the next hop that the route names, so that what is only behind a node is cut off with it::

    a ── core ── b         core:   from a's MAC, to next hop b
    a ── east ── west ── b east:   from a's MAC, to b's addresses          west:  from a's addresses, to next hop b

With two routers between them, what lies behind a node is known by the routes there were when it was cut off.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from fairlead.model.address import Family, Prefix

from .parts import Plan, Planned, Role
from .topology import SWITCH

TABLE = "fairlead-lab"
Pair = tuple[str, str]

_L3: dict[Family, str] = {4: "ip", 6: "ip6"}


def rules(plan: Plan, pairs: Iterable[Pair], behind: Mapping[str, Sequence[Prefix]]) -> dict[str, str]:
    """For the switch and each router the text of its table; what is not to be there any more is gone with the old table."""
    known = plan.machines
    ways = [(known[one], known[other]) for pair in pairs for one, other in (pair, pair[::-1])]
    texts = {SWITCH: _table("bridge", [rule for one, other in ways for rule in _at_switch(one, other)])}
    for router in plan.of(Role.ROUTER):
        found = [rule for one, other in ways for rule in _at_router(router, one, other, behind)]
        texts[router.name] = _table("inet", found)
    return texts


def _at_switch(one: Planned, other: Planned) -> Iterator[str]:
    for wire in one.wires:
        if there := other.on(wire.subnet):
            yield f'iifname "{wire.port}" oifname "{there.port}"'


def _at_router(router: Planned, one: Planned, other: Planned, behind: Mapping[str, Sequence[Prefix]]) -> Iterator[str]:
    """What a router must not carry from ``one`` to ``other``."""
    if router in {one, other}:
        return  # the switch keeps them apart
    macs = [wire.mac for wire in one.wires if router.on(wire.subnet)]
    near = [wire for wire in other.wires if router.on(wire.subnet)]
    for family, l3 in _L3.items():
        hops = [str(at) for wire in near if (at := wire.address(family))]
        if family == 6:
            hops += [str(wire.mac.link_local) for wire in near]
        sender = f"ether saddr {_set(macs)}" if macs else f"{l3} saddr {_set(_prefixes(one, family, behind))}"
        receiver = f"rt {l3} nexthop {_set(hops)}" if near else f"{l3} daddr {_set(_prefixes(other, family, behind))}"
        if (macs or near) and "{  }" not in sender + receiver:
            yield f"{sender} {receiver}"


def _prefixes(machine: Planned, family: Family, behind: Mapping[str, Sequence[Prefix]]) -> list[str]:
    own = [one.address.host() for one in machine.addresses if one.family == family]
    return [*own, *(one for one in behind.get(machine.name, ()) if one.family == family)]


def _set(values: Iterable[str]) -> str:
    return f"{{ {', '.join(dict.fromkeys(values))} }}"


def _table(family: str, found: Sequence[str]) -> str:
    """One transaction: no table, then the whole of it. Before everything else, what another program would let through too."""
    head = f"add table {family} {TABLE}\ndelete table {family} {TABLE}\n"
    if not found:
        return head
    lines = "".join(f"        {rule} counter drop\n" for rule in found)
    hook = "type filter hook forward priority -300; policy accept;"
    return f"{head}table {family} {TABLE} {{\n    chain forward {{\n        {hook}\n{lines}    }}\n}}\n"
