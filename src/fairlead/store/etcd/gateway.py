"""Gateway: one question to a cluster of which any member can answer. etcd's JSON gateway, over aiohttp.

A question goes to one member, and stays with it as long as it answers; otherwise it goes to the next, until ``patience`` is
over. It may therefore reach etcd more than once: whoever changes something must make that harmless (``slots``).

A stream lives on one member. It ends with ``Unavailable`` when that one is gone, also silently: a member without a leader
ends it by itself (``hasleader``), and one that says nothing for a while is asked for a sign of life on another connection.

Certificates are read again when their files change. Nothing here knows what the questions are about.
"""

from __future__ import annotations

import asyncio
import io
import os
import random
import socket
import ssl
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field

import aiohttp

from fairlead.kit.backoff import Backoff
from fairlead.model.errors import Failed, Unavailable
from fairlead.store.base import closed

from .errors import UNAVAILABLE, Again, Distrust, Stale, nowhere, refusal, stranger
from .messages import Authenticate, Fault, Line, M, Message, Token, Watched, decode, encode
from .trust import Trust

_ATTEMPT = 3.0
"""Seconds that one member has for one answer: an election takes one or two, a disk that is busy less."""

_QUIET = 5.0
"""Seconds without a word on a stream, after which its member must give a sign of life."""

_LANES = 64
"""Questions on their way at once; a stream is none."""

_LINE = 64 << 20
"""Bytes that a stream may tell at once."""

_HEADERS = {"Grpc-Metadata-hasleader": "true"}
"""A member that is cut off from the others refuses, instead of waiting for a majority that may never come."""

