"""Starting a command that outlives the terminal, under a monitor of its own.

The process in between starts the command, so that it is its parent, and then becomes ``monitor``: the smallest process that
can wait. Nothing of the command line stays in memory.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from fairlead.model.errors import Failed

from . import record, spawn
from .record import Record

_IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def start(command: spawn.Command, starting: Record) -> None:
    """Start the command; return once it runs."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become_monitor(replace(command, mortal=False), starting, write)
    os.close(write)
    with os.fdopen(read, "rb") as said:
        answer = said.read().decode(errors="replace")
    if answer:
        os.waitpid(pid, 0)
        status, _, message = answer.partition(" ")
        raise spawn.Unrunnable(message, int(status)) if int(status) else Failed(message)


def _become_monitor(command: spawn.Command, starting: Record, said: int) -> NoReturn:
    try:
        os.setsid()
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        output = os.open(starting.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        child = spawn.start(replace(command, output=output), lambda *of: record.save(record.begun(starting, *of)))
        _stay(child, starting.name)
    except spawn.Unrunnable as problem:
        os.write(said, f"{problem.status} {problem.message}".encode())
    except BaseException as problem:  # noqa: BLE001  # whatever it is, it must reach the parent
        os.write(said, f"0 {problem or type(problem).__name__}".encode())
    finally:
        os._exit(1)


def _stay(child: int, name: str) -> NoReturn:
    """Become the monitor, which holds nothing open."""
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    monitor = str(Path(__file__).with_name("monitor.py"))
    then = [sys.executable, "-m", "fairlead.cli.container.finish", name]
    os.execv(sys.executable, [sys.executable, "-I", "-S", monitor, str(child), *then])  # noqa: S606  # the monitor
