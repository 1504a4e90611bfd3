"""Block: addresses of one network that one node may give out, without asking anybody.

A block is claimed by creating it, which the store lets one node alone do: its name is made from its addresses and nothing
else. Where a network has no block left, nodes offer single addresses that they do not use; who takes one says so in the block.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from .address import Address, Name, Prefix
from .meta import GROUP, Object, Value


class BlockSpec(Value, frozen=True, kw_only=True):
    """Whose it is. ``spare``: addresses that the node will not give out itself before it has taken them off this list.

    ``lent``: addresses by the node that took them from the list. A lent address is reached through that node.
    """

    network: Name
    cidr: Prefix
    node: str
    spare: tuple[Address, ...] = ()
    lent: dict[str, str] = {}

    def __post_init__(self) -> None:
        for field, addresses in (("spare", self.spare), ("lent", tuple(Address(one) for one in self.lent))):
            for one in addresses:
                if not self.cidr.holds(one):
                    raise ValueError(f"{field}: {one} is not in {self.cidr}")


class Block(Object, frozen=True, kw_only=True, tag="Block"):
    """A run of addresses that belongs to a node. Its name is made by ``block_name``."""

    plural: ClassVar[str] = "blocks"

    api_version: Literal["fairlead.dev/v1"] = GROUP
    spec: BlockSpec


def block_name(cidr: Prefix) -> str:
    """``10-1-2-0-26``: the same for every network, so that no address is in two blocks of one size."""
    return str(cidr).replace("/", "-").replace(".", "-").replace(":", "-")
