"""Echo: whether an address answers, asked with ICMP echo requests (RFC 792, RFC 4443) from the agent's namespace.

One of a given size asks for the way as well: it may be fragmented nowhere, and what routers said of the way before does not
count, so that there is an answer only if every link carries it whole.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import struct
from contextlib import suppress

from fairlead.kernel.checksum import checksum
from fairlead.kernel.errors import translated

_REQUEST = {4: 8, 6: 128}
_REPLY = {4: 0, 6: 129}
_header = struct.Struct("!BBHHH")
_IP = {4: 20, 6: 40}
"""Bytes of the IP header."""
_MTU_DISCOVER = {4: (socket.IPPROTO_IP, 10), 6: (socket.IPPROTO_IPV6, 23)}
_PROBE = 3
"""Of IP_MTU_DISCOVER: never fragment, and do not look at what is known of the way."""
_LARGEST = 65535
_identifier = os.getpid() & 0xFFFF
_numbers = itertools.count(1)


async def answers(address: str, patience: float, size: int = 0, source: str = "") -> bool:
    """Whether an echo request is answered within ``patience`` seconds; where it cannot even be sent, it is not.

    ``size``: of the whole packet, in bytes; 0: the smallest, of which the way does not matter.
    """
    family = 6 if ":" in address else 4
    number = next(_numbers) & 0xFFFF
    with _socket(family) as sock:
        if size:
            sock.setsockopt(*_MTU_DISCOVER[family], _PROBE)
        if source:
            sock.bind((source, 0))
        padding = bytes(max(size - _IP[family] - _header.size, 0))
        request = _header.pack(_REQUEST[family], 0, 0, _identifier, number) + padding
        if family == 4:
            request = _header.pack(_REQUEST[4], 0, checksum(request), _identifier, number) + padding
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(patience):
                await loop.sock_sendto(sock, request, (address, 0))
                while True:
                    data = await loop.sock_recv(sock, _LARGEST)
                    if _matches(data[20:] if family == 4 else data, family, number):
                        return True
    return False


def _socket(family: int) -> socket.socket:
    with translated("open a socket for ICMP"):
        if family == 4:
            sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        else:
            sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        sock.setblocking(False)
        return sock


def _matches(data: bytes, family: int, number: int) -> bool:
    if len(data) < _header.size:
        return False
    kind, _, _, identifier, sequence = _header.unpack_from(data)
    return bool(kind == _REPLY[family] and (identifier, sequence) == (_identifier, number))
