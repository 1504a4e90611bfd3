"""Networks: created, changed and removed, each checked against the host and the other networks before anything is touched."""

from __future__ import annotations

import ipaddress
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator

from msgspec.structs import replace

from fairlead.api.schema import Applied
from fairlead.desired import build, names
from fairlead.ipam import overlaps
from fairlead.kit import fault
from fairlead.model.address import Family, Prefix
from fairlead.model.broken import Broken
from fairlead.model.errors import Conflict, Exhausted, Invalid, Missing, Problem, Unsupported
from fairlead.model.meta import Meta
from fairlead.model.network import CLUSTER, MTU_MIN_IPV6, SUBS, VNI_MAX, Driver, Network, NetworkSpec, Subnet
from fairlead.store.base import Delete, Put, Store, Stored

from .blocks import Blocks
from .host import Host
from .node import Node
from .unreadable import Unreadable

log = logging.getLogger(__name__)

POOL = ipaddress.IPv4Network("10.208.0.0/12")
"""From where networks get IPv4 subnets that name none: the default network its first /16, one that reaches over nodes
a /16 of the rest, each other a /20."""

_LEND = 60.0
"""Seconds for which a subnet that was only asked for is kept from others."""

_BUILT_IN = (names.DEFAULT_NETWORK, "host", "none")


