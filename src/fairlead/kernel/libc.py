"""The few system calls that Python 3.11 does not have, each for the calling thread only; and what it does not ask of libc."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNET = 0x40000000
_MS_BIND = 4096
_MNT_DETACH = 2


def setns(fd: int) -> None:
    """Move the calling thread into the network namespace ``fd``."""
    _check(_libc.setns(fd, CLONE_NEWNET))


def unshare() -> None:
    """Move the calling thread into a new, empty network namespace."""
    _check(_libc.unshare(CLONE_NEWNET))


def bind(source: str, target: str) -> None:
    """Make the file ``source`` appear at ``target`` too."""
    _check(_libc.mount(os.fsencode(source), os.fsencode(target), b"none", ctypes.c_ulong(_MS_BIND), None))


def mount(kind: str, target: str, options: str = "") -> None:
    """Mount a new file system of ``kind`` at ``target``."""
    _check(_libc.mount(kind.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(0), options.encode()))


def unmount(target: str) -> None:
    """Undo ``bind`` or ``mount``; whoever still holds the file open keeps it."""
    _check(_libc.umount2(os.fsencode(target), _MNT_DETACH))


def trim() -> None:
    """Give back to the kernel what memory was freed: the C library keeps whole megabytes between what is still in use.

    A C library that has no such call, as musl has not, keeps it.
    """
    with suppress(AttributeError):
        _libc.malloc_trim(ctypes.c_size_t(0))


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
