"""Programs: what the kernel knows of one, and what it would do to a packet."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from fairlead.kernel.bpf import syscall
from fairlead.kernel.bpf.syscall import Memory, bpf
from fairlead.kernel.errors import KernelError

SCHED_CLS = 3
_INFO = 232
_test = struct.Struct("=IIIIQQIIIIQQ")
_context = struct.Struct("=192s")
_load = struct.Struct("=IIQQIIQII16s")
_EXIT_NEXT = struct.pack("=BBhiBBhi", 0xB7, 0, 0, -1, 0x95, 0, 0, 0)
_MARK_AT, _INGRESS_AT, _IFINDEX_AT, _GSO_SEGS_AT, _GSO_SIZE_AT = 8, 36, 40, 164, 176
_GROWTH = 128
"""Bytes that a program may add to a packet when it is tried out."""


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    """``verified``: the instructions that the verifier walked through; ``maps``: ids of the maps in use."""

    id: int
    name: str
    tag: str
    verified: int
    maps: tuple[int, ...]


class Program:
    """One program by a descriptor that is closed with it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.info = _info(fd)

    @classmethod
    def pinned(cls, path: str) -> Self:
        """The program that is pinned at ``path``."""
        return cls(syscall.pinned(path))

    @classmethod
    def passing(cls) -> Self:
        """A program of two instructions that lets everything pass: to see what the kernel allows."""
        code, licence = Memory(_EXIT_NEXT), Memory(b"GPL\0")
        attributes = _load.pack(SCHED_CLS, 2, code.address, licence.address, 0, 0, 0, 0, 0, b"passing")
        return cls(bpf(syscall.PROG_LOAD, attributes, "load an eBPF program"))

    def pin(self, path: str) -> None:
        """Keep it under ``path``."""
        syscall.pin(self.fd, path)

    def run(self, packet: bytes, *, ifindex: int = 0, ingress: int = 0, segments: int = 0, segment: int = 0) -> int:
        """Run it once on ``packet``, as if that passed interface ``ifindex`` here; return what the program returns.

        ``ingress``: the interface by which the packet came to this machine, 0 if it was made here.
        """
        given = {_IFINDEX_AT: ifindex, _INGRESS_AT: ingress, _GSO_SEGS_AT: segments, _GSO_SIZE_AT: segment}
        return self._test(packet, given)[0]

    def ask(self, packet: bytes, *, ifindex: int, mark: int) -> tuple[int, bytes]:
        """Run it once on ``packet`` that bears ``mark``; return what the program returns and what it made of the packet."""
        return self._test(packet, {_IFINDEX_AT: ifindex, _MARK_AT: mark})

    def _test(self, packet: bytes, given: Mapping[int, int]) -> tuple[int, bytes]:
        context = bytearray(_context.size)
        for place, value in given.items():
            struct.pack_into("=I", context, place, value)
        data, before, after = Memory(packet), Memory(bytes(context)), Memory(len(packet) + _GROWTH)
        sizes = (len(packet), len(packet) + _GROWTH, data.address, after.address, 1, 0, len(context), 0, before.address, 0)
        _, number, answer = syscall.attempt(syscall.TEST_RUN, _test.pack(self.fd, 0, *sizes))
        if number:
            raise KernelError.of(number, f"run program {self.info.name} on a packet of {len(packet)} bytes")
        said, size = struct.unpack_from("=i4xI", answer, 4)
        return int(said), after.read(size)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


def _info(fd: int) -> ProgramInfo:
    """``struct bpf_prog_info``; asked twice, since the map ids are written where the caller says."""
    ids = Memory(64 * 4)
    asked = bytearray(_INFO)
    struct.pack_into("=I", asked, 52, 64)
    struct.pack_into("=Q", asked, 56, ids.address)
    data = syscall.info(fd, bytes(asked), "describe a program")
    number, tag = struct.unpack_from("=I8s", data, 4)
    count = struct.unpack_from("=I", data, 52)[0]
    name = data[64:80].rstrip(b"\0").decode()
    verified = struct.unpack_from("=I", data, 216)[0]
    return ProgramInfo(number, name, tag.hex(), verified, struct.unpack_from(f"={count}I", ids.read()))
