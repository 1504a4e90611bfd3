"""Labs for tests: one is made for the first test of a file that asks for it, and shared by those that ask for the same.

A test leaves a shared lab as it found it. One that is found with a machine stopped or a partition is taken down, and there is a
new one. ``lab.own`` is a test's alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from fairlead.lab import lab as acts
from fairlead.lab import record
from tests.lab import town
from tests.lab.town import Town


class Labs:
    """Makes labs, and keeps those that are shared."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._shared: dict[str, Town] = {}

    def __call__(self, **options: Any) -> Town:
        """The lab with these options (``town.up``)."""
        key = repr(sorted(options.items()))
        found = self._shared.get(key)
        if found and not found.whole:
            found.down()
            found = None
        self._shared[key] = found or town.up(self.name(), **options)
        return self._shared[key]

    @contextmanager
    def own(self, **options: Any) -> Iterator[Town]:
        """A lab for one test, gone with the block."""
        made = town.up(self.name(), **options)
        try:
            yield made
        finally:
            if made.name in record.names():
                made.down()

    def name(self) -> str:
        """A name that no lab has had."""
        return f"town{next(self._numbers)}{os.environ.get('PYTEST_XDIST_WORKER', '')}"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labs]:
    """Labs in a run directory of their own; all that are left are taken down after the last test of the file."""
    before = os.environ.get("FAIRLEAD_RUN_DIR")
    os.environ["FAIRLEAD_RUN_DIR"] = str(tmp_path_factory.mktemp("lab"))
    try:
        yield Labs()
    finally:
        for name in record.names():
            acts.down(name)
        if before is None:
            del os.environ["FAIRLEAD_RUN_DIR"]
        else:
            os.environ["FAIRLEAD_RUN_DIR"] = before


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a test writes a topology."""
    return tmp_path / "topology.yaml"
