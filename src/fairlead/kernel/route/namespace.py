"""The numbers by which one namespace knows others: what peers' and events' ``nsid`` refer to."""

from __future__ import annotations

import struct

from fairlead.kernel.netlink import Message, Netlink, attr, parse, u32

_NEW, _GET = 88, 90
_NSID, _FD = 1, 3
_HEADER = bytes(4)


def new_nsid(netns_fd: int, nsid: int = -1) -> Message:
    """Give a namespace a number here; -1 lets the kernel choose. ``Exists`` if it has one, which does not change."""
    body = _HEADER + attr(_NSID, struct.pack("=i", nsid)) + u32(_FD, netns_fd)
    return Message(_NEW, 0, body, "number a network namespace")


def nsid_of(nl: Netlink, netns_fd: int) -> int | None:
    """The number of a namespace here; None if it has none yet."""
    answer = nl.ask(Message(_GET, 0, _HEADER + u32(_FD, netns_fd), "look up the number of a network namespace"))
    nsid: int = struct.unpack("=i", parse(answer[0], 4)[_NSID])[0]
    return nsid if nsid >= 0 else None
