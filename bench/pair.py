"""Two containers of one node and the load between them; a plain bridge, or a real agent with policies and flows.

::

    client (CPU 0) ── eth0 ── veth ── what is measured ── veth ── eth0 ── server (CPU 1)

``load.c`` is both client and server. A ``Pair`` knows nothing of what lies between. Nothing here decides what is a good figure.
"""

from __future__ import annotations

import os
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lib import BUILD, ROOT
from node import Agent, Broken, Node, compiled, places

LOAD = ROOT / "bench" / "load.c"
SHORTEST = ROOT / "bench" / "shortest.bpf.c"
PORT = 7000
_STREAM, _ASK, _CONNECT = PORT, PORT + 1, PORT + 2
_CLIENT_CPU, _SERVER_CPU = 0, 1
_MTU = 1500
PRIO: list[str] = []


class Asked(NamedTuple):
    """Rounds of one byte there and one back; how long they took and what CPU time both ends, in microseconds."""

    rounds: int
    p50: float
    p90: float
    p99: float
    cpu: float


class Opened(NamedTuple):
    """Connections opened a second, and the microseconds of CPU time that each cost both ends."""

    rate: float
    cpu: float


class Pair:
    """A server in one container and whoever asks it from the other. Use it in a ``with``."""

    def __init__(self, node: Node, client: str, server: str, address: str) -> None:
        self.node, self.address = node, address
        self._client = client
        self._serving = subprocess.Popen(
            self._inside(server, _SERVER_CPU, "serve", str(PORT)), stdout=subprocess.PIPE, text=True
        )
        assert self._serving.stdout
        if self._serving.stdout.readline() != "ready\n":
            raise Broken("the server of the load did not start")

    def close(self) -> None:
        """End the server."""
        self._serving.kill()
        self._serving.wait()
        assert self._serving.stdout
        self._serving.stdout.close()

    def stream(self, seconds: float) -> float:
        """Bits a second that one TCP connection carries."""
        return float(self._ask("stream", _STREAM, seconds)[0])

    def ask(self, seconds: float) -> Asked:
        """One byte there, one byte back, over one TCP connection."""
        before = self._served()
        rounds, p50, p90, p99, own = (int(one) for one in self._ask("ask", _ASK, seconds))
        return Asked(rounds, p50 / 1e3, p90 / 1e3, p99 / 1e3, (own + self._served() - before) / 1e3 / rounds)

    def connect(self, seconds: float, rate: float = 0) -> Opened:
        """Connections, each reset at once; as fast as it goes, or ``rate`` a second."""
        before = self._served()
        opened, failed, own = (int(one) for one in self._ask("connect", _CONNECT, seconds, rate))
        if failed:
            raise Broken(f"{failed} of {opened + failed} connections failed")
        return Opened(opened / seconds, (own + self._served() - before) / 1e3 / opened)

    def _served(self) -> int:
        """Nanoseconds of CPU time that the server has used."""
        children = Path(f"/proc/{self._serving.pid}/task/{self._serving.pid}/children").read_text().split()
        return sum(int(Path(f"/proc/{child}/schedstat").read_text().split()[0]) for child in children)

    def _ask(self, what: str, port: int, *more: float) -> list[str]:
        command = self._inside(self._client, _CLIENT_CPU, what, self.address, str(port), *map(str, more))
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            raise Broken(f"load {what}: {done.stderr.strip()}")
        return done.stdout.split()

    def _inside(self, container: str, cpu: int, *words: str) -> list[str]:
        cpus = sorted(os.sched_getaffinity(0))
        load = compiled(LOAD, BUILD / "load")
        return [*self.node.enter(), "ip", "netns", "exec", container, *PRIO, "taskset", "-c", str(cpus[cpu]), str(load), *words]


@contextmanager
def plain_bridge(scratch: Path) -> Iterator[Pair]:
    """Two namespaces on a Linux bridge, with no rule at all and nobody tracking connections."""
    scratch.mkdir()
    with Node(scratch, 2) as node:
        node.do("sh", "-ec", _BRIDGE)
        pair = Pair(node, "c0", "c1", "10.97.0.3")
        try:
            yield pair
        finally:
            pair.close()


