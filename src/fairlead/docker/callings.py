"""What Docker calls its containers: the driver is told ids alone, and people know names.

Some moments after a container has joined, Docker itself is asked over its own socket (``GET /networks/{id}``), and the answer
becomes the endpoint's display name. Nobody waits for it, and without an answer the endpoint goes by its id.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import aiohttp
import msgspec

from fairlead.api.door import Door
from fairlead.api.schema import Change
from fairlead.model.address import ContainerID
from fairlead.model.errors import Problem

from .driver import ETH
from .protocol import Endpoint

log = logging.getLogger(__name__)

DOCKER = Path("/run/docker.sock")
_MOMENTS = (0.2, 2.0, 10.0)
_TIMEOUT = aiohttp.ClientTimeout(total=10)
_MOST = 16 << 20
"""Bytes of an answer: some 50,000 containers on one network."""


class _Container(msgspec.Struct, rename="pascal"):
    name: str = ""
    endpoint_id: str = msgspec.field(default="", name="EndpointID")


class _Network(msgspec.Struct, rename="pascal"):
    containers: dict[str, _Container] = {}


class Callings:
    """Asks in the background."""

    def __init__(self, door: Door, docker: Path = DOCKER) -> None:
        self._door, self._docker = door, docker
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, joined: Endpoint) -> None:
        """Find out what the container of this endpoint is called, in a moment."""
        task = asyncio.create_task(self._ask(joined))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Ask no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ask(self, joined: Endpoint) -> None:
        for moment in _MOMENTS:
            await asyncio.sleep(moment)
            try:
                if name := await self._name(joined):
                    await self._door.change(Change(container=ContainerID(joined.endpoint_id), interface=ETH, display=name))
                    return
            except (aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError, Problem) as problem:
                log.debug("what Docker calls endpoint %s: %s", joined.endpoint_id[:12], problem)

    async def _name(self, joined: Endpoint) -> str:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self._docker)), timeout=_TIMEOUT) as session,
            session.get(f"http://docker/networks/{joined.network_id}") as answer,
        ):
            body = await answer.content.read(_MOST)
        found = msgspec.json.decode(body, type=_Network).containers.values()
        return next((one.name[:128] for one in found if one.endpoint_id == joined.endpoint_id), "")
