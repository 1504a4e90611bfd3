"""The acts on a lab: up, add, start, stop, partition, heal, down. Each leaves the record as the lab is.

::

    up     claim the name → machines → cables, routes → store → agents → networks, objects → pods
           (whatever fails, all of it is taken down again)
    down   end every machine's first process, which ends everything, and remove the directory
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from msgspec import structs

from fairlead.kernel.process import Process
from fairlead.model.address import Address, Prefix
from fairlead.model.errors import Conflict, Failed, Forbidden, Invalid, Missing, Unsupported

from . import build, cuts, grow, machine, plan, record, speaker, store, underlay
from .grow import Wanted
from .machine import Machine
from .parts import Plan, Role
from .record import Record
from .topology import SWITCH, LabSpec, Node, StoreDriver
from .work import Told, Work

_PATIENCE = 10.0


class Lab:
    """One lab."""

    def __init__(self, of: Record, told: Told) -> None:
        self.record = of
        self._told = told

    @classmethod
    def up(cls, wanted: Wanted, told: Told = print) -> Lab:
        """Make a lab, as a whole or not at all."""
        check(wanted.spec)
        made = cls(grow.begun(wanted), told)
        record.claim(wanted.name)
        with ExitStack() as undo:
            undo.callback(down, wanted.name)
            record.save(made.record)
            with record.alone(wanted.name):
                made._up()
            undo.pop_all()
        return made

    @classmethod
    def find(cls, name: str = "", told: Told = print) -> Lab:
        """The lab of this name; of none, the only one there is."""
        return cls(record.need(record.pick(name)), told)

    @property
    def plan(self) -> Plan:
        """Everything it consists of."""
        return plan.plan(self.record.spec, self.record.behind)

    def machine(self, name: str) -> Machine:
        """A machine that runs; ``Missing`` if there is none of this name, ``Conflict`` if it does not run."""
        self._known(name)
        found = self.record.machine(name)
        if found is None:
            again = f"fairlead lab start {name} --name {self.record.name}"
            raise Conflict(f"{name} does not run; start it with: {again}", field="node")
        return found

    def add(self, new: Node) -> None:
        """One node more."""
        with self._alone():
            before, was = self.plan, self.record
            self._save(**grow.added(self.record, new))
            with ExitStack() as undo:
                undo.callback(self._without, new.name, was)
                self._boot(self.plan, new.name)
                build.change(self.record.running, before, self.plan)
                self._join(new.name)
                undo.pop_all()

    def start(self, name: str, addresses: Sequence[Address] = ()) -> None:
        """Start a machine that was stopped, with the addresses it had or with others, and all that the lab runs on it."""
        with self._alone():
            self._known(name)
            if self.record.machine(name):
                raise Conflict(f"{name} runs already", field="node")
            before = self.plan
            if addresses:
                self._save(spec=grow.moved(self.record.spec, name, addresses))
            with ExitStack() as undo:
                undo.callback(self._crash, name)
                self._boot(self.plan, name)
                others = {one: each for one, each in self.record.running.items() if one != name}
                build.change(others, before, self.plan)
                self._join(name)
                undo.pop_all()

    def stop(self, name: str) -> None:
        """Have a machine crash: when this returns every process on it is killed and its interfaces are gone."""
        with self._alone():
            self.machine(name)
            if name == SWITCH:
                raise Invalid("the switch holds all cables and cannot be stopped; use: fairlead lab partition", field="node")
            self._crash(name)

    def partition(self, one: str, other: str) -> None:
        """Let nothing pass from one machine to another, nor back."""
        with self._alone():
            pair = self._pair(one, other)
            if pair in self.record.cuts:
                raise Conflict(f"{one} and {other} are cut off from each other already", field="node")
            self._save(cuts=(*self.record.cuts, pair))
            self._cut()

    def heal(self, one: str = "", other: str = "") -> tuple[tuple[str, str], ...]:
        """Undo one partition, or all; which they were."""
        with self._alone():
            gone = (self._pair(one, other),) if one else self.record.cuts
            if not set(gone) <= set(self.record.cuts):
                raise Missing(f"{one} and {other} are not cut off from each other", field="node")
            self._save(cuts=tuple(pair for pair in self.record.cuts if pair not in gone))
            self._cut()
            return gone

    # ---- steps ----

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Be the only one who changes it, and know it as it is now."""
        with record.alone(self.record.name):
            self.record = record.need(self.record.name)
            yield

    def _save(self, **changes: object) -> None:
        self.record = structs.replace(self.record, **changes)
        record.save(self.record)

    def _up(self) -> None:
        of = self.plan
        for name in (SWITCH, *of.machines):
            self._boot(of, name)
        running = self.record.running
        underlay.Underlay(running[SWITCH]).add(of.subnets)
        build.connect(running, of, of.machines)
        self._told(f"{len(running)} machines on {', '.join(one.name for one in of.subnets)}")
        Work(self.record, of, self._told).start(list(of.machines))
        self._save(ready=True)

    def _boot(self, of: Plan, name: str) -> None:
        def keep(first: Process) -> None:
            self._save(processes={**self.record.processes, name: first})

        build.boot(self.record, of, name, keep)

    def _join(self, name: str) -> None:
        """The cables of a machine that has just been started, and what runs on it."""
        of = self.plan
        build.connect(self.record.running, of, [name])
        self._cut()
        Work(self.record, of, self._told).start([name])

    def _cut(self) -> None:
        of, running = self.plan, self.record.running
        names = {name for pair in self.record.cuts for name in pair}
        texts = cuts.rules(of, self.record.cuts, {name: _routed(of, running, name) for name in names})
        underlay.cut(running, texts)

    def _crash(self, name: str) -> None:
        if found := self.record.machine(name):
            found.kill()
            if not found.process.ended(_PATIENCE):
                raise Failed(f"{name} has not ended within {_PATIENCE:g} s")
        if switch := self.record.machine(SWITCH):
            underlay.Underlay(switch).gone([wire.port for wire in self.plan.machines[name].wires])
        self._save(processes={one: each for one, each in self.record.processes.items() if one != name})

    def _without(self, name: str, was: Record) -> None:
        """Undo ``add``."""
        self._crash(name)
        after = self.plan
        self._save(spec=was.spec, behind=was.behind)
        build.change(self.record.running, after, self.plan)
        shutil.rmtree(self.record.home(name), ignore_errors=True)

    def _known(self, name: str) -> None:
        known = plan.machines(self.record.spec)
        if name not in known:
            raise Missing(f"there is no {name!r} in lab {self.record.name}; there are: {', '.join(known)}", field="node")

    def _pair(self, one: str, other: str) -> tuple[str, str]:
        for name in (one, other):
            self._known(name)
            if name == SWITCH:
                raise Invalid("the switch joins all others; name two of them", field="node")
        if one == other:
            raise Invalid(f"{one} cannot be cut off from itself", field="node")
        return min(one, other), max(one, other)


