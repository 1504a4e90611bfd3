"""nfnetlink: the message numbers of nftables, its header, a transaction, and whose transactions there were."""

from __future__ import annotations

import socket
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import NamedTuple

from fairlead.kernel.netlink import ACK, ERROR, Message, Netlink, parse, refusal

FAMILIES = {"inet": 1, "ip": 2, "arp": 3, "netdev": 5, "bridge": 7, "ip6": 10}

_SUBSYSTEM = 10
_GET_GENERATION, _GENERATION = 16, 1
_SO_NETNS_COOKIE = 71
_FEW = 256
"""Of so many messages each is acknowledged by itself; of more the last one alone, or the answers would not find room."""
_header = struct.Struct("=BxH")
_one_at_a_time = RLock()
_made: Counter[bytes] = Counter()  # transactions of this process, by the cookie of the namespace


class Mark(NamedTuple):
    """A moment: how many transactions there were of anybody, and how many of this process."""

    generation: int
    made: int


def kind(number: int) -> int:
    """The netlink type of a message of nftables."""
    return _SUBSYSTEM << 8 | number


def header(family: str) -> bytes:
    """What comes before the attributes."""
    return _header.pack(FAMILIES[family], 0)


def generation(nl: Netlink) -> int:
    """A number that every transaction of anybody raises: while it stands, nothing has changed."""
    answer = nl.ask(Message(kind(_GET_GENERATION), 0, header("inet"), "read the generation of nftables"))
    return int.from_bytes(parse(answer[0], 4).get(_GENERATION, b""), "big")


def mark(nl: Netlink) -> Mark:
    """Now, for ``untouched``."""
    with _one_at_a_time:
        return Mark(generation(nl), _made[_namespace(nl)])


def untouched(nl: Netlink, since: Mark) -> bool:
    """Whether nobody but this process has changed anything of nftables since a mark was made."""
    now = mark(nl)
    return now.generation - since.generation == now.made - since.made


@contextmanager
def alone() -> Iterator[None]:
    """No other thread of this process changes nftables inside: what is read there is still so when it is acted upon."""
    with _one_at_a_time:
        yield


@contextmanager
def ours(nl: Netlink) -> Iterator[None]:
    """What changes nftables inside is this process's: no two threads at once."""
    with _one_at_a_time:
        before = generation(nl)
        yield
        if generation(nl) == before + 1:
            _made[_namespace(nl)] += 1


def _namespace(nl: Netlink) -> bytes:
    try:
        return nl.socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    except OSError:  # before Linux 5.14
        return b""


def transact(nl: Netlink, messages: Sequence[Message]) -> None:
    """Do all of ``messages`` or none; raise the first refusal, whose ``failures`` lists every one."""
    with ours(nl):
        _transact(nl, messages)


def _transact(nl: Netlink, messages: Sequence[Message]) -> None:
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
