"""nftables, in two ways, each where it is the better one.

``run`` takes text, as ``nft -f`` does, through libnftables: for whole tables, rarely. ``change`` sends the kernel's own
messages for elements of sets and maps: for each container, as libnftables lists a whole interval set before it adds an element.
Both are one transaction: all of it happens or nothing does, and no packet sees a half.
"""

from fairlead.kernel.nft.element import Change, Element, change, elements, field, ifname, interval
from fairlead.kernel.nft.library import run
from fairlead.kernel.nft.table import SetInfo, delete_table, fingerprint, generation, sets, table_exists

__all__ = [
    "Change",
    "Element",
    "SetInfo",
    "change",
    "delete_table",
    "elements",
    "field",
    "fingerprint",
    "generation",
    "ifname",
    "interval",
    "run",
    "sets",
    "table_exists",
]
