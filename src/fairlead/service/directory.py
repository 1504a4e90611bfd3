"""Directory: every service by name and by address, and who stands behind each of its ports.

It forwards nothing. It says what whoever forwards would do::

    address, port ──► service, its port ──► the slices of the service ──► backends: those that are ready,
                                                                          else those that still serve (KEP-1669)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

from fairlead.model.address import Address, Family
from fairlead.model.endpointslice import EndpointSlice, SliceEndpoint
from fairlead.model.service import Service, ServicePort

Key = tuple[str, str]
Thing = Service | EndpointSlice
K = TypeVar("K")


class Backend(NamedTuple):
    """Somebody behind a port of a service. ``port``: his own."""

    address: Address
    port: int
    node: str


class Directory:
    """Services and their slices. What is written into it may come in any order."""

    def __init__(self) -> None:
        self.services: dict[Key, Service] = {}
        self.slices: dict[Key, EndpointSlice] = {}
        self._at: dict[str, tuple[Key, ...]] = {}
        """Whose an address is: of several, the first by name."""
        self._behind: dict[Key, tuple[Key, ...]] = {}

    def put(self, thing: Thing) -> None:
        """One is new, or another than before."""
        self.drop(thing)
        if isinstance(thing, Service):
            self.services[thing.key] = thing
            for address in thing.addresses:
                self._at[address] = _with(self._at.get(address, ()), thing.key)
        else:
            self.slices[thing.key] = thing
            self._behind[thing.service] = _with(self._behind.get(thing.service, ()), thing.key)

    def drop(self, thing: Thing) -> None:
        """There is none of this name."""
        if isinstance(thing, Service):
            before = self.services.pop(thing.key, None)
            for address in before.addresses if before else ():
                _without(self._at, address, thing.key)
        elif (gone := self.slices.pop(thing.key, None)) is not None:
            _without(self._behind, gone.service, thing.key)

    def at(self, address: str) -> Service | None:
        """The service that has an address."""
        found = self._at.get(address)
        return self.services[found[0]] if found else None

    def backends(self, service: Service, port: ServicePort, family: Family) -> tuple[Backend, ...]:
        """Who takes new connections of a family to a port, each once; a slice's port has the name that the service's has."""
        found = [
            (behind, number)
            for one in self._slices(service)
            if one.address_type == f"IPv{family}"
            for number in _ports(one, port)
            for behind in one.endpoints
            if behind.addresses
        ]
        chosen = [one for one in found if one[0].ready] or [one for one in found if one[0].serving]
        return tuple(dict.fromkeys(_backends(chosen)))

    def is_told(self, service: Service) -> bool:
        """Whether anything says who stands behind a service."""
        return bool(self._behind.get(service.key))

    def family(self, service: Service) -> Family:
        """The family that it is asked in where nobody says: that of its first address, or of who stands behind it."""
        for one in service.cluster_addresses:
            return one.family
        return 6 if {one.address_type for one in self._slices(service)} == {"IPv6"} else 4

    def _slices(self, service: Service) -> Iterator[EndpointSlice]:
        for key in self._behind.get(service.key, ()):
            yield self.slices[key]


def _ports(one: EndpointSlice, port: ServicePort) -> Iterator[int]:
    for each in one.ports:
        if each.port and each.name == port.name and each.protocol is port.protocol:
            yield each.port


def _backends(found: Iterable[tuple[SliceEndpoint, int]]) -> Iterator[Backend]:
    for behind, number in found:
        yield Backend(Address(behind.addresses[0]), number, behind.node_name)


def _with(keys: tuple[Key, ...], key: Key) -> tuple[Key, ...]:
    return tuple(sorted({*keys, key}))


def _without(table: dict[K, tuple[Key, ...]], at: K, key: Key) -> None:
    left = tuple(one for one in table.get(at, ()) if one != key)
    if left:
        table[at] = left
    else:
        table.pop(at, None)
