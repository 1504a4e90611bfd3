"""bpf(2) itself: a command, its attributes as bytes, an error in words. The layouts are those of linux/bpf.h."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

from fairlead.kernel.errors import KernelError, Unsupported

_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

MAP_CREATE, MAP_LOOKUP, MAP_UPDATE, MAP_DELETE = 0, 1, 2, 3
PROG_LOAD, OBJ_PIN, OBJ_GET, TEST_RUN, INFO, PROG_QUERY = 5, 6, 7, 10, 15, 16
LOOKUP_BATCH, UPDATE_BATCH, DELETE_BATCH = 24, 26, 27
LINK_CREATE, LINK_UPDATE, LINK_OPEN, LINK_DETACH = 28, 29, 30, 34
_SIZE = 144
"""Of ``union bpf_attr`` as used here; the kernel takes shorter and longer ones, the rest must be zero."""

_info = struct.Struct("=IIQ")
_pin = struct.Struct("=QII")


def bpf(command: int, attributes: bytes, doing: str) -> int:
    """Make the call; return its result: a descriptor where it makes or opens something, else 0."""
    result, number, _ = attempt(command, attributes)
    if number:
        raise KernelError.of(number, doing)
    return result


def attempt(command: int, attributes: bytes) -> tuple[int, int, bytes]:
    """Make the call; return its result, the error number or 0, and the attributes with what the kernel wrote into them."""
    given = bytearray(attributes.ljust(_SIZE, b"\0"))
    raw = (ctypes.c_char * _SIZE).from_buffer(given)
    result = _libc.syscall(ctypes.c_long(_number()), ctypes.c_long(command), raw, ctypes.c_long(_SIZE))
    return int(result), ctypes.get_errno() if result < 0 else 0, bytes(raw.raw)


def _number() -> int:
    try:
        return _NUMBERS[platform.machine()]
    except KeyError:
        why = f"the number of bpf(2) is not known on {platform.machine()}"
        raise Unsupported(errno.ENOSYS, "use eBPF", why) from None


class Memory:
    """Bytes at an address that stays while this object lives, for pointers in attributes."""

    __slots__ = ("_buffer", "address")

    def __init__(self, content: bytes | int) -> None:
        self._buffer = ctypes.create_string_buffer(content) if isinstance(content, int) else _copied(content)
        self.address = ctypes.addressof(self._buffer)

    def read(self, size: int = -1) -> bytes:
        """The first ``size`` bytes, or all."""
        return self._buffer.raw[:size] if size >= 0 else self._buffer.raw


def _copied(content: bytes) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(content, len(content))


def info(fd: int, asked: bytes, doing: str) -> bytes:
    """What the kernel says of a map, a program or a link; ``asked`` is as long as the answer, zero but for pointers."""
    room = Memory(asked)
    bpf(INFO, _info.pack(fd, len(asked), room.address), doing)
    return room.read()


def pin(fd: int, path: str) -> None:
    """Keep the object alive under ``path``, on a bpffs."""
    name = Memory(os.fsencode(path) + b"\0")
    bpf(OBJ_PIN, _pin.pack(name.address, fd, 0), f"pin {path}")


def pinned(path: str) -> int:
    """A descriptor of what is pinned at ``path``."""
    name = Memory(os.fsencode(path) + b"\0")
    return bpf(OBJ_GET, _pin.pack(name.address, 0, 0), f"open {path}")
