"""A lab's record as a change makes it: made at first, with one node more, with a machine that has moved. Pure.

A topology that does not fit together is refused here, before anything is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from msgspec import structs

from fairlead.model import codec
from fairlead.model.address import Address, Name, Prefix
from fairlead.model.errors import Invalid
from fairlead.model.meta import Object
from fairlead.model.network import CLUSTER, Driver, Network

from . import network, plan, record, shape
from .record import Record
from .shape import Underlay
from .topology import LabSpec, Node, Station, Store, StoreDriver

T = TypeVar("T")
S = TypeVar("S", bound=Station)


class Wanted(NamedTuple):
    """A lab to be made.

    ``underlay``: how it may grow; ``driver``: of a network for pods that is made besides ``objects``, ``encrypt``: it is
    encrypted between nodes.
    """

    name: Name
    spec: LabSpec
    underlay: Underlay | None = None
    driver: Driver | None = None
    objects: tuple[Object, ...] = ()
    encrypt: bool = False


def begun(wanted: Wanted) -> Record:
    """The record of a lab of which nothing is there yet."""
    if wanted.encrypt:
        network.seal(wanted.driver)
    written = [one for one in wanted.objects if isinstance(one, Network)]
    drivers = [wanted.driver, *(one.spec.driver for one in written)]
    store = _store(wanted.spec.store, [one for one in drivers if one in CLUSTER])
    spec = plan.complete(structs.replace(wanted.spec, store=store))
    return Record(
        name=wanted.name,
        created=record.now(),
        spec=spec,
        underlay=wanted.underlay,
        network=network.NAME if wanted.driver else next((Name(one.name) for one in written), None),
        driver=wanted.driver,
        encrypt=wanted.encrypt,
        objects=tuple(codec.to_tree(one) for one in wanted.objects),
        behind=behind(spec, wanted.driver),
    )


def _store(given: Store, over_nodes: Sequence[Driver | None]) -> Store:
    """The store, chosen if that was left open; a network over nodes needs one that nodes share."""
    if given.driver is StoreDriver.OWN and over_nodes:
        shared = ", ".join(one for one in StoreDriver if one is not StoreDriver.OWN)
        raise Invalid(f"a network with driver {over_nodes[0]} needs one that all nodes share: {shared}", field="store")
    return structs.replace(given, driver=given.driver or (StoreDriver.SQLITE if over_nodes else StoreDriver.OWN))


def behind(spec: LabSpec, driver: Driver | None) -> dict[str, tuple[Prefix, ...]]:
    """The prefixes that the lab itself routes to each node: where each has a network of its own."""
    if driver is None or driver in CLUSTER:
        return {}
    own = [(one.name, network.own(driver, spec.families, at)) for at, one in enumerate(spec.nodes, 1)]
    return {name: tuple(subnet.cidr for subnet in each.spec.subnets) for name, each in own}


def added(of: Record, new: Node) -> dict[str, Any]:
    """What changes with one node more."""
    spec = plan.complete(fitting(lambda: shape.grown(of.spec, of.underlay, new)))
    return {"spec": spec, "behind": behind(spec, of.driver)}


def moved(spec: LabSpec, name: str, addresses: Sequence[Address]) -> LabSpec:
    """The topology with other addresses for one machine; it keeps those on prefixes of which none is given."""
    cidrs = [cidr for one in spec.subnets for cidr in one.cidrs]

    def move(one: S) -> S:
        if one.name != name:
            return one
        left = (cidr for cidr in cidrs if not any(cidr.holds(new) for new in addresses))
        kept = tuple(old for cidr in left for old in one.addresses if cidr.holds(old))
        return structs.replace(one, addresses=(*addresses, *kept))

    def made() -> LabSpec:
        return structs.replace(
            spec,
            nodes=tuple(map(move, spec.nodes)),
            routers=tuple(map(move, spec.routers)),
            hosts=tuple(map(move, spec.hosts)),
        )

    return plan.complete(fitting(made))


def fitting(make: Callable[[], T]) -> T:
    """What ``make`` makes; what does not fit together names its field."""
    try:
        return make()
    except ValueError as problem:
        field, _, message = str(problem).partition(": ")
        raise Invalid(message or field, field=field if message else "") from None
