"""A node whose agent is killed at a fault point and started again, and independent eyes on what is left of it.

``ip``, ``tc`` and ``nft`` say what is in the kernel, ``sqlite3`` what is in the store; the agent is asked for its own opinion
last. Everything must tell of the same containers.
"""

from __future__ import annotations

import ast
import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from fairlead.cni.install import available
from fairlead.desired import names
from fairlead.links.mark import DOOMED, GROUP
from fairlead.model.block import block_name
from fairlead.model.endpoint import Endpoint, endpoint_name
from fairlead.model.network import Network
from tests.kernel.agents import Agent
from tests.net import Containers, Namespace, Node, Outside, end
from tests.tree import ROOT
from tests.wait import eventually

SUBNETS = ("10.50.0.0/24", "fd50::/64")
Row = dict[str, Any]
NURSERY = Path(__file__).with_name("nursery.py")
PATIENCE = 10.0


def points() -> list[str]:
    """Every fault point there is, by reading the code."""
    return [name for path in sorted((ROOT / "src").rglob("*.py")) for name in _points(ast.parse(path.read_text()))]


def _points(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "fault.point":
            (name,) = node.args
            assert isinstance(name, ast.Constant), f"{ast.unparse(node)}: the name of a fault point is a literal"
            yield str(name.value)


class Forked:
    """An agent that the nursery forked, with the face of a ``Popen``."""

    stdout = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = os.pidfd_open(pid)

    def poll(self) -> int | None:
        return 0 if self._ended(0.0) else None

    def wait(self, timeout: float) -> int:
        if not self._ended(timeout):
            raise subprocess.TimeoutExpired("fairlead.agent", timeout)
        return 0

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, number)

    def _ended(self, timeout: float) -> bool:
        return bool(select.select([self._fd], [], [], timeout)[0])


class Nursed(Agent):
    """An agent that starts in a tenth of the time."""

    def __init__(self, node: Node, *options: str, fault: Path) -> None:
        super().__init__(node, *options)
        self._nursery = subprocess.Popen(
            ["nsenter", f"--net={node.path}", sys.executable, NURSERY, self._log],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**node._env(), "FAIRLEAD_FAULT": f"@{fault}"},
        )

    def _spawn(self) -> subprocess.Popen[str]:
        assert self._nursery.stdin
        assert self._nursery.stdout
        self._nursery.stdin.write(json.dumps(self.options) + "\n")
        self._nursery.stdin.flush()
        return Forked(int(self._nursery.stdout.readline()))  # type: ignore[return-value]  # as much of one as is used

    def remove(self) -> None:
        super().remove()
        assert self._nursery.stdin
        self._nursery.stdin.close()
        end(self._nursery)


