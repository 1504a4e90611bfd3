"""Every store behind one handle, and the few words that the tests of all stores are written with."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, ParamSpec, Protocol

from fairlead.model.address import ContainerID, InterfaceName, Name
from fairlead.model.endpoint import Endpoint, EndpointSpec, Sandbox
from fairlead.model.meta import Meta, Object
from fairlead.model.network import Network, NetworkSpec
from fairlead.store.base import Change, Event, Store, Stored
from fairlead.store.etcd.gateway import Access
from fairlead.store.etcd.store import Etcd
from fairlead.store.kubernetes.store import Kubernetes
from fairlead.store.memory import Memory
from fairlead.store.presence import Presence
from fairlead.store.sqlite import Sqlite
from tests.contracts.etcd import Member, Wire
from tests.kubernetes.server import Server

P = ParamSpec("P")

PATIENCE = 10.0

PRELUDE = """
import asyncio, os
from pathlib import Path
from fairlead.model.errors import Conflict, Problem
from fairlead.store.base import Delete, Put
from fairlead.store.etcd import gateway
from fairlead.store.etcd.store import Etcd
from fairlead.store.kubernetes.access import Access
from fairlead.store.kubernetes.store import Kubernetes
from fairlead.store.kubernetes.trust import Pem
from fairlead.store.sqlite import Sqlite
from tests.contracts.stores import ENDPOINTS, NETWORKS, commit, endpoint, network
def say(*words):
    print(*words, flush=True)
