"""What every benchmark shares: rows with goals, the table and the JSON, medians, turns, progress.

A benchmark makes a ``Report``, adds one ``Row`` a figure, and ends with ``report.publish()``: a table on stdout, and
``build/bench/NAME.json`` and ``NAME.md`` for the README to quote. It must not measure anything itself.
"""

from __future__ import annotations

import json
import math
import operator
import os
import random
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"

CPUS = 2
"""Both sides get this many CPUs on every machine, so that results of different machines can be set side by side."""

T = TypeVar("T")

_HOLDS = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a figure must be. ``of`` names what is held against ``bound``: the ``ratio``, or ``ours`` alone."""

    of: str
    sign: str
    bound: float
    text: str

    def met(self, row: Row) -> bool | None:
        """Whether ``row`` reaches the goal; None if it could not be measured."""
        value = row.ratio if self.of == "ratio" else row.ours
        return None if value is None else bool(_HOLDS[self.sign](value, self.bound))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure, ours beside the peer's; None where a side has no such thing."""

    what: str
    ours: float | None
    peer: float | None
    unit: str
    goal: Goal | None = None

    @property
    def ratio(self) -> float | None:
        """Ours divided by the peer's; None of a difference that is below nothing."""
        if self.ours is None or self.peer is None or self.ours < 0 or self.peer <= 0:
            return None
        return self.ours / self.peer

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None if there is no goal, or no figure."""
        return self.goal.met(self) if self.goal else None

    def to_tree(self) -> dict[str, object]:
        """The row as it stands in the JSON."""
        figures = {name: _rounded(getattr(self, name)) for name in ("ours", "peer", "ratio")}
        return {
            "what": self.what,
            "ours": figures["ours"],
            "peer": figures["peer"],
            "unit": self.unit,
            "ratio": figures["ratio"],
            "goal": self.goal.text if self.goal else None,
            "met": self.met,
        }

    def to_cells(self) -> tuple[str, str, str, str, str, str]:
        """The row as people read it: a ratio below one as a fraction, which is how the goals are written."""
        ratio = self.ratio
        fraction = "" if ratio is None else f"1/{1 / ratio:.3g}" if 0 < ratio < 1 / 1.5 else f"{ratio:.3g}"
        goal = self.goal.text if self.goal else ""
        return (self.what, _text(self.ours, self.unit), _text(self.peer, self.unit), fraction, goal, _VERDICT[self.met])


_IDLE, _IOWAIT = 3, 4
_BUSY_PERCENT = 10

_WIDTH = 132
"""Columns of the table in a file or a pipe."""

_VERDICT = {True: "yes", False: "NO", None: ""}


@dataclass
class Report:
    """The rows of one benchmark. ``columns`` are the names of the two sides."""

    name: str
    title: str
    columns: tuple[str, str]
    rows: list[Row] = field(default_factory=list)

    def add(self, what: str, ours: float | None, peer: float | None, unit: str, goal: Goal | None = None) -> None:
        """Append one figure."""
        self.rows.append(Row(what=what, ours=ours, peer=peer, unit=unit, goal=goal))

    def show(self) -> None:
        """Print the table."""
        table = Table(title=self.title, caption=machine())
        for at, heading in enumerate(self._headings()):
            table.add_column(heading, justify="right" if at in {1, 2, 3} else "left", no_wrap=at > 0)
        for row in self.rows:
            table.add_row(*row.to_cells(), style="red" if row.met is False else None)
        console = Console()
        if not console.is_terminal:
            console.width = _WIDTH
        console.print(table)

    def publish(self) -> Path:
        """Print the table and write the JSON and the Markdown; return where the JSON is."""
        self.show()
        BUILD.mkdir(parents=True, exist_ok=True)
        path = BUILD / f"{self.name}.json"
        path.write_text(json.dumps({"rows": [row.to_tree() for row in self.rows]}, indent=1) + "\n")
        path.with_suffix(".md").write_text(self.to_markdown())
        return path

    def to_markdown(self) -> str:
        """The table for a README."""
        lines = [self._headings(), ("---", "--:", "--:", "--:", "---", "---"), *(row.to_cells() for row in self.rows)]
        return "".join("| " + " | ".join(cells) + " |\n" for cells in lines) + f"\n{machine()}\n"

    def _headings(self) -> tuple[str, str, str, str, str, str]:
        return ("figure", *self.columns, "ratio", "goal", "met")


def at_most(text: str, bound: float, of: str = "ours") -> Goal:
    """A goal that is reached from below, written ``<= text``."""
    return Goal(of=of, sign="<=", bound=bound, text=f"<= {text}")


def at_least(text: str, bound: float, of: str = "ours") -> Goal:
    """A goal that is reached from above, written ``>= text``."""
    return Goal(of=of, sign=">=", bound=bound, text=f">= {text}")


def percentile(values: Iterable[float], percent: float) -> float | None:
    """The smallest value that at least ``percent`` of all do not exceed (nearest rank); None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def median(values: Iterable[float]) -> float | None:
    """The middle value; None of nothing."""
    return percentile(values, 50)


def per(value: float | None, other: float | None) -> float | None:
    """``value`` divided by ``other``; None if either is missing or nothing can be divided."""
    return None if value is None or not other else value / other


def less(value: float | None, other: float | None) -> float | None:
    """``value`` minus ``other``; None if either is missing."""
    return None if value is None or other is None else value - other


def turns(things: Sequence[T], rounds: int) -> Iterator[list[T]]:
    """``things`` once a round, shuffled anew each round, the same way in every run.

    A call finds the CPU's caches as the one before it left them, so nobody may always follow the same other.
    """
    dice = random.Random(rounds)  # noqa: S311  # an order, not a secret
    for _ in range(rounds):
        yield dice.sample(things, len(things))


def confine() -> None:
    """Keep this process, and all it starts, on ``CPUS`` CPUs."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CPUS])


def warn_if_busy() -> None:
    """Look for a second at what else runs, and say so: ratios bear a neighbour, the cost of the n-th call does not."""
    before = _cpu_times()
    time.sleep(1)
    spent = [now - then for now, then in zip(_cpu_times(), before, strict=True)]
    busy = 100 - 100 * (spent[_IDLE] + spent[_IOWAIT]) / max(1, sum(spent))
    if busy > _BUSY_PERCENT:
        print(f"bench: other work keeps this machine {busy:.0f} % busy; run again when it is idle", file=sys.stderr)


def machine() -> str:
    """What the figures were measured on, in a line."""
    cpus = len(os.sched_getaffinity(0))
    model = next((line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    return f"Linux {os.uname().release}, {cpus} CPUs ({model or os.uname().machine})"


def missing(needs: Mapping[str, str]) -> list[str]:
    """The Debian packages of those programs in ``needs`` (program: package) that are not there."""
    return sorted({package for program, package in needs.items() if not shutil.which(program)})


def progress() -> Progress:
    """A progress display on stderr, redrawn when it is advanced and never in between: it would cost the measured CPU."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, auto_refresh=False, transient=True
    )


def _cpu_times() -> list[int]:
    """Ticks by kind, guests left out: they are counted as user time too (proc_stat(5))."""
    return [int(ticks) for ticks in _lines("/proc/stat")[0].split()[1:9]]


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _text(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    number = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{number} {unit}".strip()
