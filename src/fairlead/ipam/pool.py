"""Pool: the addresses of one subnet or of one block of it, who holds which, and which comes next.

The next address is the lowest that was never used, else the one that was given back longest ago: a late packet for a
container that is gone then finds nobody for as long as possible. What an address costs does not depend on the size of
the pool nor on how many are held: the pool is a few runs of integers, and a cursor below which every address was used::

    ranges - excludes - gateway - network and broadcast
    ├─ used before: held or freed ─┤◄ cursor ├─ never used ─┤

So that a pool that is never full does not remember every address it ever gave, ``REMEMBER`` freed ones are enough: with
more, the oldest is taken before a new one. A pool does no I/O and knows no clock: the order of calls is the order of time.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Iterable
from heapq import nsmallest
from typing import NamedTuple

from fairlead.model.address import Address, Family, Interface, Prefix
from fairlead.model.errors import Conflict, Exhausted, Invalid
from fairlead.model.network import Subnet, excluded

from .spans import Spans

REMEMBER = 16384
"""How many freed addresses wait at most before the oldest is used again although others never were."""

_FEW = 2
"""Addresses of a block of which none is spared."""
_NAMED = 10
_VIEWS = 256
_END = 1 << 128


class Holder(NamedTuple):
    """Who has an address: the endpoint's name, and how people know it. ``yields``: it is only set aside."""

    name: str
    display: str = ""
    yields: bool = False

    def __str__(self) -> str:
        return f"{self.display} ({self.name})" if self.display and self.display != self.name else self.name


