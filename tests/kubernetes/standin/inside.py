"""Inside: programs that are run in pods, over WebSocket, as kubelet would run them: here, in the directory that a pod names.

Frames of which the first byte is the stream: 0 to 2 as usual, 3 how it ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping

from aiohttp import WSMsgType, web

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")


async def serve_exec(request: web.Request, environment: Mapping[str, str]) -> web.StreamResponse:
    """Run what is asked for with this environment, until one side ends it."""
    socket = web.WebSocketResponse(protocols=PROTOCOLS)
    await socket.prepare(request)
    command = request.query.getall("command")
    program = sys.executable if command[0] == "python3" else command[0]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        program, *command[1:], stdin=pipe, stdout=pipe, stderr=pipe, env={**os.environ, **environment}
    )
    assert process.stdout
    assert process.stderr
    told = [asyncio.create_task(_tell(socket, at, out)) for at, out in ((1, process.stdout), (2, process.stderr))]
    hearing = asyncio.create_task(_hear(socket, process))
    await asyncio.wait([*told])
    code = await process.wait()
    status = (
        {"status": "Success"} if code == 0 else {"status": "Failure", "message": f"command terminated with exit code {code}"}
    )
    if not socket.closed:
        await socket.send_bytes(b"\3" + json.dumps({"metadata": {}, **status}).encode())
    await socket.close()
    hearing.cancel()
    return socket


async def _tell(socket: web.WebSocketResponse, stream: int, out: asyncio.StreamReader) -> None:
    while data := await out.read(1 << 16):
        if not socket.closed:
            await socket.send_bytes(bytes([stream]) + data)


async def _hear(socket: web.WebSocketResponse, process: asyncio.subprocess.Process) -> None:
    assert process.stdin
    async for frame in socket:
        if frame.type is WSMsgType.BINARY and frame.data[:1] == b"\0":
            process.stdin.write(frame.data[1:])
            await process.stdin.drain()
    process.stdin.close()
