"""Block: addresses of one network that one node may give out, without asking anybody.

A block is claimed by creating it, which the store lets one node alone do: its name is made from its addresses and nothing
else. Where a network has no block left, nodes lend single addresses that they do not use: who takes one that is offered, or
asks for one, says so in the block.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from .address import Address, Name, Prefix
from .meta import GROUP, Object, Value


class BlockSpec(Value, frozen=True, kw_only=True):
    """Whose it is. ``spare``: addresses that the node will not give out itself before it has taken them off this list.

    ``lent``: the nodes that were given addresses of it, by address. A lent address is reached through that node.
    ``asked``: the address that a node asks to be lent, by node; "" if any will do. The block's node strikes it out.
    """

    network: Name
    cidr: Prefix
    node: str
    spare: tuple[Address, ...] = ()
    lent: dict[str, str] = {}
    asked: dict[str, str] = {}

    def __post_init__(self) -> None:
        lent, asked = ((*map(Address, texts),) for texts in (self.lent, filter(None, self.asked.values())))
        for field, addresses in (("spare", self.spare), ("lent", lent), ("asked", asked)):
            for one in addresses:
                if not self.cidr.holds(one):
                    raise ValueError(f"{field}: {one} is not in {self.cidr}")


class Block(Object, frozen=True, kw_only=True, tag="Block"):
    """A run of addresses that belongs to a node. Its name is made by ``block_name``."""

    plural: ClassVar[str] = "blocks"

    api_version: Literal["fairlead.dev/v1"] = GROUP
    spec: BlockSpec

    @property
    def single(self) -> bool:
        """Whether it is one address."""
        return self.spec.cidr.length == (32 if self.spec.cidr.family == 4 else 128)


def block_name(cidr: Prefix) -> str:
    """``10-1-2-0-26``: the same for every network, so that no address is in two blocks of one size."""
    return str(cidr).replace("/", "-").replace(".", "-").replace(":", "-")
