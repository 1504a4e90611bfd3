"""Lists and objects on their way out: a table on a terminal, aligned columns in a pipe, YAML, JSON or names on request.

``rich`` is imported only when a terminal is there to show it. Every cell is treated as text, never as markup.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Generic, TypeVar

from . import fault

T = TypeVar("T")

_GAP = 2
"""Spaces between columns."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_STEPS = (
    (2 * _MINUTE, 1, "s", 0, ""),
    (10 * _MINUTE, _MINUTE, "m", 1, "s"),
    (3 * _HOUR, _MINUTE, "m", 0, ""),
    (8 * _HOUR, _HOUR, "h", _MINUTE, "m"),
    (2 * _DAY, _HOUR, "h", 0, ""),
    (8 * _DAY, _DAY, "d", _HOUR, "h"),
)
"""Below how many seconds: the unit's size and letter, and the smaller unit's. As kubectl rounds ages."""


class Format(StrEnum):
    """What ``-o`` takes."""

    TABLE = "table"
    WIDE = "wide"
    NAME = "name"
    YAML = "yaml"
    JSON = "json"


@dataclass(frozen=True)
class Column(Generic[T]):
    """One column: its title and what it shows of a row, one or more lines. ``style`` is rich's, fixed or by row."""

    title: str
    cell: Callable[[T], str | Sequence[str]]
    wide: bool = False
    right: bool = False
    style: str | Callable[[T], str] = ""
    fold: bool = False
    """Whether long text may be broken over lines where the terminal is narrow."""
    spare: int = 0
    """Whether the column is left out where the terminal is narrow; the highest number goes first."""

    def lines(self, row: T) -> list[str]:
        """The cell's lines, without what could steer a terminal."""
        cell = self.cell(row)
        return [clean(line) for line in ([cell] if isinstance(cell, str) else cell)]

    def colour(self, row: T) -> str:
        """The style of one cell."""
        return self.style if isinstance(self.style, str) else self.style(row)


@dataclass(frozen=True)
class Listing(Generic[T]):
    """How one sort of thing is listed: its columns, its name for ``-o name``, its plain tree for YAML and JSON."""

    columns: Sequence[Column[T]]
    name: Callable[[T], str]
    tree: Callable[[T], object]
    empty: str

    def show(self, rows: Sequence[T], form: Format, *, single: bool = False) -> None:
        """Print ``rows``. ``single``: one thing was asked for, so that JSON holds it without a list around it."""
        if form is Format.NAME:
            write("\n".join(map(self.name, rows)))
        elif form is Format.YAML:
            write(yaml_of([self.tree(row) for row in rows]).rstrip("\n"))
        elif form is Format.JSON:
            trees = [self.tree(row) for row in rows]
            write(json_of(trees[0] if single and len(trees) == 1 else trees))
        else:
            self._table(rows, wide=form is Format.WIDE)

    def _table(self, rows: Sequence[T], *, wide: bool) -> None:
        columns = [column for column in self.columns if wide or not column.wide]
        if not rows and sys.stdout.isatty():
            fault.note(self.empty)
        elif terminal():
            _rich(rows, columns, wide=wide)
        else:
            write(
                plain(
                    [
                        [column.title for column in columns],
                        *([",".join(filter(None, c.lines(row))) for c in columns] for row in rows),
                    ]
                )
            )


def terminal() -> bool:
    """Whether output goes to a terminal, or must look so (FORCE_COLOR)."""
    return sys.stdout.isatty() or fault.coloured(sys.stdout)


def write(text: str) -> None:
    """Print to stdout; nothing at all if ``text`` is empty."""
    if text:
        sys.stdout.write(text + "\n")


def plain(rows: Sequence[Sequence[str]]) -> str:
    """Rows as columns that line up, two spaces apart; an empty cell is ``-`` so that tools can count columns."""
    filled = [[cell or "-" for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*filled, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in filled)


def clean(text: str) -> str:
    """``text`` without control characters: names come from others and must not steer a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def json_of(tree: object) -> str:
    """A tree as indented JSON."""
    return json.dumps(tree, indent=2, ensure_ascii=False)


def yaml_of(trees: Iterable[object]) -> str:
    """Trees as a YAML stream, in the order of their fields."""
    import yaml  # noqa: PLC0415  # 15 ms that most commands need not pay

    return yaml.safe_dump_all(trees, sort_keys=False, default_flow_style=False, allow_unicode=True)


def age(timestamp: str) -> str:
    """How long ago an RFC 3339 time was, as kubectl writes it."""
    try:
        then = datetime.fromisoformat(timestamp)
    except ValueError:
        return ""
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return duration((datetime.now(UTC) - then).total_seconds())


def duration(seconds: float) -> str:
    """``42s``, ``5m10s``, ``3h5m``, ``12d``: the second unit only while it matters."""
    left = max(0, int(seconds))
    for below, one, unit, rest, smaller in _STEPS:
        if left < below:
            tail = left % one // rest if rest else 0
            return f"{left // one}{unit}" + (f"{tail}{smaller}" if tail else "")
    return f"{left // _DAY}d"


def size(amount: float) -> str:
    """Bytes in the binary units people read memory in."""
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def _rich(rows: Sequence[T], columns: Sequence[Column[T]], *, wide: bool) -> None:
    from rich import box  # noqa: PLC0415  # 40 ms that a pipe need not pay
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False)
    shown, needed = _fitting(rows, columns, console.width, wide=wide)
    folding = any(column.fold for column in shown)
    # A column's own padding and the box's divider, both blank, are the gap.
    table = Table(box=box.SIMPLE_HEAD, border_style="bright_black", header_style="bold", show_edge=False, padding=(0, 1, 0, 0))
    for column in shown:
        table.add_column(column.title, justify="right" if column.right else "left", no_wrap=not column.fold, overflow="fold")
    for row in rows:
        table.add_row(*(Text("\n".join(c.lines(row)) or "-", style=c.colour(row)) for c in shown))
    if not folding and needed >= console.width:  # half an address is worse than a line that runs on
        console = Console(highlight=False, width=needed + 1)
    console.print(table, crop=False, soft_wrap=not folding)


def _fitting(rows: Sequence[T], columns: Sequence[Column[T]], width: int, *, wide: bool) -> tuple[list[Column[T]], int]:
    """The columns that a terminal has room for, those that matter least left out, and the width they need."""
    sizes = {
        column.title: max([len(column.title), *(len(line) for row in rows for line in column.lines(row))]) for column in columns
    }
    shown = list(columns)
    for column in sorted((one for one in columns if one.spare), key=lambda one: -one.spare):
        if wide or _width(shown, sizes) <= width:
            break
        shown.remove(column)
    return shown, _width(shown, sizes)


def _width(columns: Sequence[Column[T]], sizes: dict[str, int]) -> int:
    return sum(sizes[column.title] + _GAP for column in columns) - _GAP