class World:
    """A node with a network, an agent, and two containers that are not to notice anything."""

    def __init__(self, node: Node, outside: Outside, containers: Containers) -> None:
        self.node, self.outside, self._containers = node, outside, containers
        self._fault = node.run_dir.parent / "fault"
        self._leases = node.state_dir / "leases"
        self.agent = Nursed(node, "--gc-grace", "0", fault=self._fault)
        self.live: set[str] = set()
        """The endpoints that must be there, by name."""
        self.bystanders: tuple[Namespace, Namespace] | tuple[()] = ()
        self.networks = {"default", "host", "none", "blue"}

    def begin(self) -> None:
        """Start the agent, with the two bystanders attached."""
        self.agent.start()
        self.agent.network("blue", *SUBNETS)
        self.bystanders = (self._containers.new("by"), self._containers.new("stander"))
        for one in self.bystanders:
            self.agent.attach(one, "blue", labels={"bystander": "yes"})
            self.alive(one)

    def container(self) -> Namespace:
        return self._containers.new("one")

    def alive(self, one: Namespace, interface: str = "eth0") -> None:
        self.live.add(endpoint_name(one.name, interface))

    def dead(self, one: Namespace, interface: str = "eth0") -> None:
        self.live.discard(endpoint_name(one.name, interface))

    # ---- the fault ----

    def arm(self, what: str) -> None:
        fresh = self._fault.with_suffix(".new")
        fresh.write_text(what)
        fresh.rename(self._fault)

    def disarm(self) -> None:
        self._fault.unlink(missing_ok=True)

    @property
    def passed(self) -> list[str]:
        """The points that were passed while they were traced."""
        return [line.rpartition(" ")[2] for line in self.agent.log.splitlines() if line.startswith("fault point ")]

    def start(self) -> None:
        """Start the agent; it may end before it is ready."""
        self.agent._process = self.agent._spawn()
        with suppress(RuntimeError):
            eventually(self.agent._ready, deadline=PATIENCE, what="the agent is ready or dead")

    def settled(self) -> None:
        """Wait until nothing is on its way out any more, if there is an agent."""
        assert self.agent._process
        if self.agent._process.poll() is None:
            eventually(lambda: self.agent.client.status().pending == 0, deadline=PATIENCE, what="nothing pending")

    def noticed(self, one: Namespace) -> None:
        """Wait until the agent has forgotten a container, or is dead."""
        assert self.agent._process
        process, name = self.agent._process, endpoint_name(one.name, "eth0")
        eventually(lambda: process.poll() is not None or name not in self.stored("endpoints"), deadline=PATIENCE)

    def wide(self, network: str, *, there: bool = True) -> None:
        """Wait until the way on a network of several nodes is made, or taken back, or the agent is dead."""
        assert self.agent._process
        process = self.agent._process
        eventually(lambda: process.poll() is not None or self._way(network) == {there}, deadline=PATIENCE)

    def _way(self, network: str) -> set[bool]:
        tunnels = {one["ifname"] for one in self.node.json("ip", "-json", "link", "show", "type", "vxlan")}
        whole = self.node.run("ip", "route", "show", "proto", "102", "type", "unreachable")
        return {names.tunnel(network) in tunnels, bool(whole)}

    def given_back(self) -> None:
        """Wait until no single address is claimed any more, or the agent is dead."""
        assert self.agent._process
        process = self.agent._process
        eventually(lambda: process.poll() is not None or not self.stored("blocks"), deadline=PATIENCE)

    def made_up_for(self) -> None:
        """Wait until no DEL is left that came while the agent was away, or the agent is dead."""
        assert self.agent._process
        process, left = self.agent._process, self.node.state_dir / "pending-del"
        eventually(lambda: process.poll() is not None or not any(left.iterdir()), deadline=PATIENCE)

    def died(self) -> None:
        """Wait until the fault has ended the agent."""
        assert self.agent._process
        self.agent._process.wait(PATIENCE)

    # ---- the eyes ----

    def consistent(self) -> None:
        """Kernel, store, pools and agent tell of the same containers, whichever these are."""
        eventually(self._consistent, deadline=PATIENCE, what="one and the same picture")

    def exactly(self) -> None:
        """... and these are the ones that must be there."""
        eventually(lambda: self.stored("endpoints") == self.live, deadline=PATIENCE, what=f"no others than {self.live}")
        assert self.stored("networks") == self.networks
        self.consistent()

    def _consistent(self) -> bool:
        status = self.agent.client.status()
        assert status.pending == 0
        endpoints = [one for one in self.agent.client.objects("endpoints") if isinstance(one, Endpoint)]
        networks = [one for one in self.agent.client.objects("networks") if isinstance(one, Network)]
        assert {one.name for one in endpoints} == self.stored("endpoints")
        assert {one.name for one in networks} == self.stored("networks")
        self._unique(endpoints)
        links, queues, tables, *inside = self._listed(_own(endpoints))
        for pool in status.pools:
            held = [one for one in _own(endpoints) if one.spec.network == pool.network]
            assert pool.used == len(held), f"{pool.cidr} counts {pool.used}, but {len(held)} containers are there"
        joined = [one for one in endpoints if one.spec.network in {each.name for each in networks if each.spec.parent}]
        assert self.stored("blocks") == {block_name(at.address.host()) for one in joined for at in one.spec.addresses}
        self._links([one for one in endpoints if one not in joined], networks, links, queues)
        self._rules(endpoints, networks, tables)
        for one, listed in zip(_own(endpoints), inside, strict=True):
            have = {f"{at['local']}/{at['prefixlen']}" for at in listed[0]["addr_info"] if at["scope"] == "global"}
            assert have == {str(at) for at in one.spec.addresses}, f"{one.name} has {have}"
        assert self.agent.drift() == []
        return True

    def stored(self, plural: str) -> set[str]:
        """The names of the rows in the store's own file."""
        with closing(sqlite3.connect(f"file:{self.node.state_dir}/store.db?mode=ro", uri=True)) as db:
            return {name for (name,) in db.execute("SELECT name FROM objects WHERE plural = ?", (plural,))}

    @staticmethod
    def _unique(endpoints: list[Endpoint]) -> None:
        given = Counter(str(one.address) for each in _own(endpoints) for one in each.spec.addresses)
        assert max(given.values(), default=1) == 1, f"an address was given twice: {given}"

    def _listed(self, endpoints: list[Endpoint]) -> list[list[Row]]:
        """Interfaces, queueing disciplines and the table of the node, and the interface inside each container."""
        asked = ["ip -j -d link", "tc -j qdisc", "nft -j list table inet fairlead"]
        asked += [f"ip -n {Path(one.spec.sandbox.path).name} -j address show {one.spec.interface}" for one in endpoints]
        said = self.node.run("sh", "-c", "; echo; ".join(asked)).splitlines()
        links, queues, table, *inside = (json.loads(line) for line in said if line)
        return [links, queues, table["nftables"], *inside]

    @staticmethod
    def _links(endpoints: list[Endpoint], networks: list[Network], listed: list[Row], queues: list[Row]) -> None:
        links = [one for one in listed if one.get("group") in {str(GROUP), str(DOOMED)}]
        assert not [one["ifname"] for one in links if one["group"] == str(DOOMED)], "something waits for its deletion"
        wanted = {names.veth(one.name) for one in _own(endpoints)}
        wanted |= {names.ifb(_host(one)) for one in endpoints if one.spec.bandwidth and one.spec.bandwidth.egress_rate}
        wanted |= {names.bridge(one) for one in networks if one.spec.driver == "bridge"}
        wanted |= {names.tunnel(one.name) for one in networks if one.spec.driver == "vxlan"}
        assert {one["ifname"] for one in links} == wanted
        limited = {one["dev"] for one in queues if one["kind"] == "tbf"}
        allowed = {_host(one) for one in endpoints if one.spec.bandwidth and one.spec.bandwidth.ingress_rate}
        allowed |= {one for one in wanted if one.startswith(names.IFB)}
        assert limited == allowed, f"limits on {limited}, not on {allowed}"

    @staticmethod
    def _rules(endpoints: list[Endpoint], networks: list[Network], table: list[Row]) -> None:
        sets = {one[kind]["name"]: one[kind].get("elem", []) for one in table for kind in ("set", "map") if kind in one}
        bridges = {names.bridge(one) for one in networks if one.spec.driver == "bridge"}
        assert set(sets["bridges"]) == bridges
        wanted = Counter(
            (port.host_port, str(at.address)) for one in endpoints for at in one.spec.addresses for port in one.spec.ports
        )
        have = Counter((key["concat"][1], to["concat"][0]) for family in (4, 6) for key, to in sets[f"port{family}"])
        assert have == wanted, f"published: {have}, not {wanted}"
        reflected = {each["concat"][0] for family in (4, 6) for each in sets[f"reflect{family}"]}
        assert reflected == {to for _, to in wanted}
        assert not [name for name in ("bound4", "bound6", "run4", "run6") if sets[name]]

    # ---- host-local's files ----

    @property
    def leases(self) -> Path:
        return self._leases

    @property
    def ipam(self) -> Path:
        """The plugin under the name by which it gives addresses to others."""
        program = self.node.run_dir.parent / "fairlead-ipam"
        if not program.is_symlink():
            program.symlink_to(available())
        return program


def _own(endpoints: list[Endpoint]) -> list[Endpoint]:
    """Those whose addresses and links are ours."""
    return [one for one in endpoints if not one.spec.chained]


def _host(one: Endpoint) -> str:
    return one.spec.host or "" if one.spec.chained else names.veth(one.name)
