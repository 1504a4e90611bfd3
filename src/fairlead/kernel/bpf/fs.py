"""bpffs: the file system whose names keep maps, programs and links alive."""

from __future__ import annotations

import os
from pathlib import Path

from fairlead.kernel import libc
from fairlead.kernel.errors import translated


def mounted(directory: Path) -> bool:
    """Whether a bpffs is mounted at ``directory`` itself."""
    wanted = os.fsencode(directory.absolute()).replace(b" ", b"\\040")
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    return any(line.split()[4] == wanted and b" - bpf " in line for line in lines)


def mount(directory: Path) -> None:
    """Mount a bpffs of its own at ``directory``, for root alone; nothing happens if there is one."""
    if not mounted(directory):
        with translated(f"mount a bpffs at {directory}"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            libc.mount("bpf", str(directory), "mode=0700")


def unmount(directory: Path) -> None:
    """Unmount it: what nothing else holds is gone. Nothing happens if there is none."""
    if mounted(directory):
        with translated(f"unmount the bpffs at {directory}"):
            libc.unmount(str(directory))
            directory.rmdir()
