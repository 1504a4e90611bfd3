"""CNI ADD and DEL beside Debian's containernetworking-plugins: time, throughput, failures, memory.

Both sides run in one go, in turns, each in a node of its own (``node.py``): ours is the agent and ``fairlead-cni``, the peer
is bridge with host-local, portmap and firewall, one exec a plugin, as containerd or podman run them. Five subjects take
turns container by container; the bursts and the long rows of containers take turns too. Nothing is timed but the plugins:
namespaces exist beforehand, and work that a side has put off is waited for before the other side's turn.

``--quick`` takes 20 s and is for looking; ``--peer`` leaves our side out. Only a run with neither writes cni.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lib import ROOT, Report, at_least, at_most, confine, less, median, missing, per, percentile, progress, turns, warn_if_busy
from node import Agent, Broken, Call, Node, Run, built, places, took

PLUGINS = Path("/usr/lib/cni")
OURS = ROOT / "src" / "fairlead" / "cni" / "bin" / "fairlead-cni"
NEEDS = {
    str(PLUGINS / "bridge"): "containernetworking-plugins",
    "iptables": "iptables",
    "ip": "iproute2",
    "cc": "gcc",
    "setpriv": "util-linux",
}
"""Programs and the Debian packages they come in."""

WIDTH = 8
"""Containers started at a time in a burst."""
BLOCK = 5
"""Containers that each subject adds before it deletes them again."""
REST = 0.005
"""Seconds between two calls of different subjects, so that what one leaves for later does not run in the other's time."""

Step = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much of everything."""

    blocks: int
    burst: int
    bursts: int
    crowd: int
    peer_crowd: int
    edge: int
    idle: float

    @property
    def steps(self) -> int:
        """How often the progress display advances, at most."""
        return self.blocks + 2 * self.bursts + self.crowd // self.edge + 5


FULL = Sizes(blocks=16, burst=200, bursts=3, crowd=1000, peer_crowd=250, edge=50, idle=30)
QUICK = Sizes(blocks=2, burst=40, bursts=1, crowd=100, peer_crowd=60, edge=20, idle=2)


@dataclass(kw_only=True)
class Subject:
    """A chain that is measured container by container, on a block of containers of its own, and its times."""

    side: Side
    chain: str
    first: int
    adds: list[float] = field(default_factory=list)
    dels: list[float] = field(default_factory=list)

    def add(self, at: int) -> None:
        """Add container ``at`` of the block."""
        self.adds += self.side.node.run("ADD", self.chain, self.first + at).ms

    def delete(self) -> None:
        """Delete the block, one after the other."""
        self.dels += self.side.node.delete(self.chain, self.first, BLOCK).ms

    def warm(self) -> None:
        """Add and delete a block that is not timed: the first container makes the bridge and the base chains."""
        self.side.node.run("ADD", self.chain, self.first, BLOCK)
        self.side.node.delete(self.chain, self.first, BLOCK)


@dataclass(kw_only=True)
class Bursts:
    """Many containers, ``WIDTH`` at a time."""

    adds: list[Run] = field(default_factory=list)
    gone: list[float] = field(default_factory=list)
    """Milliseconds a container from the first DEL until the kernel holds nothing of the burst any more."""

    def once(self, side: Side, size: int) -> None:
        """Add ``size`` containers and delete them."""
        self.adds.append(side.node.run("ADD", "full", 0, size, WIDTH))
        side.prove(len(self.adds[-1].ms))
        start = time.monotonic()
        side.node.delete("full", 0, size, WIDTH)
        side.settle()
        self.gone.append((time.monotonic() - start) * 1000 / size)

    def rate(self) -> float | None:
        """Containers a second."""
        return median(run.rate for run in self.adds)

    def waited(self, percent: float) -> float | None:
        """A percentile of how long one container waited, all bursts together."""
        return percentile((ms for run in self.adds for ms in run.ms), percent)


@dataclass(kw_only=True)
class Crowd:
    """ADD after ADD, nothing deleted: what the n-th costs, and what all of them weigh in the agent."""

    adds: list[Call] = field(default_factory=list)
    idle_kb: float | None = None
    idle_cpu: float | None = None
    full_kb: float | None = None
    full_cpu: float | None = None

    def grow(self, side: Side, size: int) -> None:
        """Add ``size`` more, one after the other."""
        self.adds += side.node.run("ADD", "full", len(self.adds), size).calls
        side.prove(len(took(self.adds)))

    def growth(self, upto: int, edge: int) -> float | None:
        """The median of the last ``edge`` of ``upto`` containers divided by that of the first ``edge``."""
        if len(self.adds) < upto:
            return None
        return per(median(took(self.adds[upto - edge : upto])), median(took(self.adds[:edge])))

    def more(self, upto: int, edge: int) -> float | None:
        """Milliseconds that the median of the last ``edge`` of ``upto`` containers is above that of the first ``edge``."""
        if len(self.adds) < upto:
            return None
        return less(median(took(self.adds[upto - edge : upto])), median(took(self.adds[:edge])))

    def each_kb(self) -> float | None:
        """Agent memory an endpoint."""
        return per(less(self.full_kb, self.idle_kb), len(took(self.adds)))


class Side:
    """Ours or the peer: a node, its agent if it has one, and what was measured in it."""

    def __init__(self, node: Node, chains: Sequence[str], agent: Agent | None = None) -> None:
        self.node = node
        self.agent = agent
        self.subjects = {name: Subject(side=self, chain=name, first=at * BLOCK) for at, name in enumerate(chains)}
        self.bursts = Bursts()
        self.crowd = Crowd()
        for subject in self.subjects.values():
            subject.warm()
        if agent:
            agent.settle()
        node.mark()

    def settle(self) -> None:
        """Wait until nothing is left of containers that were deleted."""
        self.node.settle()
        if self.agent:
            self.agent.settle()

    def prove(self, added: int) -> None:
        """Refuse to go on unless the kernel has an interface for each container whose ADD has answered."""
        if self.node.extra() < added:
            raise Broken(f"{added} containers were added, but the node has {self.node.extra()} interfaces more than before")

    def cost_of_port(self) -> float | None:
        """What one published port adds to ADD."""
        return less(median(self.subjects["port"].adds), median(self.subjects["full"].adds))


def conf(kind: str, **more: object) -> dict[str, object]:
    """A plugin's network configuration as a runtime hands it over."""
    return {"cniVersion": "1.0.0", "name": "bench", "type": kind, **more}


