"""Blocks: which one a node takes next, and what it may lend of its own. Pure: who has which is in the store.

Nodes begin to look at different places, each at one that its name gives, so that many that start together seldom want the
same block.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from hashlib import blake2b

from msgspec.structs import replace

from fairlead.model.address import Address, IPAddress, Prefix
from fairlead.model.block import Block
from fairlead.model.network import Range, Subnet

from .pool import reserved, runs
from .spans import Run, Spans

_LOOK = 1 << 24
"""Blocks that are looked at before a subnet counts as taken: all of IPv4's."""
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
    """The words for having no block left: subnets, and who has how many blocks of them."""
    holders = Counter(one.spec.node for one in blocks if any(one.spec.cidr.overlaps(subnet.cidr) for subnet in subnets))
    some = [f"{node} {count}" for node, count in holders.most_common(_NAMED)]
    more = f" and {len(holders) - _NAMED} more nodes" if len(holders) > _NAMED else ""
    shown = ", ".join(subnet.cidr for subnet in subnets) or "no subnet"
    sizes = ", ".join(dict.fromkeys(f"/{subnet.block_length}" for subnet in subnets))
    return f"network {network}: every {sizes} block of {shown} is taken; by node: {', '.join(some) or 'none'}{more}"


def _next(subnet: Subnet, taken: Iterable[Prefix], node: str) -> Prefix | None:
    """The first free block from the place that the node's name gives."""
    near = [one for one in taken if subnet.cidr.overlaps(one)]
    same = {int(one.net.network_address) for one in near if one.length == subnet.block_length}
    odd = [one for one in near if one.length != subnet.block_length]
    count = 1 << (subnet.block_length - subnet.cidr.length)
    if len(same) == count:
        return None
    usable = runs(subnet) - reserved(subnet, None)
    for first in _candidates(subnet, node, count):
        if first not in same:
            block = _block(subnet, first)
            if (usable & Spans.of(block)).size and not _meets(block, odd):
                return block
    return None


def _candidates(subnet: Subnet, node: str, count: int) -> Iterator[int]:
    """The first address of every block, each once; of IPv6, of as many as anybody would look at."""
    size = 1 << (subnet.bits - subnet.block_length)
    first = int(subnet.cidr.net.network_address)
    begin = int.from_bytes(blake2b(node.encode(), digest_size=8).digest(), "big") % count
    for step in range(min(count, _LOOK)):
        yield first + (begin + step) % count * size


def _block(subnet: Subnet, first: int) -> Prefix:
    return Prefix(f"{_made(subnet)(first)}/{subnet.block_length}")


def _made(subnet: Subnet) -> Callable[[int], IPAddress]:
    return ipaddress.IPv4Address if subnet.family == 4 else ipaddress.IPv6Address


def _meets(block: Prefix, others: Iterable[Prefix]) -> bool:
    return any(block.overlaps(one) for one in others)
