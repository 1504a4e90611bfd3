"""Machines as a plan wants them: started, with cables and routes; and changed from one plan to the next.

Programs on machines are started by others (``work``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from fairlead.api.wire import run_dir
from fairlead.kernel.process import Process
from fairlead.model.address import Interface

from . import machine, store, underlay
from .machine import Machine, Making
from .parts import Plan, Planned, Role
from .record import Record
from .topology import SWITCH, StoreDriver
from .underlay import Underlay

_AGENTS = "/run/fairlead/nodes"
"""Where each agent of a lab has a socket for the others to ask it by."""


def boot(of: Record, plan: Plan, name: str, record: Callable[[Process], None]) -> Machine:
    """Start one machine, without cables."""
    role = Role.SWITCH if name == SWITCH else plan.machines[name].role
    shares = tuple(_shares(of, name, role))
    for source, _ in shares:
        source.mkdir(mode=0o700, parents=True, exist_ok=True)
    making = Making(
        name=name,
        lab=of.name,
        forwards=role is Role.ROUTER,
        shares=shares,
        boots=of.spec.store.driver is not StoreDriver.SQLITE,  # whose signs of life are times since the real machine's boot
        hosts=hosts(plan),
        hide=(str(run_dir().absolute()),),
    )
    return machine.make(making, record)


def _shares(of: Record, name: str, role: Role) -> Iterator[tuple[Path, str]]:
    """Directories of outside that a machine sees: its state, which outlasts it, and what the nodes share."""
    if role in {Role.NODE, Role.STORE}:
        yield of.home(name) / "state", store.STATE
    if role is Role.NODE:
        yield of.directory / "agents", _AGENTS
    if role is Role.NODE and of.spec.store.driver is StoreDriver.SQLITE:
        yield of.directory / "store", store.SHARED


def connect(running: Mapping[str, Machine], plan: Plan, names: Iterable[str]) -> None:
    """Lay the cables of these machines, and tell them their routes."""
    laid = Underlay(running[SWITCH])
    for name in names:
        laid.lay(running[name], plan.machines[name].wires)
    for name in names:
        underlay.lead(running[name], plan.machines[name].routes)


def change(running: Mapping[str, Machine], before: Plan, after: Plan) -> None:
    """Bring machines that run, and are in both plans, from one to the other: subnets, cables, routes, names."""
    laid = Underlay(running[SWITCH])
    kept = [
        (before.machines[name], after.machines[name]) for name in after.machines if name in before.machines and name in running
    ]
    laid.add(one for one in after.subnets if one not in before.subnets)
    for old, new in kept:
        laid.lay(running[new.name], (wire for wire in new.wires if old.on(wire.subnet) is None))
    for old, new in kept:
        _reroute(running[new.name], old, new)
    laid.remove(wire.port for old, new in kept for wire in old.wires if new.on(wire.subnet) is None)
    laid.remove(one.name for one in before.subnets if one.name not in {each.name for each in after.subnets})
    tell_names(running.values(), after)


def tell_names(running: Iterable[Machine], plan: Plan) -> None:
    """Write every machine's /etc/hosts."""
    for one in running:
        (one.files / "etc/hosts").write_text(hosts(plan))


def hosts(plan: Plan) -> str:
    """/etc/hosts: every machine by its name."""
    local = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    lines = (f"{one.address}\t{machine.name}\n" for machine in plan.machines.values() for one in _named(machine))
    return local + "".join(lines)


def _named(machine: Planned) -> tuple[Interface, ...]:
    return machine.addresses or tuple(one for wire in machine.wires for one in wire.addresses)


def _reroute(machine: Machine, before: Planned, after: Planned) -> None:
    if before.routes == after.routes:
        return
    underlay.lead(machine, (one for one in after.routes if one not in before.routes))
    underlay.forget(machine, (one for one in before.routes if one not in after.routes))
