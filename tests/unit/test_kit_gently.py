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
