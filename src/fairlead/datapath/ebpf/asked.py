"""By which rule the end that was asked let a connection in, where it was asked after the connection had been told of.

What goes the short way is decided for both ends before it is told of. Else the opener's link tells, and the other decides when
the packet gets there, some microseconds later: its rule is in the table by the time that somebody reads. Looked up is only what
may have one, a connection to a container of this node whose ingress is isolated; a lookup takes 4 us.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from fairlead.datapath.seen import ANSWERED_AT, FIRST_AT, HIGH_OPENS_AT, INGRESS_AT, KIND_AT, RECORD, Kind
from fairlead.desired.state import NodeState, Subject
from fairlead.kernel.bpf import Map

from .entries import address_key

_KEY_AT, _HIGH_AT = 8, 24
_ADDRESS = 16
_number = struct.Struct("=Q")


class Asked:
    """Holds the addresses that are isolated as they were when somebody last looked."""

    def __init__(self, connections: Map, state: Callable[[], NodeState]) -> None:
        self._connections, self._state = connections, state
        self._version: object = None
        self._isolated: frozenset[bytes] = frozenset()

    def complete(self, found: bytes) -> bytes:
        """The same records, one ``RECORD`` after another, those of new connections with the rule of either end."""
        view = memoryview(found)
        kinds = view.cast("I")[KIND_AT // 4 :: RECORD.size // 4].tolist()
        answered = view.cast("Q")[ANSWERED_AT // 8 :: RECORD.size // 8].tolist()
        waiting = [at for at, kind in enumerate(kinds) if kind == Kind.NEW and not answered[at]]
        if not waiting:
            return found
        self._refresh()
        rules = {at: rule for at in waiting if (rule := self._rule(found, at * RECORD.size))}
        if not rules:
            return found
        whole = bytearray(found)
        for at, rule in rules.items():
            _number.pack_into(whole, at * RECORD.size + INGRESS_AT, rule)
        return bytes(whole)

    def _rule(self, found: bytes, at: int) -> int:
        """What the table has of a record's connection by now, if it still is that connection."""
        asked = at + (_KEY_AT if found[at + HIGH_OPENS_AT] else _HIGH_AT)
        if found[asked : asked + _ADDRESS] not in self._isolated:
            return 0
        value = self._connections.lookup(found[at + _KEY_AT : at + FIRST_AT]) or b""
        if value[: _number.size] != found[at + FIRST_AT : at + FIRST_AT + _number.size]:
            return 0
        return int(_number.unpack_from(value, INGRESS_AT - FIRST_AT)[0])

    def _refresh(self) -> None:
        state = self._state()
        if (version := state.version(Subject)) is not self._version:
            self._version = version
            rows = (row for row in state.table(Subject).values() if row.ingress)
            self._isolated = frozenset(address_key(one) for row in rows for one in row.addresses)
