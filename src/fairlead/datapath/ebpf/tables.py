"""Rows as entries of the policy maps, and the maps brought to what rows say. The structs are those of bpf/shared/policy.h.

A packet asks them in this order: who is behind this link (``endpoints``), who is the peer (``peers``), what do the policies say
of it (``judgements``), and of the port (``rulings``). What is new is written from the last of them to the first, what is old
removed the other way round, so that nothing ever refers to what is not there. After each change the revision is another, and
every connection is judged anew at its next packet.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from fairlead.api.schema import Drift
from fairlead.datapath.base import HOOKS
from fairlead.desired.state import Judgement, NodeState, Peer, Row, Ruling, Span, Subject
from fairlead.kernel.bpf import Map
from fairlead.model.address import Prefix

from .programs import Programs

ORDER = ("rulings", "judgements", "peers")
"""The maps of rows that belong to no link, in the order in which they are written."""

_ENDPOINT = struct.Struct("=QQ")
_INDEX = struct.Struct("=I")
_JUDGEMENT = struct.Struct("=QQ")
_NUMBER = struct.Struct("=Q")
_RULING = struct.Struct("=IQBB2s")
_SAID = struct.Struct("=QB7x")
_CONFIG = struct.Struct("=QII")
_CONFIG_KEY = _INDEX.pack(0)
_RULING_BITS, _PROTOCOL_BITS = 64, 80
_PORTS = 1 << 16
_MAPPED = bytes(10) + b"\xff\xff"


class Entry(NamedTuple):
    """One entry of one map."""

    table: str
    key: bytes
    value: bytes


def entries(row: Row) -> Iterator[Entry]:
    """The entries that a row means; none where it is of another layer or belongs to a link."""
    if isinstance(row, Peer):
        yield Entry("peers", _prefix(row.prefix), _NUMBER.pack(row.peer))
    elif isinstance(row, Judgement):
        yield Entry("judgements", _JUDGEMENT.pack(row.policy, row.peer), _NUMBER.pack(row.ruling))
    elif isinstance(row, Ruling):
        for span in row.spans:
            said = _SAID.pack(span.rule, span.allow)
            for bits, port in _blocks(span):
                key = _RULING.pack(bits, row.number, span.protocol, 0, port.to_bytes(2, "big"))
                yield Entry("rulings", key, said)


class Tables:
    """The policy maps of ``programs``. Not for several threads at once."""

    def __init__(self, programs: Programs) -> None:
        self._maps: Mapping[str, Map] = programs.maps
        if not self._revision():
            self._maps["config"].update(_CONFIG_KEY, _CONFIG.pack(1, 1, 0))

    def change(self, add: Iterable[Row], remove: Iterable[Row]) -> None:
        """Write what ``add`` means, then remove what ``remove`` means and ``add`` does not."""
        new = _by_table(add)
        gone = _by_table(remove)
        self._write(new, {name: set(gone[name]) - set(new[name]) for name in ORDER})

    def seat(self, index: int, subject: Subject) -> None:
        """From now on the link ``index`` is that of ``subject``."""
        key, value = _INDEX.pack(index), _ENDPOINT.pack(subject.ingress, subject.egress)
        if self._maps["endpoints"].lookup(key) != value:
            self._maps["endpoints"].update(key, value)
            self._revise()

    def unseat(self, index: int) -> None:
        """The link ``index`` is nobody's."""
        self._maps["endpoints"].delete(_INDEX.pack(index))

    def apply(self, state: NodeState, links: Mapping[str, int]) -> None:
        """Bring all maps in line; what is right already is not touched. ``links``: the index of every link, by name."""
        want, have = _wanted(state), {name: self._all(name) for name in ORDER}
        new = {name: dict(want[name].items() - have[name].items()) for name in ORDER}
        gone = {name: have[name].keys() - want[name].keys() for name in ORDER}
        self._write(new, gone)
        seats, seated = _seats(state, links), self._all("endpoints")
        for key, value in seats.items() - seated.items():
            self._maps["endpoints"].update(key, value)
        for key in seated.keys() - seats.keys():
            self._maps["endpoints"].delete(key)
        if seats != seated:
            self._revise()

    def check(self, state: NodeState, links: Mapping[str, int]) -> Iterator[Drift]:
        """Every entry that is missing, different or unexpected."""
        wanted = {**_wanted(state), "endpoints": _seats(state, links)}
        for name, want in wanted.items():
            have = self._all(name)
            for key, value in want.items() - have.items():
                kind = "different" if key in have else "missing"
                yield _drift(name, key, kind, value.hex(), have.get(key, b"").hex())
            for key in have.keys() - want.keys():
                yield _drift(name, key, "unexpected", "", have[key].hex())

    def fill(self) -> dict[str, tuple[int, int]]:
        """How many entries each map has, and how many it can have."""
        names = (*ORDER, "endpoints")
        return {name: (len(self._all(name)), self._maps[name].info.max_entries) for name in names}

    def _write(self, new: Mapping[str, Mapping[bytes, bytes]], gone: Mapping[str, Iterable[bytes]]) -> None:
        for name in ORDER:
            for key, value in new[name].items():
                self._maps[name].update(key, value)
        removed = False
        for name in reversed(ORDER):
            for key in gone[name]:
                removed = self._maps[name].delete(key) or removed
        if removed or any(new.values()):
            self._revise()

    def _all(self, name: str) -> dict[bytes, bytes]:
        table, found = self._maps[name], {}
        wide, long = table.info.key_size, table.info.value_size
        for keys, values, count in table.chunks():
            for at in range(count):
                found[keys[at * wide : (at + 1) * wide]] = values[at * long : (at + 1) * long]
        return found

    def _revision(self) -> int:
        found = self._maps["config"].lookup(_CONFIG_KEY)
        return int(_CONFIG.unpack(found)[0]) if found else 0

    def _revise(self) -> None:
        found = self._maps["config"].lookup(_CONFIG_KEY)
        revision, *rest = _CONFIG.unpack(found) if found else (0, 1, 0)
        self._maps["config"].update(_CONFIG_KEY, _CONFIG.pack(revision + 1, *rest))


