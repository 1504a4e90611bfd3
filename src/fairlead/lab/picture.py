"""A lab as text: each subnet a line, and what hangs on it in boxes. Pure.

::

     net1  172.16.1.0/24
           router .254
    ════════╤═══════════
    ┌───────┴────────┐
    │ node1  ● ready │
    │ 172.16.1.1     │
    └────────────────┘
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from fairlead.model.address import Interface

from .parts import Role
from .report import READY, STOPPED, LabReport, MachineReport, PodReport, SubnetReport
from .topology import MANAGEMENT, MTU_DEFAULT

_MARKS = {READY: "● ready", STOPPED: "○ stopped", "running": ""}
CUT = "\N{BOX DRAWINGS LIGHT DIAGONAL CROSS}"
_GAP = 2

Block = list[str]
"""Lines of one length."""


def draw(of: LabReport, width: int) -> list[str]:
    """The picture, no wider than ``width`` where that can be."""
    subnets = [_subnet(of, one, width) for one in of.subnets]
    lines = [line for row in _rows(subnets, width) for line in (*_beside(row), "")][:-1]
    cuts = [f" {one} {CUT} {other}: nothing passes" for one, other in of.cuts]
    return [line.rstrip() for line in [*lines, *([""] if cuts else []), *cuts]]


def _subnet(of: LabReport, subnet: SubnetReport, width: int) -> Block:
    """One subnet: its name and routers, its line, and the boxes on it, in several rows if there are many."""
    here = [one for one in of.machines if _on(one, subnet)]
    routers = [f"{one.name} {_short(one, subnet)}" for one in here if one.role is Role.ROUTER]
    mtu = [f"mtu {subnet.mtu}"] if subnet.mtu != MTU_DEFAULT else []
    facts = zip_longest((f" {subnet.name}",), (*subnet.cidrs, *mtu, *routers), fillvalue="")
    head = [f"{name.ljust(len(subnet.name) + 1)}  {fact}" for name, fact in facts]
    boxes = [_box(_lines(one, subnet)) for one in sorted(here, key=_place) if one.role is not Role.ROUTER]
    widest = max(map(len, head))
    rows = [_bus(row, widest) for row in _rows(boxes, width)] or [["═" * widest]]
    return _even([*head, *(line for row in rows for line in row)])


def _place(machine: MachineReport) -> int:
    return (Role.NODE, Role.HOST, Role.STORE, Role.ROUTER, Role.SWITCH).index(machine.role)


def _on(machine: MachineReport, subnet: SubnetReport) -> bool:
    if machine.role is Role.STORE:
        return subnet.name == MANAGEMENT
    return subnet.name in machine.subnets


def _lines(machine: MachineReport, subnet: SubnetReport) -> list[str]:
    """What stands in a machine's box: all of it where it hangs first, else its name and its address there."""
    addresses = [str(one.address) for one in _own(machine, subnet)]
    if machine.role is not Role.STORE and machine.subnets[0] != subnet.name:
        return [machine.name, *addresses]
    mark = _MARKS.get(machine.state, f"! {machine.state}")
    labels = [f"{key}={value}" if value else key for key, value in machine.labels.items()]
    return [f"{machine.name}  {mark}".rstrip(), *addresses, *labels, *_pods(machine.pods)]


def _pods(pods: Sequence[PodReport]) -> Iterator[str]:
    """A line for each pod, and below it for each further address."""
    longest = max((len(one.name) for one in pods), default=0)
    for one in pods:
        for name, address in zip_longest((one.name,), one.addresses, fillvalue=""):
            yield f"{'╰' if name else ' '} {name.ljust(longest)}  {address}".rstrip()


def _own(machine: MachineReport, subnet: SubnetReport) -> list[Interface]:
    return [one for one in machine.addresses if any(cidr.holds(one.address) for cidr in subnet.cidrs)]


def _short(router: MachineReport, subnet: SubnetReport) -> str:
    """A router's addresses without what the subnet's name has said."""
    tails = ((":" if one.family == 6 else ".", str(one.address)) for one in _own(router, subnet))
    return " ".join(f"{'::' if mark == ':' else mark}{address.rpartition(mark)[2]}" for mark, address in tails)


def _box(lines: Sequence[str]) -> Block:
    inside = _even(lines)
    line = "─" * (len(inside[0]) + 2)
    return [f"┌{line}┐", *(f"│ {one} │" for one in inside), f"└{line}┘"]


def _bus(boxes: Sequence[Block], width: int) -> Block:
    """Boxes side by side under the line that joins them."""
    joined = _beside(boxes)
    line = list("═" * max(len(joined[0]), width))
    roof = list(joined[0])
    at = 0
    for box in boxes:
        middle = at + len(box[0]) // 2
        line[middle], roof[middle] = "╤", "┴"
        at += len(box[0]) + _GAP
    return ["".join(line), "".join(roof), *joined[1:]]


def _rows(blocks: Sequence[Block], width: int) -> list[list[Block]]:
    """As many side by side as there is room for."""
    rows: list[list[Block]] = []
    left = 0
    for block in blocks:
        needed = len(block[0]) + _GAP
        if not rows or needed > left + _GAP:
            rows.append([])
            left = width
        rows[-1].append(block)
        left -= needed
    return rows


def _beside(blocks: Sequence[Block]) -> Block:
    height = max(map(len, blocks))
    full = [[*block, *[" " * len(block[0])] * (height - len(block))] for block in blocks]
    return [(" " * _GAP).join(parts) for parts in zip(*full, strict=True)]


def _even(lines: Iterable[str]) -> Block:
    found = list(lines)
    longest = max(map(len, found), default=0)
    return [line.ljust(longest) for line in found]
