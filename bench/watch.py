"""What following a large Kubernetes cluster costs by itself: the store, the cache of it, the book of policies. No kernel.

A process of its own plays the cluster (``tests.kubernetes.play``): 1000 nodes, 50,000 pods of four kilobytes, 1000 policies,
and then one pod in twenty changes every minute. Another process follows it as an agent does, and is measured: how long until
it knows everything, how much memory that takes, how much of a processor the changes take, how soon one is known.

``Sight`` and ``follow`` are what runs in the measured process. What the whole agent takes ``bench/kubernetes.py`` says.

    .venv/bin/python bench/watch.py [PODS]
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import lib
from played import NODES, PODS, POLICIES, Played, playing, pod_name

from fairlead.model.pod import Pod
from fairlead.policy.book import Book, Thing
from fairlead.policy.pods import Pods
from fairlead.store.base import Event, EventKind
from fairlead.store.cache import Cache
from fairlead.store.kubernetes.access import Access
from fairlead.store.kubernetes.store import Kubernetes

CHANGED = 0.05
"""Of all pods, in a minute."""
WATCHED = 30.0
"""Seconds for which the changes are watched."""
LABELS = 50
"""Changes of one label whose way is timed."""
KINDS = ("nodes", "namespaces", "pods", "services", "endpointslices", "networkpolicies", "networks", "blocks", "endpoints")

_PAGE = os.sysconf("SC_PAGE_SIZE")


# ---- the measured process ----


def memory() -> float:
    """What this process has in memory, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE / 1e6


def busy() -> float:
    """Seconds of a processor that this process has taken."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Sight:
    """What an agent sees of a cluster. ``seen``: when each pod was last told of."""

    def __init__(self, *, book: bool) -> None:
        """``book``: pods become endpoints, and the policies' book is kept besides."""
        self._pods, self._book = (Pods("pods", "node-0000"), Book()) if book else (None, None)
        self.seen: dict[str, float] = {}
        self.news = asyncio.Event()

    def changed(self, events: Sequence[Event]) -> None:
        """The cache tells of these."""
        now = time.time()
        self.seen.update((one.object.name, now) for one in events if isinstance(one.object, Pod))
        self.news.set()
        if self._pods is None or self._book is None:
            return
        things: list[Thing] = []
        for event in events:
            thing, gone = event.object, event.kind is EventKind.DELETED
            for one, over in self._pods.take(thing, gone=gone) if isinstance(thing, Pod) else [(thing, gone)]:
                if over and isinstance(one, Thing):
                    self._book.drop(one)
                elif isinstance(one, Thing):
                    things.append(one)
        if things:
            self._book.put(*things)

    async def until(self, pod: str) -> float:
        """When a pod was told of, from now on."""
        while pod not in self.seen:
            self.news.clear()
            await self.news.wait()
        at = self.seen[pod]
        self.seen.clear()
        return at


async def follow(url: str, *, book: bool) -> None:
    """Follow the cluster at ``url`` as an agent does; say what it took, and then at each line that is read."""
    sight = Sight(book=book)
    gc.collect()
    before, spent, begun = memory(), busy(), time.monotonic()
    store = Kubernetes(Access(server=url))
    cache = Cache(store, KINDS, sight.changed)
    following = asyncio.create_task(cache.run())
    await cache.synced()
    took, cpu = time.monotonic() - begun, busy() - spent
    gc.collect()
    gc.freeze()
    _tell(seconds=took, cpu=cpu, memory=memory() - before, total=memory(), pods=len(cache.all("pods")))
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        match line.split():
            case ["watch", seconds]:
                spent, begun = busy(), time.monotonic()
                await asyncio.sleep(float(seconds))
                _tell(share=100 * (busy() - spent) / (time.monotonic() - begun))
            case ["seen", pod]:
                _tell(at=await sight.until(pod))
    await store.close()
    await following


def _tell(**figures: float) -> None:
    print(json.dumps(figures), flush=True)


# ---- the measuring one ----


class Follower:
    """The process that is measured."""

    def __init__(self, url: str, what: str) -> None:
        command = [sys.executable, __file__, "follow", url, what]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.synced = self._read()

    def ask(self, line: str) -> dict[str, float]:
        """What it says to a line."""
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._read()

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> dict[str, float]:
        assert self._process.stdout
        found: dict[str, float] = json.loads(self._process.stdout.readline())
        return found


def measure(played: Played, what: str) -> dict[str, float]:
    """The figures of one follower."""
    follower = Follower(played.url, what)
    try:
        figures = follower.synced
        played.churn(played.pods * CHANGED / 60)
        time.sleep(2)
        figures |= follower.ask(f"watch {WATCHED}")
        late = []
        for turn in range(LABELS):
            number = turn * 31 % played.pods
            if turn == 0:
                played.label(number, 0)
                time.sleep(1)
                follower.ask(f"seen {pod_name(number)}")
            changed = played.label(number, 1000 + turn)
            late.append(1000 * (follower.ask(f"seen {pod_name(number)}")["at"] - changed))
        return figures | {"p50": lib.percentile(late, 50) or 0, "p99": lib.percentile(late, 99) or 0}
    finally:
        follower.end()


def main() -> None:
    """Play, measure, publish."""
    pods = int(sys.argv[1]) if len(sys.argv) > 1 else PODS
    lib.warn_if_busy()
    with playing(pods=pods) as played:
        cache, book = measure(played, "cache"), measure(played, "book")
    report = lib.Report("watch", f"{NODES} nodes, {pods} pods, {POLICIES} policies, from one node", ("cache", "and book"))
    per_pod = 1e6 / pods
    report.add("until everything is known", cache["seconds"], book["seconds"], "s", lib.at_most("30 s", 30))
    report.add("processor time for that", cache["cpu"], book["cpu"], "s")
    report.add("memory more than before", cache["memory"], book["memory"], "MB", lib.at_most("120 MB", 120))
    report.add("the same, a pod", cache["memory"] * per_pod, book["memory"] * per_pod, "B", lib.at_most("2 kB", 2048))
    report.add("memory in all", cache["total"], book["total"], "MB")
    report.add("one core, 5 % of the pods changing a minute", cache["share"], book["share"], "%", lib.at_most("20 %", 20))
    report.add("a label's change is known after, p50", cache["p50"], book["p50"], "ms")
    report.add("a label's change is known after, p99", cache["p99"], book["p99"], "ms", lib.at_most("200 ms", 200))
    report.publish()


if __name__ == "__main__":
    if sys.argv[1:2] == ["follow"]:
        asyncio.run(follow(sys.argv[2], book=sys.argv[3] == "book"))
    else:
        main()
