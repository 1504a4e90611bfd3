"""Ledger: the pools of all networks, and what each endpoint holds of them.

It is a view of the store, rebuilt from it at a start: ``restore`` takes the endpoints there are and the last that were
deleted (``Store.deleted``), in that order, so that an address freed before a restart still waits its turn. Whoever asks
here commits the endpoint to the store before anything is made with the address, and releases after its deletion is
committed; a crash between leaves an address held at worst, until the next start, and never given twice.

Nothing is half done: an allocation takes one address of every family or none at all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from fairlead.model.address import Address, Family, Interface, Prefix
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Conflict, Exhausted, Invalid, Missing, Problem
from fairlead.model.network import Network, Subnet

from .pool import Holder, Pool, reserved, runs
from .spans import Spans

Pools = tuple[Pool, ...]


def _any(_: Subnet) -> bool:
    return True


class Lacking(Exhausted):
    """No block of this node has an address left; another block may have.

    ``wish``: the address that was asked for; ``within``: of which it has to be, None if that was not said.
    """

    def __init__(self, message: str, family: Family, wish: Address | None, within: Spans | None = None) -> None:
        super().__init__(message)
        self.family, self.wish, self.within = family, wish, within


class _Asked(NamedTuple):
    """One allocation while it is decided: nothing is taken yet."""

    network: str
    pools: Pools
    holder: Holder
    wished: Mapping[Family, Address]
    ranges: Sequence[Subnet]
    shared: bool

    def pick(self, family: Family) -> tuple[Pool, Address]:
        """The address of one family and its pool: what the holder has, else what it wishes, else the next."""
        if not self.shared:
            return self._pick(family)
        try:
            return self._pick(family)
        except Exhausted as problem:
            raise Lacking(problem.message, family, self.wished.get(family), self._within(family)) from None

    def _pick(self, family: Family) -> tuple[Pool, Address]:
        pools = [pool for pool in self.pools if pool.family == family]
        if not pools and self.shared:
            raise Exhausted(f"network {self.network}: no block of this node has an IPv{family} address")
        if not pools:
            raise Invalid(
                f"network {self.network} has no IPv{family} subnet; its subnets: {_subnets(self.pools)}", field="families"
            )
        mine = next(((pool, address) for pool in pools if (address := pool.of(self.holder.name))), None)
        wish = self.wished.get(family)
        if mine and wish in {None, mine[1]}:
            return mine
        if mine:
            raise Conflict(
                f"{self.holder} already holds {mine[1]}; it must be released before {wish} is taken", field="addresses"
            )
        within = self._within(family)
        return self._next(pools, within) if wish is None else self._static(wish, within)

    def _static(self, wish: Address, within: Spans | None) -> tuple[Pool, Address]:
        if within is not None and int(wish.ip) not in within:
            raise Invalid(f"{wish} is not in the ranges asked for", field="addresses")
        if self.shared and not any(pool.cidr.holds(wish) for pool in self.pools):
            raise Exhausted(f"{wish} is in no block of this node")
        pool = _pool(self.network, self.pools, wish)
        if self.shared and pool.yields(wish):
            raise Exhausted(f"{wish} is set aside for other nodes")
        return pool, pool.wish(wish, self.holder)

    def _next(self, pools: Sequence[Pool], within: Spans | None) -> tuple[Pool, Address]:
        full = []
        for pool in pools:
            if within is not None and not pool.offers(within):
                continue
            try:
                return pool, pool.pick(within)
            except Exhausted as problem:
                full.append(problem.message)
        if not full and self.shared:
            raise Exhausted(f"network {self.network}: no block of this node has an address of those asked for")
        if not full:
            raise Invalid(f"none of the addresses asked for can be given out by {_subnets(pools)}", field="ranges")
        raise Exhausted("; ".join(full))

    def _within(self, family: Family) -> Spans | None:
        """What the ranges leave of a family; None if they say nothing of it."""
        parts = [runs(one) - reserved(one, one.gateway) for one in self.ranges if one.family == family]
        return Spans(run for part in parts for run in part) if parts else None


class Ledger:
    """Which endpoint holds which addresses of which network."""

    def __init__(self) -> None:
        self._pools: dict[str, Pools] = {}
        self._subnets: dict[str, tuple[Subnet, ...]] = {}
        self._shared: set[str] = set()
        self._networks: dict[str, str] = {}

    def define(self, network: Network, blocks: Iterable[Prefix] | None = None, *, apart: Collection[Prefix] = ()) -> None:
        """Make the network's pools, or change them; raise ``Conflict`` if somebody holds what would be gone.

        ``blocks``: those of this node, where a network's addresses are shared with other nodes; ``apart``: which of them are
        networks of their own (``Pool``).
        """
        self._pools[network.name] = self._changed(network, blocks, apart)
        self._subnets[network.name] = network.spec.subnets
        (self._shared.discard if blocks is None else self._shared.add)(network.name)

    def check(self, network: Network, blocks: Iterable[Prefix] | None = None) -> None:
        """Raise what ``define`` would; change nothing."""
        self._changed(network, blocks)

    def drop(self, network: str) -> None:
        """Forget a network; raise ``Conflict`` if somebody holds an address of it."""
        for pool in self._pools.get(network, ()):
            _move(pool, None)
        self._pools.pop(network, None)
        self._subnets.pop(network, None)
        self._shared.discard(network)

    def pools(self, network: str | None = None) -> Pools:
        """The pools of a network, or all."""
        if network is not None:
            return self._of(network)
        return tuple(pool for pools in self._pools.values() for pool in pools)

    def held(self, holder: str) -> tuple[Interface, ...]:
        """What a holder, by name, has."""
        pools = self._pools.get(self._networks.get(holder, ""), ())
        return tuple(pool.interface(address) for pool in pools if (address := pool.of(holder)))

    def allocate(
        self,
        network: str,
        holder: Holder,
        *,
        wishes: Sequence[str] = (),
        families: Sequence[Family] = (),
        ranges: Sequence[Subnet] = (),
        fits: Callable[[Subnet], bool] = _any,
    ) -> tuple[Interface, ...]:
        """One address of each family, of all the network's families unless ``families`` names some; all or nothing.

        ``wishes`` are static addresses, with or without prefix length, one a family; ``ranges`` narrow what may be given,
        ``fits`` says of which subnets. Asked again for the same holder it answers the same. ``Lacking`` where another block
        may help.
        """
        pools = tuple(pool for pool in self._of(network) if fits(pool.subnet))
        subnets = [subnet for subnet in self._subnets[network] if fits(subnet)]
        if not subnets and self._subnets[network]:
            raise Invalid(f"none of {_named(self._subnets[network])} is for this container", field="network")
        if (other := self._networks.get(holder.name, network)) != network:
            raise Conflict(f"{holder} already holds addresses of network {other}")
        wanted = families or tuple(dict.fromkeys(subnet.family for subnet in subnets))
        asked = _Asked(network, pools, holder, _wishes(network, subnets, wanted, wishes), ranges, network in self._shared)
        picked = [asked.pick(family) for family in wanted]
        for pool, address in picked:
            pool.hold(address, holder)
        if picked:
            self._networks[holder.name] = network
        return tuple(pool.interface(address) for pool, address in picked)

    def release(self, holder: str) -> tuple[Address, ...]:
        """Take back all that a holder, by name, has; nothing is no error."""
        pools = self._pools.get(self._networks.pop(holder, ""), ())
        return tuple(address for pool in pools if (address := pool.give(holder)))

    def hold(self, network: str, address: Address, holder: Holder) -> None:
        """Note what is so already, at a start; raise ``Conflict`` if another holds it."""
        _pool(network, self._of(network), address).hold(address, holder)
        self._networks[holder.name] = network

    def restore(self, endpoints: Iterable[Endpoint], deleted: Iterable[Endpoint] = ()) -> tuple[Problem, ...]:
        """Note what is so at a start, ``deleted`` oldest first; return what does not fit, each naming the endpoint."""
        problems = []
        for endpoint in endpoints:
            if endpoint.spec.chained:  # its addresses are another plugin's
                continue
            for interface in endpoint.spec.addresses:
                try:
                    self.hold(endpoint.spec.network, interface.address, holder_of(endpoint))
                except Problem as problem:
                    problems.append(problem.under(endpoint.name))
        for endpoint in deleted:
            for pool in self._pools.get(endpoint.spec.network, ()):
                pool.recall(interface.address for interface in endpoint.spec.addresses)
        return tuple(problems)

    def _changed(self, network: Network, blocks: Iterable[Prefix] | None, apart: Collection[Prefix] = ()) -> Pools:
        subnets = network.spec.subnets
        parts: list[tuple[Subnet, Prefix | None]] = [(subnet, None) for subnet in subnets]
        if blocks is not None:
            mine = sorted(blocks)
            parts = [(subnet, block) for subnet in subnets for block in mine if subnet.cidr.overlaps(block)]
        before = {(pool.subnet, pool.cidr, pool.apart): pool for pool in self._pools.get(network.name, ())}
        after = []
        for subnet, block in parts:
            alone = block in apart
            kept = before.pop((subnet, block or subnet.cidr, alone), None)
            after.append(kept or Pool(network.name, subnet, block, routed=network.spec.routed, apart=alone))
        for old in before.values():
            _move(old, next((new for new in after if new.cidr == old.cidr), None))
        return tuple(after)

    def _of(self, network: str) -> Pools:
        if (pools := self._pools.get(network)) is None:
            raise Missing(f"network {network} does not exist", field="network")
        return pools


def holder_of(endpoint: Endpoint) -> Holder:
    """An endpoint as a holder."""
    return Holder(endpoint.name, endpoint.display)


def _move(old: Pool, new: Pool | None) -> None:
    """Bring what is held of ``old`` to ``new``, which must be the same subnet; without it nothing may be held."""
    for address, holder in old.holders.items():
        if new is None:
            raise Conflict(f"subnet {old.cidr} of network {old.network} is in use: {address} is held by {holder}")
        if address == new.gateway:
            raise Conflict(f"{address} cannot become the gateway of network {old.network}: it is held by {holder}")
        new.hold(address, holder)
    if new is not None:
        new.recall(old.freed)


def _wishes(
    network: str, subnets: Sequence[Subnet], families: Sequence[Family], wishes: Sequence[str]
) -> dict[Family, Address]:
    """The wishes by family, checked against the subnets."""
    wished: dict[Family, Address] = {}
    for at, text in enumerate(wishes):
        try:
            address = _wish(network, subnets, text)
            if address.family not in families:
                raise Invalid(f"{address} is IPv{address.family}, which is not asked for")
            if address.family in wished:
                raise Invalid(f"{address} is the second IPv{address.family} address; one of each family can be asked for")
        except Problem as problem:
            raise problem.under(f"addresses[{at}]") from None
        wished[address.family] = address
    return wished


def _wish(network: str, subnets: Sequence[Subnet], text: str) -> Address:
    try:
        wish = Interface(text) if "/" in text else None
        address = wish.address if wish else Address(text)
    except ValueError as problem:
        raise Invalid(str(problem)) from None
    cidr = next((subnet.cidr for subnet in subnets if subnet.cidr.holds(address)), None)
    if cidr is None:
        raise Invalid(f"{address} is not in network {network}; its subnets: {_named(subnets)}")
    if wish and wish.length not in {cidr.length, 32 if wish.family == 4 else 128}:
        raise Invalid(f"{wish} does not fit {cidr}: write {address} or {address}/{cidr.length}")
    return address


def _pool(network: str, pools: Pools, address: Address) -> Pool:
    for pool in pools:
        if pool.cidr.holds(address):
            return pool
    raise Invalid(f"{address} is not in network {network}; its subnets: {_subnets(pools)}")


def _subnets(pools: Sequence[Pool]) -> str:
    return ", ".join(pool.cidr for pool in pools) or "none"


def _named(subnets: Sequence[Subnet]) -> str:
    return ", ".join(subnet.cidr for subnet in subnets) or "none"
