"""Orchestrated: this node as one of a Kubernetes cluster, and what others see to there that nodes see to themselves elsewhere.

::

    Node      podCIDRs ──► blocks        addresses ──► me        Ready ──► who is alive        gone ──► its blocks are free
    Network   as anybody wrote it ──► judged, completed, accepted or not (a condition says so)
    Pod       ──► pods

What one node must do for all, the first does: the least by name of those that are ready. Two that both take themselves for
the first do the same thing twice, which does no harm.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

from fairlead.kit.suspects import Suspects
from fairlead.model.address import Prefix
from fairlead.model.errors import Problem
from fairlead.model.network import Driver, Network, NetworkSpec, Subnet
from fairlead.model.node import Node as Machine
from fairlead.store.base import Store, Stored
from fairlead.store.kubernetes.status import Condition

from .blocks import Blocks
from .cluster import Cluster
from .config import Settings
from .me import Me
from .networks import Networks, whole
from .reports import Reports

log = logging.getLogger(__name__)

_CLUSTER_LENGTH = {4: 16, 6: 56}
"""The prefix length of a cluster's podCIDRs together, where nobody says: what kubeadm, k3s and most clouds begin with."""
_SILENCE = 15.0
"""Seconds after which a cluster that gave no podCIDRs gives none."""
_DOUBT = 20.0
"""Seconds for which a block's node must have been gone."""


