"""Metrics: numbers in families, as Prometheus reads them (text exposition format 0.0.4).

What is counted is counted where it happens; here it is only written down, when somebody asks. A family's name ends with its
unit (``_seconds``, ``_bytes``) or, if it only grows, with ``_total``; every duration is in seconds.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

DURATIONS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Buckets for what takes between a millisecond and ten seconds."""

Labels = Mapping[str, str]
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Histogram:
    """How often something took how long."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = DURATIONS) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """One more."""
        self._counts[bisect.bisect_left(self._bounds, value)] += 1
        self.sum += value

    @property
    def buckets(self) -> Iterator[tuple[float, int]]:
        """For each bound how many were at most that; the last bound is infinite."""
        total = 0
        for bound, count in zip((*self._bounds, math.inf), self._counts, strict=True):
            total += count
            yield bound, total


class Family(NamedTuple):
    """One metric with all its samples. ``kind`` is counter, gauge or histogram."""

    name: str
    kind: str
    help: str
    samples: Iterable[tuple[Labels, float | Histogram]]


def counter(name: str, help_: str, samples: Iterable[tuple[Labels, float]]) -> Family:
    """What only grows."""
    return Family(name, "counter", help_, samples)


def gauge(name: str, help_: str, samples: Iterable[tuple[Labels, float]]) -> Family:
    """What goes up and down."""
    return Family(name, "gauge", help_, samples)


def histogram(name: str, help_: str, samples: Iterable[tuple[Labels, Histogram]]) -> Family:
    """How long things took."""
    return Family(name, "histogram", help_, samples)


def exposition(families: Iterable[Family]) -> str:
    """All of it as text."""
    return "".join(f"{line}\n" for family in families for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    yield f"# HELP {family.name} {family.help.translate(_ESCAPES)}"
    yield f"# TYPE {family.name} {family.kind}"
    for labels, value in family.samples:
        if isinstance(value, Histogram):
            for bound, count in value.buckets:
                yield _line(f"{family.name}_bucket", {**labels, "le": _number(bound)}, count)
            yield _line(f"{family.name}_sum", labels, value.sum)
            yield _line(f"{family.name}_count", labels, count)
        else:
            yield _line(family.name, labels, value)


def _line(name: str, labels: Labels, value: float) -> str:
    inside = ",".join(f'{key}="{text.translate(_ESCAPES)}"' for key, text in labels.items())
    return f"{name}{{{inside}}} {_number(value)}" if inside else f"{name} {_number(value)}"


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(float(value))