def _by_table(rows: Iterable[Row]) -> dict[str, dict[bytes, bytes]]:
    found: dict[str, dict[bytes, bytes]] = {name: {} for name in ORDER}
    for row in rows:
        for one in entries(row):
            found[one.table][one.key] = one.value
    return found


def _wanted(state: NodeState) -> dict[str, dict[bytes, bytes]]:
    rows: list[Row] = [*state.table(Ruling).values(), *state.table(Judgement).values(), *state.table(Peer).values()]
    return _by_table(rows)


def _seats(state: NodeState, links: Mapping[str, int]) -> dict[bytes, bytes]:
    """Of links that are there: whoever makes one that is missing seats it."""
    subjects = state.table(Subject).values()
    return {_INDEX.pack(links[one.host]): _ENDPOINT.pack(one.ingress, one.egress) for one in subjects if one.host in links}


def _prefix(prefix: Prefix) -> bytes:
    raw = prefix.net.network_address.packed
    mapped = prefix.family == 4
    return _INDEX.pack(prefix.length + (96 if mapped else 0)) + (_MAPPED + raw if mapped else raw)


def _blocks(span: Span) -> Iterator[tuple[int, int]]:
    """A run of ports as (bits that count, first port), each a power of two in size and aligned to it."""
    if span.protocol == 0:
        yield _RULING_BITS, 0
        return
    at = span.first
    while at <= span.last:
        size = at & -at or _PORTS
        while at + size - 1 > span.last:
            size >>= 1
        yield _PROTOCOL_BITS + 16 - (size.bit_length() - 1), at
        at += size


def _drift(table: str, key: bytes, kind: str, want: str, have: str) -> Drift:
    return Drift(table=HOOKS, key=f"{table} {key.hex()}", kind=kind, want=want, have=have)
