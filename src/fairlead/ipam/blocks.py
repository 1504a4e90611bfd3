"""Blocks: which one a node takes next, and what it may lend of its own. Pure: who has which is in the store.

Nodes begin to look at different places, each at one that its name gives, so that many that start together seldom want the
same block.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from hashlib import blake2b

from msgspec.structs import replace

from fairlead.model.address import Address, IPAddress, Prefix
from fairlead.model.block import Block
from fairlead.model.network import Range, Subnet

from .pool import ends, reserved, runs
from .spans import Run, Spans

_NAMED = 10


def choose(subnets: Iterable[Subnet], taken: Collection[Prefix], node: str, wish: Address | None = None) -> Prefix | None:
    """The block to take next of these subnets, the one that holds ``wish`` if given; None if there is none."""
    for subnet in subnets:
        if wish is None:
            if block := _next(subnet, taken, node):
                return block
        elif subnet.cidr.holds(wish):
            block = Prefix(str(ipaddress.ip_network((wish.ip, subnet.block_length), strict=False)))
            return None if _meets(block, taken) else block
    return None


def narrowed(subnets: Iterable[Subnet], within: Spans | None) -> list[Subnet]:
    """What is left of subnets of one family where only addresses of ``within`` are of use."""
    if within is None:
        return list(subnets)
    left = ((one, runs(one) & within) for one in subnets)
    return [replace(one, ranges=tuple(_range(one, run) for run in some)) for one, some in left if some.size]


def _range(subnet: Subnet, run: Run) -> Range:
    start, end = (_made(subnet)(number) for number in run)
    return Range(start=Address(start), end=Address(end))


def full(network: str, subnets: Sequence[Subnet], blocks: Iterable[Block]) -> str:
    """The words for having no block left: subnets, and who has how many blocks of them, for this network or another."""
    holders: dict[str, Counter[str]] = {network: Counter()}
    for one in blocks:
        if any(one.spec.cidr.overlaps(subnet.cidr) for subnet in subnets):
            holders.setdefault(one.spec.network, Counter())[one.spec.node] += 1
    shown = ", ".join(subnet.cidr for subnet in subnets) or "no subnet"
    what = ", ".join(dict.fromkeys("address" if one.single else f"/{one.block_length} block" for one in subnets)) or "block"
    said = f"network {network}: every {what} of {shown} is taken; by node: {_counted(holders.pop(network))}"
    return said + "".join(f"; for network {name}, by node: {_counted(of)}" for name, of in sorted(holders.items())[:_NAMED])


def fill(subnet: Subnet, taken: Iterable[Block], routers: Iterable[Address]) -> tuple[int, int]:
    """How many addresses a subnet has to give out, without those of routers, and how many of them ``taken`` have."""
    usable = runs(subnet) - reserved(subnet, None) - ends(subnet.cidr)
    usable -= Spans.of(*(one.host() for one in routers if subnet.cidr.holds(one)))
    return usable.size, (usable & Spans.of(*(one.spec.cidr for one in taken))).size


def _counted(holders: Counter[str]) -> str:
    """``a 2, b 1 and 3 more nodes``, those that have most first."""
    some = [f"{node} {count}" for node, count in holders.most_common(_NAMED)]
    more = f" and {len(holders) - _NAMED} more nodes" if len(holders) > _NAMED else ""
    return f"{', '.join(some) or 'none'}{more}"


def _next(subnet: Subnet, taken: Iterable[Prefix], node: str) -> Prefix | None:
    """The first free block from the place that the node's name gives.

    Blocks are numbered in runs: what may be given out may be a few addresses of an IPv6 subnet, which nobody could find one by
    one. Nor are there often many taken ones between a free one and any place.
    """
    size = 1 << (subnet.bits - subnet.block_length)
    usable = _numbers(runs(subnet) - reserved(subnet, None) - ends(subnet.cidr), size)
    near = [one.run for one in taken if subnet.cidr.overlaps(one)]
    same = {first // size for first, last in near if last - first < size}
    odd = _numbers(Spans(run for run in near if run[1] - run[0] >= size), size)
    if not usable.size:
        return None
    begin = usable.nth(int.from_bytes(blake2b(node.encode(), digest_size=8).digest(), "big") % usable.size)
    number = next((one for one in (usable - odd).around(begin) if one not in same), None)
    return None if number is None else _block(subnet, number * size)


def _numbers(addresses: Spans, size: int) -> Spans:
    """The blocks, by number, in which some of these addresses are."""
    return Spans((start // size, end // size) for start, end in addresses)


def _block(subnet: Subnet, first: int) -> Prefix:
    return Prefix(f"{_made(subnet)(first)}/{subnet.block_length}")


def _made(subnet: Subnet) -> Callable[[int], IPAddress]:
    return ipaddress.IPv4Address if subnet.family == 4 else ipaddress.IPv6Address


def _meets(block: Prefix, others: Iterable[Prefix]) -> bool:
    return any(block.overlaps(one) for one in others)
