"""The one page that lists everything an agent is made of, and the order in which it comes to life and goes."""

from __future__ import annotations

import logging

from fairlead.cni import verbs
from fairlead.datapath import choose
from fairlead.datapath.base import Plane
from fairlead.datapath.ebpf import plane as ebpf
from fairlead.datapath.ebpf import programs
from fairlead.datapath.ebpf.observe import Observer
from fairlead.datapath.filter.filter import Filter
from fairlead.datapath.nftables.plane import Nftables
from fairlead.docker import plugin
from fairlead.flow.collect import Collector
from fairlead.flow.enrich import Names
from fairlead.ipam.ledger import Ledger
from fairlead.kit import fault
from fairlead.links.links import Links
from fairlead.store.base import Store

from .agent import Agent
from .config import Settings
from .endpoints import Endpoints
from .garbage import Garbage
from .host import Host
from .monitor import Monitor
from .networks import Networks
from .node import Hands, Node
from .policies import Policies
from .reservations import Reservations
from .server import Server
from .unreadable import Unreadable

log = logging.getLogger(__name__)


class Wiring:
    """Everything, once."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings = settings
        self.store = store  # what people wrote, and what they were given
        self.host = Host()  # facts about the machine
        self.ledger = Ledger()  # who has which address
        self.programs, why = choose.programs(settings.plane, settings.run, settings.flow_buffer << 10)  # none: nftables
        if why:
            log.warning("policies are enforced by nftables: %s", why)
        self.node = Node(self._hands, settings.linger)  # the desired state, and the kernel that follows it
        self.unreadable = Unreadable(self.store)  # what is stored and nobody can read
        self.networks = Networks(self.store, self.node, self.ledger, self.host, self.unreadable)
        self.reservations = Reservations(
            self.store, self.ledger, self.networks, self.host, self.unreadable
        )  # what outsiders count on
        self.policies = Policies(
            settings.node,
            self.store,
            self.node,
            self.networks,
            host=self.host,
            unreadable=self.unreadable,
            endpoints=lambda: self.endpoints.all,
        )  # who may talk
        self.endpoints = Endpoints(
            self.store,
            self.node,
            self.ledger,
            self.networks,
            reservations=self.reservations,
            policies=self.policies,
            host=self.host,
            unreadable=self.unreadable,
        )
        self.collector = self._collector()  # what the programs tell, by names
        self.garbage = Garbage(self.store, self.endpoints, settings.gc_grace)  # what ended without a word
        self.agent = Agent(
            settings,
            host=self.host,
            ledger=self.ledger,
            node=self.node,
            networks=self.networks,
            reservations=self.reservations,
            endpoints=self.endpoints,
            garbage=self.garbage,
            policies=self.policies,
            unreadable=self.unreadable,
            collector=self.collector,
        )
        self.monitor = Monitor(
            settings,
            self.node,
            self.garbage,
            [self.endpoints.repay, self._finish, self.policies.retry, self.policies.renew],
            moved=self.policies.renew,
        )  # hears the kernel, repairs, collects
        self.server = Server(self.agent)  # the front door
        self.docker = plugin.Plugin(self.agent)  # the door that Docker knows

    def _hands(self) -> Hands:
        plane: Plane = ebpf.Ebpf(self.programs) if self.programs else Nftables()
        return Hands(Links(), Filter(self.settings.run), plane)

    def _collector(self) -> Collector | None:
        if self.programs is None:
            return None
        return Collector(
            Observer(self.programs),
            Names(self.endpoints.all.values, self.host.addresses, lambda: self.node.state),
            rule=self.policies.rule,
        )

    async def start(self) -> None:
        """Read, bring the kernel in line, listen; only then may containers start."""
        self.host.forward()
        await self.networks.load()  # pools before the endpoints that hold addresses of them
        await self.reservations.load()
        fault.point("start.networks")
        await self.endpoints.load()  # what an earlier boot left is released here
        fault.point("start.endpoints")
        await self.policies.load()
        fault.point("start.policies")
        await self.node.apply()  # restart, repair and upgrade are this one call
        if not self.programs and programs.present(self.settings.run):  # the last agent's plane
            ebpf.detach()
            programs.remove(self.settings.run)
        fault.point("start.applied")
        await self.networks.ensure_defaults(ipv6=self.settings.ipv6)
        fault.point("start.defaults")
        await self.garbage.reap()  # containers that ended while nobody looked
        await self.endpoints.resume()  # ports that were passing from one attachment to another
        fault.point("start.reaped")
        await self.monitor.start()  # from here on a change of the kernel is heard
        if self.collector:
            self.collector.start()
        self.agent.ready = True
        await self.server.start(self.settings.run / "agent.sock", self.settings.group)
        if path := plugin.socket():
            await self.docker.start(path)
        fault.point("start.listening")
        await self._finish()

    async def _finish(self) -> int:
        """DELs that came while we were away, or did not answer in time."""
        return await verbs.finish_pending(self.agent, self.settings.state / "pending-del")

    async def stop(self) -> None:
        """The reverse; the kernel keeps everything."""
        self.agent.ready = False
        if self.collector:
            await self.collector.stop()
        await self.docker.stop()
        await self.server.stop()
        await self.monitor.stop()
        await self.node.close()
        await self.store.close()
        self.host.close()
        if self.programs:
            self.programs.close()
