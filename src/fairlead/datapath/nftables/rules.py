"""Which containers there are, and what rules say of a connection of theirs: what the rows say, asked for flows.

Read in the agent's event loop, where the rows are as the kernel's tables have them or will have them in a moment.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import lru_cache

from fairlead.desired.state import Front, Judgement, NodeState, Peer, Ruling, Span, Subject
from fairlead.kernel.tracking import Tracked
from fairlead.model.address import Address
from fairlead.policy.blocks import Blocks, Spot
from fairlead.policy.compile import verdict

_MAPPED = bytes(10) + b"\xff\xff"
_UNSAID = Span(protocol=0, first=0, last=0xFFFF, allow=False, rule=0)
"""Of whom nothing is said: it is dropped."""


class Rules:
    """The rows of a state that may become another one."""

    def __init__(self, state: Callable[[], NodeState]) -> None:
        self._ask = state
        self._state = NodeState()
        self._under: dict[bytes, Subject] = {}
        self._blocks: Blocks | None = None

    def refresh(self) -> None:
        """Look at the rows there are now."""
        state = self._ask()
        if state is self._state:
            return
        self._state, self._blocks = state, None
        self._under = {_mapped(one.packed): row for row in state.table(Subject).values() for one in row.addresses}

    def knows(self, address: bytes) -> bool:
        """Whether a container of ours has an address of 16 bytes."""
        return address in self._under

    def of(self, one: Tracked) -> tuple[int, int]:
        """The numbers of the rules that let a connection out and in, each where it has its end here; 0 if none was asked."""
        egress, ingress = self._said(one)
        return _letting(egress), _letting(ingress)

    def allow(self, one: Tracked) -> bool:
        """Whether a connection passes at each of its ends that is here."""
        return all(said.allow for said in self._said(one) if said)

    def _said(self, one: Tracked) -> tuple[Span | None, Span | None]:
        """What is said at its end where it was opened, and at the other; None where nothing is asked."""
        opener, asked = self._under.get(_mapped(one.original.source)), self._under.get(_mapped(one.reply.source))
        egress = self._egress(opener.egress, one) if opener and opener.egress else None
        if not asked or not asked.ingress:
            return egress, None
        return egress, self._verdict(asked.ingress, one.reply.destination, one.protocol, one.reply.source_port)

    def _egress(self, policy: int, one: Tracked) -> Span:
        """Of what is for a service, the rule on whom it is led to; else on the address that was asked for."""
        asked = (one.original.destination, one.protocol, one.original.destination_port)
        if (_address(asked[0]), *asked[1:]) in self._state.table(Front):
            led = self._verdict(policy, one.reply.source, one.protocol, one.reply.source_port)
            if led.rule:
                return led
        return self._verdict(policy, *asked)

    def _verdict(self, policy: int, peer: bytes, protocol: int, port: int) -> Span:
        judgements = self._state.table(Judgement)
        judged = judgements.get((policy, self._class(peer))) or judgements.get((policy, 0))
        ruling = self._state.table(Ruling).get(judged.ruling) if judged else None
        return verdict(ruling.spans, protocol, port) if ruling else _UNSAID

    def _class(self, packed: bytes) -> int:
        address = _address(packed)
        peers = self._state.table(Peer)
        if found := peers.get(str(address.host())):
            return found.peer
        holding = self._around().holding(Spot.of(address))
        return peers[str(holding[-1])].peer if holding else 0

    def _around(self) -> Blocks:
        if self._blocks is None:
            self._blocks = Blocks()
            for key, row in self._state.table(Peer).items():
                if not str(key).endswith(("/32", "/128")):
                    self._blocks.add(row.prefix)
        return self._blocks


def _letting(said: Span | None) -> int:
    return said.rule if said and said.allow else 0


@lru_cache(maxsize=4096)
def _address(packed: bytes) -> Address:
    return Address(ipaddress.ip_address(packed))


def _mapped(packed: bytes) -> bytes:
    return packed if len(packed) == 16 else _MAPPED + packed
