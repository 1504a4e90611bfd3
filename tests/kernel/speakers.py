"""Nodes and routers that speak BGP, each a namespace, on subnets that switches stand for; and hosts and pods behind them.

::

    node a ──┐                     ┌── pod 10.1.0.5       a pod has an address alone, and a way to it on its node
    node b ──┼── switch ── router ─┘── host 198.51.100.7  a host is on a subnet of a router
    node c ──┘

A node's speaker is told what ``topology`` makes of the objects, with no agent between: ``Cluster.settle``.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import tempfile
import threading
from collections import defaultdict
from collections.abc import Coroutine
from contextlib import ExitStack
from ipaddress import ip_interface
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from fairlead.api.routing import Neighbour
from fairlead.bgp import config, report
from fairlead.bgp.bird import LOG, Bird
from fairlead.desired.routing import Session
from fairlead.desired.state import NodeState
from fairlead.desired.state import Path as Way
from fairlead.model import codec
from fairlead.model.address import Prefix
from fairlead.model.bgp import BGPConfiguration, BGPPeer
from fairlead.model.bgpfilter import BGPFilter
from fairlead.model.block import Block
from fairlead.model.meta import Meta, Object
from fairlead.model.network import Network
from fairlead.model.node import UNDERLAY, Node
from fairlead.model.secret import SecretKeyRef
from fairlead.topology import peers, routes
from fairlead.topology.peers import Fabric
from tests.net import Namespace, kept, machine
from tests.wait import eventually

T = TypeVar("T")

_V4, _V6 = "169.254.1.1", "fe80::1"

PODS = """
apiVersion: fairlead.dev/v1
kind: Network
metadata: {name: pods}
spec: {driver: bgp, subnets: [{cidr: 10.1.0.0/16}, {cidr: "fd00:1::/48"}]}
"""


class Loop:
    """An event loop in a thread: what is asynchronous is called from tests that are not."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def __call__(self, doing: Coroutine[Any, Any, T], deadline: float = 30.0) -> T:
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result(deadline)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def lay(
    host: Namespace, switch: Namespace, bridge: str, port: str, *addresses: str, device: str = "eth0", index: int = 1000
) -> str:
    """Lay a cable from ``host`` to a bridge; the name of its port there."""
    # Ends with one and the same index count as no veth pair to the kernel's link watch, and come up late.
    ends = ("netns", switch.name, "type", "veth", "peer", "name", device, "index", index, "netns", host.name)
    machine("ip", "link", "add", port, *ends)
    switch.run("ip", "link", "set", port, "master", bridge, "up")
    for address in addresses:
        host.run("ip", "address", "add", address, "dev", device, *(["nodad"] if ":" in address else []))
    host.run("ip", "link", "set", device, "up")
    return port


class Switch(Namespace):
    """A subnet: a bridge, into which machines are plugged."""

    def __init__(self, role: str = "switch") -> None:
        super().__init__(role)
        self.run("ip", "link", "add", "lan", "type", "bridge")
        self.run("ip", "link", "set", "lan", "up")
        self._ports: dict[str, str] = {}

    def plug(self, host: Namespace, *addresses: str, device: str = "eth0") -> None:
        """Give ``host`` a cable to here, with addresses."""
        number = len(self._ports) + 1
        self._ports[host.name] = lay(host, self, "lan", f"port{number}", *addresses, device=device, index=1000 + number)

    def cut(self, host: Namespace) -> None:
        """Have nothing pass any more, while the link stays up at both ends, as behind another switch."""
        self.run("ip", "link", "set", self._ports[host.name], "nomaster")

    def mend(self, host: Namespace) -> None:
        """The reverse."""
        self.run("ip", "link", "set", self._ports[host.name], "master", "lan")


