"""What one thread touches the kernel with."""

from __future__ import annotations

from collections.abc import Callable

from fairlead.datapath.base import Plane
from fairlead.datapath.filter.filter import Filter
from fairlead.kernel.errors import KernelError
from fairlead.links.links import Links
from fairlead.model.errors import Problem


class Hands:
    """All that touches the kernel, for one thread."""

    def __init__(self, links: Links, screen: Filter, plane: Plane) -> None:
        """Not for several threads at once."""
        self.links, self.filter, self.plane = links, screen, plane

    def close(self) -> None:
        """Close all."""
        self.links.close()
        self.filter.close()
        self.plane.close()


def attempt(step: Callable[[], object]) -> Exception | None:
    """The failure of one step among several that must all be tried."""
    try:
        step()
    except (KernelError, Problem) as error:
        return error
    return None
