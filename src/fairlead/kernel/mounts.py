"""Mounts of a process that has a mount namespace of its own: each function changes what the calling process alone sees."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from fairlead.kernel import process
from fairlead.kernel.errors import KernelError

_IN_SYS = ("/sys/fs/cgroup", "/sys/fs/bpf")


def part() -> None:
    """Let nothing that is mounted here show elsewhere; what is unmounted elsewhere still goes here too."""
    process.mount("none", "/", flags=process.MS_REC | process.MS_SLAVE)


def under(directory: str) -> list[str]:
    """Where something is mounted below ``directory``, in the order in which it was."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    targets = (re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), line.split(" ", 5)[4]) for line in lines)
    return [target for target in targets if target.startswith(directory.rstrip("/") + "/")]


def let_go(directory: str) -> None:
    """Unmount everything below ``directory``: a copy of the mount would keep alive what its owner has let go."""
    for target in reversed(under(directory)):
        try:
            process.umount(target)
        except KernelError as problem:
            if problem.errno not in {errno.EINVAL, errno.ENOENT}:  # its owner was faster
                raise


def sysfs(keep: tuple[str, ...] = _IN_SYS) -> None:
    """Show the network namespace's devices in /sys, where the machine allows it; what is mounted at ``keep`` stays there."""
    kept = [(path, os.open(path, os.O_PATH)) for path in keep if os.path.ismount(path)]
    try:
        process.mount("sysfs", "/sys", "sysfs", process.MS_NOSUID | process.MS_NODEV | process.MS_NOEXEC)
        for path, fd in kept:
            process.mount(f"/proc/self/fd/{fd}", path, flags=process.MS_BIND | process.MS_REC)
    except KernelError:
        return
    finally:
        for _, fd in kept:
            os.close(fd)


def overlay(place: str, private: Path) -> None:
    """Let ``place`` be written without a trace: what is written lies in ``private``, which must not be on an overlay itself."""
    upper, work = private / "upper", private / "work"
    for folder in (upper, work):
        folder.mkdir(parents=True)
    process.mount("overlay", place, "overlay", options=f"lowerdir={place},upperdir={upper},workdir={work}")
