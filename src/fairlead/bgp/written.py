"""What the speaker wrote to the kernel, told from everybody's routes by who wrote it and by its metric."""

from __future__ import annotations

from fairlead.kernel import route
from fairlead.kernel.netlink import Netlink
from fairlead.kernel.route import RouteInfo

from .config import METRIC

PROTOCOL = 12
"""What BIRD's routes say of who made them (RTPROT_BIRD); another BIRD on this host says the same, with another metric."""
_GONE = (2, 3)
"""ENOENT and ESRCH: somebody was there before us."""


def is_ours(one: RouteInfo) -> bool:
    """Whether this node's speaker wrote a route."""
    return one.protocol == PROTOCOL and one.metric == METRIC


def flush() -> int:
    """Remove what a speaker that is no more has left; return how many routes."""
    nl = Netlink()
    try:
        left = sorted({one.dst for one in route.routes(nl) if is_ours(one)})
        nl.do(*(route.del_route(dst, metric=METRIC, protocol=PROTOCOL).accepting(*_GONE) for dst in left))
    finally:
        nl.close()
    return len(left)
