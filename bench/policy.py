"""Packets between two containers with policies and flows, beside a plain bridge without a rule; what many policies cost.

Both sides run in one go, in turns, each in a node of its own (``node.py``, ``pair.py``): ours is a real agent whose containers
are isolated in both directions, the peer is a Linux bridge and nothing else. Client and server are pinned to different CPUs.

Two pairs of the same kind differ by up to a tenth, by where the kernel happened to put what belongs to them: so every side is
made anew several times, and a second bridge stands beside the first to tell what the figures are worth.

``--quick`` takes a minute and is for looking. Only a whole run writes policy.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lib import ROOT, Report, at_least, at_most, confine, median, missing, per, percentile, progress, turns, warn_if_busy
from node import Agent, Broken, Node, places
from pair import Ours, Pair, attach, neighbours, network, our_pair, plain_bridge, policy, shortest_way

NEEDS = {
    "ip": "iproute2",
    "cc": "gcc",
    "setpriv": "util-linux",
    "taskset": "util-linux",
    "nft": "nftables",
    "clang": "clang",
    "tc": "iproute2",
}
FEW, MANY = 10, 10_000
"""Rules that the cost of a packet is compared with."""
RATE = 100_000 / 60
"""Connections a second that flows must keep up with."""
_RULES_A_POLICY = 100

Step = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much of everything; one measurement takes ``seconds``, ``rounds`` and ``rules`` are those of each build."""

    builds: int
    rounds: int
    seconds: float
    rules: int
    pods: int
    remote: int
    changes: int
    steady: float

    @property
    def steps(self) -> int:
        """How often the progress display advances."""
        return self.builds * (self.rounds + self.rules) + 3


FULL = Sizes(builds=4, rounds=4, seconds=1, rules=3, pods=1000, remote=5000, changes=300, steady=60)
QUICK = Sizes(builds=1, rounds=3, seconds=0.5, rules=2, pods=60, remote=300, changes=40, steady=5)


@dataclass
class Traffic:
    """What was measured between the two containers of one side, round after round."""

    streams: list[float] = field(default_factory=list)
    asks: list[float] = field(default_factory=list)
    ask_cpu: list[float] = field(default_factory=list)
    sleepy: list[float] = field(default_factory=list)
    opens: list[float] = field(default_factory=list)
    open_cpu: list[float] = field(default_factory=list)

    def stream(self, pair: Pair, seconds: float) -> None:
        """One connection, as much as it carries."""
        self.streams.append(pair.stream(seconds) / 1e9)

    def ask(self, pair: Pair, seconds: float) -> None:
        """One byte there and one back, on CPUs that are kept awake."""
        with awake():
            asked = pair.ask(seconds)
        self.asks.append(asked.p50)
        self.ask_cpu.append(asked.cpu)

    def ask_sleepy(self, pair: Pair, seconds: float) -> None:
        """The same where a CPU may sleep while it waits."""
        self.sleepy.append(pair.ask(seconds).p50)

    def open(self, pair: Pair, seconds: float) -> None:
        """Connections, one after the other."""
        opened = pair.connect(seconds)
        self.opens.append(opened.rate)
        self.open_cpu.append(opened.cpu)


@dataclass
class Measured:
    """Everything that a run found out."""

    ours: Traffic = field(default_factory=Traffic)
    peer: Traffic = field(default_factory=Traffic)
    big: Traffic = field(default_factory=Traffic)
    shortest: Traffic = field(default_factory=Traffic)
    control: Traffic = field(default_factory=Traffic)
    rules: dict[str, Traffic] = field(default_factory=dict)
    changes: list[float] = field(default_factory=list)
    resident: float = 0
    remote: dict[str, float] = field(default_factory=dict)
    lost: float = 0
    told: float = 0
    busy: float = 0


