"""Two nodes and two bare machines on one switch, and the load between containers of one and of the other.

::

    node a: agent, containers ──┐        ┌── node b: agent, containers     one pair for each way, open and under a policy
                                switch
    h1: routes by hand ─────────┘        └── h2: routes by hand            plain routing, VXLAN, and h1 to h2 themselves

The bare machines forward with no rule at all and nobody tracking connections. What is by hand is what a person would type:
a veth, a route, a VXLAN device whose other end is told. All of it is a lab (``fairlead.lab``), which is gone with the block.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from lib import BUILD, ROOT
from node import Broken, compiled

from fairlead.lab import lab, node, pods, topology
from fairlead.lab.grow import Wanted
from fairlead.lab.lab import Lab
from fairlead.lab.machine import Machine
from fairlead.model import codec
from fairlead.model.address import Name
from fairlead.model.errors import Problem

LOAD = ROOT / "bench" / "load.c"
PORT = 7000
CLIENT_CPU, SERVER_CPU = 0, 1
WAYS: dict[str, dict[str, object]] = {
    "vxlan": {"driver": "vxlan"},
    "host-gw": {"driver": "host-gw"},
    "bgp": {"driver": "bgp"},
    "wireguard": {"driver": "host-gw", "encrypt": True},
}
OPEN, GUARDED = "open", "guarded"

_NAME = Name("bench")
_WEIGHT = ("nice", "-n", "-10")
"""So that what else runs on the machine disturbs less; where nothing does it makes no difference."""
_TOPOLOGY = """
apiVersion: fairlead.dev/v1
kind: Lab
spec:
  nodes: [{name: a, pods: 0}, {name: b, pods: 0}]
  hosts: [{name: h1}, {name: h2}]
  store: {driver: sqlite}
