"""Networks: created, changed and removed, each checked against the host and the other networks before anything is touched."""

from __future__ import annotations

import ipaddress
import secrets
import time
from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from fairlead.api.schema import Applied
from fairlead.desired import build, names
from fairlead.ipam.ledger import Ledger
from fairlead.kit import fault
from fairlead.model.address import Family, Prefix
from fairlead.model.errors import Conflict, Exhausted, Invalid, Missing, Unsupported
from fairlead.model.meta import Meta
from fairlead.model.network import MTU_MIN_IPV6, SUBS, Driver, Network, NetworkSpec, Subnet
from fairlead.store.base import Delete, Put, Store

from .host import Host
from .node import Node
from .unreadable import Unreadable

POOL = ipaddress.IPv4Network("10.208.0.0/12")
"""From where networks get IPv4 subnets that name none: the default network its first /16, each other a /20 of the rest."""

_LEND = 60.0
"""Seconds for which a subnet that was only asked for is kept from others."""

_BUILT_IN = (names.DEFAULT_NETWORK, "host", "none")


class Networks:
    """Every network of the node, in memory as in the store."""

    def __init__(self, store: Store, node: Node, ledger: Ledger, host: Host, unreadable: Unreadable) -> None:
        self.all: dict[str, Network] = {}
        self._unreadable = unreadable
        self._lent: dict[Prefix, float] = {}
        self._store, self._node, self._ledger, self._host = store, node, ledger, host

    async def load(self) -> None:
        """Read the networks from the store, and put their pools and rows in place; the kernel follows with ``Node.apply``."""
        listing = await self._store.list(Network.plural)
        self._unreadable.note(listing.broken)
        for thing in listing.objects:
            assert isinstance(thing, Network)
            self._adopt(thing)

    async def ensure_defaults(self, *, ipv6: bool) -> None:
        """Create what exists after the first start: ``default``, ``host`` and ``none``."""
        options = {"ipv6": "true"} if ipv6 else {}
        for name, spec in (
            (names.DEFAULT_NETWORK, NetworkSpec(options=options)),
            ("host", NetworkSpec(driver=Driver.HOST)),
            ("none", NetworkSpec(driver=Driver.NONE)),
        ):
            if name not in self.all and not self._unreadable.find(Network.plural, name):
                await self.apply(Network(metadata=Meta(name=name), spec=spec), ())

    def get(self, name: str) -> Network:
        """One network; ``Missing`` names those there are."""
        if found := self.all.get(name):
            return found
        raise Missing(f"there is no network {name!r}; there are: {', '.join(sorted(self.all)) or 'none'}", field="network")

    def free(self, family: Family) -> Prefix:
        """A subnet that nobody uses; for a minute nobody else is told of it, so that two who ask at once do not collide."""
        found = self._free("", family)
        self._lent[found] = time.monotonic() + _LEND
        return found

    async def apply(self, wanted: Network, users: Iterable[str]) -> Applied:
        """Create ``wanted`` or change the one of its name; ``users`` are the containers on it, which some changes refuse."""
        before = self.all.get(wanted.name)
        if before:
            wanted = replace(wanted, spec=_keep_given(before.spec, wanted.spec))
            _refuse_change(before, wanted, list(users))
        if wanted.spec.driver in SUBS:
            await self._refuse_unable(wanted.spec)
        if wanted.spec.connects:
            wanted = replace(wanted, spec=self._complete(wanted))
            self._refuse_collision(wanted)
        fault.point("network.checked")
        stored = await self._commit(wanted, before)
        result = "created" if before is None else "unchanged" if stored == before else "configured"
        return Applied(result=result, kind="Network", name=wanted.name, warnings=tuple(self._warnings(stored)))

    async def delete(self, name: str, users: Iterable[str]) -> Network:
        """Remove a network that nobody uses."""
        network = self.get(name)
        if name in _BUILT_IN:
            raise Invalid(f"network {name} is built in and stays", field="metadata.name")
        if holders := list(users):
            shown = ", ".join(holders[:10]) + (f" and {len(holders) - 10} more" if len(holders) > 10 else "")
            raise Conflict(f"network {name} is used by {shown}; detach them first", field="metadata.name")
        await self._store.commit(Delete(Network.plural, network.key))
        fault.point("network.forgotten")
        del self.all[name]
        self._ledger.drop(name)
        await self._node.drop(build.network_owner(name))
        return network

    async def _commit(self, wanted: Network, before: Network | None) -> Network:
        self._ledger.check(wanted)
        expected = before.metadata.resource_version if before else self._unreadable.expected(wanted)
        (stored,) = await self._store.commit(Put(wanted, expected))
        assert isinstance(stored, Network)
        self._unreadable.replaced(stored)
        if stored == before:
            return stored
        fault.point("network.committed")
        try:
            await self._node.put(build.network_owner(wanted.name), build.network_rows(stored, self._host.mtu()))
        except BaseException:
            undo = Put(before) if before else Delete(Network.plural, stored.key)
            await self._store.commit(undo)
            fault.point("network.undone")
            raise
        self.all[stored.name] = stored
        self._ledger.define(stored)
        fault.point("network.programmed")
        return stored

    def _adopt(self, network: Network) -> None:
        self.all[network.name] = network
        self._ledger.define(network)
        rows = build.network_rows(network, self._host.mtu())
        self._node.adopt(build.network_owner(network.name), rows)

    def _complete(self, wanted: Network) -> NetworkSpec:
        """The spec with every choice made that was left to us: subnets and gateways."""
        spec = wanted.spec
        ipv6 = spec.options.get("ipv6") == "true"
        subnets = list(spec.subnets)
        if not any(one.family == 4 for one in subnets) and not (subnets and not ipv6):
            subnets.insert(0, Subnet(cidr=self._free(wanted.name, 4)))
        if ipv6 and not any(one.family == 6 for one in subnets):
            subnets.append(Subnet(cidr=self._free(wanted.name, 6)))
        completed = tuple(subnets if spec.routed else (replace(one, gateway=one.router) for one in subnets))
        mtu = spec.mtu or self._host.mtu(spec.parent)
        if mtu < MTU_MIN_IPV6 and any(one.family == 6 for one in completed):
            raise Invalid(f"the uplink's MTU of {mtu} is too small for IPv6, at least {MTU_MIN_IPV6}", field="spec.mtu")
        options = {key: value for key, value in spec.options.items() if key != "ipv6"}
        return replace(spec, subnets=completed, options=options)

    def _free(self, name: str, family: int) -> Prefix:
        taken = [subnet.cidr for network in self.all.values() for subnet in network.spec.subnets]
        taken += [route.dst for route in self._host.routes()]
        self._lent = {prefix: until for prefix, until in self._lent.items() if until > time.monotonic()}
        taken += self._lent
        for candidate in _candidates(name, family):
            if not any(candidate.overlaps(one) for one in taken):
                return candidate
        raise Exhausted(f"every subnet of {POOL} is taken by a network or a host route; name one", field="spec.subnets")

    def _refuse_collision(self, wanted: Network) -> None:
        mine = wanted.spec.parent or names.bridge(wanted)
        for at, subnet in enumerate(wanted.spec.subnets):
            field = f"spec.subnets[{at}].cidr"
            for other in self.all.values():
                if other.name != wanted.name:
                    for theirs in other.spec.subnets:
                        if subnet.cidr.overlaps(theirs.cidr):
                            raise Conflict(f"{subnet.cidr} overlaps {theirs.cidr} of network {other.name}", field=field)
            for route in self._host.routes():
                if route.device != mine and not route.device.startswith(names.VETH) and subnet.cidr.overlaps(route.dst):
                    raise Conflict(
                        f"{subnet.cidr} collides with the host's route {route.dst} on {route.device}; choose another",
                        field=field,
                    )
        for other in self.all.values():
            bridges = {one.spec.driver for one in (wanted, other)} == {Driver.BRIDGE}
            if other.name != wanted.name and bridges and names.bridge(other) == mine:
                raise Conflict(f"bridge {mine} belongs to network {other.name}", field="spec.bridge")

    async def _refuse_unable(self, spec: NetworkSpec) -> None:
        """Before anything is stored: whether this kernel has the driver, and the host the parent."""
        for one in await self._host.capabilities():
            if one.name == spec.driver and not one.ok:
                raise Unsupported(f"this kernel has no {spec.driver}; it needs {one.needs}", field="spec.driver")
        if not self._host.device(str(spec.parent)):
            raise Invalid(f"this host has no interface {spec.parent}", field="spec.parent")

    def _warnings(self, network: Network) -> Iterator[str]:
        uplink = self._host.mtu()
        if network.spec.mtu and network.spec.mtu > uplink and not network.spec.internal:
            yield f"spec.mtu: {network.spec.mtu} is more than the uplink's {uplink}: large packets are fragmented"
        if network.spec.driver is Driver.HOST:
            yield "host: containers share the host's interfaces, ports and firewall; nothing is isolated"


