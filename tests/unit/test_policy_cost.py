"""What a change costs in a cluster of some size: bounds far above what is measured, against growth and not against noise."""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fairlead.policy.book import Book

PATH = Path(__file__).parents[2] / "bench" / "book.py"


@pytest.fixture(scope="module")
def bench() -> Any:
    """The benchmark's own functions."""
    spec = importlib.util.spec_from_file_location("bench_book", PATH)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_a_change_costs_what_it_changes(bench: Any) -> None:
    of = bench.cluster(5000, 1000)
    book = Book()
    book.put(*of.things)
    for name, (act, undo) in bench.changes(of).items():
        took = []
        for _ in range(1 if "everybody" in name else 5):
            begun = time.process_time()
            act(book)
            took.append(time.process_time() - begun)
            undo(book)
        bound = 2.0 if "everybody" in name else 0.02
        assert statistics.median(took) < bound, name
