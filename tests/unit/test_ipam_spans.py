from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fairlead.ipam.spans import Run, Spans
from fairlead.model.address import Prefix

RUNS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=6)


def members(runs: list[Run]) -> set[int]:
    return {number for start, end in runs for number in range(start, end + 1)}


@given(RUNS, RUNS)
def test_spans_are_sets(left: list[Run], right: list[Run]) -> None:
    a, b = Spans(left), Spans(right)
    for spans, numbers in (
        (a, members(left)),
        (a & b, members(left) & members(right)),
        (a | b, members(left) | members(right)),
        (a - b, members(left) - members(right)),
    ):
        assert members(list(spans)) == numbers
        assert spans.size == len(numbers)
        assert [number for number in range(-1, 62) if number in spans] == sorted(numbers)
        assert [spans.nth(at) for at in range(spans.size)] == sorted(numbers)
        assert list(spans.around(30)) == sorted(numbers, key=lambda one: (one < 30, one))
        for number in range(62):
            assert spans.after(number) == min((one for one in numbers if one >= number), default=None)


@given(RUNS)
def test_one_set_has_one_form(runs: list[Run]) -> None:
    again = Spans((number, number) for number in members(runs))
    assert again == Spans(runs)
    assert hash(again) == hash(Spans(runs))


def test_a_large_prefix_is_one_run() -> None:
    assert Spans.of(Prefix("fd00::/8")).size == 1 << 120
    assert list(Spans.of(Prefix("10.0.0.0/30"))) == [(0x0A000000, 0x0A000003)]
    assert (Spans.of(Prefix("::/0")) - Spans.of(Prefix("8000::/1"))).size == 1 << 127
