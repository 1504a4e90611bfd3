"""The ring buffer that programs write and user space reads: two positions and the data, in memory shared with the kernel.

::

    page 0   consumer position, ours to write
    page 1   producer position, the kernel's
    then     the data, twice in a row, so that a record that wraps round can be read in one piece

A record is a header of eight bytes (its length, and whether it is still being written or was discarded), then its content,
padded to eight. The descriptor is readable when something came after everything before had been read: read all, then wait.
"""

from __future__ import annotations

import mmap
import struct

from fairlead.kernel.bpf.map import Map
from fairlead.kernel.errors import translated

_BUSY = 1 << 31
_HEADER = 8
_position = struct.Struct("=Q")


class Ring:
    """The reading end of a ring buffer map; there must be one reader only. The map stays its owner's."""

    def __init__(self, events: Map) -> None:
        self._size = events.info.max_entries
        page = mmap.PAGESIZE
        with translated("map the ring buffer into memory"):
            self._own = mmap.mmap(events.fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            self._theirs = mmap.mmap(events.fd, page + 2 * self._size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._page = page
        self.fd = events.fd

    def take(self, size: int, most: int) -> bytes:
        """What lies there, at most so many records, all of ``size`` bytes: in one piece, each with its header and padding.

        Their room is given back. It costs next to nothing a record. One of another size is passed over.
        """
        stride = self.stride(size)
        at = _position.unpack_from(self._own)[0]
        count = min((_position.unpack_from(self._theirs)[0] - at) // stride, most)
        start = self._page + (at & (self._size - 1))
        found = self._theirs[start : start + count * stride]
        lengths = memoryview(found).cast("I")[:: stride // 4].tolist()
        fit = next((place for place, length in enumerate(lengths) if length != size), count)
        end = at + fit * stride
        if fit < count and not lengths[fit] & _BUSY:
            end += self.stride(lengths[fit])
        _position.pack_into(self._own, 0, end)
        return found[: fit * stride]

    @staticmethod
    def stride(size: int) -> int:
        """How far records of ``size`` bytes lie apart."""
        return _HEADER + (size + 7 & ~7)

    def close(self) -> None:
        """Let go of the memory."""
        self._own.close()
        self._theirs.close()
