"""Processes in namespaces of their own: what starting one needs beyond what ``netns`` offers.

Each function is one act on the calling process or thread and raises ``KernelError`` that says what was being done. Nothing
here knows what the namespaces are for.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fairlead.kernel.errors import translated

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_SLAVE = 0x80000
_MNT_DETACH = 0x2

_PR_SET_PDEATHSIG = 1
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_IFREQ = "16sh22x"

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process that has this number now."""
        return cls(pid=pid, started=started(pid))

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return self.started != 0 and started(self.pid) == self.started

    def send(self, number: int) -> None:
        """Send it a signal, through a pidfd, which cannot come to mean another process; nothing happens if it has ended."""
        with suppress(ProcessLookupError), os.fdopen(os.pidfd_open(self.pid), "rb") as fd:
            if self.alive:
                signal.pidfd_send_signal(fd.fileno(), number)

    def ended(self, patience: float) -> bool:
        """Whether it has ended within ``patience`` seconds."""
        with suppress(ProcessLookupError), os.fdopen(os.pidfd_open(self.pid), "rb") as fd:
            waiting = select.poll()
            waiting.register(fd.fileno(), select.POLLIN)
            return not self.alive or bool(waiting.poll(patience * 1000))
        return True


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces (``CLONE_NEW*``)."""
    with translated("make namespaces"):
        _check(_libc.unshare(ctypes.c_int(flags)))


def setns(fd: int, flags: int) -> None:
    """Enter the namespace behind ``fd``, or, if it is a pidfd, those of its process that ``flags`` names (Linux 5.8)."""
    with translated("enter namespaces"):
        _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(flags)))


def mount(source: str, target: str, kind: str = "none", flags: int = 0, options: str = "") -> None:
    """Mount ``source`` on ``target``."""
    with translated(f"mount {source} on {target}"):
        data = os.fsencode(options) if options else None
        _check(_libc.mount(os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), data))


def umount(target: str) -> None:
    """Take the topmost mount off ``target``, even while it is in use."""
    with translated(f"unmount {target}"):
        _check(_libc.umount2(os.fsencode(target), ctypes.c_int(_MNT_DETACH)))


def die_with_parent(number: int) -> None:
    """Get signal ``number`` when the thread that forked this process ends."""
    with translated("ask for a signal when the parent ends"):
        _check(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0))


def loopback_up() -> None:
    """Bring up ``lo`` of the calling thread's network namespace."""
    with translated("bring up lo"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        answer = fcntl.ioctl(asking, _SIOCGIFFLAGS, struct.pack(_IFREQ, b"lo", 0))
        _, flags = struct.unpack(_IFREQ, answer)
        fcntl.ioctl(asking, _SIOCSIFFLAGS, struct.pack(_IFREQ, b"lo", flags | _IFF_UP))


def started(pid: int) -> int:
    """When a process started, in clock ticks since boot (proc(5), stat field 22); 0 if there is none or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    fields = stat[stat.rindex(b")") + 2 :].split()
    return 0 if fields[0] in {b"Z", b"X"} else int(fields[19])


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
