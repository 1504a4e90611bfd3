"""Connections to the agent's socket: how many there may be, and how long one may keep silent.

A connection is busy while a request of it is worked on, and silent otherwise: before its first request is whole, between two,
and while its reader does not take the answer. The silent are bounded in time, all of them in number::

    a new one when all places are taken    the one that has been silent longest goes
    ... and every one of them is busy      it waits in the kernel's queue until one is not

So whoever connects and asks at once, as every client of ours does, is answered, however many others connect and say nothing.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from aiohttp import web

log = logging.getLogger(__name__)

_quiet = logging.getLogger("fairlead.http")
"""For aiohttp: what is not HTTP is answered with 400, and no more need be said of it."""
_quiet.setLevel(logging.CRITICAL)

_MOST = 256
_PATIENCE = 10.0
"""Seconds that a connection may be silent."""
_LINGER = 2.0
"""Seconds for which the rest of a body is read and thrown away after its request was refused."""
_RESPITE = 0.2
"""Seconds to wait before taking connections again when the process has no descriptor left."""


class Connection(web.RequestHandler):
    """One connection, known to ``Connections`` from its first moment to its last."""

    def __init__(self, server: web.Server, all_: Connections) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            logger=_quiet,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own word for no log, which it passes on itself
            keepalive_timeout=_PATIENCE,
            lingering_time=_LINGER,
            auto_decompress=False,
        )
        self._all = all_

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._all.hushed(self)
        super().connection_made(transport)

    def end(self) -> None:
        """Now, even if the other side takes no byte of what it was sent."""
        transport = self.transport
        self.force_close()
        if isinstance(transport, asyncio.WriteTransport):
            transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._all.left(self)
        super().connection_lost(exc)


class Connections:
    """Takes connections from listening sockets."""

    def __init__(self, server: web.Server, *, most: int = _MOST, patience: float = _PATIENCE) -> None:
        self._server, self._most, self._patience = server, most, patience
        self._silent: dict[Connection, asyncio.TimerHandle] = {}  # the one that has been silent longest is the first
        self._busy: set[Connection] = set()
        self._room = asyncio.Event()
        self._accepting: list[asyncio.Task[None]] = []

    def start(self, *listening: socket.socket) -> None:
        """Begin to take connections; ``listening`` are closed with ``stop``."""
        loop = asyncio.get_running_loop()
        self._accepting = [loop.create_task(self._accept(one)) for one in listening]

    async def stop(self) -> None:
        """Take no more; those there are go on."""
        for one in self._accepting:
            one.cancel()
            with suppress(asyncio.CancelledError):
                await one

    @contextmanager
    def busy(self, request: web.BaseRequest) -> Iterator[None]:
        """The connection of ``request`` is busy for as long as this lasts."""
        connection = request.protocol
        assert isinstance(connection, Connection)
        if timer := self._silent.pop(connection, None):
            timer.cancel()
            self._busy.add(connection)
        try:
            yield
        finally:
            if connection in self._busy:  # else it was lost meanwhile
                self.hushed(connection)

    def hushed(self, connection: Connection) -> None:
        """``connection`` says nothing from now on."""
        self._busy.discard(connection)
        self._silent[connection] = asyncio.get_running_loop().call_later(self._patience, connection.end)
        self._room.set()

    def left(self, connection: Connection) -> None:
        """``connection`` is closed."""
        self._busy.discard(connection)
        if timer := self._silent.pop(connection, None):
            timer.cancel()
        self._room.set()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listening:
            while True:
                await self._make_room()
                try:
                    connected, _ = await loop.sock_accept(listening)
                except OSError as problem:
                    log.warning("cannot take a connection: %s", problem)
                    await asyncio.sleep(_RESPITE)
                    continue
                await loop.connect_accepted_socket(lambda: Connection(self._server, self), connected)

    async def _make_room(self) -> None:
        while len(self._silent) + len(self._busy) >= self._most:
            if self._silent:
                connection = next(iter(self._silent))
                connection.end()
                self.left(connection)
            else:
                self._room.clear()
                await self._room.wait()
