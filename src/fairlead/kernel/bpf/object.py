"""libbpf, by ctypes: an object file's maps and programs into the kernel, the verifier's words if it refuses one."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from functools import cache
from typing import Any, Self

from fairlead.kernel.bpf.map import Map, MapInfo
from fairlead.kernel.bpf.program import Program
from fairlead.kernel.errors import KernelError, Unsupported

_LIBRARY = "libbpf.so.1"
_PRINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_LOG = 1 << 20
_LAST_LINES = 6


class Object:
    """An opened object file: its maps may be given another size or be shared before ``load``. Use as a context manager."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._library = library()
        self._object = self._library.bpf_object__open_file(os.fsencode(path), None)
        if not self._object:
            raise KernelError.of(ctypes.get_errno(), f"open the eBPF object {path}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.bpf_object__close(self._object)

    def maps(self) -> dict[str, MapInfo]:
        """The maps by name, as the file declares them and ``resize`` changed them; not those that the compiler made."""
        of = self._library
        return {
            name: MapInfo(of.bpf_map__type(one), of.bpf_map__key_size(one), of.bpf_map__value_size(one), self._entries(one))
            for name, one in self._each_map()
        }

    def resize(self, name: str, entries: int) -> None:
        """Give a map room for ``entries``; of a ring buffer it is the size in bytes."""
        self._done(self._library.bpf_map__set_max_entries(self._map(name), entries), f"size map {name}")

    def share(self, name: str, found: Map) -> None:
        """Use a map that exists in place of making one."""
        self._done(self._library.bpf_map__reuse_fd(self._map(name), found.fd), f"share map {name}")

    def load(self) -> None:
        """Make the maps that are not shared, have the programs verified."""
        log = ctypes.create_string_buffer(_LOG)
        for program in self._each_program():
            self._library.bpf_program__set_log_buf(program, log, _LOG)
        result = self._library.bpf_object__load(self._object)
        if result:
            said = log.value.decode(errors="replace").strip().splitlines()[-_LAST_LINES:]
            raise KernelError.of(-result, f"load the eBPF object {self._path}", " / ".join(said))

    def map(self, name: str) -> Map:
        """A map of the loaded object, by a descriptor of its own."""
        return Map(os.dup(self._library.bpf_map__fd(self._map(name))))

    def program(self, name: str) -> Program:
        """A program of the loaded object, by a descriptor of its own."""
        found = self._library.bpf_object__find_program_by_name(self._object, name.encode())
        if not found:
            raise KernelError.of(errno.ENOENT, f"find program {name} in {self._path}")
        return Program(os.dup(self._library.bpf_program__fd(found)))

    def _map(self, name: str) -> Any:
        found = self._library.bpf_object__find_map_by_name(self._object, name.encode())
        if not found:
            raise KernelError.of(errno.ENOENT, f"find map {name} in {self._path}")
        return found

    def _entries(self, one: Any) -> int:
        return int(self._library.bpf_map__max_entries(one))

    def _each_map(self) -> Iterator[tuple[str, Any]]:
        one = self._library.bpf_object__next_map(self._object, None)
        while one:
            name = self._library.bpf_map__name(one).decode()
            if "." not in name:
                yield name, one
            one = self._library.bpf_object__next_map(self._object, one)

    def _each_program(self) -> Iterator[Any]:
        one = self._library.bpf_object__next_program(self._object, None)
        while one:
            yield one
            one = self._library.bpf_object__next_program(self._object, one)

    def _done(self, result: int, doing: str) -> None:
        if result:
            raise KernelError.of(-result, f"{doing} of {self._path}")


_silent = _PRINT(lambda _level, _format, _arguments: 0)
"""What libbpf would print is dropped: errors are raised, with the verifier's own words."""


@cache
def library() -> ctypes.CDLL:
    """libbpf, loaded once; ``Unsupported`` where it is not installed."""
    try:
        library = ctypes.CDLL(_LIBRARY, use_errno=True)
    except OSError as error:
        raise Unsupported(errno.ENOSYS, "use eBPF", f"{_LIBRARY} is missing: install the package libbpf1") from error
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("bpf_object__open_file", pointer, (text, pointer)),
        ("bpf_object__close", None, (pointer,)),
        ("bpf_object__load", number, (pointer,)),
        ("bpf_object__next_map", pointer, (pointer, pointer)),
        ("bpf_object__next_program", pointer, (pointer, pointer)),
        ("bpf_object__find_map_by_name", pointer, (pointer, text)),
        ("bpf_object__find_program_by_name", pointer, (pointer, text)),
        ("bpf_map__name", text, (pointer,)),
        ("bpf_map__type", number, (pointer,)),
        ("bpf_map__key_size", ctypes.c_uint, (pointer,)),
        ("bpf_map__value_size", ctypes.c_uint, (pointer,)),
        ("bpf_map__max_entries", ctypes.c_uint, (pointer,)),
        ("bpf_map__set_max_entries", number, (pointer, ctypes.c_uint)),
        ("bpf_map__reuse_fd", number, (pointer, number)),
        ("bpf_map__fd", number, (pointer,)),
        ("bpf_program__fd", number, (pointer,)),
        ("bpf_program__set_log_buf", number, (pointer, ctypes.c_void_p, ctypes.c_size_t)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.libbpf_set_print.argtypes = (_PRINT,)
    library.libbpf_set_print.restype = pointer
    library.libbpf_set_print(_silent)
    return library
