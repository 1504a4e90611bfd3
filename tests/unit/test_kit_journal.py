"""What log lines look like: to people with the time, to systemd's journal with the priority."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fairlead.kit.journal import Prioritised, is_journal

SAYS = "import logging; from fairlead.kit import journal; journal.to_stderr('info'); logging.getLogger('here').warning('a\\nb')"


@pytest.mark.parametrize(
    ("level", "number"),
    [(logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7)],
)
def test_each_level_has_its_priority(level: int, number: int) -> None:
    record = logging.LogRecord("here", level, __file__, 1, "said", (), None)
    assert Prioritised().format(record) == f"<{number}>{logging.getLevelName(level):7} here: said"


def test_every_line_has_one() -> None:
    """A traceback too, of which the journal makes an entry a line."""
    try:
        int("no")
    except ValueError:
        record = logging.LogRecord("here", logging.ERROR, __file__, 1, "said", (), sys.exc_info())
    lines = Prioritised().format(record).splitlines()
    assert len(lines) > 2
    assert all(line.startswith("<3>") for line in lines)


def test_stderr_is_the_journal_where_systemd_says_so(tmp_path: Path) -> None:
    def said(path: Path, stream: str) -> str:
        with path.open("wb") as file:
            subprocess.run([sys.executable, "-c", SAYS], stderr=file, check=True, env=os.environ | {"JOURNAL_STREAM": stream})
        return path.read_text()

    path = tmp_path / "stderr"
    path.touch()
    assert said(path, f"{path.stat().st_dev}:{path.stat().st_ino}") == "<4>WARNING here: a\n<4>b\n"
    elsewhere = said(path, "1:2")
    assert elsewhere[:2] == "20", "the time"
    assert elsewhere.endswith(" WARNING here: a\nb\n")


def test_without_a_stderr_it_is_not() -> None:
    assert not is_journal(1 << 20, {"JOURNAL_STREAM": "1:2"})
