"""Kernel parameters by name, in the calling thread's network namespace.

Names are written with dots, as sysctl(8) does. An interface name may itself hold dots: in ``net.ipv4.conf.eth0.10.forwarding``
everything between the fixed first three words and the last one is the interface.
"""

from __future__ import annotations

import errno
from pathlib import Path

from fairlead.kernel.errors import KernelError, translated

_PER_INTERFACE = {"conf", "neigh", "mif6"}


def read(key: str) -> str:
    """The value of ``key``, without the final newline."""
    with translated(f"read {key}"), Path(_path(key)).open(encoding="ascii") as file:
        return file.read().strip()


def write(key: str, value: str | int) -> None:
    """Set ``key``."""
    with translated(f"set {key} to {value}"), Path(_path(key)).open("wb", buffering=0) as file:
        file.write(b"%s\n" % str(value).encode())


def _path(key: str) -> str:
    words = key.split(".")
    if len(words) > 5 and words[0] == "net" and words[2] in _PER_INTERFACE:
        words[3:-1] = [".".join(words[3:-1])]
    if "/" in key or "\0" in key or any(word in {"", ".", ".."} for word in words):
        raise KernelError.of(errno.ENOENT, f"find the kernel parameter {key!r}")
    return "/proc/sys/" + "/".join(words)
