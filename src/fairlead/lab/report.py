"""A lab as it is now: asked of its agents, read from its machines' kernels, and who reaches whom measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from msgspec import structs

from fairlead.api.client import Client
from fairlead.model.address import FAMILIES, Address, Interface, Prefix
from fairlead.model.errors import Problem
from fairlead.model.meta import Value
from fairlead.model.network import Driver, Network

from . import node, pods, reach
from .lab import Lab
from .parts import Planned, Role
from .pods import Found
from .reach import Answer, Source, Target
from .topology import MANAGEMENT, StoreDriver

READY, STOPPED = "ready", "stopped"
_AT_ONCE = 8


class PodReport(Value, frozen=True, kw_only=True):
    """A container on a node. Its network is empty if no agent could be asked."""

    name: str
    network: str = ""
    namespace: str = ""
    addresses: tuple[Address, ...] = ()


class MachineReport(Value, frozen=True, kw_only=True):
    """One machine. ``state``: ready, stopped, running (what has no agent), or what is wrong with the agent."""

    name: str
    role: Role
    state: str
    subnets: tuple[str, ...] = ()
    addresses: tuple[Interface, ...] = ()
    labels: dict[str, str] = {}
    plane: str = ""
    version: str = ""
    pid: int = 0
    """Its first process, as the real machine counts."""
    pods: tuple[PodReport, ...] = ()


class SubnetReport(Value, frozen=True, kw_only=True):
    """One layer 2."""

    name: str
    cidrs: tuple[Prefix, ...]
    mtu: int


class LabReport(Value, frozen=True, kw_only=True):
    """The whole. ``reach``: who, whom, address family, and whether there was an answer; empty if it was not measured."""

    name: str
    created: str
    store: StoreDriver = StoreDriver.OWN
    network: str = ""
    driver: Driver | None = None
    subnets: tuple[SubnetReport, ...] = ()
    machines: tuple[MachineReport, ...] = ()
    cuts: tuple[tuple[str, str], ...] = ()
    reach: dict[str, dict[str, dict[int, bool]]] = {}

    @property
    def ready(self) -> bool:
        """Whether containers can start on every node that runs."""
        return all(one.state in {READY, STOPPED} for one in self.machines if one.role is Role.NODE)


def report(lab: Lab, *, measure: bool = True) -> LabReport:
    """Look at everything."""
    of, plan = lab.record, lab.plan
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as hands:
        looked = list(hands.map(lambda one: _look(lab, one), plan.machines.values()))
    machines = tuple(one for one, _ in looked)
    found = {one.name: each for one, each in looked}
    return LabReport(
        name=of.name,
        created=of.created,
        store=of.spec.store.driver or StoreDriver.OWN,
        network=", ".join(one.name for one in of.read_objects() if isinstance(one, Network)) or of.network or "",
        driver=of.driver,
        subnets=tuple(SubnetReport(name=one.name, cidrs=one.cidrs, mtu=one.mtu or of.spec.mtu) for one in plan.subnets),
        machines=machines,
        cuts=of.cuts,
        reach=_measured(machines, found) if measure else {},
    )


def _look(lab: Lab, planned: Planned) -> tuple[MachineReport, Sequence[Found]]:
    machine = lab.record.machine(planned.name)
    blank = MachineReport(
        name=planned.name,
        role=planned.role,
        state="running" if machine else STOPPED,
        subnets=tuple(wire.subnet for wire in planned.wires if wire.subnet != MANAGEMENT),
        addresses=planned.addresses or tuple(one for wire in planned.wires for one in wire.addresses),
        labels=next((one.labels for one in lab.record.spec.nodes if one.name == planned.name), {}),
        pid=machine.process.pid if machine else 0,
    )
    if machine is None or planned.role is not Role.NODE:
        return blank, ()
    found = pods.found(machine)
    shown = tuple(
        PodReport(name=one.name, network=one.network, namespace=one.namespace, addresses=one.addresses) for one in found
    )
    return _asked(node.client(machine, quick=True), blank, shown), found


def _asked(client: Client, blank: MachineReport, shown: tuple[PodReport, ...]) -> MachineReport:
    try:
        status = client.status()
    except Problem:
        return structs.replace(blank, state="agent down", pods=shown)
    state = READY if status.ready else status.reason or "starting"
    return structs.replace(blank, state=state, plane=status.plane, version=status.version, pods=shown)


def _measured(machines: Iterable[MachineReport], found: Mapping[str, Sequence[Found]]) -> dict[str, dict[str, dict[int, bool]]]:
    """Everybody asks every pod and host but itself, at its first address of each family."""
    running = [one for one in machines if one.pid and one.role in {Role.NODE, Role.HOST}]
    hosts = [one for one in running if one.role is Role.HOST]
    several = Counter(pod.name for each in found.values() for pod in each)
    named = [
        (pod.name if several[pod.name] == 1 else f"{name}/{pod.name}", pod) for name, each in found.items() for pod in each
    ]
    sources = [Source(name, pod.path) for name, pod in named]
    sources += [Source(one.name, Path(f"/proc/{one.pid}/ns/net")) for one in running]
    targets = [target for name, pod in named for target in _targets(name, pod.addresses)]
    targets += [target for one in hosts for target in _targets(one.name, [at.address for at in one.addresses])]
    answers = reach.ask((source, target) for source in sources for target in targets if source.name != target.name)
    told: dict[str, dict[str, dict[int, bool]]] = {}
    for (source, target), answer in answers.items():
        told.setdefault(source.name, {}).setdefault(target.name, {})[target.address.family] = _right(target, answer)
    return told


def _right(target: Target, answer: Answer | None) -> bool:
    """Whether the one who was meant has answered; a server that is not the lab's own does not say who it is."""
    return answer is not None and (not answer.peer or answer.name == target.name.rpartition("/")[2])


def _targets(name: str, addresses: Sequence[Address]) -> Iterator[Target]:
    for family in FAMILIES:
        if first := next((one for one in addresses if one.family == family), None):
            yield Target(name, first)
