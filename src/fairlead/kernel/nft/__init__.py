"""nftables, in three ways, each where it is the better one.

``run`` takes text, as ``nft -f`` does, through libnftables: for whole tables, rarely. ``change`` sends the kernel's own
messages for elements of sets and maps: for each container, as libnftables lists a whole interval set before it adds an element.
``Maker`` does the same for chains, rules, maps and counters, for a table whose structure changes all the time.
Each is one transaction: all of it happens or nothing does, and no packet sees a half.
"""

from fairlead.kernel.nft.element import Change, Element, change, element, elements, field, ifname, interval
from fairlead.kernel.nft.library import run
from fairlead.kernel.nft.rule import Expression, Field, Rule, Verdict
from fairlead.kernel.nft.structure import Chain, Collection, Hook, Maker, Part, Tally, chains, collections, counters, rules
from fairlead.kernel.nft.table import SetInfo, delete_table, fingerprint, lull, sets, sleeps, table_exists
from fairlead.kernel.nft.wire import Mark, alone, generation, mark, transact, untouched

__all__ = [
    "Chain",
    "Change",
    "Collection",
    "Element",
    "Expression",
    "Field",
    "Hook",
    "Maker",
    "Mark",
    "Part",
    "Rule",
    "SetInfo",
    "Tally",
    "Verdict",
    "alone",
    "chains",
    "change",
    "collections",
    "counters",
    "delete_table",
    "element",
    "elements",
    "field",
    "fingerprint",
    "generation",
    "ifname",
    "interval",
    "lull",
    "mark",
    "rules",
    "run",
    "sets",
    "sleeps",
    "table_exists",
    "transact",
    "untouched",
]