class Networks:
    """Every network of the node, in memory as in the store."""

    def __init__(self, store: Store, node: Node, blocks: Blocks, host: Host, unreadable: Unreadable) -> None:
        self.all: dict[str, Network] = {}
        self.refused: dict[str, Problem] = {}
        """Those that are stored and cannot be beside others, which this node uses, and why."""
        self.on_change: Callable[[str], None] = lambda _: None
        self._unreadable = unreadable
        self._lent: dict[Prefix, float] = {}
        self._store, self._node, self._blocks, self._host = store, node, blocks, host

    def load(self, stored: Iterable[Stored]) -> None:
        """Take the networks that are stored, put their pools and rows in place; the kernel follows with ``Node.apply``."""
        found = list(stored)
        self._unreadable.note(one for one in found if isinstance(one, Broken))
        networks = [one for one in found if isinstance(one, Network) and whole(one)]
        for one in sorted(networks, key=lambda each: (each.metadata.creation_timestamp, each.name)):
            try:
                self._refuse_overlap(one, self.all.values())
            except Conflict as problem:
                log.error("network %s is not used: %s", one.name, problem)  # noqa: TRY400  # what is wrong is in the store
                self.refused[one.name] = problem
            else:
                self._adopt(one)

    async def ensure_defaults(self, *, ipv6: bool, cluster: bool = False) -> None:
        """Create what exists after the first start: ``host``, ``none``, and ``default``, unless a ``cluster`` makes its own."""
        if not cluster:
            await self.ensure(names.DEFAULT_NETWORK, NetworkSpec(options={"ipv6": "true"} if ipv6 else {}))
        await self.ensure("host", NetworkSpec(driver=Driver.HOST))
        await self.ensure("none", NetworkSpec(driver=Driver.NONE))

    async def ensure(self, name: str, spec: NetworkSpec) -> None:
        """Create a network unless there is one."""
        if name not in self.all and not self._unreadable.find(Network.plural, name):
            await self._ensure(Network(metadata=Meta(name=name), spec=spec))

    async def _ensure(self, wanted: Network) -> None:
        """Create a network, or take it from another node that was faster."""
        try:
            await self.apply(wanted, ())
        except Conflict:
            made = await self._store.get(Network.plural, wanted.key)
            if not isinstance(made, Network):
                raise
            await self.hear(made, gone=False)

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
        if name in self.refused and name not in self.all:
            (stored,) = await self._store.commit(Delete(Network.plural, ("", name)))
            self.refused.pop(name, None)
            if isinstance(stored, Network):
                return stored
        network = self.get(name)
        if name in _BUILT_IN:
            raise Invalid(f"network {name} is built in and stays", field="metadata.name")
        if holders := list(users):
            shown = ", ".join(holders[:10]) + (f" and {len(holders) - 10} more" if len(holders) > 10 else "")
            raise Conflict(f"network {name} is used by {shown}; detach them first", field="metadata.name")
        await self._store.commit(Delete(Network.plural, network.key))
        fault.point("network.forgotten")
        await self.hear(network, gone=True)  # unless the store's watch was faster
        return network

    async def hear(self, network: Network, *, gone: bool) -> None:
        """Another node made a network, changed it or removed it."""
        known = self.all.get(network.name)
        self.refused.pop(network.name, None)
        if gone:
            if known is None:
                return
            self._blocks.drop(network.name)
            del self.all[network.name]
            self.on_change(network.name)
            await self._node.drop(build.network_owner(network.name))
            return
        if known is not None and known.metadata.resource_version == network.metadata.resource_version:
            return
        try:
            self._refuse_overlap(network, self.all.values())
        except Conflict as problem:
            self.refused[network.name] = problem
            raise
        self._blocks.define(network)
        self.all[network.name] = network
        await self._node.put(build.network_owner(network.name), build.network_rows(network, self._host.mtu()))
        self.on_change(network.name)

    def judge(self, wanted: Network) -> None:
        """Raise what speaks against a network that somebody else wrote, where the store takes what anybody writes."""
        if before := self.all.get(wanted.name):
            _refuse_change(before, wanted, [])
        if wanted.spec.connects:
            self._refuse_collision(wanted)
        self._blocks.check(wanted)

    async def complete(self, wanted: Network) -> None:
        """Write what was left out of a network that somebody else wrote: its subnets, and what it is told apart by."""
        spec = self._complete(wanted)
        await self._store.commit(Put(replace(wanted, spec=spec), wanted.metadata.resource_version))

    async def _commit(self, wanted: Network, before: Network | None) -> Network:
        self._blocks.check(wanted)
        expected = before.metadata.resource_version if before else self._unreadable.expected(wanted)
        (stored,) = await self._store.commit(Put(wanted, expected))
        assert isinstance(stored, Network)
        self._unreadable.replaced(stored)
        if stored == before:
            return stored
        fault.point("network.committed")
        try:
            await self._refuse_late(stored)
            await self._node.put(build.network_owner(wanted.name), build.network_rows(stored, self._host.mtu()))
        except BaseException:
            undo = Put(before) if before else Delete(Network.plural, stored.key)
            await self._store.commit(undo)
            fault.point("network.undone")
            raise
        self.all[stored.name] = stored
        self._blocks.define(stored)
        self.on_change(stored.name)
        fault.point("network.programmed")
        return stored

    def _adopt(self, network: Network) -> None:
        self.all[network.name] = network
        self._blocks.define(network)
        rows = build.network_rows(network, self._host.mtu())
        self._node.adopt(build.network_owner(network.name), rows)

    def _complete(self, wanted: Network) -> NetworkSpec:
        """The spec with every choice made that was left to us: subnets and gateways."""
        spec = wanted.spec
        ipv6 = spec.options.get("ipv6") == "true"
        subnets = list(spec.subnets)
        wide = spec.driver in CLUSTER
        if not any(one.family == 4 for one in subnets) and not (subnets and not ipv6):
            subnets.insert(0, Subnet(cidr=self._free(wanted.name, 4, wide=wide)))
        if ipv6 and not any(one.family == 6 for one in subnets):
            subnets.append(Subnet(cidr=self._free(wanted.name, 6)))
        completed = tuple(self._completed(wanted, one) for one in subnets)
        mtu = spec.mtu or self._host.mtu(spec.parent)
        if mtu < MTU_MIN_IPV6 and any(one.family == 6 for one in completed):
            raise Invalid(f"the uplink's MTU of {mtu} is too small for IPv6, at least {MTU_MIN_IPV6}", field="spec.mtu")
        options = {key: value for key, value in spec.options.items() if key != "ipv6"}
        vni = self._vni(wanted) if spec.driver is Driver.VXLAN else None
        return replace(spec, subnets=completed, options=options, vni=vni)

    def _completed(self, network: Network, subnet: Subnet) -> Subnet:
        """With its gateway where it has one, and the size of its blocks: a block, or each address of a parent's by itself."""
        if not network.spec.routed:
            subnet = replace(subnet, gateway=subnet.router)
        if not self._blocks.shared(network):
            return subnet
        size = subnet.bits if network.spec.driver in SUBS else subnet.block_length
        return replace(subnet, block_size=subnet.block_size or size)

    def _vni(self, network: Network) -> int:
        """The network identifier of a vxlan network: as written, else what its name gives, or the next that is free."""
        taken = {one.spec.vni: one.name for one in self.all.values() if one.spec.vni and one.name != network.name}
        if (asked := network.spec.vni) is not None:
            if asked in taken:
                raise Conflict(f"{asked} is the network identifier of network {taken[asked]}; choose another", field="spec.vni")
            return asked
        found = names.vni(network.name)
        while found in taken:
            found = found % VNI_MAX + 1
        return found

    def _free(self, name: str, family: int, *, wide: bool = False) -> Prefix:
        taken = [subnet.cidr for network in self.all.values() for subnet in network.spec.subnets]
        taken += [route.dst for route in self._host.routes()]
        self._lent = {prefix: until for prefix, until in self._lent.items() if until > time.monotonic()}
        taken += self._lent
        for candidate in _candidates(name, family, wide=wide):
            if not any(candidate.overlaps(one) for one in taken):
                return candidate
        raise Exhausted(f"every subnet of {POOL} is taken by a network or a host route; name one", field="spec.subnets")

    def _refuse_collision(self, wanted: Network) -> None:
        mine = wanted.spec.parent or names.bridge(wanted)
        self._refuse_overlap(wanted, self.all.values())
        for at, subnet in enumerate(wanted.spec.subnets):
            for route in self._host.routes():
                if route.device != mine and not route.learned and subnet.cidr.overlaps(route.dst):
                    raise Conflict(
                        f"{subnet.cidr} collides with the host's route {route.dst} on {route.device}; choose another",
                        field=f"spec.subnets[{at}].cidr",
                    )
        for other in self.all.values():
            bridges = {one.spec.driver for one in (wanted, other)} == {Driver.BRIDGE}
            if other.name != wanted.name and bridges and names.bridge(other) == mine:
                raise Conflict(f"bridge {mine} belongs to network {other.name}", field="spec.bridge")

    @staticmethod
    def _refuse_overlap(wanted: Network, there: Iterable[Network]) -> None:
        for other in there:
            if other.name != wanted.name:
                overlaps.refuse(wanted, other)

    async def _refuse_late(self, stored: Network) -> None:
        """Of two that were made on two nodes at once, and cannot be beside each other, the one that was stored later goes."""
        there = (one for one in (await self._store.list(Network.plural)).objects if isinstance(one, Network))
        self._refuse_overlap(stored, (one for one in there if _revision(one) < _revision(stored)))

    async def _refuse_unable(self, spec: NetworkSpec) -> None:
        """Before anything is stored: whether this kernel has what is asked of it, and the host the parent."""
        asked = {str(spec.driver): "spec.driver"} if spec.driver in SUBS else {}
        asked |= {"BIG TCP": "spec.bigTcp"} if spec.big_tcp else {}
        for one in await self._host.capabilities() if asked else ():
            if one.name in asked and not one.ok:
                raise Unsupported(f"this kernel has no {one.name}; it needs {one.needs}", field=asked[one.name])
        if spec.parent and not self._host.device(str(spec.parent)):
            raise Invalid(f"this host has no interface {spec.parent}", field="spec.parent")

    def _warnings(self, network: Network) -> Iterator[str]:
        uplink = self._host.mtu()
        if network.spec.mtu and network.spec.mtu > uplink and not network.spec.internal:
            yield f"spec.mtu: {network.spec.mtu} is more than the uplink's {uplink}: large packets are fragmented"
        if network.spec.driver is Driver.HOST:
            yield "host: containers share the host's interfaces, ports and firewall; nothing is isolated"


