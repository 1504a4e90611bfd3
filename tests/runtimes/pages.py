"""Pages that a person can follow: their console blocks are run as they stand, and must say what the page says they do.

::

    $ a command, ended by the next "$", which goes on in lines that begin with ">"
    what it prints; "..." stands for any text in a line, a line of "..." for any lines; runs of blanks are one

A command without output on the page may print what it likes. Every command must succeed.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

DOCS = Path(__file__).parents[2] / "docs"


class Step(NamedTuple):
    """One command and the lines that the page shows after it."""

    command: str
    shown: tuple[str, ...]


def blocks(page: str) -> list[list[Step]]:
    """The console blocks of a page."""
    found = re.findall(r"^```console\n(.*?)^```$", (DOCS / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    return [list(_steps(block)) for block in found]


class Where(Protocol):
    """Where a page's commands are run."""

    def attempt(self, *command: str, deadline: float) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""


def follow(host: Where, steps: list[Step]) -> None:
    """Run the commands of one block and compare what they print."""
    for step in steps:
        done = host.attempt("sh", "-c", step.command, deadline=60)
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"$ {step.command}\n{said}"
        assert not step.shown or matches(step.shown, said), f"$ {step.command}\n{said}\nThe page says:\n" + "\n".join(
            step.shown
        )


def matches(shown: tuple[str, ...], said: str) -> bool:
    """Whether what was said is what is shown."""
    pattern = "".join(r"(?:[^\n]*\n)*?" if line.strip() == "..." else f"{_pattern(line)} ?\n" for line in shown)
    lines = "".join(f"{' '.join(line.split())}\n" for line in said.rstrip("\n").split("\n"))
    return re.fullmatch(pattern, lines) is not None


def _pattern(line: str) -> str:
    """One line, its blanks squeezed, with any text for "..."."""
    return ".*?".join(re.escape(part) for part in " ".join(line.split()).split("..."))


def _steps(block: str) -> Iterator[Step]:
    command, shown = "", []
    for line in block.splitlines():
        if line.startswith("$ "):
            if command:
                yield Step(command, tuple(shown))
            command, shown = line.removeprefix("$ "), []
        elif line.startswith(">"):
            command += "\n" + line.removeprefix(">").removeprefix(" ")
        else:
            shown.append(line)
    if command:
        yield Step(command, tuple(shown))