class Pool:
    """The addresses of one subnet of one network."""

    def __init__(
        self,
        network: str,
        subnet: Subnet,
        block: Prefix | None = None,
        *,
        routed: bool = False,
        apart: bool = False,
        remember: int = REMEMBER,
    ) -> None:
        """``block``: the part of it that is ours to give out. ``routed``: addresses stand alone, and none is the gateway.

        ``apart``: the block is a network of its own to others, as a node's podCIDR is: its own address and its broadcast
        address are not given out, though a routed network would carry them. So does host-local, and so think firewalls.
        """
        self.network = network
        self.subnet = subnet
        self.cidr = block or subnet.cidr
        self.gateway = None if routed else subnet.router
        self._remember = remember
        self.apart = apart
        self._ends = ends(subnet.cidr) | (ends(block) if block and apart and Spans.of(block).size > _FEW else Spans(()))
        self._reserved = reserved(subnet, self.gateway) | self._ends
        self._usable = runs(subnet) - self._reserved
        if block:
            self._usable = self._usable & Spans.of(block)
        self._holders: dict[int, Holder] = {}
        self._held: dict[str, int] = {}
        self._freed: OrderedDict[int, None] = OrderedDict()
        self._cursors: dict[Spans, int] = {}
        self._used = 0

    @property
    def family(self) -> Family:
        """4 or 6."""
        return self.subnet.family

    @property
    def size(self) -> int:
        """How many addresses it may give out."""
        return self._usable.size

    @property
    def used(self) -> int:
        """How many of these are held. Static addresses outside the ranges are not counted."""
        return self._used

    @property
    def free(self) -> int:
        """How many are left to give out."""
        return self.size - self.used

    @property
    def holders(self) -> dict[Address, Holder]:
        """Who holds which address, by address."""
        return {self._address(number): self._holders[number] for number in sorted(self._holders)}

    @property
    def freed(self) -> tuple[Address, ...]:
        """The addresses that were given back, oldest first, as far back as is remembered."""
        return tuple(self._address(number) for number in self._freed)

    def of(self, holder: str) -> Address | None:
        """The address that a holder, by name, has here."""
        number = self._held.get(holder)
        return None if number is None else self._address(number)

    def pick(self, within: Spans | None = None) -> Address:
        """The next address, of those in ``within`` if given; it is not taken. Raise ``Exhausted`` if there is none."""
        number = self._next(self._usable if within is None else self._usable & within)
        if number is None:
            raise Exhausted(self.full(within))
        return self._address(number)

    def has(self, within: Spans | None = None) -> bool:
        """Whether an address is left, of those in ``within`` if given."""
        return self._next(self._usable if within is None else self._usable & within) is not None

    def offers(self, within: Spans) -> bool:
        """Whether any address of ``within`` may be given out here, held or not."""
        return (self._usable & within).size > 0

    def wish(self, address: Address, holder: Holder) -> Address:
        """``address`` if this holder may take it; raise ``Conflict`` if it is taken, ``Invalid`` if nobody may have it."""
        number = int(address.ip)
        if not self.cidr.holds(address):
            raise Invalid(f"{address} is not in {self.cidr} of network {self.network}")
        if address == self.gateway:
            raise Invalid(f"{address} is the gateway of network {self.network}; choose another address of {self.cidr}")
        if number in self._reserved:
            raise Invalid(f"{address} is never given out on network {self.network} ({self._why(address)}); choose another")
        if (other := self._holders.get(number)) and other.name != holder.name:
            raise Conflict(f"{address} of network {self.network} is held by {other}")
        if (mine := self._held.get(holder.name, number)) != number:
            raise Conflict(f"{holder} already holds {self._address(mine)} of {self.cidr}; give it back before taking {address}")
        return address

    def yields(self, address: Address) -> bool:
        """Whether an address is held by one who can be asked to give it back."""
        holder = self._holders.get(int(address.ip))
        return holder is not None and holder.yields

    def take(self, holder: Holder, address: Address | None = None, within: Spans | None = None) -> Address:
        """Give the holder an address: the one wished for, or the next. Again, it is the one it has."""
        taken = self.wish(address, holder) if address else self.of(holder.name) or self.pick(within)
        self.hold(taken, holder)
        return taken

    def hold(self, address: Address, holder: Holder) -> None:
        """Note what is so already, at a start; raise ``Conflict`` if another holds it. Again is no error.

        Whatever lies in the subnet is accepted, reserved or not: a network's ranges may have changed since.
        """
        number = int(address.ip)
        if not self.cidr.holds(address):
            raise Invalid(f"{address} is not in {self.cidr} of network {self.network}")
        if (other := self._holders.get(number)) is not None and other.name != holder.name:
            raise Conflict(f"{address} of network {self.network} is held by {other}, and cannot also be held by {holder}")
        if (mine := self._held.get(holder.name, number)) != number:
            raise Conflict(f"{holder} holds {self._address(mine)} of {self.cidr}, and cannot also hold {address}")
        if other is None and number in self._usable:
            self._used += 1
            self._freed.pop(number, None)
        self._holders[number] = holder
        self._held[holder.name] = number

    def give(self, holder: str) -> Address | None:
        """Take back what a holder, by name, has; it becomes the last to be used again. None if it has nothing."""
        number = self._held.pop(holder, None)
        if number is None:
            return None
        del self._holders[number]
        if number in self._usable:
            self._used -= 1
            self._freed[number] = None
        return self._address(number)

    def recall(self, addresses: Iterable[Address]) -> None:
        """Note what was given back before a start, oldest first. What is held again, or foreign, is passed over."""
        for address in addresses:
            number = int(address.ip)
            if address.family == self.family and number in self._usable and number not in self._holders:
                self._freed[number] = None
                self._freed.move_to_end(number)

    def interface(self, address: Address) -> Interface:
        """``address`` as an interface carries it."""
        return Interface.of(address, self.subnet.cidr if self.gateway else address.host())

    def full(self, within: Spans | None = None) -> str:
        """The words for having nothing left: network, subnet, size, use and holders."""
        some = [f"{self._address(number)} {self._holders[number]}" for number in nsmallest(_NAMED, self._holders)]
        more = f" and {len(self._holders) - _NAMED} more" if len(self._holders) > _NAMED else ""
        part = "" if within is None else f" in the {(self._usable & within).size} addresses asked for"
        return (
            f"network {self.network}: no address is left in {self.cidr}{part}: {self.used} of {self.size} are used; "
            f"held by {', '.join(some) or 'nobody'}{more}"
        )

    def _next(self, usable: Spans) -> int | None:
        if len(self._freed) > self._remember and usable is self._usable:
            return next(iter(self._freed))
        fresh = self._fresh(usable)
        if fresh is not None:
            return fresh
        if usable is self._usable:
            return next(iter(self._freed), None)
        return next((number for number in self._freed if number in usable), None)

    def _fresh(self, usable: Spans) -> int | None:
        """The lowest of ``usable`` that was never used. All below the cursor was, and what was once used is held or freed."""
        number = usable.after(self._cursors.get(usable, 0))
        while number is not None and (number in self._holders or number in self._freed):
            number = usable.after(number + 1)
        if len(self._cursors) >= _VIEWS:
            self._cursors.clear()
        self._cursors[usable] = _END if number is None else number
        return number

    def _why(self, address: Address) -> str:
        if int(address.ip) not in self._ends:
            return "it is excluded"
        if address.ip not in {self.subnet.cidr.net.network_address, self.cidr.net.network_address}:
            return "it is the broadcast address"
        return "it is the network's own address" if self.family == 4 else "it is the subnet-router anycast address"

    def _address(self, number: int) -> Address:
        return Address(ipaddress.IPv4Address(number) if self.family == 4 else ipaddress.IPv6Address(number))


def runs(subnet: Subnet) -> Spans:
    """What a subnet's ranges name: all of it if there are none."""
    if not subnet.ranges:
        return Spans.of(subnet.cidr)
    return Spans((int(one.start.ip), int(one.end.ip)) for one in subnet.ranges)


def reserved(subnet: Subnet, gateway: Address | None) -> Spans:
    """What a subnet never gives out: its excludes and ``gateway``."""
    prefixes = [excluded(text) for text in subnet.exclude] + ([gateway.host()] if gateway else [])
    return Spans.of(*prefixes)


def ends(cidr: Prefix) -> Spans:
    """What nobody has: the network's own address (IPv6: the subnet-router anycast address), the broadcast address of IPv4."""
    first, last = int(cidr.net.network_address), int(cidr.net.broadcast_address)
    return Spans([(first, first), (last, last)] if cidr.family == 4 else [(first, first)])
