"""A lock between processes: one file, locked as a whole, freed by the kernel when its holder ends, however it ends.

The file stays: to remove it would let two processes each lock their own. Threads of one process exclude each other too.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fairlead.kernel.errors import KernelError, translated

_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.02


@contextmanager
def locked(path: str, *, deadline: float = 10.0, shared: bool = False) -> Iterator[None]:
    """Hold the lock for the block. After ``deadline`` seconds of waiting: an error with errno ETIMEDOUT.

    Waits by trying again with growing pauses: a wait in the kernel could only be ended by a signal.
    """
    doing = f"lock {path}"
    with translated(doing):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _acquire(fd, doing, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, time.monotonic() + deadline)
        yield
    finally:
        os.close(fd)


def _acquire(fd: int, doing: str, kind: int, until: float) -> None:
    pause = _FIRST_PAUSE
    while True:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= until:
                raise KernelError.of(errno.ETIMEDOUT, doing, "another process holds it") from error
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        except OSError as error:
            raise KernelError.of(error.errno or 0, doing) from error
        else:
            return
