"""The probe: what kubelet is told of an agent, over a socket."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fairlead.agent import probe


@contextmanager
def answering(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A socket that says one thing to everybody."""
    with tempfile.TemporaryDirectory(prefix="fairlead-") as folder, socket.socket(socket.AF_UNIX) as ears:
        monkeypatch.setenv("FAIRLEAD_RUN_DIR", folder)
        ears.bind(str(Path(folder) / "agent.sock"))
        ears.listen()

        def serve() -> None:
            with ears.accept()[0] as plug:
                plug.recv(4096)
                plug.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            thread.join(5)


def ok(body: str) -> bytes:
    return b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + body.encode()


@pytest.mark.parametrize(
    ("asked", "answer", "code", "said"),
    [
        ("alive", ok('{"ready":true}'), 0, ""),
        ("alive", ok('{"ready":false,"reason":"starting"}'), 0, ""),
        ("ready", ok('{"ready":true}'), 0, ""),
        ("ready", ok('{"ready":false,"reason":"starting"}'), 1, "not ready: starting"),
        ("ready", ok("{}"), 1, "not ready"),
        ("alive", b"HTTP/1.0 500 No\r\n\r\n", 1, "HTTP/1.0 500 No"),
        ("alive", ok("nonsense"), 1, "does not answer"),
        ("alive", ok("[]"), 1, "does not answer"),
        ("alive", b"", 1, "does not answer"),
    ],
)
def test_what_is_said(
    asked: str, answer: bytes, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(answer, monkeypatch):
        assert probe.main([asked]) == code
    assert said in capsys.readouterr().out


def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FAIRLEAD_RUN_DIR", str(tmp_path))
    assert probe.main(["alive"]) == 1
    assert "No such file" in capsys.readouterr().out


def test_another_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert probe.main(["well"]) == 2
    assert "usage" in capsys.readouterr().out
