"""What tests record besides passing: figures and what was killed where, printed at the end, whichever worker found it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.workers import worker

FIGURES = pytest.StashKey[list[str]]()
MATRIX = pytest.StashKey[dict[str, tuple[int, str]]]()


@pytest.fixture
def record_figures(pytestconfig: pytest.Config) -> list[str]:
    """What is added here is printed at the end, whether tests print or not."""
    return pytestconfig.stash.setdefault(FIGURES, [])


@pytest.fixture
def record_matrix(pytestconfig: pytest.Config) -> dict[str, tuple[int, str]]:
    """Scenario to the number of its cells and a remark, printed as a table at the end."""
    return pytestconfig.stash.setdefault(MATRIX, {})


def send(config: pytest.Config) -> None:
    """A worker's last message has what it recorded."""
    if worker(config) is not None:
        config.workeroutput.update(  # type: ignore[attr-defined]  # xdist's
            figures=config.stash.get(FIGURES, []), matrix=config.stash.get(MATRIX, {})
        )


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """In the controller: a worker has ended."""
    said = getattr(node, "workeroutput", {})
    node.config.stash.setdefault(FIGURES, []).extend(said.get("figures", ()))
    node.config.stash.setdefault(MATRIX, {}).update(said.get("matrix", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table of what was killed at every step, and the figures."""
    if matrix := config.stash.get(MATRIX, {}):
        terminalreporter.section("killed at every step")
        for scenario, (cells, remark) in matrix.items():
            terminalreporter.line(f"{scenario:32} {cells:4}  {remark}")
        terminalreporter.line(f"{'cells':32} {sum(cells for cells, _ in matrix.values()):4}")
    if figures := config.stash.get(FIGURES, []):
        terminalreporter.section("figures")
        for line in figures:
            terminalreporter.line(line)