PUBLISHED = {"runtimeConfig": {"portMappings": [{"hostPort": "@PORT@", "containerPort": 80, "protocol": "tcp"}]}}

NETWORK = {
    "apiVersion": "fairlead.dev/v1",
    "kind": "Network",
    "metadata": {"name": "bench"},
    "spec": {"subnets": [{"cidr": "10.96.0.0/16"}]},
}
"""Ours is asked for what the peer's bridge gives: one IPv4 subnet with room for every container, masqueraded."""


@contextmanager
def our_side(scratch: Path, spaces: int) -> Iterator[Side]:
    """The agent in a node of its own, and its plugin."""
    scratch.mkdir()
    full = conf("fairlead", network="bench")
    with Node(scratch, spaces, places(scratch)) as node, Agent(node, scratch) as agent:
        agent.ask("PUT", "/v1/objects", NETWORK)
        node.chain("full", (OURS, full))
        node.chain("port", (OURS, {**full, **PUBLISHED}))
        yield Side(node, ("full", "port"), agent)


def bridge(scratch: Path, name: str, subnet: str, *, masquerade: bool) -> tuple[Path, dict[str, object]]:
    """The bridge plugin with host-local, as podman and containerd configure it."""
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": subnet}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(scratch / name),
    }
    more = {"name": name, "bridge": name, "isGateway": True, "ipMasq": masquerade, "hairpinMode": True, "ipam": ipam}
    return PLUGINS / "bridge", {**conf("bridge"), **more}


@contextmanager
def peer_side(scratch: Path, spaces: int) -> Iterator[Side]:
    """Debian's plugins in a node of their own: the whole chain, the same with a published port, and the bridge alone."""
    scratch.mkdir()
    with Node(scratch, spaces) as node:
        whole = bridge(scratch, "bench", "10.97.0.0/16", masquerade=True)
        portmap, firewall = (PLUGINS / "portmap", conf("portmap", snat=True)), (PLUGINS / "firewall", conf("firewall"))
        node.chain("full", whole, portmap, firewall)
        node.chain("port", whole, (PLUGINS / "portmap", {**portmap[1], **PUBLISHED}), firewall)
        node.chain("bare", bridge(scratch, "bare", "10.98.0.0/16", masquerade=False))
        yield Side(node, ("full", "port", "bare"))


def steady(sides: Sequence[Side], blocks: int, step: Step) -> None:
    """One container at a time, the subjects of all sides in turns; then the DELs of the block, side by side."""
    subjects = [subject for side in sides for subject in side.subjects.values()]
    adding = turns(subjects, blocks * BLOCK)
    for wiping in turns(sides, blocks):
        for at in range(BLOCK):
            order = next(adding)
            for subject in order:
                subject.add(at)
                time.sleep(REST)
        for side in wiping:
            for subject in order:
                if subject.side is side:
                    subject.delete()
            side.settle()
        step()


