"""Watching: one watch, as lines of JSON, and the selectors that say what it is about."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec
from aiohttp import web

from .history import Change, Kept
from .objects import Refused
from .resources import Resource

if TYPE_CHECKING:
    from .server import StandIn


class Want(NamedTuple):
    """One thing that a selector asks for. ``sign``: "=", "!=", or empty: that it is there."""

    key: str
    sign: str
    value: str

    def fits(self, value: str | None) -> bool:
        return value is not None if not self.sign else (value == self.value) is (self.sign == "=")


class Selector(NamedTuple):
    """Labels and fields that an object must have: ``key=value``, ``key!=value``, and of labels ``key``, whatever its value."""

    labels: tuple[Want, ...]
    fields: tuple[Want, ...]

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Self:
        return cls(_pairs(query.get("labelSelector", "")), _pairs(query.get("fieldSelector", "")))

    def fits(self, kept: Kept | None) -> bool:
        if kept is None:
            return False
        if not self.labels and not self.fields:
            return True
        tree = kept.tree
        labels = tree["metadata"].get("labels", {})
        return all(one.fits(labels.get(one.key)) for one in self.labels) and all(
            one.fits(str(_field(tree, one.key))) for one in self.fields
        )


def _pairs(text: str) -> tuple[Want, ...]:
    found = []
    for word in filter(None, text.split(",")):
        key, sign, value = word.partition("!=" if "!=" in word else "=")
        found.append(Want(key, sign, value.lstrip("=")))
    return tuple(found)


def _field(tree: Any, path: str) -> Any:
    for part in path.split("."):
        tree = tree.get(part, "") if isinstance(tree, dict) else ""
    return tree


async def serve_watch(server: StandIn, request: web.Request, of: Resource, namespace: str) -> web.StreamResponse:
    """Tell of every change until the time that was asked for is over."""
    query = request.query
    version = query.get("resourceVersion", "")
    if version and not version.isdigit():
        raise Refused(400, f"Invalid value: {version!r}: strconv.ParseUint: parsing: invalid syntax")
    watch = _Watch(server, of, namespace, Selector.of(query), int(version or 0))
    server.changes(of, watch.since)  # refused before anything is said
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    seconds = float(query.get("timeoutSeconds", 0) or random.uniform(1800, 3600))  # noqa: S311  # as the real one does
    marks = server.bookmark if query.get("allowWatchBookmarks") == "true" else 0.0
    try:
        await watch.tell(response, seconds, marks)
        await response.write_eof()
    except asyncio.CancelledError:
        if request.transport:
            request.transport.abort()
        raise
    except OSError:
        pass  # nobody listens any more
    return response


class _Watch:
    """One watch. ``since``: all up to this revision is told."""

    def __init__(self, server: StandIn, of: Resource, namespace: str, selector: Selector, since: int) -> None:
        self._server, self._of, self._namespace, self._selector = server, of, namespace, selector
        self.since = since
        self._lines: list[bytes] = []
        self._mute = False
        if since == 0:
            self.since, everything = server.history.snapshot(of.name) or (0, [])
            chosen = (kept for key, kept in everything if namespace in {"", key[0]} and selector.fits(kept))
            self._lines = [_line("ADDED", kept) for kept in chosen]

    async def tell(self, response: web.StreamResponse, seconds: float, marks: float) -> None:
        """Until ``seconds`` are over; a bookmark every ``marks``, none if 0."""
        loop, wake = asyncio.get_running_loop(), asyncio.Event()
        end = loop.time() + seconds
        mark = loop.time() + marks if marks else end
        self._server.history.wakes.add(wake)
        try:
            while loop.time() < end:
                wake.clear()
                whole = self._gather()
                if marks and loop.time() >= mark:
                    self._lines.append(_bookmark(self._of, self.since))
                    mark = loop.time() + marks
                # One that has fallen silent stays so: what it did not say it has told nobody.
                self._mute = self._mute or self._server.faults.muted(self._of.plural)
                if self._lines and not self._mute:
                    await response.write(b"".join(self._lines))
                self._lines.clear()
                if not whole:
                    return
                await _woken(wake, min(end, mark) - loop.time())
        finally:
            self._server.history.wakes.discard(wake)

    def _gather(self) -> bool:
        """Put together what is new; whether it is all."""
        try:
            for change in self._server.changes(self._of, self.since):
                if self._namespace in {"", change.key[0]} and (kind := _kind(change, self._selector)):
                    self._lines.append(_line(kind, change.now))
        except Refused as refused:
            self._lines.append(b'{"type":"ERROR","object":' + msgspec.json.encode(refused.tree) + b"}\n")
            return False
        self.since = max(self.since, self._server.history.revision)
        return True


async def _woken(wake: asyncio.Event, wait: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(max(wait, 0)):
            await wake.wait()


def _kind(change: Change, selector: Selector) -> str:
    """What a change is to one who sees only what a selector fits; empty: nothing."""
    now = change.type != "DELETED" and selector.fits(change.now)
    before = selector.fits(change.before)
    return "MODIFIED" if now and before else "ADDED" if now else "DELETED" if before else ""


def _line(kind: str, kept: Kept) -> bytes:
    return b'{"type":"' + kind.encode() + b'","object":' + kept.data + b"}\n"


def _bookmark(of: Resource, revision: int) -> bytes:
    meta = {"resourceVersion": str(revision), "creationTimestamp": None}
    tree = {"kind": of.kind, "apiVersion": of.api_version, "metadata": meta}
    return b'{"type":"BOOKMARK","object":' + msgspec.json.encode(tree) + b"}\n"
