"""BIRD's control socket: one command, one answer, each on a connection of its own.

An answer is lines of a code and a text; a line that begins with a space goes on with the code before. The last line has a space
after its code, the others a minus::

    0001 BIRD 2.0.12 ready.              the greeting
    1002-node.b  BGP  ---  up  ...       0xxx done, 1xxx a row, 2xxx a heading
    1006-  BGP state:  Established
           Neighbor address: 192.0.2.2   still 1006
    0000                                 8xxx it cannot, 9xxx it does not understand

Everything is bounded: how long an answer may take, and how much of it is read.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from fairlead.model.errors import Failed, Unavailable

DEADLINE = 10.0
"""Seconds that an answer may take."""
MOST = 8 << 20
"""Bytes of an answer that are read."""

_LINE = re.compile(r"(\d{4})([ -])(.*)")
_REFUSED = 8000


class Line(NamedTuple):
    """One line of an answer."""

    code: int
    text: str


class Answer(NamedTuple):
    """All lines. ``whole``: whether there were no more than are read."""

    lines: tuple[Line, ...]
    whole: bool = True

    def of(self, code: int) -> list[str]:
        """The texts with a code."""
        return [line.text for line in self.lines if line.code == code]

    @property
    def last(self) -> Line:
        """What it comes to."""
        return self.lines[-1]


async def ask(socket: Path, command: str, *, most: int = MOST) -> Answer:
    """Have the speaker at ``socket`` do something. ``Unavailable`` if it does not answer, ``Failed`` if it refuses."""
    try:
        async with asyncio.timeout(DEADLINE), _connected(socket) as (reader, writer):
            await _read(reader, MOST)
            writer.write(f"{command}\n".encode())
            await writer.drain()
            answer = await _read(reader, most)
    except TimeoutError:
        raise Unavailable(f"BIRD has not answered {command!r} within {DEADLINE:g} s") from None
    except (OSError, EOFError, ValueError) as problem:
        raise Unavailable(f"BIRD cannot be asked at {socket}: {problem}") from None
    if answer.whole and answer.last.code >= _REFUSED:
        raise Failed(f"BIRD refuses {command!r}: {answer.last.text}")
    return answer


async def answers(socket: Path) -> bool:
    """Whether a speaker is there at all."""
    with suppress(OSError, TimeoutError, EOFError, ValueError):
        async with asyncio.timeout(DEADLINE), _connected(socket) as (reader, _):
            await _read(reader, MOST)
            return True
    return False


@asynccontextmanager
async def _connected(socket: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(str(socket))
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _read(reader: asyncio.StreamReader, most: int) -> Answer:
    """Lines up to the last one, or ``most`` bytes of them."""
    lines: list[Line] = []
    size, code = 0, 0
    while size < most:
        raw = await reader.readline()
        if not raw.endswith(b"\n"):
            raise EOFError("it broke off")
        size += len(raw)
        text = raw.decode(errors="replace").rstrip("\r\n")
        found = _LINE.fullmatch(text)
        if found:
            code = int(found[1])
        lines.append(Line(code, found[3] if found else text[1:]))
        if found and found[2] == " ":
            return Answer(tuple(lines))
    return Answer(tuple(lines), whole=False)
