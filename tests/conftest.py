"""For every test: skips with their reasons, a time limit, and, if asked for, the proof that nothing is left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import settings

from tests import leftovers, machine, recorded
from tests.recorded import (  # noqa: F401  # pytest finds its fixtures and hooks here
    pytest_terminal_summary,
    pytest_testnodedown,
    record_figures,
    record_matrix,
)
from tests.wait import eventually
from tests.workers import (  # noqa: F401  # pytest finds its hooks here
    pytest_configure_node,
    pytest_runtest_protocol,
    pytest_unconfigure,
    pytest_xdist_make_scheduler,
    worker,
)

HERE = Path(__file__).parent
SECONDS = 120
BEFORE = pytest.StashKey[leftovers.Picture]()
ORDER = ("rules", "unit", "worlds", "scenarios", "contracts", "kubernetes", "bpf", "runtimes", "kernel", "lab")

# The same examples every time, so that a red run is the fault of the change; HYPOTHESIS_PROFILE=search looks for new ones,
# and quick takes a fifth of them, for every few minutes.
settings.register_profile("same", deadline=None, derandomize=True, database=None)
settings.register_profile("search", deadline=None, max_examples=2000, print_blob=True)
settings.register_profile("quick", deadline=None, derandomize=True, database=None, max_examples=20)
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


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """What the machine looks like before any test, worker or fixture."""
    if session.config.getoption("--leftovers") and worker(session.config) is None:
        os.environ[leftovers.RUN] = str(os.getpid())
        session.config.stash[BEFORE] = leftovers.picture()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send what was recorded to the controller; there, when all is over, see what is left on the machine."""
    recorded.send(session.config)
    before = session.config.stash.get(BEFORE, None)
    if before is None:
        return
    with suppress(AssertionError):  # the kernel lets go of a deleted namespace's devices a little later
        eventually(lambda: not leftovers.difference(before, leftovers.picture()), deadline=10)
    if told := leftovers.difference(before, leftovers.picture()):
        terminal = session.config.pluginmanager.get_plugin("terminalreporter")
        assert terminal
        report = pytest.TestReport("the whole run", ("tests", None, ""), {}, "failed", "\n".join(told), "teardown")
        terminal.stats.setdefault("error", []).append(report)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """From cheap to real, so that a simple mistake shows first; what takes long in one piece not last."""
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
