"""What is remembered of a container: one directory under the run directory, gone with the boot it belongs to.

::

    containers/<name>/state.json   the record; replaced as a whole, so that a reader never sees half of one
    containers/<name>/hosts        its /etc/hosts
    containers/<name>/resolv.conf  its /etc/resolv.conf
    containers/<name>/log          what a detached command prints
    netns/<name>                   its network namespace, kept alive by a mount
"""

from __future__ import annotations

import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from msgspec import structs

from fairlead.api.wire import run_dir
from fairlead.cli.fault import remedy
from fairlead.kernel.process import Process
from fairlead.model import codec
from fairlead.model.errors import Conflict, Failed, Invalid, Missing
from fairlead.model.meta import Value


class Record(Value, frozen=True, kw_only=True):
    """One container of this runtime. ``monitor`` is who waits for ``process`` and cleans up after it."""

    id: str
    name: str
    command: tuple[str, ...]
    networks: tuple[str, ...]
    created: str
    hostname: str = ""
    sandbox: str = ""
    """Path of its network namespace; empty if it shares the host's."""
    labels: dict[str, str] = {}
    namespace: str = "default"
    attached: bool = False
    """Whether the agent may hold endpoints for it."""
    remove: bool = False
    """Whether the record goes when the command has ended."""
    process: Process | None = None
    mounts: int = 0
    """Inode of its mount namespace: tells its processes from others that only visit its network namespace."""
    monitor: Process | None = None
    finished: str = ""
    exit_code: int | None = None
    problem: str = ""
    """What went wrong when it was cleaned up."""

    @property
    def directory(self) -> Path:
        """Where its files lie."""
        return directory(self.name)

    @property
    def log(self) -> Path:
        """What it printed, if it was detached."""
        return self.directory / "log"

    @property
    def running(self) -> bool:
        """Whether its command runs."""
        return self.process is not None and self.process.alive

    @property
    def starting(self) -> bool:
        """Whether someone is still making it."""
        return self.process is None and self.monitor is not None and self.monitor.alive

    @property
    def abandoned(self) -> bool:
        """Whether its command has ended and nobody is left to clean up."""
        watched = self.monitor is not None and self.monitor.alive
        return not self.running and not watched and (not self.finished or bool(self.problem))


def directory(name: str) -> Path:
    """Where a container's files lie."""
    return run_dir() / "containers" / name


def netns(name: str) -> Path:
    """Where a container's network namespace is mounted."""
    return run_dir() / "netns" / name


def now() -> str:
    """The time as records hold it."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def claim(name: str) -> None:
    """Take a name for a new container; the directory is the lock. ``Conflict`` names who has it."""
    try:
        directory(name).parent.mkdir(parents=True, exist_ok=True)
        directory(name).mkdir()
    except FileExistsError:
        held = load(name)
        state = "is running" if held and held.running else "has ended" if held and held.finished else "exists"
        problem = Conflict(f"{name!r} is taken: container {held.id if held else name} {state}", field="name")
        force = " -f" if held and held.running else ""
        raise remedy(problem, f"fairlead rm{force} {name}, or another --name") from None
    except OSError as problem:
        raise Failed(f"making {directory(name)}: {problem.strerror}") from None


def save(record: Record) -> None:
    """Write a record so that it is there as a whole or not at all."""
    with tempfile.NamedTemporaryFile(dir=record.directory, prefix=".state-", delete=False) as new:
        new.write(codec.encode(record))
    os.chmod(new.name, 0o644)  # noqa: PTH101  # NamedTemporaryFile gives a name, not a path
    Path(new.name).replace(record.directory / "state.json")


def load(name: str) -> Record | None:
    """The record of a name, or None."""
    try:
        return codec.decode((directory(name) / "state.json").read_bytes(), Record)
    except (OSError, Invalid):
        return None


def names() -> list[str]:
    """All names that are taken."""
    try:
        return sorted(entry.name for entry in (run_dir() / "containers").iterdir())
    except OSError:
        return []


def every() -> list[Record]:
    """All records, by name."""
    return [record for record in map(load, names()) if record is not None]


def find(text: str) -> Record | None:
    """The record with this name, or whose id begins with ``text``; None if there is none."""
    if text in names() and (record := load(text)):
        return record
    close = [record for record in every() if len(text) >= 3 and record.id.startswith(text)]
    if len(close) > 1:
        raise Conflict(
            f"{text!r} begins the ids of {', '.join(record.name for record in close)}; write more of it", field="name"
        )
    return close[0] if close else None


def need(text: str) -> Record:
    """The record with this name or id; ``Missing`` if there is none."""
    if record := find(text):
        return record
    known = ", ".join(record.name for record in every()) or "none"
    raise remedy(
        Missing(f"there is no container {text!r} made by fairlead run; there are: {known}", field="name"), "fairlead ps -a"
    )


def forget(name: str) -> None:
    """Remove a container's files."""
    shutil.rmtree(directory(name), ignore_errors=True)


def begun(starting: Record, pid: int, mounts: int) -> Record:
    """The record of a container whose command is this process's child ``pid``."""
    return structs.replace(starting, process=Process.of(pid), mounts=mounts, monitor=Process.of(os.getpid()))
