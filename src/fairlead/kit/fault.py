"""Fault points: named places between two steps, where a test has the process end as if it had been killed.

``point("attach.committed")`` does nothing, unless the environment variable FAIRLEAD_FAULT was set when the process started::

    FAIRLEAD_FAULT=attach.committed      the process kills itself (SIGKILL) when it comes by
    FAIRLEAD_FAULT=attach.committed:2    the second time it comes by
    FAIRLEAD_FAULT=trace                 each point that is passed is written to stderr
    FAIRLEAD_FAULT=@/some/file           one of the above is in the file, which is read at every point; off while there is none

Names are literals, each at one place, so that a test finds them all by reading the code.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path

TRACE = "trace"

_wanted = os.environ.get("FAIRLEAD_FAULT", "")
_passed: Counter[str] = Counter()


def point(name: str) -> None:
    """Say that the process is here."""
    if _wanted:
        _come_by(name)


def _come_by(name: str) -> None:
    wanted = _read(_wanted[1:]) if _wanted.startswith("@") else _wanted
    if wanted == TRACE:
        sys.stderr.write(f"fault point {name}\n")
        sys.stderr.flush()
    victim, _, time = wanted.partition(":")
    if victim != name:
        return
    _passed[name] += 1
    if _passed[name] >= int(time or 1):
        os.kill(os.getpid(), signal.SIGKILL)


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
