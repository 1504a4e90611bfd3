"""A question to the kernel: its own rules and elements are read, and gone through as it would for a packet.

Only the chains and elements on the way are asked for, with the expressions that rules of ours are made of; of any other there
is no answer. What a packet would leave behind is not: nothing is counted, told or remembered.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Mapping
from typing import NamedTuple

from fairlead.datapath.base import Answer, Question
from fairlead.datapath.seen import REASONS
from fairlead.kernel import nft
from fairlead.kernel.netlink import Netlink
from fairlead.kernel.nft import Element, Expression, Field, SetInfo, Verdict, ifname
from fairlead.kernel.nft.rule import ACCEPT, BREAK, CONTINUE, DROP, GOTO, JUMP, RETURN, register

from . import ruleset, words
from .words import Direction

_NEW = (1 << 3).to_bytes(4, sys.byteorder)
_SOME = (1).to_bytes(4, sys.byteorder)
_NONE = bytes(4)
_EPHEMERAL = 49152
_REGISTERS = 64
_TIMEOUT, _INTERVAL, _CONCATENATION = 0x10, 0x4, 0x80
_INVERT = 1
_NFPROTO = {4: b"\x02", 6: b"\x0a"}
_MOST_STEPS = 64
_COMPARED = {0: operator.eq, 1: operator.ne, 3: operator.le, 5: operator.ge}


class Unknown(Exception):
    """There is something on the way that is not understood here."""


class _Break(Exception):
    """This rule does not match."""


def ask(nl: Netlink, table: str, asked: Question, via: str) -> Answer | None:
    """What becomes of the first packet of a connection at one of its ends; None if that cannot be told.

    ``table``: the one of family inet. ``via``: the interface by which the host's network layer meets the container.
    """
    if asked.source == asked.destination:
        return Answer(allowed=True, reason="", rule=0)  # it never comes out of the container
    walk = _Walk(nl, table, _packet(asked, via))
    try:
        verdict = walk.through("forward" if asked.sends else "postrouting")
    except Unknown:
        return None
    if verdict == DROP:
        said = words.told(walk.prefix)
        return Answer(allowed=False, reason=REASONS[said.reason] if said else "", rule=said.rule if said else 0)
    return Answer(allowed=True, reason="", rule=walk.rule)


def _packet(asked: Question, via: str) -> dict[Field, bytes]:
    """What each field of our rules is for that packet."""
    n = asked.source.family
    front, front_port = asked.front or (asked.destination, asked.port)
    return {
        ruleset.STATE: _NEW,
        ruleset.STATUS: _NONE,
        ruleset.CT_DIRECTION: b"\0",
        ruleset.CT_PROTOCOL: bytes([asked.protocol]),
        ruleset.OPENER[n]: asked.source.packed,
        ruleset.RESPONDER[n]: asked.destination.packed,
        ruleset.PEER[Direction.EGRESS][n]: front.packed,
        ruleset.PEER[Direction.INGRESS][n]: asked.source.packed,
        ruleset.PORT[Direction.EGRESS]: front_port.to_bytes(2, "big"),
        ruleset.PORT[Direction.INGRESS]: asked.port.to_bytes(2, "big"),
        ruleset.IIF: _SOME,
        ruleset.IIFNAME: ifname(via),
        ruleset.OIFNAME: ifname(via),
        ruleset.NFPROTO: _NFPROTO[n],
        ruleset.L4PROTO: bytes([asked.protocol]),
    }


class _Step(NamedTuple):
    """How a rule ended."""

    code: int
    chain: str = ""


class _Walk:
    """One packet on its way."""

    def __init__(self, nl: Netlink, table: str, packet: dict[Field, bytes]) -> None:
        self._nl, self._table, self._packet = nl, table, packet
        self._sets: dict[str, SetInfo] = nft.collections(nl, "inet", table)
        self._steps = 0
        self.rule = 0
        self.prefix = ""

    def through(self, chain: str) -> int:
        """Go through a chain: the verdict at its end, or CONTINUE where it leads back."""
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise Unknown(chain)
        for rule in nft.rules(self._nl, "inet", self._table, chain):
            step = self._rule(rule)
            if step.code == JUMP:
                if (verdict := self.through(step.chain)) in {ACCEPT, DROP}:
                    return verdict
            elif step.code == GOTO:
                return self.through(step.chain)
            elif step.code == RETURN:
                return CONTINUE
            elif step.code in {ACCEPT, DROP}:
                return step.code
        return CONTINUE

    def _rule(self, rule: nft.Rule) -> _Step:
        registers = bytearray(_REGISTERS)
        try:
            for one in rule:
                if (step := self._expression(one, registers)).code != CONTINUE:
                    return step
        except _Break:
            return _Step(BREAK)
        return _Step(CONTINUE)

    def _expression(self, one: Expression, registers: bytearray) -> _Step:
        told = dict(one.told)
        match one.name:
            case "ct" | "meta" | "payload":
                value = self._load(one)
                at = _offset(told["dreg"])
                registers[at : at + len(value)] = value
            case "bitwise":
                at, mask = _offset(told["sreg"]), _bytes(told["mask"])
                masked = bytes(a & b for a, b in zip(registers[at : at + len(mask)], mask, strict=True))
                registers[_offset(told["dreg"]) : _offset(told["dreg"]) + len(mask)] = masked
            case "cmp":
                at, data = _offset(told["sreg"]), _bytes(told["data"])
                if not _COMPARED[_int(told["op"])](registers[at : at + len(data)], data):
                    raise _Break
            case "lookup":
                return self._lookup(told, registers)
            case "immediate" if isinstance(said := told["data"], Verdict):
                # What is told is told once a second: whether this time is not asked.
                return _Step(CONTINUE) if said.chain == "news" else _Step(*said)
            case "objref":
                counted = words.counted(str(told["object"]))
                self.rule = counted.rule if counted else self.rule
            case "log":
                self.prefix = str(told["prefix"])
            case "counter":
                pass
            case _:
                raise Unknown(one.name)
        return _Step(CONTINUE)

    def _load(self, one: Expression) -> bytes:
        told = tuple((name, value) for name, value in one.told if name != "dreg")
        for field, value in self._packet.items():
            if (field.name, field.told) == (one.name, told):
                return value
        raise _Break

    def _lookup(self, told: Mapping[str, object], registers: bytearray) -> _Step:
        name = str(told["set"])
        found = self._find(self._sets[name], registers[_offset(told["sreg"]) :]) if name in self._sets else None
        if (found is None) != (told.get("flags") == _INVERT):
            raise _Break
        if "dreg" not in told or found is None:
            return _Step(CONTINUE)
        if not isinstance(found.data, Verdict):
            raise Unknown(name)
        return _Step(*found.data)

    def _find(self, of: SetInfo, registers: bytes | bytearray) -> Element | None:
        key = bytes(registers[: of.key_length])
        if of.flags & _TIMEOUT:
            return None
        if not of.flags & _INTERVAL:
            return nft.element(self._nl, "inet", self._table, of.name, key)
        elements = nft.elements(self._nl, "inet", self._table, of.name)
        if of.flags & _CONCATENATION:
            return next((one for one in elements if _within(one, key)), None)
        below = max((one for one in elements if one.key <= key), key=lambda one: (one.key, not one.stop), default=None)
        return None if below is None or below.stop else below


def _within(one: Element, key: bytes) -> bool:
    """Whether each field of four bytes lies in its range."""
    last = one.end or one.key
    return all(one.key[at : at + 4] <= key[at : at + 4] <= last[at : at + 4] for at in range(0, len(key), 4))


def _offset(number: object) -> int:
    """Where a register begins."""
    return next(4 * word for word in range(_REGISTERS // 4) if register(word) == number)


def _int(value: object) -> int:
    if not isinstance(value, int) or value not in _COMPARED:
        raise Unknown(value)
    return value


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise Unknown(value)
    return value
