"""Between two nodes: each way beside what a person would set up by hand; a node that joins many, and one that follows many.

Traffic runs between containers of two nodes of a lab, all ways in turns, round after round (``ways.py``); client and server are
pinned to different CPUs. The crowd of nodes is there on paper (``crowd.py``). Both are this machine: its CPUs carry both nodes.

``--quick`` takes a minute and is for looking. Only a whole run writes nodes.json.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from crowd import NODES, crowd
from lib import Report, at_least, at_most, confine, median, missing, percentile, progress, turns, warn_if_busy
from node import Broken
from ways import GUARDED, OPEN, WAYS, sides

NEEDS = {
    "ip": "iproute2",
    "bridge": "iproute2",
    "cc": "gcc",
    "setpriv": "util-linux",
    "taskset": "util-linux",
    "ping": "iputils-ping",
    "bird": "bird2",
}
REMOTE = 5000
UNDERLAY, PLAIN, TUNNEL = "underlay", "plain", "tunnel"
NEAR = 0.05
"""How far from what is by hand a way may be."""

Step = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much of everything; ``seconds`` is how long one measurement takes."""

    rounds: int
    seconds: float
    starts: int
    changes: int

    @property
    def steps(self) -> int:
        """How often the progress display advances."""
        return self.rounds + 2 * self.starts + 1


FULL = Sizes(rounds=16, seconds=0.4, starts=5, changes=300)
QUICK = Sizes(rounds=4, seconds=0.3, starts=1, changes=60)


@dataclass
class Measured:
    """Everything that a run found out."""

    streams: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    asks: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    missing: dict[str, str] = field(default_factory=dict)
    joins: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    resident: list[float] = field(default_factory=list)
    changes: list[float] = field(default_factory=list)


def traffic(sizes: Sizes, run: Measured, step: Step) -> None:
    """All ways in turns: what is compared lies a moment apart."""
    with sides() as found:
        run.missing = found.missing
        for order in turns([*found.pairs.items()], sizes.rounds):
            for name, pair in order:
                run.streams[name].append(pair.stream(sizes.seconds) / 1e9)
                run.asks[name].append(pair.ask(sizes.seconds).p50)
            step()


def many(sizes: Sizes, run: Measured, step: Step) -> None:
    """A node that joins, one that starts among thousands of containers, and how soon it follows."""
    with crowd() as there:
        there.fill(NODES)
        for _ in range(sizes.starts):
            run.joins.append(there.join())
            there.stop()
            step()
        there.fill(REMOTE)
        for at in range(sizes.starts):
            run.starts.append(there.start())
            if left := there.drift():
                raise Broken(f"{left} things were not as they should be once the agent was ready")
            run.resident.append(there.resident())
            if at < sizes.starts - 1:
                there.stop()
            step()
        run.changes = there.changes(sizes.changes, 0.02)
        step()


def report(run: Measured) -> Report:
    """The figures."""
    made = Report("nodes", "between two nodes, beside the same by hand", ("Fairlead", "by hand"))
    fast, quick = at_least(f"{1 - NEAR:g}", 1 - NEAR, "ratio"), at_most(f"{1 + NEAR:g}", 1 + NEAR, "ratio")
    for what, unit, figures, goal in (("TCP", "Gbit/s", run.streams, fast), ("round trip", "us", run.asks, quick)):
        made.add(f"{what}, the underlay itself", None, median(figures[UNDERLAY]), unit)
        for way in WAYS:
            if why := run.missing.get(way):
                made.add(f"{what}, {way} (skipped: {why})", None, None, unit)
                continue
            peer, aim = (TUNNEL, goal) if way == "vxlan" else (PLAIN, goal) if way != "wireguard" else (PLAIN, None)
            made.add(f"{what}, {way}", median(figures[f"{way} {OPEN}"]), median(figures[peer]), unit, aim)
            made.add(f"{what}, {way}, under a policy", median(figures[f"{way} {GUARDED}"]), median(figures[peer]), unit)
    made.add(f"a new node reaches all of {NODES}", median(run.joins), None, "s", at_most("2 s", 2))
    made.add(f"start among {REMOTE} remote endpoints", median(run.starts), None, "s", at_most("5 s", 5))
    made.add("memory with these", median(run.resident), None, "MB", at_most("150 MB", 150))
    made.add("a route is in the kernel, p50", median(run.changes), None, "ms")
    made.add("a route is in the kernel, p99", percentile(run.changes, 99), None, "ms", at_most("100 ms", 100))
    return made


def main() -> int:
    """Measure everything and publish it."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="fewer of everything, and write nothing")
    quick = arguments.parse_args().quick
    if lacking := missing(NEEDS):
        print(f"bench: install {', '.join(lacking)}", file=sys.stderr)
        return 2
    sizes, run = QUICK if quick else FULL, Measured()
    warn_if_busy()
    confine()
    try:
        with progress() as shown:
            task = shown.add_task("nodes", total=sizes.steps)

            def step() -> None:
                shown.advance(task)
                shown.refresh()

            traffic(sizes, run, step)
            many(sizes, run, step)
    except Broken as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 1
    made = report(run)
    if quick:
        made.show()
    else:
        made.publish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