"""
NETWORKS, ENDPOINTS = Network.plural, Endpoint.plural

_numbers = itertools.count()


class Whole(Store, Presence, Protocol):
    """All that a store does."""


class Opened:
    """One empty store of one kind, which can be opened as often as one likes.

    ``elsewhere``: an expression that opens it in another process (``spawn``); empty if it is no other's.
    """

    remembers_deleted = True
    alone = True
    """Whether nobody else writes into it, so that all its revisions are ours, and its clock is the one it was given."""
    any_text = True
    """Whether annotations may be called anything."""
    deaf = ""
    """Why it cannot be told to forget; empty: it can."""
    elsewhere = ""

    def __call__(self, **options: Any) -> AbstractAsyncContextManager[Whole]:
        return self._opened(**options)

    @asynccontextmanager
    async def _opened(self, **options: Any) -> AsyncIterator[Whole]:
        store = await self.open(**options)
        try:
            yield store
        finally:
            await store.close()

    @asynccontextmanager
    async def pair(self) -> AsyncIterator[tuple[Whole, Whole]]:
        """The same store as two processes have it; the same object where only one can."""
        async with self(shared=True) as one:
            if not self.elsewhere:
                yield one, one
                return
            async with self(shared=True) as other:
                yield one, other

    async def open(self, **options: Any) -> Whole:
        raise NotImplementedError

    @asynccontextmanager
    async def breakable(self) -> AsyncIterator[tuple[Whole, Wire | None]]:
        """The store over a wire that can be cut, where it has one."""
        async with self(shared=True) as store:
            yield store, None

    async def forget(self, store: Store, keep: int) -> None:
        """Have the store remember the last ``keep`` revisions only; one that was opened to keep so many does so by itself."""

    def spawn(self, text: str, **env: str) -> subprocess.Popen[str]:
        """Start Python on the body of a coroutine, where ``store`` is this store and ``say`` writes a line."""
        body = textwrap.indent(textwrap.dedent(text), "    ")
        program = (
            f"{PRELUDE}\nasync def main():\n    store = {self.elsewhere}\n{body}\n    await store.close()\nasyncio.run(main())"
        )
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **env}
        command = [sys.executable, "-c", program]
        return subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


class InMemory(Opened):
    async def open(self, *, shared: bool = False, **options: Any) -> Whole:  # noqa: ARG002  # nobody to share it with
        return Memory(**options)


class InFile(Opened):
    def __init__(self, folder: Path) -> None:
        self.path = folder / "store.db"
        self.elsewhere = f"await Sqlite.open(Path({str(self.path)!r}), shared=True)"

    async def open(self, **options: Any) -> Whole:
        return await Sqlite.open(self.path, **options)


class InEtcd(Opened):
    remembers_deleted = False

    def __init__(self, member: Member) -> None:
        self.member = member
        self.prefix = f"/test{next(_numbers)}"
        self.elsewhere = f"Etcd(gateway.Access(endpoints=({member.endpoint!r},), prefix={self.prefix!r}))"

    async def open(self, *, shared: bool = True, keep: int = 0, **options: Any) -> Whole:  # noqa: ARG002  # etcd's own choice
        return Etcd(Access(endpoints=(self.member.endpoint,), prefix=self.prefix), **options)

    @asynccontextmanager
    async def breakable(self) -> AsyncIterator[tuple[Whole, Wire | None]]:
        async with Wire(self.member.client).laid() as wire:
            store = Etcd(Access(endpoints=(wire.endpoint,), prefix=self.prefix, patience=1.0))
            try:
                yield store, wire
            finally:
                await store.close()

    async def forget(self, store: Store, keep: int) -> None:
        revision = (await store.list(NETWORKS)).revision
        await asyncio.to_thread(self.member.forget, revision - keep)


class InKubernetes(Opened):
    remembers_deleted = False
    alone = False
    any_text = False

    def __init__(self, server: Server) -> None:
        self.server = server
        server.wipe()
        self.elsewhere = f"Kubernetes(Access(server={server.url!r}, ca=Pem(data={server.ca!r}), token={server.token!r}))"
        if server.standin is None:
            self.deaf = "a real API server forgets when it wants to"

    async def open(self, *, shared: bool = True, keep: int = 0, **options: Any) -> Whole:  # noqa: ARG002  # its own choice
        return Kubernetes(self.server.access(patience=10.0), **options)

    @asynccontextmanager
    async def breakable(self) -> AsyncIterator[tuple[Whole, Wire | None]]:
        port = int(self.server.url.rpartition(":")[2])
        async with Wire(port).laid() as wire:
            scheme = self.server.url.partition(":")[0]
            access = self.server.access(server=f"{scheme}://{wire.endpoint}", patience=1.0)
            store = Kubernetes(access)
            try:
                yield store, wire
            finally:
                await store.close()

    async def forget(self, store: Store, keep: int) -> None:  # noqa: ARG002  # it is the server that forgets
        assert self.server.standin
        self.server.standin.forget(keep)


def awaited(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run an async test in an event loop of its own, with a deadline instead of a hang."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(60):
                await test(*args, **kwargs)

        asyncio.run(bounded())

    return run


def network(name: str = "blue", *, internal: bool = False, **meta: Any) -> Network:
    return Network(metadata=Meta(name=name, **meta), spec=NetworkSpec(internal=internal))


def endpoint(name: str, mtu: int = 0) -> Endpoint:
    spec = EndpointSpec(
        container=ContainerID(name), interface=InterfaceName("eth0"), network=Name("blue"), sandbox=Sandbox(path="/p"), mtu=mtu
    )
    return Endpoint(metadata=Meta(name=f"{name}:eth0"), spec=spec)


def revision(thing: Object | None) -> int:
    assert thing is not None
    return int(thing.metadata.resource_version)


async def commit(store: Store, *changes: Change) -> tuple[Stored | None, ...]:
    """Do changes that need not happen together: in one commit where the store takes so many."""
    if len(changes) <= store.at_once:
        return await store.commit(*changes)
    return tuple([(await store.commit(one))[0] for one in changes])


def everything(store: Store, plural: str) -> str | None:
    """All kinds, where they can be watched together; else one."""
    return None if store.orders_all else plural


async def current(store: Store) -> int:
    """The revision that the store is at."""
    return (await store.list(NETWORKS)).revision


async def take(store: Store, plural: str | None, since: int, count: int, patience: float = PATIENCE) -> list[Event]:
    """The next ``count`` events, or fail after a while."""
    events = []
    async with asyncio.timeout(patience), aclosing(store.watch(plural, since)) as watch:
        async for event in watch:
            events.append(event)
            if len(events) == count:
                break
    return events


def finish(process: subprocess.Popen[str]) -> str:
    """What a program still says until its good end."""
    try:
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    return out


async def idle(store: Store) -> None:
    """Let the watches catch up: each read goes behind theirs, and each turn of the loop lets them go on."""
    for _ in range(4):
        await asyncio.sleep(0)
        await store.get(NETWORKS, ("", "none"))
