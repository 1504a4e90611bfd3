"""Which containers there are, and by which rule a connection of theirs was let pass: what the rows say, asked for flows.

Read in the agent's event loop, where the rows are as the kernel's tables have them or will have them in a moment.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import lru_cache

from fairlead.desired.state import Front, Judgement, NodeState, Peer, Ruling, Subject
from fairlead.kernel.tracking import Tracked
from fairlead.model.address import Address
from fairlead.policy.blocks import Blocks, Spot
from fairlead.policy.compile import verdict

_MAPPED = bytes(10) + b"\xff\xff"


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
        opener, asked = self._under.get(_mapped(one.original.source)), self._under.get(_mapped(one.reply.source))
        egress = ingress = 0
        if opener and opener.egress:
            egress = self._egress(opener.egress, one)
        if asked and asked.ingress:
            ingress = self._rule(asked.ingress, one.reply.destination, one.protocol, one.reply.source_port)
        return egress, ingress

    def _egress(self, policy: int, one: Tracked) -> int:
        """Of what is for a service, the rule on whom it is led to; else on the address that was asked for."""
        asked = (one.original.destination, one.protocol, one.original.destination_port)
        if (_address(asked[0]), *asked[1:]) in self._state.table(Front):
            led = self._rule(policy, one.reply.source, one.protocol, one.reply.source_port)
            return led or self._rule(policy, *asked)
        return self._rule(policy, *asked)

    def _rule(self, policy: int, peer: bytes, protocol: int, port: int) -> int:
        judgements = self._state.table(Judgement)
        judged = judgements.get((policy, self._class(peer))) or judgements.get((policy, 0))
        ruling = self._state.table(Ruling).get(judged.ruling) if judged else None
        return verdict(ruling.spans, protocol, port).rule if ruling else 0

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


@lru_cache(maxsize=4096)
def _address(packed: bytes) -> Address:
    return Address(ipaddress.ip_address(packed))


def _mapped(packed: bytes) -> bytes:
    return packed if len(packed) == 16 else _MAPPED + packed
