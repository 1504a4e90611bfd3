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
from collections.abc import Iterator

from fairlead.kernel.bpf.map import Map
from fairlead.kernel.errors import translated

_BUSY, _DISCARDED = 1 << 31, 1 << 30
_HEADER = 8
_position = struct.Struct("=Q")
_header = struct.Struct("=I")


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

    def read(self, most: int = 1 << 30) -> Iterator[bytes]:
        """What lies there, at most so many records; their room is given back as they are taken."""
        at = _position.unpack_from(self._own)[0]
        try:
            while most and at < _position.unpack_from(self._theirs)[0]:
                start = self._page + (at & (self._size - 1))
                length = _header.unpack_from(self._theirs, start)[0]
                if length & _BUSY:
                    return
                size = length & ~_DISCARDED
                at += _HEADER + (size + 7 & ~7)
                most -= 1
                if not length & _DISCARDED:
                    yield self._theirs[start + _HEADER : start + _HEADER + size]
        finally:
            _position.pack_into(self._own, 0, at)

    def close(self) -> None:
        """Let go of the memory."""
        self._own.close()
        self._theirs.close()
