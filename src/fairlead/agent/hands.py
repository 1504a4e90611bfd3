"""Hands: what one thread touches the kernel with."""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.datapath.base import Look, Plane, at_once
from fairlead.datapath.filter.filter import Filter
from fairlead.links.links import Links


class Hands:
    """Interfaces, packet filter and policies. Not for several threads at once."""

    def __init__(self, links: Links, screen: Filter, plane: Plane) -> None:
        """Each speaks to the kernel by sockets of its own."""
        self.links, self.filter, self.plane = links, screen, plane

    @property
    def looks(self) -> Sequence[Look]:
        """All that there is to compare, in parts: between two of them the thread is others'."""
        return (*map(at_once, (self.filter.check, *self.links.checks)), *self.plane.looks)

    def close(self) -> None:
        """Close all."""
        self.links.close()
        self.filter.close()
        self.plane.close()