def side_by_side(scratch: Path, sizes: Sizes, run: Measured, step: Step) -> None:
    """All sides in turns, measure by measure: what is compared lies a moment apart."""
    for build in range(sizes.builds):
        with ExitStack() as stack:
            here = scratch / f"build-{build}"
            here.mkdir()
            bridge, again = (stack.enter_context(plain_bridge(here / name)) for name in ("bridge", "again"))
            ours = stack.enter_context(our_pair(here / "ours"))
            big = stack.enter_context(our_pair(here / "big", big=True))
            shortest = stack.enter_context(shortest_way(here / "shortest"))
            sides = [(run.peer, bridge), (run.ours, ours.pair), (run.shortest, shortest), (run.control, again)]
            for order in turns(sides, sizes.rounds):
                for traffic, pair in (*order, (run.big, big.pair)):
                    traffic.stream(pair, sizes.seconds)
                for measure in (Traffic.ask, Traffic.ask_sleepy, Traffic.open):
                    for traffic, pair in order:
                        measure(traffic, pair, sizes.seconds)
                step()
            if build == sizes.builds - 1:
                steady(ours, sizes.steady, run)
    step()


@contextmanager
def awake() -> Iterator[None]:
    """Keep both CPUs from sleeping, by somebody on each who yields to everybody else.

    A CPU that has nothing to do sleeps, and to wake it costs as much as all else about a packet, on virtual machines more.
    """
    spinning = [subprocess.Popen([sys.executable, "-c", _SPIN, str(cpu)]) for cpu in sorted(os.sched_getaffinity(0))]
    try:
        yield
    finally:
        for one in spinning:
            one.kill()
        for one in spinning:
            one.wait()


_SPIN = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
end = time.monotonic() + 60
while time.monotonic() < end:
    pass
"""


def steady(ours: Ours, seconds: float, run: Measured) -> None:
    """New connections at an even pace, with the agent's eyes on them."""
    time.sleep(1)  # what the rounds before left in the buffer is read
    before, busy = flows(ours.agent), ours.agent.busy()
    opened = ours.pair.connect(seconds, RATE).rate * seconds
    time.sleep(1)
    run.busy = (ours.agent.busy() - busy) * 100 / seconds
    after = flows(ours.agent)
    run.lost, run.told = after["lost"] - before["lost"], after["seen"] - before["seen"]
    if run.told + run.lost < 2 * opened:
        raise Broken(f"{opened:.0f} connections make {2 * opened:.0f} events, of which {run.told:.0f} were seen")


def flows(agent: Agent) -> dict[str, int]:
    """The agent's numbers of flows."""
    found = agent.ask("GET", "/v1/status")["flows"]
    assert isinstance(found, dict)
    return {name: int(found.get(name, 0)) for name in ("seen", "lost")}


def growth(scratch: Path, sizes: Sizes, run: Measured, step: Step) -> None:
    """What a packet costs with few rules and with many; ours, and a chain of nftables on the peer's bridge."""
    run.rules = {f"{kind} {count}": Traffic() for kind in ("chain", "rules") for count in (FEW, MANY)}
    for build in range(sizes.builds):
        with ExitStack() as stack:
            here = scratch / f"growth-{build}"
            here.mkdir()
            sides: list[tuple[Traffic, Pair]] = []
            for count in (FEW, MANY):
                bare = stack.enter_context(plain_bridge(here / f"chain-{count}"))
                bare.node.do("nft", "-f", chain(here / f"chain-{count}" / "rules.nft", count))
                ours = stack.enter_context(our_pair(here / f"rules-{count}"))
                for thing in policies(count):
                    ours.agent.ask("PUT", "/v1/objects", thing)
                sides += [(run.rules[f"chain {count}"], bare), (run.rules[f"rules {count}"], ours.pair)]
            for order in turns(sides, sizes.rules):
                for measure in (Traffic.ask, Traffic.open):
                    for traffic, pair in order:
                        measure(traffic, pair, sizes.seconds)
                step()


def chain(path: Path, count: int) -> str:
    """A chain that frames between containers pass rule by rule, none of which they match."""
    rules = "".join(f"ip saddr 198.18.{at >> 8}.{at & 255} tcp dport 80 drop\n" for at in range(count))
    path.write_text(f"table bridge many {{\nchain forward {{\ntype filter hook forward priority 0;\n{rules}}}\n}}\n")
    return str(path)


