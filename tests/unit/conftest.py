"""The command line beside a fake agent, behind a real socket."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fairlead.cli import main
from tests.fake_agent import FakeAgent, network


@dataclass(frozen=True)
class Said:
    """How a command went."""

    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        return [line.split("  ") for line in self.out.splitlines()]


Run = Callable[..., Said]


@pytest.fixture
def fairlead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("FAIRLEAD_RUN_DIR", str(tmp_path))
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: str, stdin: str = "") -> Said:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capsys.readouterr()
        status = main.run(list(words))
        return Said(status, *capsys.readouterr())

    return run


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    networks = {
        "front": network("front", "10.20.0.0/24", "fd20::/64"),
        "back": network("back", "10.30.0.0/24", internal=True, inter_container=False),
    }
    with FakeAgent(tmp_path / "agent.sock", networks=networks) as agent:
        yield agent
