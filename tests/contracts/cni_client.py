"""The compiled client, and agents for it: real ones on a real unix socket, ill ones, and none at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path

from aiohttp import web

from fairlead.api import wire
from fairlead.cni import verbs
from tests.contracts.fake_door import FakeDoor

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
PATIENCE = 20
"""Seconds after which a call that ought to end counts as hanging. The client's own default deadline is longer."""

Serve = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Client:
    """Executes the plugin as a runtime would."""

    def __init__(self, bin_dir: Path, run_dir: Path, state_dir: Path) -> None:
        self.bin_dir = bin_dir
        self.base = {"FAIRLEAD_RUN_DIR": str(run_dir), "FAIRLEAD_STATE_DIR": str(state_dir), "PATH": "/usr/bin:/bin"}
        self.pending = state_dir / "pending-del"

    async def call(self, command: str, stdin: bytes | None, *, name: str = "fairlead", **more: str) -> tuple[int, dict]:
        status, out = await self.raw(command, stdin, name=name, **more)
        return status, json.loads(out) if out else {}

    async def raw(self, command: str, stdin: bytes | None, *, name: str = "fairlead", **more: str) -> tuple[int, bytes]:
        environment = {
            **self.base,
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": "/run/netns/c1",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(self.bin_dir),
            **more,
        }
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            self.bin_dir / name, env=environment, stdin=pipe, stdout=pipe, stderr=pipe
        )
        assert process.stdin
        assert process.stdout
        try:
            async with asyncio.timeout(PATIENCE):
                if stdin is None:
                    out = await process.stdout.read()
                    await process.wait()
                else:
                    out, errors = await process.communicate(stdin)
                    assert not errors
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            process.stdin.close()
        assert process.returncode in {0, 1}
        return process.returncode, out

    def remembered(self) -> list[Path]:
        return sorted(self.pending.iterdir()) if self.pending.is_dir() else []


@contextlib.asynccontextmanager
async def agent(client: Client, serve: Serve) -> AsyncIterator[None]:
    application = web.Application(client_max_size=wire.MAX_BODY)
    application.router.add_post("/cni", serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, Path(client.base["FAIRLEAD_RUN_DIR"], "agent.sock")).start()
    try:
        yield
    finally:
        await runner.cleanup()


def cni(door: FakeDoor) -> Serve:
    async def serve(request: web.Request) -> web.Response:
        status, body = await verbs.answer(door, request.headers, await request.read())
        return web.Response(status=status, body=body, content_type="application/json")

    return serve


@contextlib.asynccontextmanager
async def bytes_server(client: Client, answer: bytes, *, close: bool) -> AsyncIterator[None]:
    """A server that answers with ``answer`` whatever it is asked, then closes the connection or keeps it open."""
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        if not close:
            await over.wait()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_unix_server(serve, Path(client.base["FAIRLEAD_RUN_DIR"], "agent.sock"))
    try:
        yield
    finally:
        over.set()
        server.close()
        await server.wait_closed()


def conf(version: str = "1.0.0", **more: object) -> bytes:
    return json.dumps({"prevResult": None, "cniVersion": version, "name": "mynet", "type": "fairlead", **more}).encode()


def run(main: Coroutine[object, object, None]) -> None:
    asyncio.run(main)
