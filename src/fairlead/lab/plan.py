"""Everything that a lab consists of, down to each address and route, made from what a person wrote. Pure.

``complete`` fills in what was left out; its result is a topology too, which stays as it is when a node is added.
``plan`` then says what to build::

    172.16.K.0/24   fd00:16:K::/64    subnets: nodes and hosts from .1 on, routers from .254 down
    172.30.K.0/30   fd00:30:K::/126   links between routers
    172.31.K.0/24   fd00:31:K::/64    the management network: nodes from .1 on, members of the store from .254 down
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import count

from msgspec import structs

from fairlead.model.address import Address, Family, Interface, Mac, Prefix
from fairlead.model.errors import Exhausted

from .parts import Plan, Planned, Role, Wire
from .routes import Behind, Routes
from .topology import MANAGEMENT, SWITCH, Label, LabSpec, Link, Router, Station, Store, Subnet

_HIGHEST = 254
_PLACES: dict[str, dict[Family, str]] = {
    "subnet": {4: "172.16.{}.0/24", 6: "fd00:16:{}::/64"},
    "link": {4: "172.30.{}.0/30", 6: "fd00:30:{}::/126"},
    "management": {4: "172.31.{}.0/24", 6: "fd00:31:{}::/64"},
}
_CHOICES = 256


def complete(spec: LabSpec) -> LabSpec:
    """The same with everything filled in. Done twice it changes nothing; what was there keeps its addresses."""
    spec = _with_links(_placed(spec))
    taken = _cidrs(*spec.subnets, spec.store)
    subnets = tuple(
        structs.replace(one, cidrs=one.cidrs or _choose("subnet", spec.families, taken), mtu=one.mtu or spec.mtu)
        for one in spec.subnets
    )
    store = spec.store
    if store.machines and not store.cidrs:
        store = structs.replace(store, cidrs=_choose("management", spec.families, taken))
    return _with_addresses(structs.replace(spec, subnets=subnets, store=store))


def plan(spec: LabSpec, behind: Behind | None = None) -> Plan:
    """What to build for a complete topology."""
    subnets = spec.subnets
    if spec.store.machines:
        subnets = (*subnets, Subnet(name=Label(MANAGEMENT), cidrs=spec.store.cidrs, mtu=spec.mtu))
    machines = [_machine(spec, role, one) for role, one in _stations(spec)]
    machines += [_member(spec.store, at, name, spec.mtu) for at, name in enumerate(spec.store.machines)]
    routed = Routes(subnets, machines, behind or {})
    return Plan(subnets, {one.name: Planned(one.name, one.role, one.wires, tuple(routed.of(one))) for one in machines})


def mac(machine: str, at: int) -> Mac:
    """The MAC of a machine's interface: the same whenever it starts."""
    tail = blake2b(f"{machine}/{at}".encode(), digest_size=5).hexdigest()
    return Mac("02:" + ":".join(tail[place : place + 2] for place in range(0, 10, 2)))


def _placed(spec: LabSpec) -> LabSpec:
    """Every machine on a subnet."""
    subnets = spec.subnets or (Subnet(name=Label("underlay")),)
    first = (subnets[0].name,)
    return structs.replace(
        spec,
        subnets=subnets,
        nodes=tuple(structs.replace(one, subnets=one.subnets or first) for one in spec.nodes),
        routers=tuple(structs.replace(one, subnets=one.subnets or first) for one in spec.routers),
        hosts=tuple(structs.replace(one, subnets=one.subnets or first) for one in spec.hosts),
    )


def _with_links(spec: LabSpec) -> LabSpec:
    """Cables between routers, as the subnets that they are."""
    subnets, routers = list(spec.subnets), {one.name: one for one in spec.routers}
    names = {one.name for one in subnets} | {one.name for _, one in spec.stations}
    taken = _cidrs(*spec.subnets, *spec.links, spec.store)
    for link in spec.links:
        name = next(name for at in count(1) if (name := Label(f"link{at}")) not in names)
        names.add(name)
        subnets.append(Subnet(name=name, cidrs=link.cidrs or _choose("link", spec.families, taken), mtu=link.mtu or spec.mtu))
        for end in link.routers:
            routers[end] = structs.replace(routers[end], subnets=(*routers[end].subnets, name))
    return structs.replace(spec, subnets=tuple(subnets), routers=tuple(routers.values()), links=())


def _cidrs(*things: Subnet | Link | Store) -> list[Prefix]:
    return [cidr for one in things for cidr in one.cidrs]


