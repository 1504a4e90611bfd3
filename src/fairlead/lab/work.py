"""What machines are there for: members of a store, web servers on hosts, BGP on routers, agents on nodes and pods beside them.

Nodes are started at the same time, each from its agent to its pods, except that all agents are there before what they share
is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from fairlead.model import codec
from fairlead.model.meta import Object
from fairlead.model.network import CLUSTER

from . import network, node, pods, speaker, store
from .parts import Plan, Role
from .record import Record
from .topology import Node, StoreDriver

_AT_ONCE = 8

Told = Callable[[str], None]
"""Who is told what has been done while the whole is not."""


class Work:
    """What runs on the machines of one lab, all of which are there."""

    def __init__(self, of: Record, plan: Plan, told: Told) -> None:
        self._record, self._plan, self._told = of, plan, told
        self._running = of.running

    def start(self, names: Sequence[str]) -> None:
        """Start what these machines are there for, and wait until it is ready."""
        roles = {name: self._plan.machines[name].role for name in names}
        for name in (name for name in names if roles[name] is Role.HOST):
            self._running[name].start(*pods.server(name), log=self._record.log(name))
        self._members([name for name in names if roles[name] is Role.STORE])
        self._speakers()
        nodes = [one for one in self._record.spec.nodes if one.name in names]
        self._each(nodes, self._agent)
        if len(nodes) == len(self._record.spec.nodes) and self._shared:
            node.apply(self._running[nodes[0].name], self._objects(nodes[0]))
        self._each(nodes, self._pods)

    @property
    def _shared(self) -> bool:
        return self._record.spec.store.driver is not StoreDriver.OWN

    def _members(self, names: Sequence[str]) -> None:
        for name in names:
            store.start(self._plan, name, self._running[name], self._record.log(name))
        if names:
            store.wait({name: self._running[name] for name in names}, {name: self._record.log(name) for name in names})
            self._told(f"{', '.join(names)}: the store serves")

    def _speakers(self) -> None:
        """Routers that speak BGP, all of them: a node more is news to those that run."""
        systems = self._record.spec.systems
        for name in systems:
            if name in self._running:
                speaker.tell(self._running[name], speaker.text(self._plan, self._plan.machines[name], systems))

    def _agent(self, one: Node) -> None:
        spec, machine = self._record.spec, self._running[one.name]
        options = ["--plane", spec.plane, *(["--ipv6"] if 6 in spec.families else [])]
        if url := store.url(spec.store, self._plan, self._record.name):
            options += ["--store", url, "--node-ip", node.addresses(self._plan.machines[one.name].addresses)]
        node.up(machine, options)
        if one.labels:
            node.label(machine, one.labels)
        if not self._shared:
            node.apply(machine, self._objects(one))
        peers = speaker.peers(self._plan, self._plan.machines[one.name], self._record.spec.systems)
        node.apply(machine, (codec.from_item(tree) for tree in peers))
        self._told(f"{one.name}: the agent is ready")

    def _pods(self, one: Node) -> None:
        machine, wanted = self._running[one.name], pods.wanted(self._record.spec, one)
        if wanted and self._record.network:
            node.knows(machine, self._record.network)
        pods.start(machine, wanted, self._record.network)
        if wanted:
            self._told(f"{one.name}: {', '.join(pod.name for pod in wanted)}")

    def _objects(self, of: Node) -> list[Object]:
        """What is to be in a node's store."""
        speaking = (codec.from_item(tree) for tree in speaker.settings(self._record.spec.systems))
        return [*speaking, *self._networks(of), *self._record.read_objects()]

    def _networks(self, of: Node) -> Iterator[Object]:
        """The network that the lab makes, if it does: one for all, or each node's own."""
        driver, families = self._record.driver, self._record.spec.families
        if driver in CLUSTER:
            yield network.shared(driver, families, encrypt=self._record.encrypt)
        elif driver:
            at = [one.name for one in self._record.spec.nodes].index(of.name)
            yield network.own(driver, families, at + 1)

    def _each(self, nodes: Sequence[Node], act: Callable[[Node], None]) -> None:
        """Do it for all at the same time; raise the first problem when all have ended."""
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as hands:
            for done in [hands.submit(act, one) for one in nodes]:
                done.result()
