"""The end of a container: its last processes, its attachments, its namespace, its record.

Idempotent: whoever finds that it was not finished does it again (``sweep``). A step that fails is kept in the record and
holds up no other. ``python -m fairlead.cli.container.finish NAME STATUS`` is what a monitor becomes.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from fairlead.api.client import Client
from fairlead.api.schema import Detach
from fairlead.kernel import netns
from fairlead.kernel.errors import Gone
from fairlead.model.address import ContainerID
from fairlead.model.errors import Problem, Unavailable

from . import record
from .record import Record

KILLED = 128 + signal.SIGKILL
"""The exit status of a command whose end nobody saw."""


def end(name: str, status: int, client: Client) -> int:
    """Clean up after a command that has ended with ``status``, and return that. What goes wrong is kept in the record."""
    was = record.load(name)
    if was is None:
        return status
    problem = release(was, client)
    if (was.remove or was.process is None) and problem is None:
        record.forget(name)
        return status
    record.save(
        msgspec.structs.replace(
            was,
            exit_code=status,
            finished=was.finished or record.now(),
            attached=was.attached and problem is not None,
            problem=str(problem or ""),
            monitor=None,
        )
    )
    return status


def sweep(client: Client) -> list[str]:
    """Clean up after containers that nobody waits for any more; return their names."""
    abandoned = [found for found in record.every() if found.abandoned]
    for found in abandoned:
        end(found.name, KILLED if found.exit_code is None else found.exit_code, client)
    return [found.name for found in abandoned]


def remove(was: Record, client: Client, *, force: bool = False) -> None:
    """Forget a container that has ended. If its network cannot be released, that is raised and it can be tried again.

    With ``force`` an agent that does not run holds up nothing: at its start it gives back what dead namespaces had.
    """
    problem = release(was, client)
    if problem and not (force and isinstance(problem, Unavailable)):
        record.save(msgspec.structs.replace(was, finished=was.finished or record.now(), problem=str(problem)))
        raise problem
    record.forget(was.name)


def release(was: Record, client: Client) -> Problem | None:
    """Let go of everything but the record; return what could not be."""
    problem: Problem | None = None
    for pid in _left(was):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if was.sandbox:
        try:
            client.detach(Detach(container=ContainerID(was.id)))
        except Unavailable as found:
            problem = found if was.attached else None  # without a network it needs no agent
        except Problem as found:
            problem = found
        unpin(was.name)
    return problem


def unpin(name: str) -> None:
    """Let go of a container's network namespace; it ends with its last process. Nothing there is no error."""
    with suppress(Gone):
        netns.delete(str(record.netns(name)))


def stop(running: Record, grace: float) -> None:
    """End the command: SIGTERM, then SIGKILL after ``grace`` seconds; return when its monitor has cleaned up, or is gone."""
    if running.process is not None:
        for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 10)):
            running.process.send(number)
            if running.process.ended(patience):
                break
    if running.monitor is not None:
        running.monitor.ended(10)


def _left(was: Record) -> Iterator[int]:
    """Processes that the command left behind: those in its mount namespace, and in its network namespace.

    Either number could be another's by now if nothing held it; the pinned network namespace is held until it is unpinned.
    """
    pinned = record.netns(was.name)
    if not was.sandbox or not was.mounts or not pinned.exists():
        return
    network = pinned.stat().st_ino
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with suppress(OSError):
            if (entry / "ns/mnt").stat().st_ino == was.mounts and (entry / "ns/net").stat().st_ino == network:
                yield int(entry.name)


if __name__ == "__main__":
    end(sys.argv[1], int(sys.argv[2]), Client())
