"""Away: the commands that ask an agent, asked from a machine that is no node, by way of the cluster's API server.

::

    command ─► a socket of this process ─► WebSocket ─► API server ─► kubelet ─► relay, beside the agent ─► its socket

A command notices nothing: it finds a socket where it looks for the agent's. What the cluster lets a person do is what kubectl
would be let: to run a program in the agents' pods (``pods/exec`` in the namespace fairlead-system).
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

import aiohttp
import msgspec

from fairlead.model.errors import Invalid, Missing, Problem
from fairlead.store.kubernetes import access
from fairlead.store.kubernetes.access import NAMESPACE
from fairlead.store.kubernetes.client import Client
from fairlead.store.kubernetes.errors import Again

from . import kernels
from .out import write

COMMANDS = {"status": True, "doctor": True, "flows": False, "get": None, "policy": None, "bgp": None, "version": None}
"""What can be asked from afar. Without ``--node`` True is asked of every node, None of any, False of none."""

OPTIONS = ("--kubeconfig", "--context", "--node")

_LABEL, _CONTAINER = "app.kubernetes.io/name=fairlead", "agent"
_RELAY = ("python3", "-m", "fairlead.agent.relay")
_STDIN, _STDOUT, _STDERR, _ERROR = 0, 1, 2, 3
_PIECE = 1 << 16


class Asked(NamedTuple):
    """Which cluster, which node, and the command with its words."""

    kubeconfig: str
    context: str
    node: str
    command: tuple[str, ...]


class _Meta(msgspec.Struct):
    name: str


class _Spec(msgspec.Struct, rename="camel"):
    node_name: str = ""


class _Condition(msgspec.Struct):
    type: str
    status: str


class _Status(msgspec.Struct):
    conditions: list[_Condition] | None = None


class _Pod(msgspec.Struct):
    metadata: _Meta
    spec: _Spec
    status: _Status = msgspec.field(default_factory=_Status)

    @property
    def ready(self) -> bool:
        """Whether its agent answers, as kubelet sees it."""
        return any(one.type == "Ready" and one.status == "True" for one in self.status.conditions or ())


class _Pods(msgspec.Struct):
    items: list[_Pod]


def asked(arguments: list[str], *, always: bool = False) -> Asked | None:
    """What a command line asks of a cluster: one that names it before the command, or any if ``always``."""
    given: dict[str, str] = {}
    words = list(arguments)
    while words and (name := words[0].partition("=")[0]) in OPTIONS:
        word = words.pop(0)
        if "=" in word:
            given[name] = word.partition("=")[2]
        elif words:
            given[name] = words.pop(0)
        else:
            raise Invalid("it needs a value", field=name)
    if not given and not always:
        return None
    kubeconfig, context, node = (given.get(name, "") for name in OPTIONS)
    return Asked(kubeconfig, context, node, tuple(words))


def run(what: Asked, command: Callable[[list[str]], int]) -> int:
    """Run the command against the agents that it is for; the worst exit status."""
    name = what.command[0] if what.command else ""
    if not what.command or name.startswith("-"):
        return command(list(what.command))
    if name not in COMMANDS:
        raise Invalid(f"{name} is for the node that it is run on; from afar there are: {', '.join(COMMANDS)}", field="command")
    with _Tunnel(what) as tunnel:
        pods = tunnel.pods()
        chosen = _chosen(pods, what.node, COMMANDS[name])
        kernels.reach.set(_reach(tunnel, pods))
        worst = 0
        for pod in chosen:
            if len(chosen) > 1:
                write(f"{pod.spec.node_name}:")
            with tunnel.to(pod.metadata.name):
                worst = max(worst, command(list(what.command)))
        return worst


def _reach(tunnel: _Tunnel, pods: list[_Pod]) -> Callable[[str], AbstractContextManager[Path]]:
    """How other nodes' agents are asked from a command that asks one."""

    def reach(node: str) -> AbstractContextManager[Path]:
        return tunnel.socket(_chosen(pods, node, None)[0].metadata.name)

    return reach


