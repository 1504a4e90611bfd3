"""What the machine under the tests can do: privileges, programs, kernel features. Each answer is a reason to skip, or none."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

from fairlead.kernel import features
from fairlead.kernel.wireguard import choose

NEED_ROOT = ("kernel", "bpf", "lab", "runtimes")
"""Directories of tests that make network namespaces."""


def _sctp() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError:
        return False
    return True


def _wireguard() -> bool:
    return os.geteuid() == 0 and not choose.in_kernel()


def _big_tcp() -> bool:
    return os.geteuid() == 0 and features.probe("BIG TCP")[0].ok


def _tcx() -> bool:
    return os.geteuid() == 0 and features.probe("tcx")[0].ok


def _opening_ipv6() -> bool:
    """Whether a program may take an IPv6 packet out of an IPv4 one (``BPF_F_ADJ_ROOM_DECAP_L3_IPV6``, Linux 6.3)."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor)) >= (6, 3)


FEATURES: dict[str, Callable[[], bool]] = {
    "ipv6": lambda: Path("/proc/net/if_inet6").exists(),
    "sctp": _sctp,
    "wireguard": _wireguard,
    "big tcp": _big_tcp,
    "tcx": _tcx,
    "opening IPv6": _opening_ipv6,
    "ebpf": lambda: Path("/proc/sys/kernel/unprivileged_bpf_disabled").exists(),
}


def why_not_root() -> str | None:
    """Why this process cannot make network namespaces."""
    return None if os.geteuid() == 0 else "needs root"


def lacking_programs(programs: Iterable[str]) -> str | None:
    """Which programs are not installed."""
    absent = [program for program in programs if not shutil.which(program)]
    return f"not installed: {', '.join(absent)} (make setup-test)" if absent else None


def lacking_features(names: Iterable[str]) -> str | None:
    """Which features the running kernel does not have."""
    absent = [name for name in names if not FEATURES[name]()]
    return f"the kernel lacks {', '.join(absent)}" if absent else None
