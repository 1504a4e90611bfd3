"""Fuzzing: hypothesis with a bound. In CI the same examples every time; by hand new ones for as long as one likes::

FAIRLEAD_FUZZ_SECONDS=600 pytest tests/unit/test_fuzz_yaml.py        so many seconds for each check
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much, HealthCheck.large_base_example]

SCALARS: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["", "\0", "\n", "../..", "x" * 300, "\ud800", "a;b", '"', "'", "$(id)", "%s%n", "é", "10.0.0.0/8", "::1"]
    )
)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4), max_leaves=15
)
"""What JSON can say."""


_ORDINARY = 6
"""Examples of a fuzzer for each one of an ordinary property, at most."""


def explore(check: Callable[..., None], examples: int, **strategies: st.SearchStrategy[Any]) -> None:
    """Run ``check`` on ``examples`` examples, or on new ones for FAIRLEAD_FUZZ_SECONDS."""
    examples = min(examples, settings.default.max_examples * _ORDINARY)
    if not (seconds := float(os.environ.get("FAIRLEAD_FUZZ_SECONDS", "0"))):
        bounded = settings(
            max_examples=examples, deadline=None, suppress_health_check=_SLOW, phases=[Phase.generate, Phase.shrink]
        )
        bounded(given(**strategies)(check))()
        return
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        fresh = settings(
            max_examples=500, deadline=None, derandomize=False, database=None, print_blob=True, suppress_health_check=_SLOW
        )
        seed(secrets.randbits(64))(fresh(given(**strategies)(check)))()


def encoded(tree: Any) -> bytes:
    """``tree`` as JSON bytes, as wrong as it is."""
    return json.dumps(tree).encode("utf-8", "surrogatepass")


def wrong_value(known: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects whose fields hold what they should, or what they should not, or that have other fields."""
    fields = {name: right | TREES for name, right in known.items()}
    return st.fixed_dictionaries({}, optional=fields) | st.dictionaries(
        st.sampled_from(sorted(known)) | st.text(), TREES, max_size=6
    )