_LINKS = f"""
for at in 0 1; do
    ip link add p$at mtu {_MTU} type veth peer name eth0 mtu {_MTU} netns c$at
    ip link set p$at up
    ip netns exec c$at ip address add 10.97.0.$((at + 2))/24 dev eth0
    ip netns exec c$at ip link set lo up
    ip netns exec c$at ip link set eth0 up
done
"""
_BRIDGE = f"""
for file in /proc/sys/net/bridge/bridge-nf-call-*; do echo 0 >$file; done
ip link add br0 mtu {_MTU} type bridge
ip address add 10.97.0.1/24 dev br0
ip link set br0 up
{_LINKS}
for at in 0 1; do ip link set p$at master br0; done
"""


@contextmanager
def shortest_way(scratch: Path) -> Iterator[Pair]:
    """Two namespaces joined by a program that sends everything on to the other and does nothing else."""
    scratch.mkdir()
    with Node(scratch, 2) as node:
        node.do("sh", "-ec", _LINKS)
        headers = sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu"
        for at in range(2):
            to = node.do("cat", f"/sys/class/net/p{1 - at}/ifindex").strip()
            program = str(scratch / f"to-{to}.o")
            flags = ["-target", "bpf", "-O2", "-g", f"-I/usr/include/{headers}", f"-DTO={to}"]
            subprocess.run(["clang", *flags, "-c", str(SHORTEST), "-o", program], check=True)
            node.do("tc", "qdisc", "add", "dev", f"p{at}", "clsact")
            attach = ("bpf", "direct-action", "object-file", program, "section", "tc")
            node.do("tc", "filter", "add", "dev", f"p{at}", "ingress", *attach)
        pair = Pair(node, "c0", "c1", "10.97.0.3")
        try:
            yield pair
        finally:
            pair.close()


@dataclass
class Ours:
    """Our side: the agent, and what it attached."""

    pair: Pair
    agent: Agent
    links: list[str]


@contextmanager
def our_pair(scratch: Path, *, isolated: bool = True, big: bool = False, options: tuple[str, ...] = ()) -> Iterator[Ours]:
    """An agent with flows; both containers isolated in both directions, each allowed to reach the other. ``big``: BIG TCP."""
    scratch.mkdir()
    with Node(scratch, 2, places(scratch)) as node, Agent(node, scratch, *options) as agent:
        for file in ("iptables", "ip6tables", "arptables"):
            node.do("sh", "-c", f"echo 0 >/proc/sys/net/bridge/bridge-nf-call-{file}")
        agent.ask("PUT", "/v1/objects", network(_MTU, big=big))
        if isolated:
            agent.ask("PUT", "/v1/objects", friends())
        made = [attach(agent, f"c{at}") for at in range(2)]
        address = made[1]["endpoint"]["spec"]["addresses"][0].partition("/")[0]
        pair = Pair(node, "c0", "c1", address)
        try:
            yield Ours(pair, agent, [one["hostInterface"] for one in made])
        finally:
            pair.close()


def network(mtu: int = 0, *, big: bool = False) -> dict[str, object]:
    """The network that our containers are on."""
    return {
        "apiVersion": "fairlead.dev/v1",
        "kind": "Network",
        "metadata": {"name": "bench"},
        "spec": {"subnets": [{"cidr": "10.96.0.0/16"}], **({"mtu": mtu} if mtu else {}), **({"bigTcp": True} if big else {})},
    }


def friends() -> dict[str, object]:
    """A policy that isolates everybody of namespace ``bench`` both ways and lets them reach each other on the load's ports."""
    peers, ports = [{"podSelector": {}}], [{"port": PORT, "endPort": PORT + 2}]
    return policy(
        "friends",
        {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": peers, "ports": ports}],
            "egress": [{"to": peers, "ports": ports}],
        },
    )


def neighbours(at: int, of: int, port: int) -> dict[str, object]:
    """The policy of the pods of app ``at``: those of the next three apps may reach them at a port."""
    peers = [{"podSelector": {"matchLabels": {"app": f"a{(at + step) % of}"}}} for step in (1, 2, 3)]
    selected = {"matchLabels": {"app": f"a{at}"}}
    return policy(f"p{at}", {"podSelector": selected, "ingress": [{"from": peers, "ports": [{"port": port}]}]})


def policy(name: str, spec: dict[str, object]) -> dict[str, object]:
    """A NetworkPolicy of namespace ``bench``."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "bench"},
        "spec": spec,
    }


def attach(agent: Agent, space: str, **labels: str) -> dict[str, dict]:
    """Attach a container of the node; it is in namespace ``bench``."""
    asked = {
        "container": space,
        "path": f"/run/netns/{space}",
        "network": "bench",
        "interface": "eth0",
        "namespace": "bench",
        "labels": labels,
    }
    return agent.ask("POST", "/v1/attach", asked)
