"""rtnetlink: rows read from the kernel, and the messages that change it.

A function that takes a ``Netlink`` asks and returns rows; every other one only builds a ``Message`` for ``Netlink.do``.
Interfaces are named by index, and where the kernel allows it by name. Families are 4 and 6, everywhere one code.
"""

from fairlead.kernel.route.address import AddressInfo, addresses, del_address, new_address
from fairlead.kernel.route.link import (
    LinkInfo,
    bridge_port,
    del_group,
    del_link,
    link,
    links,
    new_bridge,
    new_ifb,
    new_link,
    new_veth,
    parse_link,
    set_bridge,
    set_link,
)
from fairlead.kernel.route.namespace import new_nsid, nsid_of
from fairlead.kernel.route.neighbour import (
    NeighbourInfo,
    del_neighbour,
    fdb,
    fdb_append,
    fdb_delete,
    neighbours,
    new_neighbour,
)
from fairlead.kernel.route.path import RouteInfo, del_route, new_route, routes
from fairlead.kernel.route.program import RECEIVED, SENT, AttachedInfo, del_program, new_clsact, new_program, programs
from fairlead.kernel.route.traffic import (
    FilterInfo,
    QdiscInfo,
    Tbf,
    del_qdisc,
    filters,
    new_ingress,
    new_redirect,
    new_tbf,
    qdiscs,
    redirects,
    tbf,
)

__all__ = [
    "RECEIVED",
    "SENT",
    "AddressInfo",
    "AttachedInfo",
    "FilterInfo",
    "LinkInfo",
    "NeighbourInfo",
    "QdiscInfo",
    "RouteInfo",
    "Tbf",
    "addresses",
    "bridge_port",
    "del_address",
    "del_group",
    "del_link",
    "del_neighbour",
    "del_program",
    "del_qdisc",
    "del_route",
    "fdb",
    "fdb_append",
    "fdb_delete",
    "filters",
    "link",
    "links",
    "neighbours",
    "new_address",
    "new_bridge",
    "new_clsact",
    "new_ifb",
    "new_ingress",
    "new_link",
    "new_neighbour",
    "new_nsid",
    "new_program",
    "new_redirect",
    "new_route",
    "new_tbf",
    "new_veth",
    "nsid_of",
    "parse_link",
    "programs",
    "qdiscs",
    "redirects",
    "routes",
    "set_bridge",
    "set_link",
    "tbf",
]