def policies(count: int) -> Iterator[dict[str, object]]:
    """So many rules on both containers, each letting in an address of its own."""
    for start in range(0, count, _RULES_A_POLICY):
        blocks = range(start, min(start + _RULES_A_POLICY, count))
        rules = [{"from": [{"ipBlock": {"cidr": f"198.18.{at >> 8}.{at & 255}/32"}}], "ports": [{"port": 80}]} for at in blocks]
        yield policy(f"many-{start}", {"podSelector": {}, "ingress": rules})


def crowd(scratch: Path, sizes: Sizes, run: Measured) -> None:
    """As many containers and policies as a node has on a bad day; then policies change, one after the other."""
    dice = random.Random(1)  # noqa: S311  # an order, not a secret
    scratch.mkdir()
    with Node(scratch, sizes.pods, places(scratch)) as node, Agent(node, scratch) as agent:
        agent.ask("PUT", "/v1/objects", network())
        for at in range(sizes.pods):
            attach(agent, f"c{at}", app=f"a{at}")
        for at in range(sizes.pods):
            agent.ask("PUT", "/v1/objects", neighbours(at, sizes.pods, 80))
        for turn in range(sizes.changes):
            thing = neighbours(dice.randrange(sizes.pods), sizes.pods, 8000 + turn)
            before = time.perf_counter()
            agent.ask("PUT", "/v1/objects", thing)
            run.changes.append((time.perf_counter() - before) * 1000)
        run.resident = agent.resident()


