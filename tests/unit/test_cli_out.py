"""How lists and numbers are written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from fairlead.api.schema import Pool
from fairlead.cli import kinds, out
from fairlead.cli.container import names
from fairlead.cli.out import Column, Format, Listing


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-5, "0s"),
        (119, "119s"),
        (120, "2m"),
        (310, "5m10s"),
        (600, "10m"),
        (7200, "120m"),
        (11100, "3h5m"),
        (10800, "3h"),
        (86400, "24h"),
        (172800, "2d"),
        (183600, "2d3h"),
        (86400 * 400, "400d"),
    ],
)
def test_durations(seconds: int, text: str) -> None:
    assert out.duration(seconds) == text


def test_ages() -> None:
    then = datetime.now(UTC) - timedelta(hours=5, minutes=30, seconds=1)
    assert out.age(then.isoformat()) == "5h30m"
    assert out.age(then.isoformat().replace("+00:00", "Z")) == "5h30m"
    assert out.age("") == ""


def test_sizes_and_counts() -> None:
    assert [out.size(n) for n in (12, 2048, 47 << 20, 3 << 30)] == ["12 B", "2.0 KiB", "47.0 MiB", "3.0 GiB"]
    pool = Pool(network="lan", cidr="10.1.0.0/24", size=254, used=3)
    assert kinds.used(pool) == "3/254"
    assert kinds.used(replace(pool, elsewhere=5), " of ") == "3 of 254 (5 elsewhere)"
    assert [replace(pool, elsewhere=n).left for n in (0, 5, 251, 252)] == [251, 246, 0, 0]
    assert [kinds.count(n) for n in (254, 65534, 2**64 - 2, 2**64)] == ["254", "65534", "2^64", "2^64"]


def test_columns_line_up_and_no_cell_is_empty() -> None:
    assert out.plain([["A", "BB", "C"], ["long", "", "x"], ["", "y", ""]]) == "A     BB  C\nlong  -   x\n-     y   -"


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert out.clean("a\x1b[31mb\r\n\u202ec") == "a\ufffd[31mb\ufffd\ufffd\ufffdc"
    assert out.clean("grüße") == "grüße"


ROWS = [{"name": "alpha", "more": "x" * 30, "least": "y" * 30}]
LISTING: Listing[dict[str, str]] = Listing(
    columns=(
        Column("NAME", lambda row: row["name"]),
        Column("MORE", lambda row: row["more"], spare=1),
        Column("LEAST", lambda row: row["least"], spare=2),
        Column("ONLY", lambda _: ["one", "two"], wide=True),
    ),
    name=lambda row: row["name"],
    tree=dict,
    empty="none",
)


@pytest.mark.parametrize(("columns", "titles"), [(80, "NAME MORE LEAST"), (60, "NAME MORE"), (30, "NAME")])
def test_a_narrow_terminal_gets_what_matters_most(
    columns: int, titles: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    LISTING.show(ROWS, Format.TABLE)
    head = capsys.readouterr().out.splitlines()[0]
    assert [title for title in ("NAME", "MORE", "LEAST", "ONLY") if title in head] == titles.split()


def test_wide_leaves_nothing_out_and_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "30")
    LISTING.show(ROWS, Format.WIDE)
    said = capsys.readouterr().out
    assert "x" * 30 in said
    assert "y" * 30 in said
    assert "one" in said
    assert "two" in said


def test_a_pipe_gets_every_column(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    LISTING.show(ROWS, Format.WIDE)
    assert capsys.readouterr().out.split() == ["NAME", "MORE", "LEAST", "ONLY", "alpha", "x" * 30, "y" * 30, "one,two"]


def test_markup_in_data_is_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    LISTING.show([{"name": "[red]x[/red]", "more": "", "least": ""}], Format.TABLE)
    assert "[red]x[/red]" in capsys.readouterr().out


def test_names_are_made_that_are_not_taken() -> None:
    taken: set[str] = set()
    for _ in range(300):
        name = names.pick(taken)
        assert name not in taken
        taken.add(name)
