"""How the program stands at a device that stays: by a tcx link where the kernel can, else as a filter of a clsact.

A tcx link comes and goes without a packet lost, and nobody takes it off with ``tc``. But it is asked before all filters. So
where others have filters that are to be asked before ours, it stands among them as a filter, by its priority. From one to the
other there is no moment without a program: for a moment there are two, and what the first leaves to others so does the second.

Links of containers have filters always (``plane``): a tcx link costs a container's start too much (docs/decisions/ebpf.md).
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

from fairlead.desired.names import VETH
from fairlead.kernel import features, route
from fairlead.kernel.bpf import Program
from fairlead.kernel.netlink import Netlink
from fairlead.kernel.route import LinkInfo

from .pins import Pins
from .places import Places

PROGRAM = "from_net"
PRIORITY = 0x666D
"""Of our filter: that of limits (``links.mark``) is the one before."""
_PLACES = ("clsact", "ingress")


@dataclass(frozen=True, slots=True)
class At:
    """Which program stands at an interface, by its number: as a tcx link, and as a filter. 0: none."""

    index: int
    link: int = 0
    filter: int = 0

    def __str__(self) -> str:
        ways = {"by tcx": self.link, "as a filter": self.filter}
        return " and ".join(f"id {number} {way}" for way, number in ways.items() if number)


class Hooks:
    """Shares the socket of its plane."""

    def __init__(self, netlink: Netlink, run_dir: Path, *, tcx: bool = True) -> None:
        """``tcx``: where the kernel can."""
        self._netlink = netlink
        self._tcx = tcx and features.probe("tcx")[0].ok
        self._pins = Pins(run_dir, PROGRAM)
        self._places = Places(netlink, run_dir)

    def attached(self, links: Mapping[str, LinkInfo]) -> dict[str, At]:
        """Where the program stands, by the device's name; where that was given to another namespace, by its number."""
        names = {one.index: name for name, one in links.items() if not name.startswith(VETH)}
        by_link, by_filter = self._pins.standing(), self._filters(names)
        found = {
            index: At(index, by_link.get(index, 0), by_filter.get(index, 0)) for index in by_link.keys() | by_filter.keys()
        }
        strays = {f"interface {index}": At(index, program) for index, program in self._pins.astray().items()}
        return {names[index]: at for index, at in found.items() if index in names} | strays

    def right(self, index: int, program: int) -> At:
        """How it should be at a device that is to have the program of this number."""
        return At(index, link=program) if self._by_link(index) else At(index, filter=program)

    def put(self, index: int, program: Program) -> None:
        """See that the program is there, as it should be."""
        if self._by_link(index):
            self._pins.put(index, program)
            self._drop_filter(index)
        else:
            self._places.ensure(index)
            self._netlink.do(route.new_program(index, route.RECEIVED, program.fd, PROGRAM, PRIORITY))
            self._pins.take(index)

    def take(self, at: At) -> None:
        """Take the program off, however it stands there."""
        self._pins.take(at.index)
        if at.filter:
            self._drop_filter(at.index)

    def tidy(self) -> None:
        """Forget what devices that are gone had."""
        self._pins.tidy()

    def detach(self) -> None:
        """Take the program off every device."""
        self._pins.clear()
        for index in self._filters({one.index for one in route.links(self._netlink)}):
            self._drop_filter(index)

    def clear(self) -> None:
        """Leave no trace on any device."""
        self.detach()
        self._places.clear()

    def _by_link(self, index: int) -> bool:
        return self._tcx and not route.is_preceded(self._netlink, index, PRIORITY)

    def _filters(self, among: Container[int]) -> dict[int, int]:
        """The program's number by the interface where it is a filter."""
        places = {one.index for one in route.qdiscs(self._netlink) if one.kind in _PLACES and one.index in among}
        return {index: program for index in places if (program := self._filter(index))}

    def _filter(self, index: int) -> int:
        return next((one.program for one in route.programs(self._netlink, index, PRIORITY) if one.name == PROGRAM), 0)

    def _drop_filter(self, index: int) -> None:
        if self._filter(index):
            self._netlink.do(route.del_program(index, route.RECEIVED, PRIORITY))
