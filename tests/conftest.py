"""For every test: skips with their reasons, a time limit, and, if asked for, the proof that nothing is left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import settings

from tests import leftovers, machine
from tests.wait import eventually

HERE = Path(__file__).parent
SECONDS = 120
ORDER = ("rules", "unit", "worlds", "scenarios", "contracts", "kubernetes", "bpf", "kernel", "lab", "runtimes")

# The same examples every time, so that a red run is the fault of the change; HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile("same", deadline=None, derandomize=True, database=None)
settings.register_profile("search", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--leftovers", action="store_true", help="fail if anything is left on the machine when the tests end")


def pytest_configure() -> None:
    """Ended from outside (a time limit of whoever runs the tests), they still clean up, as after an interrupt."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    # Whoever started this in the background may have had these ignored, which every program started here would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, stop)


@pytest.fixture(scope="session", autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Set up before all other fixtures of the session, so that it looks after all of them are gone."""
    if not request.config.getoption("--leftovers"):
        yield
        return
    os.environ[leftovers.RUN] = str(os.getpid())
    before = leftovers.picture()
    yield
    with suppress(AssertionError):  # the kernel lets go of a deleted namespace's devices a little later
        eventually(lambda: not leftovers.difference(before, leftovers.picture()), deadline=10)
    if told := leftovers.difference(before, leftovers.picture()):
        pytest.fail("\n".join(told), pytrace=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """From cheap to real, so that a simple mistake shows first."""
    places = {name: at for at, name in enumerate(ORDER)}
    items.sort(key=lambda item: places.get(_place(item), len(ORDER)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """What the machine lacks is a counted skip with its reason, never a pass."""
    reasons = [
        machine.why_not_root() if _place(item) in machine.NEED_ROOT else None,
        *(machine.lacking_programs(mark.args) for mark in item.iter_markers("needs")),
        *(machine.lacking_features(mark.args) for mark in item.iter_markers("kernel")),
    ]
    if told := [reason for reason in reasons if reason]:
        pytest.skip("; ".join(told))
    with _limit(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with _limit(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    with _limit(item):
        return (yield)


def _place(item: pytest.Item) -> str:
    """The directory of tests/ that a test lies in."""
    return item.path.relative_to(HERE).parts[0] if HERE in item.path.parents else ""


@contextmanager
def _limit(item: pytest.Item) -> Iterator[None]:
    """A test that hangs fails, with the place where it hung."""
    mark = item.get_closest_marker("deadline")
    seconds = (mark.args[0] if mark else SECONDS) + float(os.environ.get("FAIRLEAD_FUZZ_SECONDS", "0"))

    def late(*_: object) -> None:
        pytest.fail(f"still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def record_figures(pytestconfig: pytest.Config) -> list[str]:
    """What is added here is printed at the end, whether tests print or not."""
    return pytestconfig.stash.setdefault(FIGURES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The figures that tests recorded."""
    if figures := config.stash.get(FIGURES, []):
        terminalreporter.section("figures")
        for line in figures:
            terminalreporter.line(line)
