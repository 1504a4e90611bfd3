"""Starting the command of a container: namespaces, mounts and files first, then the command, and nothing in between.

::

    parent                          child
    fork ─────────────────────────> enter netns, new mount and UTS namespaces,
                                    own hosts, resolv.conf and /sys
    record pid and mounts <──────── "ready"
    go ───────────────────────────> exec the command
    end of file <────────────────── (or why it could not)

The parent has recorded the process before the command runs. A parent that dies in between takes the child with it.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fairlead.api import wire
from fairlead.kernel import mounts, process
from fairlead.kernel import netns as kernel_netns
from fairlead.kernel.errors import KernelError
from fairlead.model.errors import Failed, Problem

CANNOT_RUN, NOT_FOUND = 126, 127
"""Exit status of a command that is no program, and of one that is not there, as in every shell."""

_READY = b"ready\n"


@dataclass(frozen=True)
class Command:
    """What to start and where. ``netns`` is empty for the host's network, ``files`` maps a path to what is mounted on it."""

    words: Sequence[str]
    environment: dict[str, str]
    netns: str = ""
    hostname: str = ""
    files: tuple[tuple[str, str], ...] = ()
    hide: str = ""
    """A directory whose mounts the container must not keep alive."""
    terminal: bool = False
    """Whether the command gets the terminal: a process group of its own, in the foreground."""
    output: int | None = None
    """File descriptor for what it prints; its input is then empty."""
    mortal: bool = True
    """Whether it dies when whoever started it is killed."""


class Unrunnable(Problem):
    """The command itself cannot be run. ``status`` is what a shell would exit with."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, field="command")
        self.status = status


def start(command: Command, started: Callable[[int, int], None], mask: Iterable[int] = ()) -> int:
    """Start the command; return its pid once it runs. ``started(pid, mounts)`` is called just before.

    ``mask`` is the signal mask the command gets. When this raises, there is no process left.
    """
    said_read, said_write = os.pipe()
    go_read, go_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(said_read)
        os.close(go_write)
        _child(command, said_write, go_read, mask)
    os.close(said_write)
    os.close(go_read)
    with os.fdopen(said_read, "rb") as said, os.fdopen(go_write, "wb", buffering=0) as go:
        try:
            _meet(said, go, lambda: started(pid, Path(f"/proc/{pid}/ns/mnt").stat().st_ino))
        except BaseException:
            go.close()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
    return pid


def _meet(said: IO[bytes], go: IO[bytes], started: Callable[[], None]) -> None:
    """The parent's side of the conversation; raises what the child could not do."""
    line = said.readline()
    if line == _READY:
        started()
        go.write(b"g")
        line = said.readline()
    if line:
        raise _problem(line.decode(errors="replace"))


def enter(netns: str, *, alone: bool = True) -> None:
    """Move this process into a network namespace, with mounts of its own (``alone``) that show it in /sys."""
    fd = kernel_netns.open_path(netns)
    process.setns(fd, process.CLONE_NEWNET)
    os.close(fd)
    if alone:
        process.unshare(process.CLONE_NEWNS)
        mounts.part()
        mounts.sysfs()


def execute(words: Sequence[str], environment: dict[str, str]) -> None:
    """Become the command; raise ``Unrunnable`` if that cannot be."""
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them; programs expect to die of them
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvpe(words[0], list(words), environment)  # noqa: S606  # to run a command is what this is for
    except OSError as problem:
        raise unrunnable(words[0], problem) from None


def unrunnable(word: str, problem: OSError) -> Unrunnable:
    """Why a command cannot be run, as shells tell it."""
    if isinstance(problem, FileNotFoundError | NotADirectoryError):
        where = "" if "/" in word else " in PATH"
        return Unrunnable(f"{word!r} is not found{where}", NOT_FOUND)
    return Unrunnable(f"{word!r} cannot be run: {problem.strerror}", CANNOT_RUN)


def _child(command: Command, said: int, go: int, mask: Iterable[int]) -> None:
    """Everything between fork and exec; never returns."""
    try:
        _enter(command)
        os.write(said, _READY)
        if os.read(go, 1) == b"g":
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
                if command.output is not None or signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            execute(command.words, command.environment)
    except Unrunnable as problem:
        os.write(said, f"{problem.status} {problem.message}\n".encode())
    except (OSError, KernelError) as problem:
        os.write(said, f"0 {problem}\n".encode())
    finally:
        os._exit(NOT_FOUND)


def _problem(line: str) -> Problem:
    status, _, message = line.rstrip("\n").partition(" ")
    return Unrunnable(message, int(status)) if status != "0" else Failed(f"making the container: {message}")


def _enter(command: Command) -> None:
    if command.mortal:
        process.die_with_parent(signal.SIGKILL)
    if command.terminal:
        take_terminal()
    if command.output is not None:
        _detach_streams(command.output)
    if command.netns:
        enter(command.netns, alone=False)
    process.unshare(process.CLONE_NEWNS | process.CLONE_NEWUTS)
    _mount(command)
    if command.hostname:
        socket.sethostname(command.hostname)


def _mount(command: Command) -> None:
    mounts.part()
    if command.hide:
        mounts.let_go(command.hide)
    if command.netns:
        mounts.sysfs()
    for path, source in command.files:
        if Path(path).exists():
            process.mount(source, path, flags=process.MS_BIND)
    if command.netns and wire.run_dir().is_dir():
        # The agent's socket would let root in the container command the host's network.
        process.mount("tmpfs", str(wire.run_dir()), "tmpfs", process.MS_RDONLY | process.MS_NOSUID | process.MS_NODEV)


def take_terminal() -> None:
    """Make this process a group of its own, and that the terminal's foreground."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)


def _detach_streams(output: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, stream in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, stream)
