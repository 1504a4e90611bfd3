"""A lab as a test sees it: pods and machines that reach each other or do not.

::

    def test_x(lab):
        town = lab(nodes=3, network="vxlan", dual=True)
        one, other = town.pod(1), town.pod(2)
        assert one.reaches(other)
        town.partition("node1", "node2")
        assert one.misses(other)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairlead.lab import lab as acts
from fairlead.lab import node, pods, reach, shape, speaker, topology
from fairlead.lab.grow import Wanted
from fairlead.lab.lab import Lab
from fairlead.lab.machine import Machine
from fairlead.lab.reach import Answer, Source, Target
from fairlead.lab.topology import Label, Node, Store, StoreDriver
from fairlead.model.address import Address, Family, Name
from fairlead.model.network import Driver, Network
from tests.wait import eventually

CLI = (sys.executable, "-m", "fairlead.cli")
DEADLINE = 15.0
QUICK = 0.5


@dataclass(frozen=True)
class Party:
    """Somebody who asks and, if it has a server, is asked: a pod, a node or a host."""

    name: str
    path: Path
    """Its network namespace."""
    addresses: tuple[Address, ...]
    machine: Machine

    def address(self, family: Family = 4) -> Address:
        return next(one for one in self.addresses if one.family == family)

    def asks(self, other: Party, family: Family = 0) -> list[Answer | None]:
        """One try: the answer at the first address of each family, or of one."""
        targets = [
            Target(other.name, next(one for one in other.addresses if one.family == each))
            for each in sorted({one.family for one in other.addresses})
            if family in {0, each}
        ]
        assert targets, f"{other.name} has no address"
        return list(reach.ask([(Source(self.name, self.path), target) for target in targets], QUICK).values())

    def reaches(self, other: Party, family: Family = 0) -> bool:
        """Whether the other itself answers, at each address: now, or as soon as what was changed has taken effect."""

        def answered() -> bool:
            return all(one is not None and one.name == other.name for one in self.asks(other, family))

        return _eventually(answered)

    def misses(self, other: Party, family: Family = 0) -> bool:
        """Whether nobody answers, at no address: now, or as soon as what was changed has taken effect."""
        return _eventually(lambda: not any(self.asks(other, family)))


class Town:
    """One lab."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def lab(self) -> Lab:
        """As it is now, whoever has changed it."""
        return Lab.find(self.name)

    def pod(self, at: int | str, which: int = 1) -> Party:
        """The ``which``-th pod of the ``at``-th node, or of the node of that name; or the pod of that name."""
        homes = [one.name for one in self.lab.record.spec.nodes]
        home = homes[at - 1] if isinstance(at, int) else at
        if home in homes:
            wanted = pods.wanted(self.lab.record.spec, self.lab.record.spec.nodes[homes.index(home)])[which - 1].name
            return self._pod(self.lab.machine(home), wanted)
        return next(found for name in homes for found in self._pods(self.lab.machine(name)) if found.name == at)

    def machine(self, name: str) -> Party:
        """A node, host or router."""
        machine = self.lab.machine(name)
        addresses = tuple(one.address for one in self.lab.plan.machines[name].addresses)
        return Party(name, Path(f"/proc/{machine.process.pid}/ns/net"), addresses, machine)

    @property
    def outside(self) -> Party:
        return self.machine("outside")

    def run(self, name: str, *words: object, patience: float = 30) -> str:
        """What a command on a machine prints; it must succeed."""
        return self.lab.machine(name).run(*map(str, words), patience=patience)

    def json(self, name: str, *words: object) -> Any:
        return json.loads(self.run(name, *words))

    def hops(self, source: str, address: object) -> int:
        """How many routers a packet passes on its way, by the time to live of the answer."""
        answer = self.run(source, "ping", "-n", "-c", 1, "-W", 2, address)
        return 64 - int(answer.split("ttl=")[1].split()[0])

    def fairlead(self, name: str, *words: object) -> str:
        """What a ``fairlead`` command on a node prints."""
        return node.fairlead(self.lab.machine(name), *map(str, words))

    def stop(self, name: str) -> None:
        self.lab.stop(name)

    def start(self, name: str, *addresses: str) -> None:
        self.lab.start(name, tuple(map(Address, addresses)))

    def add(self, name: str, *, pods: int = 1) -> None:
        self.lab.add(Node(name=Label(name), pods=pods))

    def partition(self, one: str, other: str) -> None:
        self.lab.partition(one, other)

    def heal(self) -> None:
        self.lab.heal()

    def down(self) -> None:
        acts.down(self.name)

    @property
    def whole(self) -> bool:
        """Whether everything runs and nothing is cut off."""
        of = self.lab
        return not of.record.cuts and len(of.record.running) == len(of.plan.machines) + 1

    def _pod(self, machine: Machine, name: str) -> Party:
        return next(one for one in self._pods(machine) if one.name == name)

    def _pods(self, machine: Machine) -> list[Party]:
        return [Party(one.name, one.path, one.addresses, machine) for one in pods.found(machine)]


def up(
    name: str,
    *,
    nodes: int = 2,
    network: str = "vxlan",
    underlay: str = "l2",
    store: str = "",
    members: int = 1,
    dual: bool = False,
    ipv6: bool = False,
    encrypt: bool = False,
    mtu: int = 1500,
    pods: int = 1,
    outside: bool = True,
    file: str = "",
) -> Town:
    """Make a lab with these options, or of a topology file's text."""
    if file:
        document, objects = topology.read(file)
        own = any(isinstance(one, Network) for one in objects)
        Lab.up(Wanted(Name(name), document.spec, None, None if own else Driver(network), tuple(objects)))
        return Town(name)
    chosen = Store(driver=StoreDriver(store), members=members) if store else Store()
    families = (4, 6) if dual else (6,) if ipv6 else (4,)
    spec = shape.spec(
        shape.Underlay(underlay),
        nodes,
        families=families,
        store=chosen,
        outside=outside,
        mtu=mtu,
        pods=pods,
        as_number=speaker.ROUTERS if network == "bgp" else None,
    )
    Lab.up(Wanted(Name(name), spec, shape.Underlay(underlay), Driver(network), encrypt=encrypt))
    return Town(name)


def cli(*words: object, deadline: float = 120, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``fairlead lab`` as a person would."""
    return subprocess.run(
        [*CLI, "lab", *map(str, words)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=deadline,
        check=False,
        env=environment(),
    )


def environment() -> dict[str, str]:
    """That of a person's shell: ``fairlead`` is found."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)}


def told(*words: object) -> str:
    """What ``fairlead lab`` prints; it must succeed."""
    done = cli(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def refusal(*words: object) -> list[str]:
    """What ``fairlead lab`` says when it refuses, line by line."""
    done = cli(*words)
    assert done.returncode == 1, done.stdout + done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith(("Error: ", "Try: "))]


def _eventually(condition: Any) -> bool:
    try:
        eventually(condition, deadline=DEADLINE)
    except AssertionError:
        return False
    return True
