"""nfnetlink: the message numbers of nftables, its header, and a transaction."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from fairlead.kernel.netlink import ACK, ERROR, Message, Netlink, refusal

FAMILIES = {"inet": 1, "ip": 2, "arp": 3, "netdev": 5, "bridge": 7, "ip6": 10}

_SUBSYSTEM = 10
_FEW = 256
"""Of so many messages each is acknowledged by itself; of more the last one alone, or the answers would not find room."""
_header = struct.Struct("=BxH")


def kind(number: int) -> int:
    """The netlink type of a message of nftables."""
    return _SUBSYSTEM << 8 | number


def header(family: str) -> bytes:
    """What comes before the attributes."""
    return _header.pack(FAMILIES[family], 0)


def transact(nl: Netlink, messages: Sequence[Message]) -> None:
    """Do all of ``messages`` or none; raise the first refusal, whose ``failures`` lists every one."""
    fence = _header.pack(0, _SUBSYSTEM << 8)
    begin, end = Message(16, 0, fence, messages[0].doing), Message(17, 0, fence, messages[0].doing)
    asked = messages if len(messages) <= _FEW else messages[-1:]
    silent = messages[: len(messages) - len(asked)]
    first = nl.send((begin, *silent, *(message._replace(flags=message.flags | ACK) for message in asked), end), 0)
    last = first + len(messages)
    failures = []
    done = False
    while not done:
        for reply in nl.receive(messages[0].doing):
            if reply.type != ERROR or reply.seq < first:
                continue
            # An answer to the opening message itself says that the transaction as a whole was refused.
            position = max(reply.seq - first - 1, 0)
            if error := refusal(reply, messages[position]):
                error.index = position
                failures.append(error)
            done = done or reply.seq in {first, last}
    if failures:
        failures[0].failures = failures
        raise failures[0]
