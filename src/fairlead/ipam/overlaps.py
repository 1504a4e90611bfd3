"""Overlaps: which networks may have ranges that share addresses, and the words for those that may not.

::

    10.1.0.0/24 of network lan  ─┐
                                 ├─► each address is one block, of one name whichever network takes it: it is held once
    10.1.0.128/25 of network cam ┘

So macvlan and ipvlan networks may, where each address is agreed on by itself. Where a node takes many at once, an address is in
blocks of two sizes and of two names, and nobody would notice that both are taken. What passes a host's own routes is told apart
there by its prefix: to one address there is one way, and the packet filter finds one network.
"""

from __future__ import annotations

from fairlead.model.errors import Conflict
from fairlead.model.network import SUBS, Network, Subnet


def refuse(wanted: Network, other: Network) -> None:
    """Raise ``Conflict`` where the two share addresses and may not; it names both, and what would be right."""
    for at, subnet in enumerate(wanted.spec.subnets):
        for theirs in other.spec.subnets:
            if subnet.cidr.overlaps(theirs.cidr) and (why := _why(wanted, other, subnet, theirs, at)):
                raise Conflict(
                    f"{subnet.cidr} overlaps {theirs.cidr} of network {other.name}{why}", field=f"spec.subnets[{at}].cidr"
                )


def _why(wanted: Network, other: Network, subnet: Subnet, theirs: Subnet, at: int) -> str:
    """The end of the sentence; empty if they may."""
    for one in (other, wanted):
        if one.spec.driver not in SUBS:
            return (
                f"; hosts tell containers of network {one.name} (driver {one.spec.driver}) by their prefix, "
                "which no other network can have: choose another"
            )
    if not theirs.single:
        return (
            f", which gives out addresses by the block; to share its range, make network {other.name} anew with "
            f"blockSize: {subnet.bits}, or choose another prefix"
        )
    if not subnet.single:
        return f"; to share its range, set spec.subnets[{at}].blockSize: {subnet.bits}, or choose another prefix"
    return ""
