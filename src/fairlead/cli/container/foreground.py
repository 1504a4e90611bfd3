"""Waiting for a command in the foreground: the terminal is the command's, signals reach it, its exit status is ours.

Started from a terminal by itself, the command gets a process group of its own and the terminal, as from a shell: Ctrl-C and
Ctrl-Z are its own, and stopping it stops us with it. In a pipeline or without a terminal it stays in our process group,
where the terminal's signals reach it anyway; only those that a process sent to us alone are passed on.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import replace

from . import record, spawn
from .record import Record

_PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_AWAITED = {signal.SIGCHLD, *_PASSED_ON}
_FROM_KERNEL = 0x80  # SI_KERNEL: the terminal sent it, to the whole group


def run(command: spawn.Command, starting: Record) -> int:
    """Start the command and wait until it ends; return its exit status, 128 and the signal's number if one killed it."""

    def begin(terminal: bool, mask: Iterable[int]) -> int:
        return spawn.start(replace(command, terminal=terminal), lambda *of: record.save(record.begun(starting, *of)), mask)

    return follow(begin)


def follow(begin: Callable[[bool, Iterable[int]], int]) -> int:
    """Start a process by ``begin`` and wait for it, as ``run`` does.

    ``begin`` is told whether the process gets the terminal, and the signal mask that it is to have.
    """
    terminal = _ours()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a parent may have had it ignored, and its end would go unseen
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    try:
        return _wait(begin(terminal, before), terminal=terminal)
    finally:
        if terminal:
            _take_back()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def status_of(waited: int) -> int:
    """A wait status as shells show it."""
    code = os.waitstatus_to_exitcode(waited)
    return code if code >= 0 else 128 - code


def _ours() -> bool:
    """Whether there is a terminal, and it is ours alone to give away."""
    return os.isatty(0) and os.isatty(1) and os.tcgetpgrp(0) == os.getpgrp()


def _wait(pid: int, *, terminal: bool) -> int:
    while True:
        told = signal.sigwaitinfo(_AWAITED)
        if told.si_signo != signal.SIGCHLD:
            if terminal or told.si_code != _FROM_KERNEL:
                os.kill(pid, told.si_signo)
            continue
        while True:
            changed, waited = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
            if not changed:
                break
            if not os.WIFSTOPPED(waited):
                return status_of(waited)
            if terminal:
                _stop_with(pid)


def _stop_with(pid: int) -> None:
    """The command was stopped: give the terminal back to the shell, stop too, and go on with it when we are continued."""
    _take_back()
    os.kill(os.getpid(), signal.SIGSTOP)
    if os.tcgetpgrp(0) == os.getpgrp():
        os.tcsetpgrp(0, pid)
    os.killpg(pid, signal.SIGCONT)


def _take_back() -> None:
    """Make our process group the terminal's foreground again; asked from the background, so SIGTTOU must not stop us."""
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        os.tcsetpgrp(0, os.getpgrp())
    except OSError:
        return  # the terminal is gone
    finally:
        signal.signal(signal.SIGTTOU, before)
