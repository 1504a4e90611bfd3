"""Pages about the lab do what they say: their console blocks are run as they stand, each one's file is the one brought up."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from fairlead.lab import topology
from tests.lab.town import environment
from tests.runtimes.pages import DOCS, blocks, follow

PAGES = {"lab.md": "town.yaml", "between-nodes.md": "walk.yaml"}
"""The pages, and what each calls its topology file."""


class Shell:
    """A person's shell on this machine, in a directory with the page's file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def attempt(self, *command: str, deadline: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self._folder, env=environment(), capture_output=True, text=True, timeout=deadline, check=False
        )


@pytest.mark.needs("curl", "tcpdump", "bird")
@pytest.mark.deadline(240)
@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page(page: str, tmp_path: Path) -> None:
    (tmp_path / PAGES[page]).write_text(file(page))
    for block in blocks(page):
        follow(Shell(tmp_path), block)


def test_the_file_of_the_page_is_a_topology() -> None:
    lab, objects = topology.read(file("lab.md"))
    assert [one.name for one in lab.spec.nodes] == ["a", "b"]
    assert len(objects) == 1


def file(page: str) -> str:
    """The page's topology file."""
    (found,) = re.findall(r"^```yaml\n(.*?)^```$", (DOCS / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    return str(found)
