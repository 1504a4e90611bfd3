"""What the kernel refused, as one small tree. Every module here raises nothing else for a refusal.

::

    KernelError          the kernel said no: what was being done, why, and the kernel's own words where it gave any
    ├── Gone             what the request names is not there (any more)
    ├── Exists           what the request would make is there already
    ├── Refused          this process may not
    ├── Unsupported      this kernel cannot
    └── Unsettled        a listing kept changing while it was read, or was cut short: read it again later
"""

from __future__ import annotations

import errno as codes
import os
from collections.abc import Iterator
from contextlib import contextmanager


class KernelError(Exception):
    """A refusal: ``errno``, what was being done, and the kernel's own explanation (may be empty).

    After several messages at once ``index`` says which one failed, and the first failure's ``failures`` lists all of them.
    """

    def __init__(self, errno: int, doing: str, detail: str = "") -> None:
        why = os.strerror(errno) if errno else "refused"
        super().__init__(f"cannot {doing}: {why}" + (f" ({detail})" if detail else ""))
        self.errno = errno
        self.doing = doing
        self.detail = detail
        self.index = 0
        self.failures: list[KernelError] = []

    @staticmethod
    def of(errno: int, doing: str, detail: str = "") -> KernelError:
        """The error of the class that ``errno`` calls for."""
        return _CLASSES.get(errno, KernelError)(errno, doing, detail)


class Gone(KernelError):
    """It is not there."""


class Exists(KernelError):
    """It is there already."""


class Refused(KernelError):
    """Not allowed."""


class Unsupported(KernelError):
    """Not in this kernel."""


class Unsettled(KernelError):
    """A listing that cannot be trusted: it changed while it was read."""


_CLASSES: dict[int, type[KernelError]] = {
    codes.ENOENT: Gone,
    codes.ENODEV: Gone,
    codes.ESRCH: Gone,
    codes.ENXIO: Gone,
    codes.EADDRNOTAVAIL: Gone,
    codes.EEXIST: Exists,
    codes.EPERM: Refused,
    codes.EACCES: Refused,
    codes.EOPNOTSUPP: Unsupported,
    codes.EAFNOSUPPORT: Unsupported,
    codes.EPROTONOSUPPORT: Unsupported,
    codes.ENOSYS: Unsupported,
    codes.EINTR: Unsettled,
}


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn an ``OSError`` of the block into a ``KernelError`` that says what was being done."""
    try:
        yield
    except OSError as error:
        raise KernelError.of(error.errno or 0, doing) from error
