"""Interfaces that share one of the host's: macvlan, with a MAC of their own, and ipvlan, with the parent's."""

from __future__ import annotations

import struct

from fairlead.desired.state import Sub
from fairlead.kernel import route
from fairlead.kernel.errors import Exists, KernelError
from fairlead.kernel.netlink import Netlink, attr
from fairlead.model.errors import Conflict, Missing, Unsupported

from .inside import furnish, namespace

_MODES = {
    "macvlan": {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8},
    "ipvlan": {"l2": 0, "l3": 1, "l3s": 2},
}
"""The kernel's numbers (linux/if_link.h) of the modes in ``model.network.MODES``."""

_MODE = 1
_WIDTH = {"macvlan": "=I", "ipvlan": "=H"}


def ensure(nl: Netlink, row: Sub) -> int | None:
    """Make the interface inside the container, or add what is missing; the id by which the host knows the namespace."""
    with namespace(row.path, row.cookie) as fd:
        parent = route.link(nl, row.parent)
        if parent is None:
            raise Missing(f"the parent interface {row.parent} is gone", field="spec.parent")
        with Netlink(netns=fd) as inside:
            there = route.link(inside, row.name)
        if there is None:
            _make(nl, row, parent.index, fd)
        elif there.kind != row.kind or there.peer_index != parent.index:
            raise Conflict(
                f"the container already has an interface {row.name} that is not ours; name another", field="interface"
            )
        furnish(row, fd)
        number(nl, fd)
        return route.nsid_of(nl, fd)


def remove(row: Sub) -> None:
    """Remove the interface, if the container is still there."""
    try:
        with namespace(row.path, row.cookie) as fd, Netlink(netns=fd) as inside:
            there = route.link(inside, row.name)
            if there is not None and there.kind == row.kind:
                inside.do(route.del_link(there.index))
    except Missing:
        return


def number(nl: Netlink, fd: int) -> None:
    """Give the namespace an id here, so that its events are heard; a veth brings one along, these do not."""
    try:
        nl.do(route.new_nsid(fd))
    except Exists:
        return


def _make(nl: Netlink, row: Sub, parent: int, fd: int) -> None:
    mode = struct.pack(_WIDTH[row.kind], _MODES[row.kind][row.mode])
    data = attr(_MODE, mode)
    try:
        nl.do(route.new_link(row.name, row.kind, data, lower=parent, mac=row.mac, mtu=row.mtu, netns_fd=fd))
    except KernelError as error:
        if "Unknown device type" in error.detail:
            raise Unsupported(f"this kernel has no {row.kind}; it needs CONFIG_{row.kind.upper()}", field="network") from None
        raise
