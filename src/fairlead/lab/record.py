"""What is remembered of a lab: one directory, from which any later command finds the lab again.

::

    labs/<name>/lab.json                what it is to be, and each machine's first process; replaced as a whole
    labs/<name>/lock                    held while somebody changes it
    labs/<name>/machines/<name>/state   what outlasts a machine: its /var/lib/fairlead
    labs/<name>/machines/<name>/log     what the lab's own programs on it print
    labs/<name>/store                   a file that all agents share
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fairlead.api.wire import run_dir
from fairlead.kernel.errors import Gone, KernelError
from fairlead.kernel.flock import locked
from fairlead.kernel.process import Process
from fairlead.model import codec
from fairlead.model.address import Name, Prefix
from fairlead.model.errors import Conflict, Failed, Invalid, Missing, Unavailable
from fairlead.model.meta import Object, Value
from fairlead.model.network import Driver

from .machine import Machine, machine_environ
from .shape import Underlay
from .topology import SWITCH, LabSpec

_PATIENCE = 60.0


class Record(Value, frozen=True, kw_only=True):
    """One lab."""

    name: Name
    created: str
    spec: LabSpec
    """The whole topology, complete."""
    underlay: Underlay | None = None
    """How it grows; None if somebody wrote the topology."""
    network: Name | None = None
    """The network of pods that name none."""
    driver: Driver | None = None
    encrypt: bool = False
    """Of that network, if the lab made it."""
    objects: tuple[Any, ...] = ()
    """What is applied, as trees."""
    behind: dict[str, tuple[Prefix, ...]] = {}
    """Prefixes that the lab itself routes to a node."""
    processes: dict[str, Process] = {}
    """The first process of each machine that was started."""
    cuts: tuple[tuple[str, str], ...] = ()
    ready: bool = False
    """Whether it was made to the end."""

    @property
    def directory(self) -> Path:
        """Where its files lie."""
        return directory(self.name)

    def home(self, machine: str) -> Path:
        """Where a machine's files lie."""
        return self.directory / "machines" / machine

    def machine(self, name: str) -> Machine | None:
        """A machine that runs; None if it does not."""
        found = self.processes.get(name)
        return Machine(name, found, machine_environ(self.name, name)) if found and found.alive else None

    @property
    def running(self) -> dict[str, Machine]:
        """Every machine that runs."""
        return {name: machine for name in self.processes if (machine := self.machine(name))}

    def log(self, machine: str) -> Path:
        """Where the lab's own programs on a machine print to."""
        self.home(machine).mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.home(machine) / "log"

    def read_objects(self) -> list[Object]:
        """What is applied."""
        return [codec.from_item(tree) for tree in self.objects]


def directory(name: str) -> Path:
    """Where a lab's files lie."""
    return run_dir() / "labs" / name


def now() -> str:
    """The time as records hold it."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def claim(name: str) -> None:
    """Take a name for a new lab; the directory is the lock. ``Conflict`` if there is one."""
    try:
        directory(name).parent.mkdir(parents=True, exist_ok=True)
        directory(name).mkdir(mode=0o700)
    except FileExistsError:
        raise Conflict(f"there is a lab {name!r} already", field="name") from None
    except OSError as problem:
        raise Failed(f"making {directory(name)}: {problem.strerror}") from None


def save(record: Record) -> None:
    """Write a record so that it is there as a whole or not at all."""
    with tempfile.NamedTemporaryFile(dir=record.directory, prefix=".lab-", delete=False) as new:
        new.write(codec.encode(record))
    Path(new.name).replace(record.directory / "lab.json")


def load(name: str) -> Record | None:
    """The record of a lab, or None."""
    try:
        return codec.decode((directory(name) / "lab.json").read_bytes(), Record)
    except (OSError, Invalid):
        return None


def names() -> list[str]:
    """The labs there are, whole or not."""
    try:
        return sorted(entry.name for entry in (run_dir() / "labs").iterdir() if entry.is_dir())
    except OSError:
        return []


def pick(name: str) -> str:
    """The lab of this name; of none, the only one there is."""
    known = names()
    if name:
        if name not in known:
            raise Missing(f"there is no lab {name!r}; there are: {', '.join(known) or 'none'}", field="name")
        return name
    if not known:
        raise Missing("there is no lab", field="name")
    if len(known) > 1:
        raise Invalid(f"there are several labs: {', '.join(known)}; say which", field="name")
    return known[0]


def need(name: str) -> Record:
    """The record of a lab that was made to the end, and is still there."""
    found = load(name)
    if found is None or not found.ready:
        raise Unavailable(
            f"lab {name} is being made or taken down, or that was cut off; fairlead lab down --name {name} clears up"
        )
    if found.machine(SWITCH) is None:
        raise Unavailable(f"lab {name} has lost its switch, as after a reboot; remove it with: fairlead lab down --name {name}")
    return found


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Be the only one who changes a lab for the block."""
    path = directory(name) / "lock"
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(str(path), deadline=_PATIENCE))
        except Gone:
            raise Missing(f"lab {name} is gone", field="name") from None
        except KernelError as problem:
            raise Unavailable(f"somebody else is changing lab {name}: {problem}") from None
        yield


def forget(name: str) -> None:
    """Remove a lab's files, and the directories above that held nothing else."""
    shutil.rmtree(directory(name), ignore_errors=True)
    for above in (directory(name).parent, run_dir()):
        with suppress(OSError):
            above.rmdir()
