"""A lab as text."""

from __future__ import annotations

from fairlead.lab import picture
from fairlead.lab.parts import Role
from fairlead.lab.report import LabReport, MachineReport, PodReport, SubnetReport
from fairlead.model.address import Address, Interface, Prefix

NODE = MachineReport(
    name="node1",
    role=Role.NODE,
    state="ready",
    subnets=("net1",),
    addresses=(Interface("172.16.1.1/24"),),
    labels={"zone": "east"},
    pods=(PodReport(name="web", addresses=(Address("10.1.0.2"), Address("fd01::2"))), PodReport(name="idle")),
)
ROUTER = MachineReport(
    name="router", role=Role.ROUTER, state="running", subnets=("net1",), addresses=(Interface("172.16.1.254/24"),)
)
NET = SubnetReport(name="net1", cidrs=(Prefix("172.16.1.0/24"),), mtu=1400)


def drawn(*machines: MachineReport, width: int = 80, cuts: tuple[tuple[str, str], ...] = ()) -> str:
    return "\n".join(picture.draw(LabReport(name="x", created="", subnets=(NET,), machines=machines, cuts=cuts), width))


def test_a_subnet_and_what_hangs_on_it() -> None:
    assert (
        drawn(ROUTER, NODE, cuts=(("node1", "node2"),))
        == """\
 net1  172.16.1.0/24
       mtu 1400
       router .254
══════════╤═════════
┌─────────┴────────┐
│ node1  ● ready   │
│ 172.16.1.1       │
│ zone=east        │
│ ╰ web   10.1.0.2 │
│         fd01::2  │
│ ╰ idle           │
└──────────────────┘

 node1 \N{BOX DRAWINGS LIGHT DIAGONAL CROSS} node2: nothing passes"""
    )


def test_a_narrow_terminal_gets_them_below_each_other() -> None:
    other = MachineReport(name="node2", role=Role.NODE, state="agent down", subnets=("net1",))
    wide, narrow = drawn(NODE, other), drawn(NODE, other, width=30)
    assert max(map(len, wide.splitlines())) <= 80
    assert max(map(len, narrow.splitlines())) <= 30
    assert wide.count("═╤═") == 2
    assert "! agent down" in narrow


def test_a_subnet_with_nothing_on_it() -> None:
    assert drawn(ROUTER).splitlines()[-1] == "═" * len(" net1  172.16.1.0/24")
