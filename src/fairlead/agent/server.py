"""HTTP over the unix socket: translates between requests and the agent, bounds what comes in, and decides nothing."""

from __future__ import annotations

import asyncio
import grp
import logging
import os
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from aiohttp import web

from fairlead.api import wire
from fairlead.api.door import Door
from fairlead.api.schema import Attach, Change, Detach, Proposal
from fairlead.cni import verbs
from fairlead.kit import fault
from fairlead.model import codec, errors

from .connections import Connections
from .metrics import Metrics

log = logging.getLogger(__name__)

_PARALLEL = 64
"""Requests that are worked on at once; further ones wait their turn."""
_QUEUE = 512
"""Connections that wait to be taken; a runtime that finds the queue full waits in the kernel."""
_SMALL = 64 << 10
_LARGE_BODIES = 16
"""Bodies of more than ``_SMALL`` bytes, or of unknown size, that are held at once; so much memory can requests take."""
_SLOWEST = 10.0
"""Seconds that a request's body may take."""

_CREDENTIALS = struct.Struct("3i")
"""SO_PEERCRED: process, user, group."""

_NOTHING = nullcontext()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """The listening socket and its routes."""

    def __init__(self, door: Door, metrics: Metrics) -> None:
        self._door, self._metrics = door, metrics
        self._turns = asyncio.Semaphore(_PARALLEL)
        self._large = asyncio.Semaphore(_LARGE_BODIES)
        self._connections: Connections | None = None
        self._runner: web.AppRunner | None = None

    async def start(self, *paths: Path, group: str) -> None:
        """Listen at ``paths`` for root and, if named, the members of ``group``."""
        app = web.Application(client_max_size=wire.MAX_BODY, middlewares=[self._measure, self._guard])
        app.add_routes(
            [
                web.get("/v1/status", self._status),
                web.get("/v1/doctor", self._doctor),
                web.get("/v1/objects/{plural}", self._list),
                web.get("/v1/objects/{plural}/{name}", self._get),
                web.put("/v1/objects", self._apply),
                web.delete("/v1/objects/{plural}/{name}", self._delete),
                web.post("/v1/attach", self._attach),
                web.post("/v1/detach", self._detach),
                web.post("/v1/change", self._change),
                web.delete("/v1/node", self._purge),
                web.get("/v1/flows", self._flows),
                web.get("/v1/wireguard", self._encryption),
                web.post("/v1/wireguard/rotate", self._rotate),
                web.get("/v1/policy/explain", self._explain),
                web.post("/v1/policy/preview", self._preview),
                web.get("/v1/policy/hits", self._hits),
                web.get("/v1/policy/identities", self._identities),
                web.get("/v1/bgp/status", self._bgp_status),
                web.get("/v1/bgp/routes", self._bgp_routes),
                web.post("/cni", self._cni),
            ]
        )
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        assert self._runner.server
        self._connections = Connections(self._runner.server)
        self._connections.start(*(_listening(one, group) for one in paths))

    async def stop(self) -> None:
        """Finish what is being answered and close."""
        if self._connections:
            await self._connections.stop()
        if self._runner:
            await self._runner.cleanup()

    @web.middleware
    async def _measure(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """How long each answer takes, by its route."""
        begun = time.monotonic()
        answer = await handler(request)
        resource = request.match_info.route.resource
        if "follow" not in request.query:  # which lasts as long as its reader likes
            route = resource.canonical if resource else "none"
            self._metrics.request(request.method, route, answer.status, time.monotonic() - begun)
        return answer

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every refusal as a ``Refusal``; what nobody foresaw is logged here, and no traceback goes out."""
        assert self._connections
        try:
            with self._connections.busy(request):
                if "follow" in request.query:  # takes no turn: it lasts as long as its reader likes; the collector bounds them
                    return await handler(request)
                return await self._work(request, handler)
        except errors.Problem as problem:
            return _refuse(problem)
        except web.HTTPRequestEntityTooLarge:
            return _refuse(errors.Invalid(f"the request is larger than {wire.MAX_BODY} bytes", field="body"))
        except web.HTTPNotFound:
            return _refuse(errors.Missing(f"there is no {request.path[:200]}", field="path"))
        except web.HTTPMethodNotAllowed as wrong:
            return _refuse(errors.Invalid(f"{wrong.method} is not for {request.path[:200]}", field="method"))
        except Exception:
            log.exception("%r %r", request.method, request.path[:200])
            return _refuse(errors.Failed("the agent met an error it did not foresee; its log has the details"))

    async def _work(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The whole body first, so that no slow sender keeps others from their turn."""
        small = request.content_length is not None and request.content_length <= _SMALL
        async with _NOTHING if small or not request.can_read_body else self._large:
            try:
                async with asyncio.timeout(_SLOWEST):
                    await request.read()
            except TimeoutError:
                request.protocol.close()
                raise errors.Invalid(f"the body did not come within {_SLOWEST:g} s", field="body") from None
            # Who follows takes no turn: it lasts as long as its reader likes, and the collector bounds them.
            async with _NOTHING if "follow" in request.query else self._turns:
                fault.point("request.read")
                response = await handler(request)
        fault.point("request.done")
        return response

    async def _status(self, _: web.Request) -> web.Response:
        return _json(self._door.status())

    async def _doctor(self, _: web.Request) -> web.Response:
        return _json(await self._door.doctor())

    async def _list(self, request: web.Request) -> web.Response:
        everywhere = request.query.get("everywhere", "false") == "true"
        return _json(self._door.objects(request.match_info["plural"], everywhere=everywhere, reveal=_reveals(request)))

    async def _get(self, request: web.Request) -> web.Response:
        plural, name = request.match_info["plural"], request.match_info["name"]
        for thing in self._door.objects(plural, reveal=_reveals(request)):
            if name in {thing.name, "/".join(thing.key)}:
                return _json(thing)
        for one in self._door.status().unreadable:
            if (one.plural, one.name) == (plural, name):
                raise errors.Invalid(f"{plural} {name} is stored and cannot be read: {one.reason}", field="name")
        raise errors.Missing(f"there is no {plural.removesuffix('s')} {name!r}", field="name")

    async def _apply(self, request: web.Request) -> web.Response:
        return _json(await self._door.apply(codec.from_item(codec.decode(await request.read(), dict[str, Any]))))

    async def _delete(self, request: web.Request) -> web.Response:
        return _json(await self._door.delete(request.match_info["plural"], request.match_info["name"]))

    async def _attach(self, request: web.Request) -> web.Response:
        return _json(await self._door.attach(codec.decode(await request.read(), Attach)))

    async def _detach(self, request: web.Request) -> web.Response:
        return _json(await self._door.detach(codec.decode(await request.read(), Detach)))

    async def _change(self, request: web.Request) -> web.Response:
        return _json(await self._door.change(codec.decode(await request.read(), Change)))

    async def _purge(self, _: web.Request) -> web.Response:
        await self._door.purge()
        return web.json_response({})

    async def _encryption(self, _: web.Request) -> web.Response:
        return _json(await self._door.encryption())

    async def _rotate(self, _: web.Request) -> web.Response:
        return _json(await self._door.rotate())

    async def _bgp_status(self, _: web.Request) -> web.Response:
        return _json(await self._door.bgp_status())

    async def _bgp_routes(self, request: web.Request) -> web.Response:
        return _json(await self._door.bgp_routes(request.query))

    async def _explain(self, request: web.Request) -> web.Response:
        return _json(await self._door.explain(request.query))

    async def _preview(self, request: web.Request) -> web.Response:
        return _json(await self._door.preview(codec.decode(await request.read(), Proposal)))

    async def _hits(self, _: web.Request) -> web.Response:
        return _json(await self._door.hits())

    async def _identities(self, request: web.Request) -> web.Response:
        return _json(await self._door.identities(request.query))

    async def _flows(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("follow", "false") == "false":
            return _json(await self._door.flows(request.query))
        batches = self._door.follow(request.query)
        answer = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await answer.prepare(request)
        with suppress(ConnectionError):  # the reader has enough
            async for batch in batches:
                if request.transport is None or request.transport.is_closing():
                    break
                if batch:
                    await answer.write(b"".join(codec.encode(one) + b"\n" for one in batch))
        return answer

    async def _cni(self, request: web.Request) -> web.Response:
        status, body = await verbs.answer(self._door, request.headers, await request.read())
        return web.Response(status=status, body=body, content_type="application/json")


def _listening(path: Path, group: str) -> socket.socket:
    """The socket: for root alone from its first moment, then for ``group`` too if one is named."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    before = os.umask(0o177)
    try:
        listening.bind(str(path))
    finally:
        os.umask(before)
    listening.listen(_QUEUE)
    if group:
        try:
            os.chown(path, 0, grp.getgrnam(group).gr_gid)
        except KeyError:
            raise errors.Invalid(f"there is no group {group!r} on this host", field="group") from None
        path.chmod(0o660)
    return listening


def _reveals(request: web.Request) -> bool:
    """Whether secrets are asked for; ``Forbidden`` unless by root, whoever else may use the socket."""
    if request.query.get("reveal", "false") != "true":
        return False
    connected = request.transport.get_extra_info("socket") if request.transport else None
    packed = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size) if connected else b""
    if not packed or _CREDENTIALS.unpack(packed)[1] != 0:
        raise errors.Forbidden("what Secrets hold is told to root alone", field="reveal")
    return True


def _json(value: object) -> web.Response:
    return web.Response(body=codec.encode(value), content_type="application/json")


def _refuse(problem: errors.Problem) -> web.Response:
    status = wire.STATUS.get(type(problem), 500)
    return web.Response(status=status, body=codec.encode(wire.refusal(problem)), content_type="application/json")
