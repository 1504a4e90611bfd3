"""Blocks: which one a node takes next, and what it may lend of its own. Pure: who has which is in the store.

Nodes begin to look at different places, each at one that its name gives, so that many that start together seldom want the
same block.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice

from fairlead.model.address import Address, Prefix
from fairlead.model.block import Block
from fairlead.model.network import Subnet

from .pool import reserved, runs
from .spans import Spans

_LOOK = 4096
"""Blocks that are looked at before a subnet counts as taken, where it has more than that: IPv6."""
_NAMED = 10


def choose(subnets: Iterable[Subnet], taken: Collection[Prefix], node: str, wish: Address | None = None) -> Prefix | None:
    """The block to take next of these subnets, the one that holds ``wish`` if given; None if there is none."""
    for subnet in subnets:
        if wish is not None:
            if subnet.cidr.holds(wish):
                block = Prefix(str(ipaddress.ip_network((wish.ip, subnet.block_length), strict=False)))
                return None if _taken(block, taken) else block
            continue
        usable = runs(subnet) - reserved(subnet, None)
        for block in islice(_candidates(subnet, node), _LOOK):
            if (usable & Spans.of(block)).size and not _taken(block, taken):
                return block
    return None


def full(network: str, subnets: Sequence[Subnet], blocks: Iterable[Block]) -> str:
    """The words for having no block left: subnets, and who has how many blocks of them."""
    holders = Counter(one.spec.node for one in blocks if any(one.spec.cidr.overlaps(subnet.cidr) for subnet in subnets))
    some = [f"{node} {count}" for node, count in holders.most_common(_NAMED)]
    more = f" and {len(holders) - _NAMED} more nodes" if len(holders) > _NAMED else ""
    shown = ", ".join(subnet.cidr for subnet in subnets) or "no subnet"
    sizes = ", ".join(dict.fromkeys(f"/{subnet.block_length}" for subnet in subnets))
    return f"network {network}: every {sizes} block of {shown} is taken; by node: {', '.join(some) or 'none'}{more}"


def _taken(block: Prefix, taken: Collection[Prefix]) -> bool:
    return block in taken or any(block.overlaps(one) for one in taken if one.length != block.length)


def _candidates(subnet: Subnet, node: str) -> Iterator[Prefix]:
    """Every block of a subnet, once, from the place that the node's name gives."""
    length = subnet.block_length
    count = 1 << (length - subnet.cidr.length)
    size = 1 << (subnet.bits - length)
    first = int(subnet.cidr.net.network_address)
    begin = int.from_bytes(blake2b(node.encode(), digest_size=8).digest(), "big") % count
    made = ipaddress.IPv4Address if subnet.family == 4 else ipaddress.IPv6Address
    for step in range(count):
        yield Prefix(f"{made(first + (begin + step) % count * size)}/{length}")
