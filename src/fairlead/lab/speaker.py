"""BIRD on a router of the lab: it listens to every node on its subnets, and speaks with the routers beside it.

So a network with driver bgp reaches over subnets: each node tells its router of its containers, and the routers tell each other
and all other nodes. A router is the next hop of all that it tells of. Nodes do not speak among themselves then: what one heard
of another it would tell its router too, which might believe that the way is through it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fairlead.model.address import Family

from .machine import Machine
from .parts import Plan, Planned, Role, Wire

PROGRAM, CONTROL = "bird", "birdc"
NODES = 64512
"""The AS of nodes that nobody gave another, as ``fairlead`` chooses it."""
ROUTERS = 65000
"""The AS of the router that the lab itself makes."""

_HOME = "run/bird"
_HEAD = """\
log stderr all;
router id {id};
protocol device {{ }}
protocol kernel kernel4 {{ merge paths on; ipv4 {{ import none; export all; }}; }}
protocol kernel kernel6 {{ merge paths on; ipv6 {{ import none; export all; }}; }}
template bgp lab {{
    connect delay time 1;
    ipv4 {{ import all; export all; next hop self; }};
    ipv6 {{ import all; export all; next hop self; }};
}}
"""

Systems = Mapping[str, int]
"""Routers that speak, with the autonomous system of each."""


def text(plan: Plan, router: Planned, systems: Systems) -> str:
    """BIRD's configuration for a router."""
    return _HEAD.format(id=_identity(router)) + "".join(_sessions(plan, router, systems))


def settings(systems: Systems) -> Iterator[dict[str, Any]]:
    """The object that keeps nodes from speaking among themselves."""
    if systems:
        yield {
            "apiVersion": "fairlead.dev/v1",
            "kind": "BGPConfiguration",
            "metadata": {"name": "default"},
            "spec": {"nodeToNodeMesh": False},
        }


def peers(plan: Plan, node: Planned, systems: Systems) -> Iterator[dict[str, Any]]:
    """The objects that have a node speak with each router beside it."""
    for wire in node.wires:
        for router in plan.of(Role.ROUTER):
            there = router.on(wire.subnet)
            if router.name in systems and there:
                yield {
                    "apiVersion": "fairlead.dev/v1",
                    "kind": "BGPPeer",
                    "metadata": {"name": f"{node.name}-{router.name}"},
                    "spec": {
                        "node": node.name,
                        "peerIP": str(_talks(there)[1]),
                        "asNumber": systems[router.name],
                        "numAllowedLocalASNumbers": 1,  # another node's routes come back through the router
                    },
                }


def tell(machine: Machine, configuration: str) -> None:
    """Have the router speak so: BIRD is started, or told what is new."""
    home = machine.files / _HOME
    home.mkdir(exist_ok=True)
    before = (home / "bird.conf").read_text() if (home / "bird.conf").exists() else ""
    (home / "bird.conf").write_text(configuration)
    if not before:
        machine.run(PROGRAM, "-c", f"/{_HOME}/bird.conf", "-s", f"/{_HOME}/bird.ctl", "-P", f"/{_HOME}/bird.pid")
    elif configuration != before:
        machine.run(CONTROL, "-s", f"/{_HOME}/bird.ctl", "configure")


def _sessions(plan: Plan, router: Planned, systems: Systems) -> Iterator[str]:
    own = systems[router.name]
    for wire in router.wires:
        family, here = _talks(wire)
        subnet = next(one.prefix for one in wire.addresses if one.family == family)
        name = wire.subnet.replace("-", "_")
        yield (
            f"protocol bgp nodes_{name} from lab {{\n    local {here} as {own};\n"
            f'    neighbor range {subnet} as {NODES};\n    dynamic name "node_{name}_";\n}}\n'
        )
        for other in plan.of(Role.ROUTER):
            there = other.on(wire.subnet)
            if other is not router and other.name in systems and there:
                beside = f"{other.name.replace('-', '_')}_{name}"
                yield (
                    f"protocol bgp {beside} from lab {{\n    local {here} as {own};\n"
                    f"    neighbor {_talks(there)[1]} as {systems[other.name]};\n}}\n"
                )


def _talks(wire: Wire) -> tuple[Family, object]:
    """The family and address by which a session goes: one carries both families."""
    first = min(wire.addresses, key=lambda one: one.family)
    return first.family, first.address


def _identity(router: Planned) -> str:
    """An IPv4 address, as BGP wants it; of a router that has none the end of its MAC."""
    own = next((one.address for one in router.addresses if one.family == 4), None)
    return str(own or ".".join(str(byte) for byte in router.wires[0].mac.packed[2:]))
