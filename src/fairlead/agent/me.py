"""Me: this node as others reach it. Read from the kernel, where nobody said otherwise, and read again when asked to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fairlead.model.address import Address, Interface
from fairlead.model.errors import Invalid
from fairlead.model.meta import Meta
from fairlead.model.node import MTU, PUBLIC_KEY, UNDERLAY, Node, NodeAddress, NodeStatus
from fairlead.topology.station import Station

from .host import Host, Place


class Me:
    """The station of this node."""

    def __init__(self, name: str, host: Host, given: Sequence[Address] = ()) -> None:
        """``given``: the addresses by which others shall reach it; those of the uplink if there are none."""
        self.name, self._host, self._given, self._asked = name, host, tuple(given), bool(given)
        self.key = ""
        self.devices: frozenset[str] = frozenset()
        """The interfaces that have its addresses."""
        self._places: frozenset[Place | None] = frozenset()
        self._told: frozenset[Address] = frozenset()
        self.station = self._read()

    def refresh(self) -> bool:
        """Read it again; whether anything is different, be it only the interfaces that have its addresses."""
        before = self.station, self._places
        self.station = self._read()
        return (self.station, self._places) != before

    def told(self, addresses: Sequence[Address]) -> bool:
        """The cluster says by which addresses this node is reached, unless it was told on its own command line.

        Whether that makes a difference. Those that no interface has are a cloud's doing, and nothing to tunnel to.
        """
        if self._asked:
            return False
        self._told = frozenset(addresses)
        return self.refresh()

    def node(self, before: Node | None) -> Node:
        """What the store should say of this node: what ``before`` says, but for what we know better."""
        station, meta = self.station, before.metadata if before else Meta(name=self.name)
        said = {
            UNDERLAY: ",".join(station.addresses),
            MTU: str(station.mtu),
            **({PUBLIC_KEY: station.key} if station.key else {}),
        }
        addresses = [NodeAddress(type="InternalIP", address=one.address) for one in station.addresses]
        known = {one.address for one in addresses}
        status = before.status.addresses if before else ()
        others = [one for one in status if one.type != "InternalIP" and one.address not in known]
        addresses += others or [NodeAddress(type="Hostname", address=self.name)]
        return Node(
            metadata=Meta(
                name=self.name,
                labels=meta.labels,
                annotations={**meta.annotations, **said},
                resource_version=meta.resource_version,
            ),
            spec=before.spec if before else Node(metadata=Meta(name=self.name)).spec,
            status=NodeStatus(addresses=tuple(addresses)),
        )

    def _read(self) -> Station:
        found = self._host.global_addresses()
        if self._given:
            addresses = []
            for at, one in enumerate(self._given):
                device = next(((name, have) for name, have in found if have.address == one), None)
                if device is None:
                    raise Invalid(f"no interface of this host has {one}", field=f"node-ip[{at}]")
                addresses.append(device)
        else:
            uplinks = self._host.uplinks()
            addresses = [pair for pair in found if pair[1].address in self._told]
            addresses = addresses or [pair for pair in found if pair[0] in uplinks] or found
        self.devices = frozenset(name for name, _ in addresses)
        self._places = frozenset(self._host.place(name) for name in self.devices)
        mtus = [self._host.mtu(name) for name in self.devices]
        return Station(self.name, _first(one for _, one in addresses), min(mtus, default=self._host.mtu()), self.key)


def _first(addresses: Iterable[Interface]) -> tuple[Interface, ...]:
    """One address of each family, the first, IPv4 before IPv6."""
    found: dict[int, Interface] = {}
    for one in addresses:
        found.setdefault(one.family, one)
    return tuple(found[family] for family in sorted(found))
