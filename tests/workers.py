"""Several workers (``pytest -n 2``): who runs what, what they found, and how a test has the machine to itself.

A file is one worker's, with its fixtures, and so are all files whose tests use one thing of the machine; they are handed out
in the order of ``ORDER``. Figures that tests record travel with the worker's last message. A test that measures time is marked
``alone``: it starts when the tests of others have ended, and none starts before it ends. That is a lock on a file that others
share; who waits for it alone holds the door, so that it gets its turn.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

DOOR, ROOM = "door", "room"
WHOLE = ("tests/runtimes",)
"""Directories that are one worker's: the control groups of real runtimes are the machine's."""
_PLACE = pytest.StashKey[Path]()


def worker(config: pytest.Config) -> dict[str, Any] | None:
    """What the controller told this worker; None in the controller, and where there are no workers."""
    return getattr(config, "workerinput", None)


class Files(LoadScopeScheduling):
    """Hands out files, and of some directories all files at once."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        folder = path.rpartition("/")[0]
        return folder if folder in WHOLE else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Files:
    """Who runs what."""
    return Files(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """In the controller: where the workers take turns."""
    stash = node.config.stash
    if _PLACE not in stash:
        stash[_PLACE] = Path(tempfile.mkdtemp(prefix="turns-"))
    node.workerinput["turns"] = str(stash[_PLACE])


def pytest_unconfigure(config: pytest.Config) -> None:
    """In the controller: nobody takes turns any more."""
    if place := config.stash.get(_PLACE, None):
        shutil.rmtree(place)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A test's turn: beside others, or alone."""
    told = worker(item.config)
    if told is None:
        return (yield)
    with _turn(Path(told["turns"]), alone=item.get_closest_marker("alone") is not None):
        return (yield)


@contextmanager
def _turn(place: Path, *, alone: bool) -> Iterator[None]:
    with (place / DOOR).open("w") as door, (place / ROOM).open("w") as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield
