"""The types of a compiled object, read from its .BTF section by hand: an opinion that shares nothing with the package."""

from __future__ import annotations

import struct
from pathlib import Path

_INT, _ARRAY, _STRUCT, _UNION, _ENUM, _TYPEDEF, _CONST, _PROTO, _VAR, _DATASEC = 1, 3, 4, 5, 6, 8, 10, 13, 14, 15
_DECL_TAG, _ENUM64 = 17, 19
_ALIASES = {8, 9, 10, 11, 18}


def section(path: Path, wanted: str) -> bytes:
    data = path.read_bytes()
    headers, size, count, names = (
        struct.unpack_from("<Q", data, 40)[0],
        *struct.unpack_from("<HHH", data, 58),
    )
    table = [struct.unpack_from("<IIQQQQ", data, headers + at * size) for at in range(count)]
    strings = table[names][4]
    for name, _, _, _, offset, length in table:
        start = strings + name
        if data[start : data.index(b"\0", start)].decode() == wanted:
            return data[offset : offset + length]
    raise KeyError(wanted)


class Btf:
    """Structs as flat lists of (path, offset, size), enums as dictionaries."""

    def __init__(self, path: Path) -> None:
        data = section(path, ".BTF")
        header, types, length, strings = *struct.unpack_from("<I", data, 4), *struct.unpack_from("<III", data, 8)
        self._strings = data[header + strings :]
        self._types: list[tuple[str, int, int, list[tuple[str, int, int]]]] = [("void", 0, 0, [])]
        at, end = header + types, header + types + length
        while at < end:
            at = self._read(data, at)

    def _name(self, at: int) -> str:
        return self._strings[at : self._strings.index(b"\0", at)].decode()

    def _read(self, data: bytes, at: int) -> int:
        name, info, size = struct.unpack_from("<III", data, at)
        kind, count = info >> 24 & 0x1F, info & 0xFFFF
        at += 12
        members: list[tuple[str, int, int]] = []
        if kind in {_STRUCT, _UNION}:
            for _ in range(count):
                label, of, bits = struct.unpack_from("<III", data, at)
                members.append((self._name(label), of, bits // 8))
                at += 12
        elif kind == _ENUM:
            for _ in range(count):
                label, value = struct.unpack_from("<Ii", data, at)
                members.append((self._name(label), 0, value))
                at += 8
        elif kind == _ARRAY:
            of, _, length = struct.unpack_from("<III", data, at)
            members.append(("", of, length))
            at += 12
        else:
            at += {_INT: 4, _PROTO: 8 * count, _VAR: 4, _DATASEC: 12 * count, _DECL_TAG: 4, _ENUM64: 12 * count}.get(kind, 0)
        self._types.append((self._name(name), kind, size, members))
        return at

    def enum(self, name: str) -> dict[str, int]:
        return next(
            {label: value for label, _, value in members}
            for found, kind, _, members in self._types
            if kind == _ENUM and found == name
        )

    def fields(self, name: str) -> list[tuple[str, int, int]]:
        """Every number in the struct, in order: its path, where it begins, how long it is. Arrays of bytes stay whole."""
        number = next(at for at, (found, kind, *_) in enumerate(self._types) if kind == _STRUCT and found == name)
        return list(self._flat(number, "", 0))

    def _flat(self, number: int, path: str, offset: int) -> list[tuple[str, int, int]]:
        _, kind, size, members = self._types[number]
        if kind in _ALIASES:
            return self._flat(size, path, offset)
        if kind == _STRUCT:
            return [
                one for label, of, at in members for one in self._flat(of, f"{path}.{label}" if path else label, offset + at)
            ]
        if kind == _ARRAY:
            _, of, length = members[0]
            inner = self._size(of)
            if inner == 1 and path.endswith("zero"):
                return [(path, offset, length)]
            return [one for at in range(length) for one in self._flat(of, f"{path}[{at}]", offset + at * inner)]
        return [(path, offset, size)]

    def _size(self, number: int) -> int:
        _, kind, size, members = self._types[number]
        if kind in _ALIASES:
            return self._size(size)
        return self._size(members[0][1]) * members[0][2] if kind == _ARRAY else size