class Machine(Namespace):
    """A host that routes."""

    def __init__(self, role: str) -> None:
        super().__init__(role)
        self._devices: dict[str, str] = {}
        self.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")

    def host(self, role: str, *addresses: str, device: str) -> Namespace:
        """A host on a subnet of this machine, which has the first address of it, and is its way out."""
        made = Namespace(role)
        machine("ip", "link", "add", device, "netns", self.name, "type", "veth", "peer", "name", "eth0", "netns", made.name)
        for address in addresses:
            here = ip_interface(address)
            gateway = f"{here.network.network_address + 1}"
            nodad = ["nodad"] if here.version == 6 else []
            self.run("ip", "address", "add", f"{gateway}/{here.network.prefixlen}", "dev", device, *nodad)
            made.run("ip", "address", "add", address, "dev", "eth0", *nodad)
        self.run("ip", "link", "set", device, "up")
        made.run("ip", "link", "set", "eth0", "up")
        for address in addresses:
            here = ip_interface(address)
            made.run("ip", f"-{here.version}", "route", "add", "default", "via", here.network.network_address + 1)
        return made

    def pod(self, role: str, *addresses: str) -> Namespace:
        """A container with a routed link, as Fairlead makes them, by hand."""
        made, device = Namespace(role), f"pod{next(_pods)}"
        self._devices[made.name] = device
        machine("ip", "link", "add", device, "netns", self.name, "type", "veth", "peer", "name", "eth0", "netns", made.name)
        self.run("ip", "address", "add", f"{_V4}/32", "dev", device)
        self.run("ip", "address", "add", f"{_V6}/64", "dev", device, "nodad")
        self.run("ip", "link", "set", device, "up")
        made.run("ip", "link", "set", "eth0", "up")
        made.run("ip", "route", "add", f"{_V4}/32", "dev", "eth0")
        for address in addresses:
            family, via = (6, _V6) if ":" in address else (4, _V4)
            alone = (f"{address}/128", "nodad") if family == 6 else (f"{address}/32",)
            made.run("ip", "address", "add", *alone, "dev", "eth0")
            made.run("ip", f"-{family}", "route", "add", "default", "via", via, "dev", "eth0")
            self.run("ip", f"-{family}", "route", "add", address, "dev", device)
        return made

    def link_local(self) -> str:
        """The address that IPv6 made for eth0, as soon as it is there."""
        words = ("ip", "-6", "-json", "address", "show", "dev", "eth0", "scope", "link", "-tentative")
        found = eventually(lambda: [one["local"] for link in self.json(*words) for one in link["addr_info"] if "local" in one])
        return str(found[0])

    def device(self, pod: Namespace) -> str:
        """The near end of a pod's link."""
        return self._devices[pod.name]

    def routes(self, family: int = 4) -> dict[str, list[str]]:
        """The routes that a BGP speaker wrote, by destination, with their next hops."""
        found: dict[str, list[str]] = defaultdict(list)
        for one in self.json("ip", f"-{family}", "-json", "route"):
            if one.get("protocol") in {"bird", "bgp"}:
                hops = one.get("nexthops") or [one]
                found[one["dst"]] = sorted(hop.get("gateway") or hop.get("via", {}).get("host", "") for hop in hops)
        return found


_pods = count(1)


class Speaker(Machine):
    """A node with BIRD, looked after as the agent does."""

    def __init__(self, name: str, *, loop: Loop, directory: Path) -> None:
        super().__init__(name)
        self.node = name
        self._loop = loop
        self.directory = directory
        self.bird = Bird(directory, ("nsenter", f"--net={self.path}", "bird"))
        self.state = NodeState()

    def tell(self, state: NodeState, passwords: dict[SecretKeyRef, str]) -> None:
        """Have the speaker follow ``state``, and the kernel know which addresses nobody has."""
        for row in state.table(Way).values():
            self.run("ip", f"-{row.dst.family}", "route", "replace", "unreachable", row.dst, "proto", 102)
        self.state = state
        self._loop(self.bird.tell(config.text(state, passwords, LOG)))

    def neighbours(self) -> dict[str, Neighbour]:
        """The sessions by peer, as they are."""
        seen = report.sessions(self._loop(self.bird.ask("show protocols all")))
        wanted = self.state.table(Session).values()
        return {one.peer: report.neighbour(one, seen.get(one.name), {}) for one in wanted}

    def ask(self, command: str) -> str:
        """What BIRD answers."""
        return "\n".join(line.text for line in self._loop(self.bird.ask(command)).lines)

    def waits(self) -> bool:
        """Whether it keeps the routes of a neighbour that restarts."""
        return "Neighbor graceful restart active" in self.ask("show protocols all")

    @property
    def pid(self) -> int:
        """BIRD's process."""
        return int((self.directory / "var/bird.pid").read_text())

    @property
    def log(self) -> str:
        return (self.directory / LOG).read_text()

    def kill(self) -> None:
        """End BIRD without a word."""
        os.kill(self.pid, signal.SIGKILL)

    def another(self) -> None:
        """Have another agent look after it."""
        self._loop(self.bird.leave())
        self.bird = Bird(self.directory, ("nsenter", f"--net={self.path}", "bird"))

    def remove(self) -> None:
        self._loop(self.bird.leave())
        super().remove()