def strangers(scratch: Path, sizes: Sizes, run: Measured) -> None:
    """Pods of other nodes, known by their addresses and labels alone: there are more nodes to come than this one."""
    scratch.mkdir()
    command = [sys.executable, str(ROOT / "bench" / "remote.py"), str(scratch), str(sizes.pods), str(sizes.remote)]
    with Node(scratch, 1) as node:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run([*node.enter(), *command], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise Broken(f"remote.py: {done.stderr[-1000:]}")
    run.remote = json.loads(done.stdout)


def measure(scratch: Path, sizes: Sizes, step: Step) -> Measured:
    """Run everything."""
    run = Measured()
    side_by_side(scratch, sizes, run, step)
    growth(scratch, sizes, run, step)
    crowd(scratch / "crowd", sizes, run)
    step()
    strangers(scratch / "strangers", sizes, run)
    step()
    return run


def report(run: Measured, sizes: Sizes) -> Report:
    """The rows."""
    rows = Report("policy", "Policy: Fairlead beside a plain bridge without rules", ("Fairlead", "bridge"))
    ours, peer = run.ours, run.peer
    rows.add("TCP throughput", median(ours.streams), median(peer.streams), "Gbit/s", at_least("1.15", 1.15, "ratio"))
    big = median(run.big.streams)
    rows.add("TCP throughput, bigTcp", big, median(peer.streams), "Gbit/s", at_least("1.15", 1.15, "ratio"))
    rows.add("request and answer, p50", median(ours.asks), median(peer.asks), "us", at_most("1", 1, "ratio"))
    rows.add("request and answer, CPU of both ends", median(ours.ask_cpu), median(peer.ask_cpu), "us")
    rows.add("request and answer, p50, CPUs sleep between", median(ours.sleepy), median(peer.sleepy), "us")
    rows.add("new connections", median(ours.opens), median(peer.opens), "/s", at_least("1", 1, "ratio"))
    rows.add("new connection, CPU of both ends", median(ours.open_cpu), median(peer.open_cpu), "us")
    add_others(rows, run)
    add_growth(rows, run)
    what = f"policy changed, of {sizes.pods} with {sizes.pods} containers"
    rows.add(f"{what}, p50", percentile(run.changes, 50), None, "ms")
    rows.add(f"{what}, p99", percentile(run.changes, 99), None, "ms", at_most("50 ms", 50))
    rows.add(f"agent memory with {sizes.pods} of each", run.resident / 1024, None, "MB", at_most("150 MB", 150))
    known = f"a pod more beside {sizes.remote} of other nodes"
    rows.add(f"{known}, p99", run.remote["add"], None, "ms", at_most("20 ms", 20))
    rows.add("memory of the book and the kernel's maps then", run.remote["resident"], None, "MB", at_most("150 MB", 150))
    rows.add("100,000 new connections a minute, agent's CPU", run.busy, None, "%")
    rows.add(f"the same, events lost of {run.told + run.lost:,.0f}", run.lost, None, "", at_most("0", 0))
    return rows


def add_others(rows: Report, run: Measured) -> None:
    """In the place of Fairlead: a program that asks nothing, the least that one can cost; and a second bridge."""
    peer = run.peer
    for what, other in (("bpf_redirect_peer alone", run.shortest), ("another bridge", run.control)):
        rows.add(f"for comparison, {what}: TCP", median(other.streams), median(peer.streams), "Gbit/s")
        rows.add(f"{what}: request and answer, p50", median(other.asks), median(peer.asks), "us")
        rows.add(f"{what}: the same, CPUs sleep between", median(other.sleepy), median(peer.sleepy), "us")
        rows.add(f"{what}: new connections", median(other.opens), median(peer.opens), "/s")


def add_growth(rows: Report, run: Measured) -> None:
    """Many rules over few; the peer is a chain of as many."""

    def grown(kind: str, figures: Callable[[Traffic], Sequence[float]]) -> float | None:
        return per(median(figures(run.rules[f"{kind} {MANY}"])), median(figures(run.rules[f"{kind} {FEW}"])))

    both = [grown(kind, lambda traffic: traffic.ask_cpu) for kind in ("rules", "chain")]
    rows.add(f"request and answer, {MANY:,} rules over {FEW}, CPU", *both, "x", at_most("1.05", 1.05))
    both = [grown(kind, lambda traffic: traffic.asks) for kind in ("rules", "chain")]
    rows.add(f"request and answer, {MANY:,} rules over {FEW}, p50", *both, "x")
    both = [grown(kind, lambda traffic: traffic.open_cpu) for kind in ("rules", "chain")]
    rows.add(f"new connection, {MANY:,} rules over {FEW}, CPU", *both, "x")


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """On a disk, as a node's state is."""
    made = Path(tempfile.mkdtemp(prefix="fairlead-bench-", dir="/var/tmp"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def main() -> int:
    """Check what is needed, measure, print."""
    options = arguments()
    if problem := obstacle():
        print(problem, file=sys.stderr)
        return 2
    confine()
    warn_if_busy()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sizes = QUICK if options.quick else FULL
    try:
        with scratch_directory() as scratch, progress() as display:
            task = display.add_task("bench policy", total=sizes.steps)
            run = measure(scratch, sizes, lambda: display.update(task, advance=1, refresh=True))
    except Broken as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    rows = report(run, sizes)
    if options.quick:
        rows.show()
    else:
        print(rows.publish().relative_to(ROOT))
    spread = {name: statistics.pstdev(values) / statistics.mean(values) for name, values in vars(run.ours).items()}
    print("spread of ours: " + ", ".join(f"{name} {part:.0%}" for name, part in spread.items()), file=sys.stderr)
    return 0


def obstacle() -> str:
    """What keeps the benchmark from running, and the remedy; empty if nothing does."""
    if os.geteuid() != 0:
        return "bench: making network namespaces needs root"
    if packages := missing(NEEDS):
        return f"bench: packages are missing; run: apt-get install --no-install-recommends {' '.join(packages)}"
    if len(os.sched_getaffinity(0)) < 2:
        return "bench: client and server need a CPU each"
    return ""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="packets with policies and flows beside a plain bridge")
    parser.add_argument("--quick", action="store_true", help="a minute, fewer of everything, no JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
