"""A node among many that are there on paper: their objects are in the store, and one bare machine has all their addresses.

::

    store: 50 nodes, their blocks, their containers ──> node: a real agent, started when the clock starts
    far: a machine with the address of every node, and on its loopback of a container of each

So the agent does for 50 nodes what it does for real ones, and a ping shows that the way is there.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from node import Broken
from ways import machines, network

from fairlead.lab import node
from fairlead.lab import store as stores
from fairlead.lab.lab import Lab
from fairlead.lab.machine import MARK, Machine
from fairlead.model import codec
from fairlead.model.address import Prefix
from fairlead.model.block import block_name
from fairlead.model.meta import Object
from fairlead.store.base import Put, Store
from fairlead.store.sqlite import Sqlite

NODES = 50
_BLOCKS = 2
"""Blocks of a node: one for each 50 of its containers."""
_PATIENCE = 60.0
_TOPOLOGY = """
apiVersion: fairlead.dev/v1
kind: Lab
spec:
  nodes: [{name: new, pods: 0}]
  hosts: [{name: far}]
  store: {driver: sqlite}
"""


class Crowd:
    """The lab, and the node in it that starts as often as one likes."""

    def __init__(self, town: Lab) -> None:
        self._town = town
        self.node, self._far = town.machine("new"), town.machine("far")
        node.apply(self.node, [codec.from_item(network("crowd", 90, {"driver": "host-gw"}))])
        self.stop()
        self._far.run("sh", "-ec", _far())

    def start(self) -> float:
        """Start the agent of a node that remembers nothing, as a person would; the seconds until it is ready."""
        address = self._town.plan.machines["new"].addresses[0].address
        began = time.monotonic()
        node.up(self.node, ["--store", f"sqlite://{stores.SHARED}/store.db", "--node-ip", address])
        return time.monotonic() - began

    def stop(self) -> None:
        """End the agent, and have the node forget."""
        node.fairlead(self.node, "down")
        self.node.run("sh", "-c", "rm -rf /var/lib/fairlead/*")

    def join(self) -> float:
        """The seconds from the start until every container on paper answers a ping."""
        began = time.monotonic()
        self.start()
        pings = "; ".join(f'ping -n -c 1 -W 1 10.90.{at}.2 >/dev/null & all="$all $!"' for at in range(1, NODES + 1))
        while self.node.attempt("sh", "-c", f"{pings}; for one in $all; do wait $one || exit 1; done").returncode:
            if time.monotonic() - began > _PATIENCE:
                raise Broken(f"the node does not reach everybody after {_PATIENCE:.0f} s")
        return time.monotonic() - began

    def drift(self) -> int:
        """What of the kernel is not as it should be."""
        return sum(len(one.drift) for one in node.client(self.node).doctor().findings)

    def resident(self) -> float:
        """Memory of the agent and its children, in MB."""
        return sum(_resident(pid) for pid in _processes(self.node)) / 1e3

    def fill(self, endpoints: int) -> None:
        """Put the nodes, their blocks and so many containers into the store, from outside."""
        things = [*nodes(), *blocks(), *containers(endpoints)]

        async def put(store: Store) -> None:
            for start in range(0, len(things), store.at_once):
                await store.commit(*(Put(one) for one in things[start : start + store.at_once]))

        self._write(put)

    def changes(self, count: int, gap: float) -> list[float]:
        """The milliseconds from the commit of a block to the kernel's word of its route, for each of so many blocks."""
        committed: dict[str, float] = {}

        async def write(store: Store) -> None:
            for at in range(count):
                cidr = Prefix(f"10.90.{100 + at // 4}.{at % 4 * 64}/26")
                committed[cidr] = time.time()
                await store.commit(Put(block(1 + at % NODES, cidr)))
                await asyncio.sleep(gap)
            await asyncio.sleep(1)

        monitor = ["nsenter", f"--net=/proc/{self.node.process.pid}/ns/net", "ip", "-tshort", "monitor", "route"]
        with subprocess.Popen(monitor, stdout=subprocess.PIPE, text=True) as hearing:
            time.sleep(0.3)  # until it listens
            self._write(write)
            hearing.terminate()
            said = hearing.communicate()[0]
        return list(_delays(said, committed))

    def _write(self, act: Callable[[Store], Awaitable[None]]) -> None:
        async def opened() -> None:
            store = await Sqlite.open(self._town.record.directory / "store" / "store.db")
            try:
                await act(store)
            finally:
                await store.close()

        asyncio.run(opened())


@contextmanager
def crowd() -> Iterator[Crowd]:
    """The lab, gone with the block."""
    with machines(_TOPOLOGY) as town:
        yield Crowd(town)


def nodes() -> Iterator[Object]:
    """The nodes."""
    for at in range(1, NODES + 1):
        address = f"172.16.0.{100 + at}"
        yield codec.from_item(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": f"n{at}", "annotations": {"fairlead.dev/underlay": f"{address}/24"}},
                "status": {"addresses": [{"type": "InternalIP", "address": address}]},
            }
        )


def blocks() -> Iterator[Object]:
    """The blocks of each, the first with the container that answers."""
    for at in range(1, NODES + 1):
        for which in range(_BLOCKS):
            yield block(at, Prefix(f"10.90.{at}.{64 * which}/26"))


def block(at: int, cidr: Prefix) -> Object:
    """One block of a node."""
    return codec.from_item(
        {
            "apiVersion": "fairlead.dev/v1",
            "kind": "Block",
            "metadata": {"name": block_name(cidr)},
            "spec": {"network": "crowd", "cidr": cidr, "node": f"n{at}"},
        }
    )


def containers(count: int) -> Iterator[Object]:
    """So many, evenly on all nodes."""
    for number in range(count):
        at, which = 1 + number % NODES, number // NODES
        yield codec.from_item(
            {
                "apiVersion": "fairlead.dev/v1",
                "kind": "Endpoint",
                "metadata": {"name": f"e{number}:eth0", "namespace": "default", "labels": {"app": f"a{number % 100}"}},
                "spec": {
                    "node": f"n{at}",
                    "container": f"e{number}",
                    "interface": "eth0",
                    "network": "crowd",
                    "sandbox": {"path": "", "cookie": 0},
                    "addresses": [f"10.90.{at}.{which // 50 * 64 + 2 + which % 50}/32"],
                },
            }
        )


def _far() -> str:
    """What gives a machine all addresses."""
    each = "ip address add 172.16.0.{0}/24 dev eth0; ip address add 10.90.{1}.2/32 dev lo"
    return "; ".join(each.format(100 + at, at) for at in range(1, NODES + 1))


def _delays(said: str, committed: dict[str, float]) -> Iterator[float]:
    """Of each block, the time from its commit to the first word of its route."""
    heard: dict[str, float] = {}
    for line in said.splitlines():
        stamp, _, rest = line.partition("] ")
        heard.setdefault(rest.split()[0], datetime.fromisoformat(stamp.strip("[")).timestamp())
    for cidr, began in committed.items():
        if cidr not in heard:
            raise Broken(f"no route was made for {cidr}")
        yield (heard[cidr] - began) * 1e3


def _processes(machine: Machine) -> Iterator[int]:
    """The agent of a machine, and what it started: all that is named so."""
    mark = f"{MARK}={machine.environ[MARK]}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0") and b"fairlead.agent" in (entry / "cmdline").read_bytes():
                yield int(entry.name)
        except OSError:
            continue


def _resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
