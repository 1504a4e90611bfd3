"""Fault points: nothing unless asked for, and then the process is gone where it was asked to go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
from fairlead.kit import fault
for name in ("one", "two", "one", "two"):
    fault.point(name)
    print(name, flush=True)
"""


def run(wanted: str) -> tuple[int, str, str]:
    """Exit status, what it said, and what it traced."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "FAIRLEAD_FAULT": wanted}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=20, check=False
    )
    return done.returncode, " ".join(done.stdout.split()), done.stderr


@pytest.mark.parametrize(
    ("wanted", "said"),
    [("", "one two one two"), ("three", "one two one two"), ("two", "one"), ("two:1", "one"), ("two:2", "one two one")],
)
def test_where_it_ends(wanted: str, said: str) -> None:
    status, out, trace = run(wanted)
    assert out == said
    assert status == (0 if said.endswith("two one two") else -signal.SIGKILL)
    assert not trace


def test_a_trace_names_what_is_passed() -> None:
    status, _, trace = run("trace")
    assert (status, trace.splitlines()) == (0, [f"fault point {name}" for name in ("one", "two", "one", "two")])


def test_a_file_can_say_it_later(tmp_path: Path) -> None:
    file = tmp_path / "fault"
    assert run(f"@{file}")[0] == 0
    file.write_text("two\n")
    assert run(f"@{file}")[1] == "one"
