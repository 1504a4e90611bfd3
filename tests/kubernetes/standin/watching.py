"""Watching: one watch, as lines of JSON, and the selectors that say what it is about."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
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
    loop, query, selector = asyncio.get_running_loop(), request.query, Selector.of(request.query)
    version = query.get("resourceVersion", "")
    if version and not version.isdigit():
        raise Refused(400, f"Invalid value: {version!r}: strconv.ParseUint: parsing: invalid syntax")
    since = int(version or 0)
    lines: list[bytes] = []
    if since == 0:
        since, everything = server.history.snapshot(of.name) or (0, [])
        chosen = (kept for key, kept in everything if namespace in {"", key[0]} and selector.fits(kept))
        lines = [_line("ADDED", kept) for kept in chosen]
    server.changes(of, since)  # refused before anything is said
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    end = loop.time() + float(query.get("timeoutSeconds", 0) or random.uniform(1800, 3600))
    bookmarks = query.get("allowWatchBookmarks") == "true"
    wake = asyncio.Event()
    server.history.wakes.add(wake)
    try:
        next_mark = loop.time() + server.bookmark
        while loop.time() < end:
            wake.clear()
            try:
                for change in server.changes(of, since):
                    if namespace in {"", change.key[0]} and (kind := _kind(change, selector)):
                        lines.append(_line(kind, change.now))
                since = max(since, server.history.revision)
            except Refused as refused:
                lines.append(b'{"type":"ERROR","object":' + msgspec.json.encode(refused.tree) + b"}\n")
                end = 0
            if bookmarks and loop.time() >= next_mark:
                lines.append(_bookmark(of, since))
                next_mark = loop.time() + server.bookmark
            if server.faults.muted(of.plural):
                lines.clear()
            if lines:
                await response.write(b"".join(lines))
                lines.clear()
            wait = min(end, next_mark if bookmarks else end) - loop.time()
            if wait > 0:
                await _woken(wake, wait)
    except asyncio.CancelledError:
        if request.transport:
            request.transport.abort()
        raise
    except OSError:
        return response
    finally:
        server.history.wakes.discard(wake)
    await response.write_eof()
    return response


async def _woken(wake: asyncio.Event, wait: float) -> None:
    try:
        async with asyncio.timeout(wait):
            await wake.wait()
    except TimeoutError:
        pass


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