def _chosen(pods: list[_Pod], node: str, everywhere: bool | None) -> list[_Pod]:
    """The agents' pods that a command is for. Of two on a node (``deploy/kubernetes/relay.yaml``) either leads to the agent."""
    pods = list({one.spec.node_name: one for one in sorted(pods, key=lambda one: one.ready)}.values())
    nodes = sorted(one.spec.node_name for one in pods)
    if not pods:
        raise Missing(f"the cluster has no pods of Fairlead in namespace {NAMESPACE}; install it: docs/kubernetes.md")
    if node:
        if found := [one for one in pods if one.spec.node_name == node]:
            return found[:1]
        raise Missing(f"no agent runs on a node {node!r}; there are: {', '.join(nodes[:20])}", field="node")
    if everywhere is False:
        raise Invalid(f"say of which node: --node NAME before the command; there are: {', '.join(nodes[:20])}", field="node")
    ordered = sorted(pods, key=lambda one: one.spec.node_name)
    return ordered if everywhere else (sorted(ordered, key=lambda one: not one.ready)[:1])


class _Tunnel:
    """An event loop in a thread that knows the API server, and a socket that leads to one agent at a time."""

    def __init__(self, what: Asked) -> None:
        self._what = what
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()

        async def begin() -> Client:
            return Client(access.find(self._what.kubeconfig, self._what.context))

        try:
            self._client = asyncio.run_coroutine_threadsafe(begin(), self._loop).result()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            await self._client.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def pods(self) -> list[_Pod]:
        """Those of the agents."""
        path = f"/api/v1/namespaces/{NAMESPACE}/pods"
        answer = asyncio.run_coroutine_threadsafe(self._client.read(path, {"labelSelector": _LABEL}), self._loop).result()
        return msgspec.json.decode(answer, type=_Pods).items

    @contextmanager
    def to(self, pod: str) -> Iterator[None]:
        """While this lasts, the agent that commands find is that of this pod."""
        before = os.environ.get("FAIRLEAD_RUN_DIR")
        with self.socket(pod) as path:
            os.environ["FAIRLEAD_RUN_DIR"] = str(path.parent)
            try:
                yield
            finally:
                if before is None:
                    del os.environ["FAIRLEAD_RUN_DIR"]
                else:
                    os.environ["FAIRLEAD_RUN_DIR"] = before

    @contextmanager
    def socket(self, pod: str) -> Iterator[Path]:
        """A socket of this process that leads to the agent of this pod."""

        async def listen(path: Path) -> asyncio.Server:
            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await self._relay(pod, reader, writer)

            return await asyncio.start_unix_server(serve, path)

        with tempfile.TemporaryDirectory(prefix="fairlead-") as folder:
            path = Path(folder) / "agent.sock"
            server = asyncio.run_coroutine_threadsafe(listen(path), self._loop).result()
            try:
                yield path
            finally:
                self._loop.call_soon_threadsafe(server.close)

    async def _relay(self, pod: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, through one program beside the agent."""
        try:
            socket = await self._client.inside((NAMESPACE, pod), _CONTAINER, _RELAY)
        except (Problem, Again) as problem:
            sys.stderr.write(f"fairlead: {problem}\n")
            writer.close()
            return
        asking = asyncio.create_task(_ask(reader, socket))
        try:
            await _answer(socket, writer)
        finally:
            asking.cancel()
            with suppress(ConnectionError):
                writer.close()
            await socket.close()


async def _ask(reader: asyncio.StreamReader, socket: aiohttp.ClientWebSocketResponse) -> None:
    while data := await reader.read(_PIECE):
        await socket.send_bytes(bytes([_STDIN]) + data)
    await socket.close()


async def _answer(socket: aiohttp.ClientWebSocketResponse, writer: asyncio.StreamWriter) -> None:
    async for frame in socket:
        if frame.type is not aiohttp.WSMsgType.BINARY or not frame.data:
            continue
        channel, data = frame.data[0], frame.data[1:]
        if channel == _STDOUT:
            writer.write(data)
            await writer.drain()
        elif channel == _STDERR or (channel == _ERROR and b'"Success"' not in data):
            sys.stderr.write(f"fairlead: {_said(data)}\n")


def _said(data: bytes) -> str:
    """What went wrong beside the agent, as a line."""
    try:
        return str(msgspec.json.decode(data, type=dict[str, object]).get("message") or "it failed")
    except msgspec.MsgspecError:
        return data.decode(errors="replace").strip()