def _choose(what: str, families: Iterable[Family], taken: list[Prefix]) -> tuple[Prefix, ...]:
    """Prefixes that overlap none of ``taken``, to which they are added."""
    for at in range(_CHOICES):
        chosen = tuple(Prefix(_PLACES[what][family].format(at)) for family in families)
        if not any(one.overlaps(other) for one in chosen for other in taken):
            taken += chosen
            return chosen
    raise Exhausted(f"all {_CHOICES} prefixes for a {what} are taken; write cidrs", field="spec.subnets")


def _with_addresses(spec: LabSpec) -> LabSpec:
    given: dict[str, list[Address]] = {one.name: list(one.addresses) for _, one in spec.stations}
    for subnet in spec.subnets:
        there = [(one.name, role is Role.ROUTER) for role, one in _stations(spec) if subnet.name in one.subnets]
        for cidr in subnet.cidrs:
            _number(cidr, there, given)
    return structs.replace(
        spec,
        nodes=tuple(structs.replace(one, addresses=tuple(given[one.name])) for one in spec.nodes),
        routers=tuple(structs.replace(one, addresses=tuple(given[one.name])) for one in spec.routers),
        hosts=tuple(structs.replace(one, addresses=tuple(given[one.name])) for one in spec.hosts),
    )


def _number(cidr: Prefix, there: Iterable[tuple[str, bool]], given: dict[str, list[Address]]) -> None:
    """Give each machine ``there`` an address of ``cidr`` unless it has one: routers from the top, others from the bottom."""
    used = {address for each in given.values() for address in each if cidr.holds(address)}
    for name, downwards in there:
        if any(cidr.holds(address) for address in given[name]):
            continue
        free = next((one for one in _hosts(cidr, downwards=downwards) if one not in used), None)
        if free is None:
            raise Exhausted(f"{cidr} has no address left for {name}; write a larger subnet", field="spec.subnets")
        given[name].append(free)
        used.add(free)


def _hosts(cidr: Prefix, *, downwards: bool) -> Iterator[Address]:
    """The addresses of a prefix that machines may have; of a large one from the top only those that are short to write."""
    net = cidr.net
    last = net.num_addresses - 2
    numbers = range(min(last, _HIGHEST), 0, -1) if downwards else range(1, last + 1)
    return (Address(net.network_address + number) for number in numbers)


def _stations(spec: LabSpec) -> Iterator[tuple[Role, Station]]:
    for role, machines in ((Role.ROUTER, spec.routers), (Role.HOST, spec.hosts), (Role.NODE, spec.nodes)):
        yield from ((role, one) for one in machines)


def _machine(spec: LabSpec, role: Role, station: Station) -> Planned:
    subnets = {one.name: one for one in spec.subnets}
    wires = []
    for at, name in enumerate(station.subnets):
        whole = subnets[name].mtu or spec.mtu
        wires.append(_wire(station, at, subnets[name], min(whole, station.mtu or whole)))
    if role is Role.NODE and spec.store.machines:
        place = [one.name for one in spec.nodes].index(station.name)
        wires.append(_management(spec.store, station.name, len(wires), place, spec.mtu))
    return Planned(station.name, role, tuple(wires))


def _wire(station: Station, at: int, subnet: Subnet, mtu: int) -> Wire:
    interface = subnet.name if isinstance(station, Router) else f"eth{at}"
    own = tuple(Interface.of(one, cidr) for cidr in subnet.cidrs for one in station.addresses if cidr.holds(one))
    return Wire(subnet.name, interface, _port(station.name, at), mac(station.name, at), own, mtu)


def _management(store: Store, name: str, at: int, place: int, mtu: int, *, downwards: bool = False) -> Wire:
    """A cable to the management network, with the ``place``-th address."""
    addresses = tuple(
        Interface.of(next(one for at, one in enumerate(_hosts(cidr, downwards=downwards)) if at == place), cidr)
        for cidr in store.cidrs
    )
    return Wire(Label(MANAGEMENT), "mgmt0", _port(name, at), mac(name, at), addresses, mtu)


def _member(store: Store, place: int, name: Label, mtu: int) -> Planned:
    return Planned(name, Role.STORE, (_management(store, name, 0, place, mtu, downwards=True),))


def _port(name: str, at: int) -> str:
    """What a cable is called at the switch."""
    return f"{name}.{at}" if at else name


def machines(spec: LabSpec) -> list[str]:
    """The names of all machines, the switch among them."""
    return [SWITCH, *spec.store.machines, *(one.name for _, one in _stations(spec))]
