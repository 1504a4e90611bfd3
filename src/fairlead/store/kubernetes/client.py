"""Client: one question to the API server, over aiohttp.

A question is asked again until ``patience`` is over where that is harmless: the server said that it did nothing, or only
something was read. Where a change may have happened, ``Unsure`` says so, and whoever wanted it looks.

The API server is never flooded: few questions are under way at once, waits are drawn at random and grow, and when it asks to
be left alone (429, or Retry-After), every question of this client waits, not just the one that was refused.

A stream that says nothing for as long as its listener bears is left, whatever TCP believes (``watch``).
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import aiohttp

import fairlead
from fairlead.kit.backoff import Backoff
from fairlead.model.errors import Failed, Forbidden, Unavailable
from fairlead.store.base import Key, closed

from .access import Access
from .credentials import Credentials
from .errors import Again, Distrust, Silent, Stranger, Unsure, refusal, status, unknown_asker
from .trust import Trust

JSON, MERGE, APPLY = "application/json", "application/merge-patch+json", "application/apply-patch+yaml"

_ATTEMPT = 15.0
"""Seconds that one answer may take: a page of a listing of a server with much to do."""
_LONGEST = 60.0
"""Seconds of rest that the API server can ask for."""
_LINE = 64 << 20
_KEEPALIVE = {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}


class _Question(NamedTuple):
    """One request, as often as it is sent."""

    method: str
    path: str
    query: Mapping[str, str] | None = None
    body: bytes | None = None
    kind: str = JSON

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return self.method == "GET"


class Client:
    """The way to one API server; bound to the event loop that made it."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._loop = asyncio.get_running_loop()
        self._trust = Trust(access.ca, insecure=access.insecure) if access.server.startswith("https") else None
        self._credentials = Credentials(access)
        self._turn = asyncio.Semaphore(access.at_once)
        self._rest = 0.0
        self._streams: set[aiohttp.ClientResponse] = set()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"Accept": JSON, "User-Agent": f"fairlead/{fairlead.__version__}"},
            read_bufsize=1 << 20,
        )
        # aiohttp would send a PUT or DELETE again without a word when a connection breaks, and the answer to the second one is
        # that somebody was faster.
        self._session._retry_connection = False  # noqa: SLF001  # there is no other way to say so

    @property
    def closed(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._session.closed

    async def read(self, path: str, query: Mapping[str, str] | None = None) -> bytes:
        """One answer to what changes nothing; ``Unavailable`` when there was none for ``patience`` seconds."""
        return (await self._patiently(_Question("GET", path, query)))[0]

    async def read_dated(self, path: str, query: Mapping[str, str] | None = None) -> tuple[bytes, float | None]:
        """The same, and the time that the API server says it is: seconds since 1970."""
        return await self._patiently(_Question("GET", path, query))

    async def change(
        self, method: str, path: str, body: bytes, kind: str = JSON, query: Mapping[str, str] | None = None
    ) -> bytes:
        """One answer to what changes something; ``Unsure`` when that may have happened without an answer."""
        return (await self._patiently(_Question(method, path, query, body, kind)))[0]

    async def stream(self, path: str, query: Mapping[str, str], quiet: float) -> AsyncGenerator[bytes]:
        """The lines of a watch until it ends in good order; ``Again`` when it broke, ``Silent`` after ``quiet`` seconds."""
        async with self._turn:
            await self._rested()
            async with asyncio.timeout(_ATTEMPT):
                response = await self._begin(path, query)
        self._streams.add(response)
        try:
            async for line in self._lines(response, quiet):
                yield line
        finally:
            self._streams.discard(response)
            _drop(response)

    async def inside(self, pod: Key, container: str, command: Sequence[str]) -> aiohttp.ClientWebSocketResponse:
        """Run a program in a container of a pod: frames of which the first byte says which of its streams they are of."""
        token = await self._credentials.token()
        words = [("container", container), *(("command", word) for word in command)]
        words += [(stream, "true") for stream in ("stdin", "stdout", "stderr")]
        with _translated(reading=True):
            try:
                return await self._session.ws_connect(
                    f"{self.access.server}/api/v1/namespaces/{pod[0]}/pods/{pod[1]}/exec",
                    params=words,
                    protocols=("v5.channel.k8s.io", "v4.channel.k8s.io"),
                    # Who asks for JSON here, as everywhere else, is told 406.
                    headers={"Accept": "*/*", **({"Authorization": f"Bearer {token}"} if token else {})},
                    ssl=self._trust.context(self._credentials.proof) if self._trust else True,
                    server_hostname=self.access.server_name or None,
                    max_msg_size=0,
                )
            except aiohttp.WSServerHandshakeError as error:
                said = f"the API server does not run a program in pod {pod[0]}/{pod[1]}: {error.status} {error.message}"
                raise (Forbidden if error.status in {401, 403} else Unavailable)(said) from None

    async def close(self) -> None:
        """Let go of every connection; streams end."""
        await self._session.close()
        for response in self._streams:
            _drop(response)

    async def _patiently(self, question: _Question) -> tuple[bytes, float | None]:
        deadline = self._loop.time() + self.access.patience
        backoff = Backoff(0.1, 5.0)
        while True:
            try:
                async with self._turn:
                    await self._rested(deadline)
                    async with asyncio.timeout_at(min(self._loop.time() + _ATTEMPT, deadline)):
                        return await self._proven(question)
            except TimeoutError:
                problem: Again = Unsure("no answer")
            except Again as again:
                problem = again
            if isinstance(problem, Unsure) and not question.reads:
                raise problem
            wait = max(problem.after, backoff.next())
            if problem.after:
                self._rest = max(self._rest, self._loop.time() + min(problem.after, _LONGEST))
            if isinstance(problem, Distrust) or self._loop.time() + wait >= deadline:
                raise self._nowhere(problem)
            await asyncio.sleep(wait)

    def _nowhere(self, problem: Again) -> Unavailable:
        return Unavailable(f"the API server at {self.access.server} cannot be asked: {problem}")

    async def _rested(self, deadline: float = float("inf")) -> None:
        """Wait until the API server may be asked again."""
        if (wait := self._rest - self._loop.time()) > 0:
            if self._rest > deadline:
                raise self._nowhere(Again(f"it asks to be left alone for {wait:.0f} s"))
            await asyncio.sleep(wait)

    async def _proven(self, question: _Question) -> tuple[bytes, float | None]:
        for last in (False, True):
            token = await self._credentials.token()
            with _translated(reading=question.reads):
                async with await self._send(question, token) as response:
                    answer = await response.read()
            try:
                self._look(response, answer)
            except Stranger as problem:
                if last or not self._credentials.refused(token):
                    raise unknown_asker(str(problem), self._how) from None
                continue
            return answer, _date(response.headers.get("Date", ""))
        raise AssertionError  # the second round answers or raises

    async def _begin(self, path: str, query: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Open a stream, on a connection that notices when the other side is gone."""
        token = await self._credentials.token()
        with _translated(reading=True):
            response = await self._send(_Question("GET", path, query), token)
            if response.status != 200:
                async with response:
                    answer = await response.read()
                try:
                    self._look(response, answer)
                except Stranger as problem:
                    if self._credentials.refused(token):
                        raise Again(str(problem)) from None
                    raise unknown_asker(str(problem), self._how) from None
        transport = response.connection.transport if response.connection else None
        if plug := transport and transport.get_extra_info("socket"):
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE.items():
                plug.setsockopt(socket.IPPROTO_TCP, option, value)
        return response

    async def _send(self, question: _Question, token: str) -> aiohttp.ClientResponse:
        if self._session.closed:
            raise closed()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if question.body is not None:
            headers["Content-Type"] = question.kind
        return await self._session.request(
            question.method,
            self.access.server + question.path,
            params=question.query,
            data=question.body,
            headers=headers,
            ssl=self._trust.context(self._credentials.proof) if self._trust else True,
            server_hostname=self.access.server_name or None,
            allow_redirects=False,
        )

    def _look(self, response: aiohttp.ClientResponse, answer: bytes) -> None:
        """Raise what an answer means that is a refusal."""
        if response.status >= 300:
            after = response.headers.get("Retry-After", "")
            seconds = float(after) if after.isascii() and after.isdigit() else 0.0
            raise refusal(response.status, status(answer), seconds)

    async def _lines(self, response: aiohttp.ClientResponse, quiet: float) -> AsyncGenerator[bytes]:
        parts: list[bytes] = []
        while True:
            try:
                async with asyncio.timeout(quiet):
                    with _translated(reading=True):
                        chunk = await response.content.readany()
            except TimeoutError:
                raise Silent(f"a watch said nothing for {quiet:g} s, not even a bookmark") from None
            if not chunk:
                return
            whole, newline, rest = chunk.rpartition(b"\n")
            if not newline:
                parts.append(rest)
                if sum(map(len, parts)) > _LINE:
                    raise Failed(f"the API server tells of more than {_LINE} bytes at once")
                continue
            lines = b"".join((*parts, whole)).split(b"\n")
            parts = [rest] if rest else []
            for line in lines:
                if line:
                    yield line

    @property
    def _how(self) -> str:
        """What shows who is asking."""
        if self.access.plugin:
            return f"exec program {self.access.plugin.command}"
        return "token" if self.access.token or self.access.token_file else "client certificate"


def _drop(response: aiohttp.ClientResponse) -> None:
    """End a stream with its connection, at once: nobody waits for the other side's good-bye."""
    if response.connection and response.connection.transport:
        response.connection.transport.abort()
    response.close()


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None


@contextmanager
def _translated(*, reading: bool) -> Iterator[None]:
    """What goes wrong on the way. A connection that was never made has changed nothing."""
    try:
        yield
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
        raise Distrust(_why(error)) from error
    except aiohttp.ClientConnectorError as error:
        raise Again(_why(error)) from error
    except ssl.SSLError as error:
        raise Distrust(_why(error)) from error
    except (aiohttp.ClientError, OSError) as error:
        raise (Again if reading else Unsure)(_why(error)) from error


def _why(error: BaseException) -> str:
    """The inmost reason that has words."""
    inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
    if inner is not None and inner is not error:
        return _why(inner)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}; look at certificate-authority and tls-server-name"
    text = (os.strerror(error.errno) if isinstance(error, OSError) and error.errno and error.errno > 0 else "") or str(error)
    return text or type(error).__name__
