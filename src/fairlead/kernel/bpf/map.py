"""Maps: tables that programs and user space share. Keys and values are bytes; what they mean is the caller's affair."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

from fairlead.kernel.bpf import syscall
from fairlead.kernel.bpf.syscall import Memory, bpf
from fairlead.kernel.errors import Gone, KernelError

RINGBUF = 27
_INFO = 80
_PERCPU = {5, 6, 10, 21}  # hash, array, LRU hash, cgroup storage, each per CPU
_element = struct.Struct("=I4xQQQ")
_create = struct.Struct("=IIIII")
_batch = struct.Struct("=QQQQIIQQ")
_CHUNK = 1024


@dataclass(frozen=True, slots=True)
class MapInfo:
    """The shape of a map: two with the same shape can stand for each other."""

    kind: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0


class Map:
    """One map by a descriptor that is closed with it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        data = syscall.info(fd, bytes(_INFO), "describe a map")
        kind, self.id, key_size, value_size, entries, flags = struct.unpack_from("=IIIIII", data)
        self.info = MapInfo(kind, key_size, value_size, entries, flags)
        self.name = data[24:40].rstrip(b"\0").decode()
        self.room = (value_size + 7 & ~7) * possible_cpus() if kind in _PERCPU else value_size
        """Bytes that user space reads and writes as a value."""

    @classmethod
    def create(cls, shape: MapInfo) -> Self:
        """A new, empty map."""
        attributes = _create.pack(shape.kind, shape.key_size, shape.value_size, shape.max_entries, shape.flags)
        return cls(bpf(syscall.MAP_CREATE, attributes, f"create a map of type {shape.kind}"))

    @classmethod
    def pinned(cls, path: str) -> Self:
        """The map that is pinned at ``path``."""
        return cls(syscall.pinned(path))

    def pin(self, path: str) -> None:
        """Keep it under ``path``."""
        syscall.pin(self.fd, path)

    def lookup(self, key: bytes) -> bytes | None:
        """The value, of a per-CPU map all values one after another; None if there is none."""
        memory, value = Memory(key), Memory(self.room)
        try:
            bpf(syscall.MAP_LOOKUP, _element.pack(self.fd, memory.address, value.address, 0), f"look into map {self.name}")
        except Gone:
            return None
        return value.read()

    def update(self, key: bytes, value: bytes) -> None:
        """Set the value of ``key``."""
        memory, new = Memory(key), Memory(value)
        bpf(syscall.MAP_UPDATE, _element.pack(self.fd, memory.address, new.address, 0), f"write to map {self.name}")

    def write(self, entries: Mapping[bytes, bytes]) -> None:
        """Set many entries, in order; those before one that fails are written. LPM tries too: Linux 5.13."""
        items = list(entries.items())
        for start in range(0, len(items), _CHUNK):
            part = items[start : start + _CHUNK]
            keys, values = Memory(b"".join(key for key, _ in part)), Memory(b"".join(value for _, value in part))
            attributes = _batch.pack(0, 0, keys.address, values.address, len(part), self.fd, 0, 0)
            bpf(syscall.UPDATE_BATCH, attributes, f"write {len(part)} entries to map {self.name}")

    def entries(self) -> dict[bytes, bytes]:
        """Every entry, as ``chunks`` finds them."""
        return self.entries_of(self.chunks())

    def entries_of(self, chunks: Iterable[tuple[bytes, bytes, int]]) -> dict[bytes, bytes]:
        """The entries of ``chunks``, of which there may be tens of thousands: for any thread."""
        key_size, room = self.info.key_size, self.room
        return {
            keys[at * key_size : (at + 1) * key_size]: values[at * room : (at + 1) * room]
            for keys, values, count in chunks
            for at in range(count)
        }

    def delete(self, key: bytes) -> bool:
        """Remove ``key``; whether it was there."""
        memory = Memory(key)
        try:
            bpf(syscall.MAP_DELETE, _element.pack(self.fd, memory.address, 0, 0), f"remove an entry of map {self.name}")
        except Gone:
            return False
        return True

    def remove(self, keys: Iterable[bytes]) -> None:
        """Remove many keys; one that is not there is no error. LPM tries too: Linux 5.13."""
        rest = list(keys)
        while rest:
            part = rest[:_CHUNK]
            memory = Memory(b"".join(part))
            attributes = _batch.pack(0, 0, memory.address, 0, len(part), self.fd, 0, 0)
            _, number, answer = syscall.attempt(syscall.DELETE_BATCH, attributes)
            if number not in {0, errno.ENOENT}:
                raise KernelError.of(number, f"remove {len(part)} entries of map {self.name}")
            done = int(struct.unpack_from("=I", answer, 32)[0])
            rest = rest[done + 1 if number else done :]  # it stops at the first that is not there

    def chunks(self) -> Iterator[tuple[bytes, bytes, int]]:
        """Every entry, many at a time: keys and values, each one after another, how many. Linux 5.6, of LPM tries 5.13.

        What programs change meanwhile may be seen or not.
        """
        cursor, count, last = Memory(max(self.info.key_size, 8)), _CHUNK, False
        begun = False
        while not last:
            keys, values = Memory(self.info.key_size * count), Memory(self.room * count)
            attributes = _batch.pack(
                cursor.address if begun else 0, cursor.address, keys.address, values.address, count, self.fd, 0, 0
            )
            found, error = self._batch(attributes)
            if error == errno.ENOSPC:  # one bucket of the hash table holds more than asked for
                count *= 2
                continue
            last, begun = error == errno.ENOENT, True
            if found:
                yield keys.read(found * self.info.key_size), values.read(found * self.room), found

    def _batch(self, attributes: bytes) -> tuple[int, int]:
        """How many entries there were, and the error after them: none, the end, or too little room."""
        _, number, answer = syscall.attempt(syscall.LOOKUP_BATCH, attributes)
        if number not in {0, errno.ENOENT, errno.ENOSPC}:
            raise KernelError.of(number, f"list map {self.name}")
        return int(struct.unpack_from("=I", answer, 32)[0]), number

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


@cache
def possible_cpus() -> int:
    """How many values a per-CPU map has for each key."""
    ranges = Path("/sys/devices/system/cpu/possible").read_text(encoding="ascii").strip().split(",")
    return sum(int(one.rpartition("-")[2]) - int(one.partition("-")[0]) + 1 for one in ranges)