"""
_BY_HAND = """
sysctl -qw net.ipv4.ip_forward=1
for at in plain,70,1500 tunnel,71,1450; do
    name=${at%%,*} mtu=${at##*,} net=${at#*,} net=${net%,*}
    ip netns add $name
    ip link add $name mtu $mtu type veth peer name eth0 mtu $mtu netns $name
    ip address add 10.$net.$HERE.1/24 dev $name
    ip link set $name up
    ip -n $name address add 10.$net.$HERE.2/24 dev eth0
    ip -n $name link set lo up
    ip -n $name link set eth0 up
    ip -n $name route add default via 10.$net.$HERE.1
done
ip route add 10.70.$THERE.0/24 via $FAR
ip link add vx0 address 02:00:00:00:71:0$HERE mtu 1450 type vxlan id 71 dstport 4790 local $NEAR dev eth0 nolearning
ip link set vx0 up
ip address add 10.71.0.$HERE/32 dev vx0
bridge fdb append 02:00:00:00:71:0$THERE dev vx0 dst $FAR
ip neighbour add 10.71.0.$THERE lladdr 02:00:00:00:71:0$THERE dev vx0 nud permanent
ip route add 10.71.$THERE.0/24 via 10.71.0.$THERE dev vx0 onlink
"""


class Asked(NamedTuple):
    """How long one byte there and one back took, in microseconds."""

    p50: float
    p99: float


class Pair:
    """Two network namespaces: a server in one, and whoever asks it from the other."""

    def __init__(self, client: Path, server: Path, address: str) -> None:
        self._client, self._address = client, address
        command = inside(server, SERVER_CPU, "serve", str(PORT))
        self._serving = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
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
        return float(self._ask("stream", PORT, seconds)[0])

    def ask(self, seconds: float) -> Asked:
        """One byte there, one byte back, over one TCP connection."""
        _, p50, _, p99, _ = (int(one) / 1e3 for one in self._ask("ask", PORT + 1, seconds))
        return Asked(p50, p99)

    def _ask(self, what: str, port: int, seconds: float) -> list[str]:
        command = inside(self._client, CLIENT_CPU, what, self._address, str(port), str(seconds))
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60 + seconds)
        if done.returncode:
            raise Broken(f"load {what} {self._address}: {done.stderr.strip()}")
        return done.stdout.split()


def inside(space: Path, cpu: int, *words: str) -> list[str]:
    """The load in a network namespace, on one CPU; it ends with this process."""
    cpus = sorted(os.sched_getaffinity(0))
    load = compiled(LOAD, BUILD / "load")
    enter = ("nsenter", f"--net={space}", "setpriv", "--pdeathsig", "KILL", *_WEIGHT, "taskset", "-c", str(cpus[cpu]))
    return [*enter, str(load), *words]


class Sides(NamedTuple):
    """What is measured, by name; and the ways that there are not, with the reason."""

    pairs: dict[str, Pair]
    missing: dict[str, str]


@contextmanager
def machines(text: str) -> Iterator[Lab]:
    """A lab in a directory of its own, gone with the block."""
    before = os.environ.get("FAIRLEAD_RUN_DIR")
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-", dir="/var/tmp") as scratch:  # a disk, as stores have
        os.environ["FAIRLEAD_RUN_DIR"] = scratch
        document, objects = topology.read(text)
        try:
            yield Lab.up(Wanted(_NAME, document.spec, objects=tuple(objects)), told=lambda _: None)
        finally:
            lab.down(_NAME)
            if before is None:
                del os.environ["FAIRLEAD_RUN_DIR"]
            else:
                os.environ["FAIRLEAD_RUN_DIR"] = before


@contextmanager
def sides() -> Iterator[Sides]:
    """Everything that is compared."""
    with machines(_TOPOLOGY) as town, ExitStack() as stack:
        found, missing = Sides({}, {}), {}
        for name, pair in (*by_hand(town), *ours(town, missing)):
            found.pairs[name] = pair
            stack.callback(pair.close)
        found.missing.update(missing)
        yield found


def by_hand(town: Lab) -> Iterator[tuple[str, Pair]]:
    """The bare machines themselves, and what a person would set up between containers of theirs."""
    h1, h2 = (town.machine(name) for name in ("h1", "h2"))
    at = {one.name: str(town.plan.machines[one.name].addresses[0].address) for one in (h1, h2)}
    for here, there, far in ((1, 2, "h2"), (2, 1, "h1")):
        near = f"h{here}"
        said = f"HERE={here} THERE={there} NEAR={at[near]} FAR={at[far]}"
        town.machine(near).run("sh", "-ec", f"{said.replace(' ', '; ')}\n{_BY_HAND}")
    spaces = [Path(f"/proc/{one.process.pid}/ns/net") for one in (h1, h2)]
    yield "underlay", Pair(spaces[0], spaces[1], at["h2"])
    for name, net in (("plain", 70), ("tunnel", 71)):
        ends = [one.files / "run/netns" / name for one in (h1, h2)]
        yield name, Pair(ends[0], ends[1], f"10.{net}.2.2")


def ours(town: Lab, missing: dict[str, str]) -> Iterator[tuple[str, Pair]]:
    """Containers of two nodes, for each way two pairs. A way that there is not goes to ``missing``."""
    a, b = (town.machine(name) for name in ("a", "b"))
    for at, (name, spec) in enumerate(WAYS.items()):
        try:
            node.apply(a, [codec.from_item(network(f"bench-{name}", 80 + at, spec)), *policies(name)])
            for machine in (a, b):
                node.knows(machine, f"bench-{name}")
                pods.start(machine, wanted(name, machine), None)
        except Problem as problem:
            missing[name] = str(problem)
            continue
        if spec.get("encrypt") and not encrypts(a):
            missing[name] = "this agent does not encrypt"
            continue
        here, there = ({one.name: one for one in pods.found(machine)} for machine in (a, b))
        for kind in (OPEN, GUARDED):
            server = there[f"{kind}-{name}-b"]
            yield f"{name} {kind}", Pair(here[f"{kind}-{name}-a"].path, server.path, str(server.addresses[0]))


def wanted(way: str, machine: Machine) -> list[topology.Pod]:
    """The containers of a node for one way."""
    on = (Name(f"bench-{way}"),)
    return [
        topology.Pod(name=Name(f"{kind}-{way}-{machine.name}"), networks=on, labels={"kind": kind, "way": way})
        for kind in (OPEN, GUARDED)
    ]


def encrypts(machine: Machine) -> bool:
    """Whether a node has a device that could: WireGuard's own, or that of a program."""
    said = machine.run("ip", "-details", "link")
    return "wireguard" in said or "tun type tun" in said


def network(name: str, at: int, spec: dict[str, object]) -> dict[str, object]:
    """The network of one way."""
    return {
        "apiVersion": "fairlead.dev/v1",
        "kind": "Network",
        "metadata": {"name": name},
        "spec": {"subnets": [{"cidr": f"10.{at}.0.0/16"}], **spec},
    }


def policies(way: str) -> Iterator[codec.Object]:
    """The guarded containers of a way are isolated both ways, and may reach each other on the load's ports."""
    chosen = {"matchLabels": {"kind": GUARDED, "way": way}}
    peers, ports = [{"podSelector": chosen}], [{"port": PORT, "endPort": PORT + 2}]
    yield codec.from_item(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": f"bench-{way}", "namespace": "default"},
            "spec": {
                "podSelector": chosen,
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": peers, "ports": ports}],
                "egress": [{"to": peers, "ports": ports}],
            },
        }
    )
