"""What the stores cost: commits, listings, how soon another process sees a change, memory, and CPU while nothing happens.

Each store is measured in a process of its own, so that its memory is its own; a second one writes what the first one watches.
etcd is a single member on loopback with its data on this disk: a cluster adds its network and its slowest disk but one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from lib import Report, at_most, confine, missing, percentile, warn_if_busy

from fairlead.model.address import ContainerID, InterfaceName, Name
from fairlead.model.endpoint import Endpoint, EndpointSpec, Sandbox
from fairlead.model.meta import Meta
from fairlead.store.base import Put
from fairlead.store.url import Shared, open_url

OBJECTS = 5000
COMMITS = 500
GAP = 0.005
IDLE_SECONDS = 10.0
READY_SECONDS = 20.0

SEEN_GOAL, IDLE_GOAL = 50.0, 0.5

ROWS = {
    "commit50": ("one commit, median", "ms", None),
    "commit99": ("one commit, 99 of 100", "ms", None),
    "rate": ("creations, 8 at a time", "/s", None),
    "seen50": ("seen by another process, median", "ms", None),
    "seen99": ("seen by another process, 99 of 100", "ms", at_most(f"{SEEN_GOAL:g} ms", SEEN_GOAL)),
    "list": (f"{OBJECTS} objects listed", "ms", None),
    "held": (f"{OBJECTS} objects held", "MB", None),
    "open": ("memory of the open store", "MB", None),
    "idle": ("CPU while it watches and nothing happens", "%", at_most(f"{IDLE_GOAL:g} %", IDLE_GOAL)),
}


def thing(name: str, mtu: int = 0) -> Endpoint:
    """An endpoint of about 400 bytes."""
    spec = EndpointSpec(
        container=ContainerID(name), interface=InterfaceName("eth0"), network=Name("blue"), sandbox=Sandbox(path="/p"), mtu=mtu
    )
    return Endpoint(metadata=Meta(name=f"{name}:eth0", labels={"tier": "web"}, annotations={"text": "x" * 200}), spec=spec)


def resident() -> float:
    """This process's memory in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


async def write(url: str) -> None:
    """Commit what another process watches, each with the time at which its commit began."""
    store = await open_url(url)
    for _ in range(COMMITS):
        await store.commit(Put(thing("seen", time.monotonic_ns() // 1000)))
        await asyncio.sleep(GAP)
    await store.close()


async def measure(url: str) -> dict[str, float]:
    """All figures of one store."""
    base = resident()
    store = await open_url(url)
    figures = {}
    await store.commit(Put(thing("first")))
    figures["open"] = resident() - base
    figures |= await commits(store)
    figures |= await listing(store)
    figures |= await watching(store, url)
    await store.close()
    return figures


async def commits(store: Shared) -> dict[str, float]:
    """One after another, and eight at a time."""
    took = []
    for at in range(COMMITS):
        began = time.perf_counter()
        await store.commit(Put(thing("one", at + 1)))
        took.append((time.perf_counter() - began) * 1e3)
        await asyncio.sleep(GAP)

    async def fill(first: int) -> None:
        for at in range(first, OBJECTS, 8):
            await store.commit(Put(thing(f"e{at:04}"), expect=""))

    began = time.perf_counter()
    await asyncio.gather(*(fill(first) for first in range(8)))
    rate = OBJECTS / (time.perf_counter() - began)
    return {
        "commit50": statistics.median(took),
        "commit99": percentile(took, 99) or 0.0,
        "rate": rate,
    }


async def listing(store: Shared) -> dict[str, float]:
    """All objects, and what it costs to have them."""
    took, before = [], resident()
    for _ in range(5):
        began = time.perf_counter()
        found = await store.list(Endpoint.plural)
        took.append((time.perf_counter() - began) * 1e3)
        assert len(found.objects) >= OBJECTS
    return {"list": statistics.median(took), "held": resident() - before}


async def watching(store: Shared, url: str) -> dict[str, float]:
    """How late a change of another process is seen, and what waiting for one costs."""
    late: list[float] = []
    watch = store.watch(Endpoint.plural, (await store.list(Endpoint.plural)).revision)
    writer = await asyncio.create_subprocess_exec(sys.executable, __file__, "write", url)
    while len(late) < COMMITS:
        event = await anext(watch)
        assert isinstance(event.object, Endpoint)
        late.append(time.monotonic() * 1e3 - event.object.spec.mtu / 1e3)
    await writer.wait()
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(1)
    began = time.process_time()
    await asyncio.sleep(IDLE_SECONDS)
    busy = 100 * (time.process_time() - began) / IDLE_SECONDS
    waiting.cancel()
    await asyncio.wait([waiting])
    return {"seen50": statistics.median(late), "seen99": percentile(late, 99) or 0.0, "idle": busy}


@contextlib.contextmanager
def etcd(folder: Path) -> Iterator[str]:
    """The URL of a member that ends with this process."""
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
    client, peer = (f"http://127.0.0.1:{port}" for port in ports)
    words = (
        *("--name", "m", "--data-dir", str(folder), "--listen-client-urls", client, "--advertise-client-urls", client),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"m={peer}"),
        *("--logger", "zap", "--log-level", "error"),
    )
    with subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "etcd", *words]) as process:
        try:
            deadline = time.monotonic() + READY_SECONDS
            while True:
                try:
                    urllib.request.urlopen(f"{client}/health", timeout=1).close()  # noqa: S310  # loopback
                    break
                except OSError:
                    assert time.monotonic() < deadline, "etcd does not start"
                    time.sleep(0.05)
            yield f"etcd://127.0.0.1:{ports[0]}"
        finally:
            process.kill()


def figures(url: str) -> dict[str, float]:
    """Measure in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "measure", url], stdout=subprocess.PIPE, check=True)
    return {name: float(value) for name, value in json.loads(done.stdout).items()}


def main() -> None:
    """Measure both, and publish."""
    if lacking := missing({"etcd": "etcd-server", "setpriv": "util-linux"}):
        raise SystemExit(f"bench: not installed: {', '.join(lacking)}")
    confine()
    warn_if_busy()
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-", dir=Path.cwd()) as folder:
        file = figures(f"sqlite://{folder}/store.db")
        with etcd(Path(folder, "etcd")) as url:
            cluster = figures(url)
    report = Report("store", "Stores; objects of 400 bytes", ("etcd", "sqlite"))
    for name, (what, unit, goal) in ROWS.items():
        report.add(what, cluster[name], file[name], unit, goal)
    report.publish()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write", url]:
            asyncio.run(write(url))
        case ["measure", url]:
            print(json.dumps(asyncio.run(measure(url))))
        case _:
            main()