def down(name: str) -> None:
    """End everything of a lab and leave nothing of it, however far it had been made."""
    with record.alone(name):
        of = record.load(name)
        for found in of.running.values() if of else ():
            found.kill()
        for found in of.running.values() if of else ():
            if not found.process.ended(_PATIENCE):
                raise Failed(f"{found.name} of lab {name} has not ended within {_PATIENCE:g} s")
        record.forget(name)


def check(spec: LabSpec) -> None:
    """Raise a problem if this machine cannot hold the lab."""
    if os.geteuid() != 0:
        raise Forbidden("a lab is made of namespaces, which root makes")
    if lacking := machine.lacking():
        raise Unsupported(f"{lacking} is not installed; it is in Debian's util-linux and coreutils")
    if spec.store.driver is StoreDriver.ETCD and not shutil.which(store.PROGRAM):
        raise Unsupported(f"{store.PROGRAM} is not installed; it is in Debian's etcd-server", field="store")
    if spec.systems and not shutil.which(speaker.PROGRAM):
        raise Unsupported(f"{speaker.PROGRAM} is not installed; it is in Debian's bird2", field="spec.routers")


def _routed(of: Plan, running: Mapping[str, Machine], name: str) -> list[Prefix]:
    """What the routers beside a machine reach through it."""
    one = of.machines[name]
    hops = {str(interface.address) for interface in one.addresses} | {str(wire.mac.link_local) for wire in one.wires}
    beside = [each for each in of.of(Role.ROUTER) if each is not one and any(each.on(wire.subnet) for wire in one.wires)]
    return [prefix for each in beside if each.name in running for prefix in underlay.behind(running[each.name], hops)]