class Cluster:
    """Objects, and the speakers that follow them."""

    def __init__(self, loop: Loop, directory: Path) -> None:
        self.loop = loop
        self._directory = directory
        self.speakers: dict[str, Speaker] = {}
        self.objects: dict[tuple[type[Object], str], Object] = {}
        self.passwords: dict[SecretKeyRef, str] = {}
        self._announced: dict[Prefix, tuple[str, ...]] = {}

    def apply(self, text: str) -> None:
        """Take objects; ``settle`` has the speakers follow."""
        for one in codec.from_yaml(text):
            self.objects[type(one), one.name] = one

    def remove(self, of: type[Object], name: str) -> None:
        """Forget an object."""
        del self.objects[of, name]

    def add(self, name: str, *addresses: str) -> Speaker:
        """One more node, not yet plugged in."""
        made = Speaker(name, loop=self.loop, directory=self._directory / name)
        self.speakers[name] = made
        self.objects[Node, name] = Node(metadata=Meta(name=name, annotations={UNDERLAY: ", ".join(addresses)}))
        return made

    def annotate(self, name: str, labels: dict[str, str], **annotations: str) -> None:
        """Label a node, and say more of it."""
        node = self.of(Node)[name]
        said = {f"fairlead.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
        meta = replace(node.metadata, labels=labels, annotations={**node.metadata.annotations, **said})
        self.objects[Node, name] = replace(node, metadata=meta)

    def announce(self, prefix: str, *nodes: str) -> None:
        """Have nodes tell of something beside their blocks."""
        self._announced[Prefix(prefix)] = nodes

    def block(self, node: str, cidr: str, network: str = "pods", **lent: str) -> None:
        """Give a block to a node."""
        spec = {"network": network, "node": node, "cidr": cidr, "lent": {a.replace("_", "."): n for a, n in lent.items()}}
        tree = {"kind": "Block", "metadata": {"name": re.sub(r"[./:]", "-", cidr)}, "spec": spec}
        made = codec.from_item(tree)
        self.objects[Block, made.name] = made

    def of(self, kind: type[T]) -> dict[str, T]:
        """The objects of a kind, by name."""
        return {name: one for (of, name), one in self.objects.items() if of is kind}  # type: ignore[misc]

    def state(self, name: str) -> NodeState:
        """What a node is to be."""
        networks, blocks = self.of(Network), list(self.of(Block).values())
        fabric = Fabric(
            name,
            self.of(Node),
            networks,
            configurations=self.of(BGPConfiguration),
            peers=self.of(BGPPeer),
            filters=self.of(BGPFilter),
        )
        state = NodeState().replace_all(peers.rows(fabric))
        for network in networks.values():
            told = peers.announcement_rows(fabric.voice(name), peers.announced(network, name, blocks))
            own = routes.own_rows(network, fabric.here, [one for one in blocks if one.spec.node == name])
            state = state.replace(f"blocks/{network.name}", (*told, *own))
        more = [prefix for prefix, nodes in self._announced.items() if name in nodes]
        return state.replace("services", peers.announcement_rows(fabric.voice(name), more))

    def settle(self, *names: str) -> None:
        """Have the speakers follow: all, or those named."""
        for name in names or self.speakers:
            self.speakers[name].tell(self.state(name), self.passwords)

    def established(self, deadline: float = 20.0) -> None:
        """Wait until every session of every speaker is."""

        def all_up() -> bool:
            for one in self.speakers.values():
                for peer, found in one.neighbours().items():
                    assert found.up, f"{one.node} with {peer}: {found.state} {found.error}"
            return True

        eventually(all_up, deadline=deadline, what="every session is established")


class Frr(Machine):
    """A router that runs FRR: zebra, bgpd and bfdd."""

    LIB = Path("/usr/lib/frr")

    def __init__(self, role: str = "frr") -> None:
        super().__init__(role)
        # FRR runs as its own user, which must find its way here.
        self._directory = Path(tempfile.mkdtemp(prefix="fairlead-frr-"))
        self._directory.chmod(0o755)
        shutil.chown(self._directory, "frr", "frr")

    def boot(self, text: str) -> None:
        """Start with a configuration as ``vtysh`` shows it."""
        for daemon in ("zebra", "bgpd", "bfdd"):
            path = self._directory / f"{daemon}.conf"  # each takes from it what is its own
            path.write_text(f"hostname {self.name}\n{text}")
            shutil.chown(path, "frr", "frr")
            words = ("-d", "-f", path, "-i", path.with_suffix(".pid"), "-z", self._directory / "zserv.api")
            self.run(self.LIB / daemon, *words, "--vty_socket", self._directory, "-P", 0, "--log", f"file:{path}.log")

    def vtysh(self, *commands: str) -> str:
        """What it answers to commands."""
        words = [word for command in commands for word in ("-c", command)]
        return self.run("vtysh", "--vty_socket", self._directory, *words)

    def told(self, family: int = 4) -> dict[str, list[dict[str, Any]]]:
        """What it was told, by prefix: one for each neighbour."""
        said: dict[str, list[dict[str, Any]]] = json.loads(self.vtysh(f"show bgp ipv{family} unicast json"))["routes"]
        return said

    def remove(self) -> None:
        super().remove()
        shutil.rmtree(self._directory, ignore_errors=True)


@pytest.fixture
def cluster(cleanup: ExitStack, tmp_path: Path) -> Cluster:
    """A cluster with one network, ``pods``, and no node yet."""
    loop = Loop()
    cleanup.callback(loop.close)
    made = Cluster(loop, tmp_path)
    made.apply(PODS)
    return made


@pytest.fixture
def lan(cleanup: ExitStack) -> Switch:
    """A subnet."""
    return kept(cleanup, Switch())
