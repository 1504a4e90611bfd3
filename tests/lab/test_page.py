"""docs/lab.md does what it says: its console blocks are run as they stand, its file is the one that is brought up."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from fairlead.lab import topology
from tests.lab.town import environment
from tests.runtimes.pages import DOCS, blocks, follow

PAGE = "lab.md"


class Shell:
    """A person's shell on this machine, in a directory with the page's file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def attempt(self, *command: str, deadline: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self._folder, env=environment(), capture_output=True, text=True, timeout=deadline, check=False
        )


@pytest.mark.needs("curl")
@pytest.mark.deadline(240)
@pytest.mark.usefixtures("lab")
def test_every_command_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "town.yaml").write_text(file())
    for block in blocks(PAGE):
        follow(Shell(tmp_path), block)


def test_the_file_of_the_page_is_a_topology() -> None:
    lab, objects = topology.read(file())
    assert [one.name for one in lab.spec.nodes] == ["a", "b"]
    assert len(objects) == 1


def file() -> str:
    """The page's topology file."""
    (found,) = re.findall(r"^```yaml\n(.*?)^```$", (DOCS / PAGE).read_text(), flags=re.MULTILINE | re.DOTALL)
    return str(found)
