"""BIRD's control socket: answers are read to their end and no further, and whatever else comes is a clear refusal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead.bgp import control
from fairlead.bgp.control import Answer, Line
from fairlead.model.errors import Failed, Problem, Unavailable

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]


def asked(folder: Path, *chunks: bytes, command: str = "show status", most: int = control.MOST, hang: bool = False) -> Answer:
    """The answer from a speaker that says ``chunks`` after its greeting."""
    path = folder / "ctl"
    heard: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"0001 BIRD 2.0.12 ready.\n")
        heard.append(await reader.readline())
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
        if hang:
            await reader.read()
        writer.close()

    async def main() -> Answer:
        server = await asyncio.start_unix_server(talk, str(path))
        async with server:
            return await control.ask(path, command, most=most)

    found = asyncio.run(main())
    assert heard == [command.encode() + b"\n"]
    return found


def test_an_answer_of_many_lines_in_pieces(tmp_path: Path) -> None:
    found = asked(tmp_path, b"1000-BIRD 2.0", b".12\n1011-Router ID\n  and more\n", b"+spontaneous\n", b"0013 up\n", hang=True)
    assert found.lines == (
        Line(1000, "BIRD 2.0.12"),
        Line(1011, "Router ID"),
        Line(1011, " and more"),
        Line(1011, "spontaneous"),
        Line(13, "up"),
    )
    assert found.whole
    assert found.last == Line(13, "up")
    assert found.of(1011) == ["Router ID", " and more", "spontaneous"]


@pytest.mark.parametrize("line", [b"8002 bird.conf:2:1 syntax error\n", b"9001 syntax error, unexpected END\n"])
def test_a_refusal(tmp_path: Path, line: bytes) -> None:
    with pytest.raises(Failed, match=r"BIRD refuses 'configure': .*syntax error"):
        asked(tmp_path, line, command="configure")


def test_too_much_is_cut_off(tmp_path: Path) -> None:
    found = asked(tmp_path, *[b"1007-10.0.0.0/8\n"] * 1000, b"0000 \n", most=1600, hang=True)
    assert not found.whole
    assert len(found.lines) == 100


@pytest.mark.parametrize(
    ("chunks", "hang", "why"),
    [((), False, "it broke off"), ((b"0013 up",), False, "it broke off"), ((b"x" * (1 << 17),), True, "cannot be asked")],
)
def test_what_breaks_off(tmp_path: Path, chunks: tuple[bytes, ...], hang: bool, why: str) -> None:
    with pytest.raises(Unavailable, match=why):
        asked(tmp_path, *chunks, hang=hang)


def test_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "DEADLINE", 0.05)
    with pytest.raises(Unavailable, match=r"has not answered 'show status' within 0\.05 s"):
        asked(tmp_path, b"1000-", hang=True)


def test_nobody(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="cannot be asked at"):
        asyncio.run(control.ask(tmp_path / "none", "show status"))
    assert not asyncio.run(control.answers(tmp_path / "none"))
    (tmp_path / "file").write_text("")
    assert not asyncio.run(control.answers(tmp_path / "file"))