_KEEPALIVE = {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where a cluster is, and who asks. ``endpoints``: ``host:port`` of its members; ``patience``: seconds for one question."""

    endpoints: tuple[str, ...]
    prefix: str
    tls: bool = False
    ca: str = ""
    cert: str = ""
    key: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    patience: float = 10.0


class Gateway:
    """The way to one cluster; bound to the event loop that made it."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._loop = asyncio.get_running_loop()
        scheme = "https" if access.tls else "http"
        # Each client begins with another member, so that many nodes do not all ask the first.
        self._members = [f"{scheme}://{one}" for one in random.sample(access.endpoints, len(access.endpoints))]
        self._preferred = 0
        self._heard: dict[str, float] = {}
        self._trust = Trust(access.ca, access.cert, access.key) if access.tls else None
        self._token = ""
        self._proving = asyncio.Lock()
        self._lanes = asyncio.Semaphore(_LANES)
        self._streams: set[aiohttp.ClientResponse] = set()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            timeout=aiohttp.ClientTimeout(total=None),  # each question has its own
        )

    @property
    def closed(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._session.closed

    async def ask(self, path: str, message: Message, to: type[M]) -> M:
        """One answer, from whichever member gives it; ``Unavailable`` when none did for ``patience`` seconds."""
        deadline = self._loop.time() + self.access.patience
        backoff, said = Backoff(0.05, 1.0), dict[str, str]()
        while True:
            distrusted = 0
            for _ in self._members:
                at = self._members[self._preferred]
                try:
                    async with asyncio.timeout_at(min(self._loop.time() + _ATTEMPT, deadline)):
                        return decode(await self._proven(at, path, message), to)
                except TimeoutError:
                    said.setdefault(at, "no answer")  # also where too little time was left: what it said before tells more
                    self._leave(at)
                except Again as problem:
                    said[at] = str(problem)
                    distrusted += isinstance(problem, Distrust)
                    self._leave(at)
                if self._loop.time() >= deadline:
                    raise nowhere(said, self.access.patience)
            if distrusted == len(self._members):
                raise nowhere(said, 0)  # a certificate will not be another one in a few seconds
            await asyncio.sleep(min(backoff.next(), max(0, deadline - self._loop.time())))

    async def stream(self, path: str, message: Message) -> AsyncGenerator[Watched]:
        """What one member has to tell, as long as it can; ``Unavailable`` when it cannot any more."""
        at = self._members[self._preferred]
        try:
            response = await self._begin(at, path, message)
            self._streams.add(response)
            try:
                async with aclosing(self._lines(at, response)) as lines:
                    async for line in lines:
                        yield self._told(line)
            finally:
                self._streams.discard(response)
                response.close()  # with its connection: there is no other way to tell etcd that nobody listens
        except (Again, Stale, TimeoutError) as problem:
            self._leave(at)
            raise Unavailable(f"{at}: {str(problem) or 'no answer'}") from None

    def doubt(self) -> bool:
        """Prove anew who asks, if that can be done."""
        self._token = ""
        return bool(self.access.user)

    async def close(self) -> None:
        """Let go of every connection; streams end."""
        await self._session.close()
        for response in self._streams:
            response.close()

    def _leave(self, at: str) -> None:
        """Prefer the next member, unless somebody did so before."""
        if self._members[self._preferred] == at:
            self._preferred = (self._preferred + 1) % len(self._members)

    async def _proven(self, at: str, path: str, message: Message) -> bytes:
        """One answer of one member, who may want to know first who asks."""
        for _ in range(2):
            token = await self._prove(at)
            try:
                return await self._answer(at, path, message, token)
            except Stale:
                self._forget(token)
        raise Again("it does not know the token that it gave")

    async def _prove(self, at: str) -> str:
        """What proves who asks; the same for everything until a member says that it is stale."""
        if not self.access.user:
            return ""
        async with self._proving:
            if not self._token:
                who = Authenticate(name=self.access.user, password=self.access.password)
                self._token = decode(await self._answer(at, "/v3/auth/authenticate", who, ""), Token).token
            return self._token

    def _forget(self, token: str) -> None:
        if self._token == token:
            self._token = ""

    async def _answer(self, at: str, path: str, message: Message, token: str) -> bytes:
        with _translated():
            async with self._lanes, await self._post(at, path, message, token) as response:
                body = await response.read()
        if response.status != 200:
            raise self._refusal(response.status, body)
        self._heard[at] = self._loop.time()
        return body

    async def _begin(self, at: str, path: str, message: Message) -> aiohttp.ClientResponse:
        """Open a stream, on a connection that notices when the other side is gone."""
        async with asyncio.timeout(_ATTEMPT):
            token = await self._prove(at)
            response = await self._post(at, path, message, token)
            if response.status != 200:
                with _translated():
                    async with response:
                        problem = self._refusal(response.status, await response.read())
                if isinstance(problem, Stale):
                    self._forget(token)
                raise problem
        transport = response.connection.transport if response.connection else None
        if plug := transport and transport.get_extra_info("socket"):
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE.items():
                plug.setsockopt(socket.IPPROTO_TCP, option, value)
        return response

    async def _post(self, at: str, path: str, message: Message, token: str) -> aiohttp.ClientResponse:
        if self._session.closed:
            raise closed()
        body, headers = io.BytesIO(encode(message)), {"Authorization": token} if token else None
        with _translated():
            return await self._session.post(at + path, data=body, headers=headers, ssl=self._ssl(), allow_redirects=False)

    async def _lines(self, at: str, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
        """The lines of a stream; the first is there soon, and later either lines or signs of life."""
        parts: list[bytes] = []
        begun = False
        while True:
            try:
                async with asyncio.timeout(_QUIET if begun else _ATTEMPT):
                    with _translated():
                        chunk = await response.content.readany()
            except TimeoutError:
                if not begun:
                    raise
                await self._alive(at)
                continue
            whole, newline, rest = chunk.rpartition(b"\n")
            parts.append(whole if newline else rest)
            if newline or not chunk:
                for line in b"".join(parts).split(b"\n"):
                    if line:
                        begun = True
                        yield line
                parts = [rest]
            if not chunk:
                raise Again("the connection ended")
            if sum(map(len, parts)) > _LINE:
                raise Failed(f"{at}: etcd tells of more than {_LINE} bytes at once")

    async def _alive(self, at: str) -> None:
        """Raise unless a member has answered anything lately, or does now."""
        if self._heard.get(at, 0) > self._loop.time() - _QUIET:
            return
        if self._session.closed:
            raise closed()
        async with asyncio.timeout(_ATTEMPT):
            with _translated():
                async with self._session.get(f"{at}/version", ssl=self._ssl()) as response:
                    await response.read()
        self._heard[at] = self._loop.time()

    def _ssl(self) -> ssl.SSLContext | bool:
        return self._trust.context() if self._trust else True

    def _told(self, line: bytes) -> Watched:
        told = decode(line, Line)
        if told.error is not None:
            raise self._refused(told.error)
        if told.result is None:
            raise Again("an answer is not etcd's")
        if told.result.canceled and not told.result.compact_revision:
            raise self._refused(Fault(message=told.result.cancel_reason or "the watch was canceled", code=UNAVAILABLE))
        return told.result

    def _refusal(self, status: int, body: bytes) -> Exception:
        """What an answer means that is none."""
        try:
            fault = decode(body, Fault)
        except Again:
            fault = Fault()
        if fault.code or fault.grpc_code:
            return self._refused(fault)
        return stranger(status, body[:100].decode(errors="replace").strip())

    def _refused(self, fault: Fault) -> Exception:
        return refusal(fault.code or fault.grpc_code, fault.message, self.access.user, self.access.prefix)


@contextmanager
def _translated() -> Iterator[None]:
    """What goes wrong on the way to a member."""
    try:
        yield
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError, ssl.SSLError) as error:
        raise Distrust(_why(error)) from error
    except (aiohttp.ClientError, OSError) as error:
        raise Again(_why(error)) from error


def _why(error: BaseException) -> str:
    """The inmost reason that has words."""
    inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
    if inner is not None and inner is not error:
        return _why(inner)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    return (
        (os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "") or str(error) or type(error).__name__
    )