class Orchestrated:
    """What differs where Kubernetes runs the nodes."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        reports: Reports,
        *,
        me: Me,
        cluster: Cluster,
        blocks: Blocks,
        networks: Networks,
        moved: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``moved``: this node is reached otherwise."""
        self._clock = clock
        self._settings, self._store, self.reports, self._moved = settings, store, reports, moved
        self._me, self._cluster, self._blocks, self._networks = me, cluster, blocks, networks
        self._begun = clock()
        self._silent: set[str] = set()
        self._left: Suspects[tuple[str, str]] = Suspects(_DOUBT, clock)
        self._refused: dict[str, Problem] = {}
        self._bare: dict[str, Network] = {}

    @property
    def first(self) -> bool:
        """Whether this node does what one must do."""
        machines = self._cluster.machines.values()
        ready = [one.name for one in machines if one.ready] or [one.name for one in machines]
        return min(ready, default=self._me.name) == self._me.name

    async def _ensure(self) -> None:
        """Make the network that pods are on, if nobody has.

        Where its addresses are left to the cluster it is waited for until that has said something, or clearly will not.
        """
        name = self._settings.pod_network
        if name in self._networks.all or name in self._refused:
            return
        subnets = self._settings.pod_subnets or _around(one for each in self._machines() for one in each.spec.pod_cidrs)
        if not subnets and (self._me.name not in self._cluster.machines or self._clock() < self._begun + _SILENCE):
            return
        spec = NetworkSpec(driver=Driver(self._settings.pod_driver), subnets=tuple(Subnet(cidr=one) for one in subnets))
        await self._networks.ensure(name, spec)
        self._allot({one.name: one.spec.pod_cidrs for one in self._machines()})

    def load(self, machines: Iterable[Stored], networks: Iterable[Stored]) -> None:
        """Take the nodes there are at a start, before the kernel follows, and the networks that are not whole."""
        self._bare = {one.name: one for one in networks if isinstance(one, Network) and not whole(one)}
        self._refused = dict(self._networks.refused)
        known = [one for one in machines if isinstance(one, Machine)]
        for one in known:
            if one.name == self._me.name:
                self._me.told(one.internal)
        self._allot({one.name: one.spec.pod_cidrs for one in known})

    async def start(self) -> None:
        """What can be said once everything is known."""
        self._allot({one.name: one.spec.pod_cidrs for one in self._machines()})
        self._silent = {one.name for one in self._machines() if one.ready is None and one.status.conditions}
        await self._cluster.present(self._cluster.machines.keys() - self._silent)
        try:
            await self.tidy()
        except Problem as problem:
            log.warning("not done, the timer will: %s", problem)

    async def node(self, name: str, machine: Machine | None) -> None:
        """A node is new, another or gone."""
        self._allot({name: machine.spec.pod_cidrs if machine else ()})
        silent = machine is not None and machine.ready is None and bool(machine.status.conditions)
        if silent != (name in self._silent) or machine is None:
            (self._silent.add if silent else self._silent.discard)(name)
        await self._cluster.present(self._cluster.machines.keys() - self._silent)
        await self._ensure()
        if machine is not None and name == self._me.name and self._me.told(machine.internal):
            await self._moved()

    async def network(self, network: Network, *, gone: bool) -> None:
        """Somebody wrote a network: use it if it can be used, and say so."""
        self._bare.pop(network.name, None)
        if gone:
            self._refused.pop(network.name, None)
            self.reports.forget(Network.plural, network.key)
            await self._networks.hear(network, gone=True)
            return
        try:
            if not whole(network):
                self._bare[network.name] = network
                await self._complete()
                return
            self._networks.judge(network)
            await self._networks.hear(network, gone=False)
            self._refused.pop(network.name, None)
        except Problem as problem:
            self._refused[network.name] = problem
            self._say(network)
            raise
        self._say(network)
        if network.name == self._settings.pod_network:
            self._allot({one.name: one.spec.pod_cidrs for one in self._machines()})

    async def _complete(self) -> None:
        """Write what was left out of networks; what is written comes back as an event."""
        for network in list(self._bare.values()) if self.first else ():
            await self._networks.complete(network)

    async def tidy(self) -> None:
        """Say how it is, and free the blocks of nodes that have left the cluster. Harmless to repeat."""
        await self._ensure()
        name = self._settings.pod_network
        lacking = "" if name in self._networks.all else str(self._refused.get(name, f"there is no network {name}"))
        reason, message = ("NoNetwork", lacking) if lacking else ("FairleadIsReady", "pods of this node are connected")
        if self._me.name in self._cluster.machines:
            condition = Condition("NetworkUnavailable", bool(lacking), reason, message)
            self.reports.say(Machine.plural, ("", self._me.name), condition)
        if not self.first:
            return
        await self._complete()
        for network in self._networks.all.values():
            self._say(network)
        await self._collect()

    async def _collect(self) -> None:
        left = {(one.name, one.metadata.uid): one for one in self._blocks.left(self._cluster.machines.keys())}
        for name in self._left.confirmed("blocks", left.keys()):
            node = left[name].spec.node
            if await self._store.get(Machine.plural, ("", node)) is None:
                log.info("node %s has left the cluster; its block %s is free", node, left[name].spec.cidr)
                await self._blocks.free(left[name], self._cluster.machines.keys())

    def _say(self, network: Network) -> None:
        if not self.first:
            return
        problem = self._refused.get(network.name)
        said = (
            Condition("Accepted", False, type(problem).__name__, str(problem))
            if problem
            else Condition("Accepted", True, "InUse")
        )
        # A table of kubectl has one value of a list alone; all of them in one text it shows.
        subnets = ",".join(str(one.cidr) for one in network.spec.subnets)
        self.reports.say(Network.plural, network.key, said, **({"subnets": subnets} if subnets else {}))

    def _allot(self, given: Mapping[str, Iterable[Prefix]]) -> None:
        if network := self._networks.all.get(self._settings.pod_network):
            self._blocks.allot(network, given)

    def _machines(self) -> list[Machine]:
        return list(self._cluster.machines.values())


def _around(cidrs: Iterable[Prefix]) -> tuple[Prefix, ...]:
    """The subnets that podCIDRs are of, as far as can be told from some of them."""
    found: dict[Prefix, None] = {}
    for cidr in cidrs:
        length = min(_CLUSTER_LENGTH[cidr.family], cidr.length)
        found[Prefix(str(cidr.net.supernet(new_prefix=length)))] = None
    return tuple(found)
