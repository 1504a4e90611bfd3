"""Work that rests loses nothing, and few things are done without a rest."""

from __future__ import annotations

import pytest

from fairlead.kit import gently


def test_it_rests_after_some_and_all_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []
    monkeypatch.setattr(gently.time, "sleep", rests.append)
    assert list(gently.gently(range(255))) == [*range(255)]
    assert rests == []
    assert list(gently.gently(range(1000))) == [*range(1000)]
    assert rests == [gently._REST] * 3


def test_a_rest_lasts_until_it_is_quiet_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    now, noise = [0.0], [0.0, 0.2]
    monkeypatch.setattr(gently.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(gently.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    last = gently.resting(lambda: not noise[0] <= now[0] < noise[1], most=10)
    last()
    assert 0.2 <= now[0] <= 0.2 + gently._REST + gently._LOOK
    began = now[0]
    last()
    assert now[0] - began == pytest.approx(gently._REST), "it is quiet now"
    noise[:] = [0.0, 1000.0]
    last()
    assert 10 <= now[0] <= 10 + gently._REST + gently._LOOK
    began = now[0]
    last()
    assert now[0] - began == pytest.approx(gently._REST), "the time is up"
