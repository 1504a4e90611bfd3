"""tcx: programs at an interface, each held there by a link, which is a thing of its own with a descriptor (Linux 6.6).

::

    received ──> tcx programs, in the order in which they came ──> filters of a clsact ──> the stack

A program that says ``TCX_NEXT`` leaves the packet to whoever is next. A link stays as long as somebody has it open or pinned,
and nobody takes its program off but by the link itself; it outlives the interface, then without a place. To attach or to detach
waits for a grace period of the kernel, 8 to 12 ms, with the lock that all changes of interfaces take; to put another program
into a link does not. The kernel tells nobody of any of it.
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass
from typing import Self

from fairlead.kernel.bpf import syscall
from fairlead.kernel.bpf.syscall import Memory, bpf
from fairlead.kernel.errors import KernelError, Unsupported

RECEIVED, SENT = 46, 47
"""Where a program sees packets: those that the interface received, or those that it is about to send."""
NEEDS = "Linux 6.6 with CONFIG_NET_XGRESS"

_TCX = 11
_MOST = 64
_create = struct.Struct("=IIII")
_update = struct.Struct("=IIII")
_detach = struct.Struct("=I")
_number = struct.Struct("=I")
_query = struct.Struct("=IIIIQI4xQQQQ")
_COUNT_AT = 24
_info = struct.Struct("=III4xII")


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """``index`` is 0 once the link was detached, or the interface is gone."""

    id: int
    program: int
    index: int
    place: int


@dataclass(frozen=True, slots=True)
class AttachedInfo:
    """One program at an interface; ``link`` is 0 if it was attached without one."""

    program: int
    link: int


class Link:
    """One link by a descriptor that is closed with it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def attach(cls, index: int, place: int, program: int) -> Self:
        """Put the program of the descriptor ``program`` behind all that stand at an interface."""
        asked = _create.pack(program, index, place, 0)
        return cls(_told(syscall.LINK_CREATE, asked, f"attach a program to interface {index}")[0])

    @classmethod
    def pinned(cls, path: str) -> Self:
        """The link that is pinned at ``path``."""
        return cls(syscall.pinned(path))

    @classmethod
    def numbered(cls, number: int) -> Self:
        """The link of this number, whoever holds it."""
        return cls(bpf(syscall.LINK_OPEN, _number.pack(number), f"open link {number}"))

    @property
    def info(self) -> LinkInfo:
        """What it is now. The number of an interface is that of the namespace where the interface is."""
        kind, number, program, index, place = _info.unpack(syscall.info(self.fd, bytes(_info.size), "describe a link"))
        if kind != _TCX:
            raise KernelError.of(errno.EINVAL, "describe a link", f"its kind is {kind}, not tcx")
        return LinkInfo(number, program, index, place)

    def pin(self, path: str) -> None:
        """Keep it under ``path``."""
        syscall.pin(self.fd, path)

    def update(self, program: int) -> None:
        """Put the program of the descriptor ``program`` in place of the one that is there: no packet passes in between."""
        bpf(syscall.LINK_UPDATE, _update.pack(self.fd, program, 0, 0), "replace the program of a link")

    def detach(self) -> None:
        """Take its program off, whoever else holds the link; nothing happens if it is at no interface any more."""
        bpf(syscall.LINK_DETACH, _detach.pack(self.fd), "detach a link")

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


def attached(index: int, place: int = RECEIVED) -> list[AttachedInfo]:
    """Everybody's programs at an interface of this namespace, in their order."""
    programs, links = Memory(4 * _MOST), Memory(4 * _MOST)
    asked = _query.pack(index, place, 0, 0, programs.address, _MOST, 0, links.address, 0, 0)
    _, answer = _told(syscall.PROG_QUERY, asked, f"list the programs of interface {index}")
    numbers = struct.Struct(f"={struct.unpack_from('=I', answer, _COUNT_AT)[0]}I")
    found = (numbers.unpack_from(one.read()) for one in (programs, links))
    return [AttachedInfo(*one) for one in zip(*found, strict=True)]


def _told(command: int, attributes: bytes, doing: str) -> tuple[int, bytes]:
    """The call's result and what it answered; a kernel that does not know the place calls it invalid."""
    result, number, answer = syscall.attempt(command, attributes)
    if number == errno.EINVAL:
        raise Unsupported(number, doing, f"this kernel has no tcx, which takes {NEEDS}")
    if number:
        raise KernelError.of(number, doing)
    return result, answer
