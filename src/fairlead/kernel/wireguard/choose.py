"""Which WireGuard there is here, found by trying."""

from __future__ import annotations

import errno
import os
from functools import cache
from pathlib import Path

from fairlead.kernel import netns, route
from fairlead.kernel.errors import KernelError, Unsupported
from fairlead.kernel.netlink import Netlink

from .base import Wireguard
from .kernel import Kernel
from .userspace import PROGRAM, TUN, Userspace, program_path

NEEDS = f"Linux 5.6 with CONFIG_WIREGUARD, or CONFIG_TUN and the package {PROGRAM}"
"""What it takes."""


def find(directory: Path) -> Wireguard:
    """The kernel's where it has one, else processes with their sockets in ``directory``; ``Unsupported`` says what it takes."""
    why = in_kernel()
    if not why:
        return Kernel()
    if program_path() and Path(TUN).exists():
        return Userspace(directory)
    lacking = f"{PROGRAM} is not installed" if Path(TUN).exists() else f"there is no {TUN}"
    raise Unsupported(errno.EOPNOTSUPP, "encrypt between nodes", f"{why}, and {lacking}; needs {NEEDS}")


@cache
def in_kernel() -> str:
    """Why the kernel makes no WireGuard device; empty if it does. Tried once, in a namespace that is thrown away."""
    fd = netns.new()
    try:
        with netns.inside(fd), Netlink() as nl:
            nl.do(route.new_link("probe", "wireguard"))
    except KernelError:
        return "this kernel has no WireGuard"
    else:
        return ""
    finally:
        os.close(fd)
