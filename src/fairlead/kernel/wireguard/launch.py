"""Becoming a WireGuard process of its own: run by path, with ``-I -S``, and knowing nothing of the package.

``launch.py DIRECTORY PROGRAM NAME``: in a mount namespace where ``/var/run`` is DIRECTORY, so that the sockets of several
nodes of one machine do not meet, PROGRAM runs on as nobody's child when this has returned.
"""

import ctypes
import os
import sys

CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x80000


def main(directory: str, program: str, name: str) -> None:
    """Start the program; returns when it is on its way."""
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(CLONE_NEWNS))
    # Slave: what is unmounted outside goes here too, so that no network namespace is kept alive.
    _check(libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_SLAVE), None))
    _check(libc.mount(os.fsencode(directory), b"/var/run", None, ctypes.c_ulong(MS_BIND), None))
    os.chdir("/")
    if os.fork() == 0:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):  # whoever waits for this program's words must not wait for the other's
            os.dup2(nothing, stream)
        os.execve(program, [program, "-f", name], {**os.environ, "LOG_LEVEL": "silent"})  # noqa: S606  # this is what becomes the program


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main(*sys.argv[1:])
