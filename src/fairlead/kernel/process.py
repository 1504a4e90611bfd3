"""Namespaces, mounts and processes: the few system calls that the standard library of Python 3.11 lacks.

Each function is one system call and raises ``OSError`` that says what was being done. ``unshare`` and ``setns`` act on the
calling thread, as in the kernel. Nothing here knows what the namespaces are for.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWNET = 0x40000000

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_SLAVE = 0x80000
MNT_DETACH = 0x2

OWN_NETNS = "/proc/thread-self/ns/net"

_PR_SET_PDEATHSIG = 1
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_SO_NETNS_COOKIE = 71

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces (``CLONE_NEW*``)."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare namespaces")


def setns(fd: int, flags: int) -> None:
    """Enter the namespace behind ``fd``, or, if it is a pidfd, those of a process that ``flags`` names."""
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(flags)), "enter namespace")


def mount(source: str, target: str, kind: str = "none", flags: int = 0) -> None:
    """Mount ``source`` on ``target``."""
    result = _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None)
    _check(result, f"mount {source} on {target}")


def umount(target: str) -> None:
    """Take the topmost mount off ``target``, even while it is in use."""
    _check(_libc.umount2(target.encode(), ctypes.c_int(MNT_DETACH)), f"unmount {target}")


def die_with_parent(number: int) -> None:
    """Get signal ``number`` when the thread that forked this process ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0), "set the parent-death signal")


def loopback_up() -> None:
    """Bring up ``lo`` of the current network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh22x", b"lo", 0)
        _, flags = struct.unpack("16sh22x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | _IFF_UP))


@contextmanager
def in_netns(path: str) -> Iterator[None]:
    """Run the body in the network namespace at ``path``; the calling thread comes back afterwards."""
    with open(OWN_NETNS, "rb") as home, open(path, "rb") as there:  # noqa: PTH123  # a namespace, not a file
        setns(there.fileno(), CLONE_NEWNET)
        try:
            yield
        finally:
            setns(home.fileno(), CLONE_NEWNET)


def pin_netns(path: Path) -> None:
    """Make a network namespace with its loopback up, and keep it alive by a mount on ``path``, a new empty file."""
    path.touch(mode=0o444, exist_ok=False)
    try:
        with open(OWN_NETNS, "rb") as home:  # noqa: PTH123  # a namespace, not a file
            unshare(CLONE_NEWNET)
            try:
                loopback_up()
                mount(OWN_NETNS, str(path), flags=MS_BIND)
            finally:
                setns(home.fileno(), CLONE_NEWNET)
    except BaseException:
        path.unlink()
        raise


def unpin_netns(path: Path) -> None:
    """Undo ``pin_netns``; the namespace ends with its last process. Nothing there is no error."""
    if not path.exists():
        return
    if path.stat().st_dev != path.parent.stat().st_dev:
        umount(str(path))
    path.unlink(missing_ok=True)


def netns_cookie(path: str) -> int:
    """The kernel's number for the network namespace at ``path``, unique since boot (SO_NETNS_COOKIE, Linux 5.14)."""
    with in_netns(path), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as any_socket:
        return int(struct.unpack("Q", any_socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))[0])


def started(pid: int) -> int:
    """When a process started, in clock ticks since boot (proc(5), stat field 22); 0 if there is none or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    fields = stat[stat.rindex(b")") + 2 :].split()
    return 0 if fields[0] in {b"Z", b"X"} else int(fields[19])