def _revision(network: Network) -> int:
    return int(network.metadata.resource_version or 0)


def whole(network: Network) -> bool:
    """Whether nothing is left out of it that somebody must choose."""
    return not network.spec.connects or bool(network.spec.subnets)


def _keep_given(before: NetworkSpec, wanted: NetworkSpec) -> NetworkSpec:
    """What a repeated ``apply`` leaves out stays as it was chosen: subnets and their gateways."""
    if wanted.driver is not before.driver:
        return wanted
    wanted = replace(wanted, vni=wanted.vni or before.vni)
    if not wanted.subnets:
        return replace(wanted, subnets=before.subnets, options={k: v for k, v in wanted.options.items() if k != "ipv6"})
    known = {one.cidr: one for one in before.subnets}
    kept = ((one, known.get(one.cidr, one)) for one in wanted.subnets)
    return replace(
        wanted,
        subnets=tuple(
            replace(one, gateway=one.gateway or old.gateway, block_size=one.block_size or old.block_size) for one, old in kept
        ),
    )


def _refuse_change(before: Network, wanted: Network, users: list[str]) -> None:
    old, new = before.spec, wanted.spec
    for field, was, is_ in (
        ("driver", old.driver, new.driver),
        ("bridge", old.bridge, new.bridge),
        ("parent", old.parent, new.parent),
        ("vni", old.vni, new.vni),
    ):
        if was != is_:
            raise Invalid(
                f"cannot change from {was or 'its default'} to {is_ or 'its default'}; make a new network",
                field=f"spec.{field}",
            )
    sizes = {one.cidr: one.block_size for one in old.subnets}
    if any(sizes.get(one.cidr, one.block_size) != one.block_size for one in new.subnets):
        raise Invalid("blocks have been given out in another size; make a new subnet", field="spec.subnets")
    if users and {(one.cidr, old.gateway(one)) for one in old.subnets} - {(one.cidr, new.gateway(one)) for one in new.subnets}:
        raise Conflict(
            f"subnets of {before.name} cannot go or change gateway while used by {', '.join(users[:10])}", field="spec.subnets"
        )


def _candidates(name: str, family: int, *, wide: bool) -> Iterator[Prefix]:
    if family == 6:
        # A unique local prefix with a random global id (RFC 4193, 3.2.1).
        while True:
            yield Prefix(f"{ipaddress.IPv6Address(bytes([0xFD]) + secrets.token_bytes(5) + bytes(10))}/64")
    large = list(POOL.subnets(new_prefix=16))
    if name == names.DEFAULT_NETWORK or wide:
        yield from (Prefix(one) for one in large[wide:])
    yield from (Prefix(small) for one in large[1:] for small in one.subnets(new_prefix=20))