def _keep_given(before: NetworkSpec, wanted: NetworkSpec) -> NetworkSpec:
    """What a repeated ``apply`` leaves out stays as it was chosen: subnets and their gateways."""
    if not wanted.subnets and wanted.driver is before.driver:
        return replace(wanted, subnets=before.subnets, options={k: v for k, v in wanted.options.items() if k != "ipv6"})
    gateways = {one.cidr: one.gateway for one in before.subnets}
    return replace(wanted, subnets=tuple(replace(one, gateway=one.gateway or gateways.get(one.cidr)) for one in wanted.subnets))


def _refuse_change(before: Network, wanted: Network, users: list[str]) -> None:
    old, new = before.spec, wanted.spec
    for field, was, is_ in (
        ("driver", old.driver, new.driver),
        ("bridge", old.bridge, new.bridge),
        ("parent", old.parent, new.parent),
    ):
        if was != is_:
            raise Invalid(
                f"cannot change from {was or 'its default'} to {is_ or 'its default'}; make a new network",
                field=f"spec.{field}",
            )
    if users and {(one.cidr, old.gateway(one)) for one in old.subnets} - {(one.cidr, new.gateway(one)) for one in new.subnets}:
        raise Conflict(
            f"subnets of {before.name} cannot go or change gateway while used by {', '.join(users[:10])}", field="spec.subnets"
        )


def _candidates(name: str, family: int) -> Iterator[Prefix]:
    if family == 6:
        # A unique local prefix with a random global id (RFC 4193, 3.2.1).
        while True:
            yield Prefix(f"{ipaddress.IPv6Address(bytes([0xFD]) + secrets.token_bytes(5) + bytes(10))}/64")
    large = list(POOL.subnets(new_prefix=16))
    if name == names.DEFAULT_NETWORK:
        yield from (Prefix(one) for one in large)
    yield from (Prefix(small) for one in large[1:] for small in one.subnets(new_prefix=20))
