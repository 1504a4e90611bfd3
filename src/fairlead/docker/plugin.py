"""The plugin as Docker finds it: a unix socket in its plugins' folder, one route a call, every refusal in Docker's words.

What cannot be read is answered with HTTP status 400, what is no call with 404; what can be read and not be done with 200 and
the reason: a network driver says it in ``Err``, an IPAM driver in ``Error``. Docker shows it to whoever typed the command.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from fairlead.api.door import Door
from fairlead.model import codec, errors

from .callings import Callings
from .driver import Driver
from .ipam import Ipam
from .protocol import (
    CONTENT_TYPE,
    Activated,
    CreateEndpoint,
    CreateNetwork,
    DeleteNetwork,
    Discovery,
    Endpoint,
    Join,
    Message,
    Nothing,
    ProgramExternalConnectivity,
    ReleaseAddress,
    ReleasePool,
    RequestAddress,
    RequestPool,
)

log = logging.getLogger(__name__)

FOLDER = Path("/run/docker/plugins")
"""Where Docker looks for sockets of plugins; the name of the socket is that of the driver."""
_PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

MAX_BODY = 4 << 20
"""Bytes of one request: 40,000 published ports, each of which Docker says by itself."""

_PARALLEL = 64
_MESSAGE = 2000
"""Characters of a refusal; the input that is quoted in it can be long."""

Act = Callable[[Any], Awaitable[Message]]

_FLAGS = (
    ("subnets", "--subnet"),
    ("spec.subnets", "--subnet"),
    ("mtu", "-o com.docker.network.driver.mtu"),
    ("spec.mtu", "-o com.docker.network.driver.mtu"),
    ("spec.bridge", "-o com.docker.network.bridge.name"),
    ("addresses", "--ip"),
    ("address", "--ip"),
    ("mac", "--mac-address"),
    ("ports", "-p"),
)
"""Where the agent's fields come from on Docker's command line."""


def socket() -> Path | None:
    """Where Docker looks for this plugin; None if nobody looks, or not for this agent.

    FAIRLEAD_DOCKER_SOCKET names another place, or none if it is empty. An agent whose run directory is not the usual one is
    not the machine's own: unless told so, it does not stand in for that.
    """
    given = os.environ.get("FAIRLEAD_DOCKER_SOCKET")
    if given is not None:
        return Path(given) if given else None
    installed = shutil.which("dockerd", path=_PROGRAMS) or FOLDER.parent.is_dir()
    return FOLDER / "fairlead.sock" if installed and "FAIRLEAD_RUN_DIR" not in os.environ else None


class Plugin:
    """The listening socket and the calls behind it."""

    def __init__(self, door: Door) -> None:
        self._calls = calls(door)
        self._callings = Callings(door)
        self._turns = asyncio.Semaphore(_PARALLEL)
        self._runner: web.AppRunner | None = None
        self._path: Path | None = None

    def routes(self) -> list[web.RouteDef]:
        """One route a call."""
        return [web.post(f"/{name}", self._handler(name)) for name in self._calls]

    async def start(self, path: Path) -> None:
        """Listen at ``path``, for root alone; its folder is made if it is not there. ``OSError`` says why that cannot be."""
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)  # once, before anybody is served
        path.unlink(missing_ok=True)  # noqa: ASYNC240  # likewise
        app = web.Application(client_max_size=MAX_BODY, middlewares=[_guard])
        app.add_routes(self.routes())
        self._runner, self._path = web.AppRunner(app, access_log=None, handle_signals=False), path
        await self._runner.setup()
        before = os.umask(0o177)
        try:
            await web.UnixSite(self._runner, str(path), backlog=512).start()
        finally:
            os.umask(before)

    async def stop(self) -> None:
        """Finish what is being answered and close. Without its socket Docker knows at once that there is no such driver."""
        if self._runner and self._path:
            self._path.unlink(missing_ok=True)
            await self._callings.stop()
            await self._runner.cleanup()

    async def answer(self, name: str, body: bytes) -> tuple[int, bytes]:
        """One call: HTTP status and body. Whatever comes in, what goes out is Docker's."""
        expected, act = self._calls[name]
        if not body and expected is not Nothing:
            return 400, _refusal("the agent was restarted while Docker waited for its answer; try again")
        try:
            message = codec.decode(body or b"{}", expected)
        except errors.Invalid as problem:
            return 400, _refusal(str(problem))
        try:
            async with self._turns:
                answer = await act(message)
            if isinstance(message, Join):
                self._callings.ask(message)
            return 200, msgspec.json.encode(answer, enc_hook=str)
        except errors.Problem as problem:
            log.info("%s: refused: %s", name, problem)
            return 200, _refusal(said(problem), "Error" if name.startswith("IpamDriver.") else "Err")
        except Exception:
            log.exception("%s", name)
            return 500, _refusal("the agent met an error it did not foresee; its log has the details")

    def _handler(self, name: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            return _response(*await self.answer(name, await request.read()))

        return handle


def calls(door: Door) -> dict[str, tuple[type[Message], Act]]:
    """Every call: what it carries, and who answers it."""
    driver, ipam = Driver(door), Ipam(door)
    network: dict[str, tuple[type[Message], Act]] = {
        "GetCapabilities": (Nothing, driver.capabilities),
        "AllocateNetwork": (CreateNetwork, driver.allocate_network),
        "FreeNetwork": (DeleteNetwork, driver.free_network),
        "GwAllocCheck": (Nothing, driver.gateway_check),
        "CreateNetwork": (CreateNetwork, driver.create_network),
        "DeleteNetwork": (DeleteNetwork, driver.delete_network),
        "CreateEndpoint": (CreateEndpoint, driver.create_endpoint),
        "DeleteEndpoint": (Endpoint, driver.delete_endpoint),
        "EndpointOperInfo": (Endpoint, driver.endpoint_info),
        "Join": (Join, driver.join),
        "Leave": (Endpoint, driver.leave),
        "ProgramExternalConnectivity": (ProgramExternalConnectivity, driver.program),
        "RevokeExternalConnectivity": (Endpoint, driver.revoke),
        "DiscoverNew": (Discovery, driver.discover),
        "DiscoverDelete": (Discovery, driver.discover),
    }
    addresses: dict[str, tuple[type[Message], Act]] = {
        "GetCapabilities": (Nothing, ipam.capabilities),
        "GetDefaultAddressSpaces": (Nothing, ipam.spaces),
        "RequestPool": (RequestPool, ipam.request_pool),
        "ReleasePool": (ReleasePool, ipam.release_pool),
        "RequestAddress": (RequestAddress, ipam.request_address),
        "ReleaseAddress": (ReleaseAddress, ipam.release_address),
    }
    return {
        "Plugin.Activate": (Nothing, _activate),
        **{f"NetworkDriver.{name}": call for name, call in network.items()},
        **{f"IpamDriver.{name}": call for name, call in addresses.items()},
    }


def said(problem: errors.Problem) -> str:
    """A refusal for whoever typed a docker command: the agent's field as the flag it came from."""
    for field, flag in _FLAGS:
        if problem.field == field or problem.field.startswith((f"{field}[", f"{field}.")):
            return f"{flag}: {problem.message}"
    return str(problem)


async def _activate(_: Nothing) -> Activated:
    return Activated()


@web.middleware
async def _guard(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """What is no call, or too large for one."""
    try:
        return await handler(request)
    except web.HTTPRequestEntityTooLarge:
        return _response(413, _refusal(f"the request is larger than {MAX_BODY} bytes"))
    except web.HTTPException as wrong:
        return _response(wrong.status, _refusal(f"{request.method} {request.path[:200]}: there is no such call"))


def _response(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, content_type=CONTENT_TYPE)


def _refusal(message: str, key: str = "Err") -> bytes:
    text = message.encode(errors="replace").decode()
    return msgspec.json.encode({key: text if len(text) <= _MESSAGE else f"{text[:_MESSAGE]} [...]"})