def bursts(sides: Sequence[Side], sizes: Sizes, step: Step) -> None:
    """A burst of each side in turns."""
    for order in turns(sides, sizes.bursts):
        for side in order:
            side.bursts.once(side, sizes.burst)
            step()


def crowd(ours: Side | None, peer: Side, sizes: Sizes, step: Step) -> None:
    """Fill both nodes, in turns as far as the peer goes; weigh our agent before and after."""
    if ours:
        ours.crowd.idle_cpu, ours.crowd.idle_kb = weigh(ours, sizes.idle)
        step()
    for at in range(0, sizes.crowd, sizes.edge):
        for side, upto in ((ours, sizes.crowd), (peer, sizes.peer_crowd)):
            if side and at < upto:
                side.crowd.grow(side, sizes.edge)
        step()
    if ours:
        ours.crowd.full_cpu, ours.crowd.full_kb = weigh(ours, sizes.idle)
        step()


def by_hand(scratch: Path, sizes: Sizes) -> tuple[float, float]:
    """Median milliseconds of the kernel's own steps for the first containers of a full node, and for the last."""
    scratch.mkdir()
    command = [sys.executable, str(ROOT / "bench" / "byhand.py"), str(sizes.crowd), str(sizes.edge)]
    with Node(scratch, 1) as node:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run([*node.enter(), *command], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise Broken(f"byhand.py: {done.stderr[-1000:]}")
    first, last = json.loads(done.stdout)["all"]
    return first, last


def weigh(side: Side, seconds: float) -> tuple[float, float]:
    """What the agent uses while nobody asks for anything: per cent of a CPU, and KB resident."""
    assert side.agent
    before = side.agent.busy()
    time.sleep(seconds)
    return (side.agent.busy() - before) * 100 / seconds, side.agent.resident()


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Both sides after the run. Ours are two: one took turns with the peer, the other was started afresh to be filled."""

    peer: Side
    ours: Side | None
    filled: Side | None
    kernel: tuple[float, float]
    """What the kernel took by hand, see ``by_hand``."""
    sizes: Sizes

    def turns(self, figure: Callable[[Side], float | None]) -> tuple[float | None, float | None]:
        """A figure of the steady and the burst part, ours and the peer's."""
        return (figure(self.ours) if self.ours else None), figure(self.peer)

    def crowds(self, figure: Callable[[Crowd], float | None]) -> tuple[float | None, float | None]:
        """A figure of the crowd, ours and the peer's."""
        return (figure(self.filled.crowd) if self.filled else None), figure(self.peer.crowd)

    def failures(self) -> tuple[list[str], list[str]]:
        """Every call that failed, ours and the peer's."""
        return [line for side in (self.ours, self.filled) if side for line in side.node.failures], self.peer.node.failures


def measure(scratch: Path, sizes: Sizes, *, peer_alone: bool, step: Step) -> Measured:
    """Run everything."""
    with peer_side(scratch / "peer", max(sizes.burst, sizes.peer_crowd)) as peer:
        with nullcontext() if peer_alone else our_side(scratch / "ours", sizes.burst) as ours:
            sides = [side for side in (ours, peer) if side]
            steady(sides, sizes.blocks, step)
            bursts(sides, sizes, step)
        with nullcontext() if peer_alone else our_side(scratch / "filled", sizes.crowd) as filled:
            crowd(filled, peer, sizes, step)
    kernel = by_hand(scratch / "kernel", sizes)
    step()
    return Measured(peer=peer, ours=ours, filled=filled, kernel=kernel, sizes=sizes)


def report(name: str, run: Measured) -> Report:
    """The rows."""
    rows = Report(name, "CNI: Fairlead beside containernetworking-plugins", ("Fairlead", "CNI plugins"))
    add_steady(rows, run)
    add_bursts(rows, run)
    add_agent(rows, run)
    return rows


def add_steady(rows: Report, run: Measured) -> None:
    """One container at a time."""
    add, bare = run.turns(lambda side: median(side.subjects["full"].adds)), run.peer.subjects["bare"]
    rows.add("ADD, median", *add, "ms", at_most("1/6", 1 / 6, "ratio"))
    rows.add("ADD, median, beside bridge + host-local alone", add[0], median(bare.adds), "ms")
    gone = run.turns(lambda side: median(side.subjects["full"].dels))
    rows.add("DEL, median", *gone, "ms", at_most("1/10", 1 / 10, "ratio"))
    rows.add("DEL, median, beside bridge + host-local alone", gone[0], median(bare.dels), "ms")
    rows.add("one published port, more in ADD", *run.turns(Side.cost_of_port), "ms", at_most("1 ms", 1))
    rows.add("ADD with one published port, median", *run.turns(lambda side: median(side.subjects["port"].adds)), "ms")
    rows.add("DEL with one published port, median", *run.turns(lambda side: median(side.subjects["port"].dels)), "ms")


def add_bursts(rows: Report, run: Measured) -> None:
    """Many containers at a time."""
    burst = f"burst of {run.sizes.burst}"
    rows.add(f"{WIDTH} in parallel, ADD", *run.turns(lambda side: side.bursts.rate()), "/s", at_least("6", 6, "ratio"))
    rows.add(f"{burst}, p50", *run.turns(lambda side: side.bursts.waited(50)), "ms")
    rows.add(f"{burst}, p99", *run.turns(lambda side: side.bursts.waited(99)), "ms")
    flat = run.turns(lambda side: per(side.bursts.waited(99), side.bursts.waited(50)))
    rows.add(f"{burst}, p99 over p50", *flat, "x", at_most("2", 2))
    rows.add(f"{burst}, DEL until the kernel is clean", *run.turns(lambda side: median(side.bursts.gone)), "ms each")
    ours, peer = (float(len(lines)) for lines in run.failures())
    of = [sum(side.node.made for side in sides if side) for sides in ((run.ours, run.filled), (run.peer,))]
    what = f"failed calls, of {of[0]:,} and {of[1]:,}"
    rows.add(what, ours if run.ours else None, peer, "", at_most("0", 0))


def add_agent(rows: Report, run: Measured) -> None:
    """The n-th container, and the agent's weight; the peer has no agent."""
    crowd, few, edge = run.sizes.crowd, run.sizes.peer_crowd, run.sizes.edge
    for upto in (few, crowd):
        growth = run.crowds(partial(Crowd.growth, upto=upto, edge=edge))
        rows.add(f"ADD, last {edge} of {upto} over the first {edge}", *growth, "x", at_most("1.1", 1.1))
    weights = run.filled.crowd if run.filled else Crowd()
    rows.add(f"the same, last {edge} of {crowd} less the first {edge}", weights.more(crowd, edge), None, "ms")
    rows.add("of which the kernel's steps, by hand", less(run.kernel[1], run.kernel[0]), None, "ms")
    rows.add("agent memory, idle", per(weights.idle_kb, 1024), None, "MB", at_most("60 MB", 60))
    rows.add(f"agent memory an endpoint, to {crowd}", weights.each_kb(), None, "KB", at_most("8 KB", 8))
    rows.add("agent CPU, idle", weights.idle_cpu, None, "%", at_most("0.5 %", 0.5))
    rows.add(f"agent CPU, idle with {crowd} endpoints", weights.full_cpu, None, "%", at_most("0.5 %", 0.5))


def main() -> int:
    """Check what is needed, measure, print."""
    options = arguments()
    if problem := obstacle(peer_alone=options.peer):
        print(problem, file=sys.stderr)
        return 2
    confine()
    warn_if_busy()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    built()
    sizes = QUICK if options.quick else FULL
    scratch = Path(tempfile.mkdtemp(prefix="fairlead-bench-", dir="/var/tmp"))  # a disk, as a node's state has
    try:
        with progress() as display:
            task = display.add_task("bench cni", total=sizes.steps)
            run = measure(scratch, sizes, peer_alone=options.peer, step=lambda: display.update(task, advance=1, refresh=True))
    except Broken as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    publish(run, whole=not (options.quick or options.peer))
    return 0


def publish(run: Measured, *, whole: bool) -> None:
    """Print the rows and what failed; a whole run also leaves the JSON."""
    rows = report("cni", run)
    if whole:
        print(rows.publish().relative_to(ROOT))
    else:
        rows.show()
    for name, lines in zip(rows.columns, run.failures(), strict=True):
        for line in lines[:5]:
            print(f"{name}: {line[:300]}", file=sys.stderr)


def obstacle(*, peer_alone: bool) -> str:
    """What keeps the benchmark from running, and the remedy; empty if nothing does."""
    if os.geteuid() != 0:
        return "bench: making network namespaces needs root"
    if packages := missing(NEEDS):
        return f"bench: packages are missing; run: apt-get install --no-install-recommends {' '.join(packages)}"
    if not peer_alone and not OURS.exists():
        return f"bench: {OURS.relative_to(ROOT)} has not been built; build it, or measure the peer alone with --peer"
    return ""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="CNI ADD and DEL beside containernetworking-plugins")
    parser.add_argument("--quick", action="store_true", help="20 s, fewer of everything, no JSON")
    parser.add_argument("--peer", action="store_true", help="measure the peer alone, no JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
