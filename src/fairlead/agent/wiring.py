"""The one page that lists everything an agent is made of, and the order in which it comes to life and goes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping

from fairlead.api import wire
from fairlead.cni import verbs
from fairlead.datapath import both, choose
from fairlead.datapath.base import Plane
from fairlead.datapath.ebpf import observe as ebpf_observe
from fairlead.datapath.ebpf import plane as ebpf
from fairlead.datapath.ebpf import programs
from fairlead.datapath.filter.filter import Filter
from fairlead.datapath.nftables import beside
from fairlead.datapath.nftables import observe as nftables_observe
from fairlead.datapath.nftables import plane as nftables
from fairlead.datapath.seen import Observer
from fairlead.desired.state import Bridge
from fairlead.docker import plugin
from fairlead.flow.collect import Collector
from fairlead.flow.enrich import Names, Party
from fairlead.ipam.ledger import Ledger
from fairlead.kit import fault
from fairlead.kit.metrics import Family
from fairlead.kit.tasks import forever
from fairlead.links.crypts import Crypts
from fairlead.links.links import Links
from fairlead.model.block import Block
from fairlead.model.endpoint import Endpoint
from fairlead.model.network import Network
from fairlead.model.node import HOSTNAME_LABEL
from fairlead.model.node import Node as Machine
from fairlead.model.pod import Pod
from fairlead.store.base import Store
from fairlead.store.kubernetes.store import Kubernetes
from fairlead.store.url import Shared

from . import numbering, remedy
from .addresses import Addresses
from .agent import Agent
from .bgp import Bgp, Ground
from .blocks import Blocks
from .cluster import Cluster
from .config import Settings
from .edition import Edition
from .encryption import Encryption
from .endpoints import Endpoints
from .garbage import Garbage
from .hands import Hands
from .host import Host
from .keyring import Keyring
from .me import Me
from .metrics import Listener, Metrics, flows, rules
from .monitor import Monitor
from .networks import Networks
from .networkstatus import NetworkStatus
from .node import Node
from .orchestrated import Orchestrated
from .others import Others
from .peerings import Peerings
from .pods import Pods
from .policies import KINDS, Policies
from .publish import Publish
from .reports import Reports
from .reservations import Reservations
from .rest import Rest
from .server import Server
from .services import Services
from .sync import Sync
from .unreadable import Unreadable

log = logging.getLogger(__name__)


class Wiring:
    """Everything, once."""

    def __init__(self, settings: Settings, store: Store, shared: Shared | None = None, source: str = "") -> None:
        """``shared``: a store that several nodes have, which ``source`` names; left out, this node is alone."""
        self.settings = settings
        self.store = store  # what containers were given here
        self.shared: Store = shared or store  # what people wrote, and what nodes tell each other
        self._presence, self.clustered = shared, shared is not None
        self.host = Host()  # facts about the machine
        self.ledger = Ledger()  # who has which address
        self.programs, why = choose.programs(settings.plane, settings.run, settings.sizes)  # none: nftables
        if why:
            log.warning("policies are enforced by nftables: %s", why)
        self._forgotten: set[str] = set()  # links that the nftables plane of either thread has shut
        self.keyring = Keyring(settings.state / "wireguard")  # what nobody else knows
        self.numbers = numbering.read(settings.run)  # by which numbers the kernel knows who is who
        self.node = Node(self._hands, settings.linger)  # the desired state, and the kernel that follows it
        self.metrics = Metrics()  # what the agent counts of itself
        self.me = Me(settings.node, self.host, settings.addresses)  # this node as others reach it
        self.encryption = self._encryption()  # with which keys packets to other nodes are encrypted
        self.unreadable = Unreadable(self.shared)  # what is stored and nobody can read
        # What this node may give out of networks that it shares with others.
        self.blocks = Blocks(self.shared, self.ledger, settings.node, self.labels, clustered=self.clustered)
        self.rest = Rest(settings.address_rest if self.clustered else 0.0)  # for how long an address lies idle after its DEL
        self.networks = Networks(self.shared, self.node, self.blocks, self.host, self.unreadable)
        # Other nodes.
        self.cluster = Cluster(self.shared, self.me, self.node, lambda: self.networks.all, self.blocks, crypt=self.encryption)
        self.networks.on_change = self.cluster.touch_network
        self.blocks.on_change = self._block_changed
        self.blocks.others = self.cluster.remotes.values
        self.peerings = Peerings(self.shared, self.unreadable, lambda: self._ground().machines)  # what people wrote about BGP
        self.bgp = Bgp(settings.run, self.node, self.peerings, self._ground)  # what is said by it, and heard
        self.cluster.on_reroute = self.bgp.want
        # What outsiders count on.
        self.reservations = Reservations(self.store, self.ledger, self.networks, self.host, self.unreadable)
        self.services = Services(self.shared, self.unreadable)  # names under which containers are asked
        self.policies = self._policies()  # who may talk to whom
        self.endpoints = Endpoints(
            self.store,
            self.node,
            self.networks,
            addresses=Addresses(self.ledger, self.reservations, self.blocks, self.policies.fits, self.rest),
            policies=self.policies,
            cluster=self.cluster,
            host=self.host,
            unreadable=self.unreadable,
        )
        self.ways: asyncio.Task[None] | None = None
        self.pods, self.orchestrated = self._kubernetes(shared)  # where Kubernetes runs the nodes
        self.networkstatus = self._networkstatus(shared)  # what pods are told of their networks
        self.others = self._others(source)  # nodes that have the same store
        self.collector = self._collector()  # what the plane tells, by names
        self.garbage = Garbage(self.store, self.endpoints, settings.gc_grace)  # what ended without a word
        self.agent = self._agent()
        self.monitor = self._monitor()  # hears the kernel, repairs, collects
        self.server = Server(self.agent, self.metrics)  # the front door
        self.listener = self._listener()  # the door that Prometheus asks at
        self.docker = plugin.Plugin(self.agent)  # the door that Docker knows

    def _kubernetes(self, shared: Shared | None) -> tuple[Pods | None, Orchestrated | None]:
        """What there is besides on a node of a Kubernetes cluster."""
        if not isinstance(shared, Kubernetes):
            return None, None
        pods = Pods(
            self.settings.node,
            self.settings.pod_network,
            endpoints=lambda: self.endpoints.all,
            change=self.endpoints.change,
            state=lambda: self.others.state,
        )
        orchestrated = Orchestrated(
            self.settings,
            self.shared,
            Reports(shared),
            me=self.me,
            cluster=self.cluster,
            blocks=self.blocks,
            networks=self.networks,
            moved=self._moved,
        )
        return pods, orchestrated

    def _networkstatus(self, shared: Shared | None) -> NetworkStatus | None:
        if self.pods is None or not isinstance(shared, Kubernetes) or not self.settings.network_status:
            return None
        return NetworkStatus(shared, self.pods, lambda: self.endpoints.all)

    def _agent(self) -> Agent:
        agent = self._made_agent()
        agent.pods, agent.unsynced = self.pods, lambda: self.others.unsynced
        return agent

    def _made_agent(self) -> Agent:
        return Agent(
            self.settings,
            host=self.host,
            ledger=self.ledger,
            node=self.node,
            networks=self.networks,
            reservations=self.reservations,
            endpoints=self.endpoints,
            garbage=self.garbage,
            policies=self.policies,
            cluster=self.cluster,
            blocks=self.blocks,
            unreadable=self.unreadable,
            bgp=self.bgp,
            services=self.services,
            collector=self.collector,
        )

    def _policies(self) -> Policies:
        return Policies(
            self.settings.node,
            self.shared,
            self.node,
            self.networks,
            host=self.host,
            unreadable=self.unreadable,
            metrics=self.metrics,
            endpoints=lambda: self.endpoints.all,
            services=self.services,
            numbers=self.numbers,
        )

    def _monitor(self) -> Monitor:
        chores = (
            self.endpoints.repay,
            self._finish,
            self.policies.tend,
            self.policies.renew,
            self.blocks.tidy,
            self._move,
            self.agent.warn,
            *((self.orchestrated.tidy,) if self.orchestrated else ()),
        )
        me, moved = self.me, self._move
        return Monitor(
            self.settings, self.node, self.garbage, chores, uplinks=lambda: me.devices, moved=moved, metrics=self.metrics
        )

    def _hands(self) -> Hands:
        links = Links(Crypts(self.settings.run / "userspace", self.keyring.secret))
        return Hands(links, Filter(self.settings.run), self._plane())

    def _plane(self) -> Plane:
        if self.programs is None:
            return nftables.Nftables(self._forgotten, node_access=self.settings.node_access)
        given = self.settings
        judge = ebpf.Ebpf(self.programs, node_access=given.node_access, short_way=given.short_way, tcx=given.tcx)
        return both.Both(judge, beside.Beside(lambda: self.node.state))

    def _encryption(self) -> Encryption:
        made = Encryption(
            self.keyring,
            self.me,
            able=lambda: self.host.encrypts(self.settings.run),
            devices=self.node.devices,
            call=self.node.call,
            changed=self._rekeyed,
            moved=self._reroute,
            age=self.settings.key_age,
            grace=self.settings.key_grace,
        )
        self.node.on_renewal = made.renewed
        return made

    def _shared(self, name: str) -> Network | None:
        network = self.networks.all.get(name)
        return network if network and self.clustered and self.blocks.shared(network) else None

    def _ground(self) -> Ground:
        """What BGP is decided from, beside what people wrote about it."""
        machines = {name: one for name, one in self.policies.all[Machine.plural].items() if isinstance(one, Machine)}
        mine = self.me.node(machines.get(self.me.name))
        return Ground(mine.name, {**machines, mine.name: mine}, self.networks.all, self.blocks.of, self.cluster.sounding.limit)

    def _block_changed(self, before: Block | None, now: Block | None) -> None:
        self.cluster.touch_block(before, now)
        self.bgp.want()

    async def _move(self) -> bool:
        """The host's addresses, or its uplink, are perhaps others; whether they are."""
        await self.policies.renew()
        if not self.me.refresh():
            return False
        await self._moved()
        return True

    async def _rekeyed(self) -> None:
        """This node has other WireGuard keys: its devices take them before anybody is told."""
        await self.cluster.moved()
        self.publish.want()

    async def _reroute(self, names: Iterable[str]) -> None:
        """Packets to some nodes are encrypted with other keys."""
        await self.cluster.reroute(names)

    async def _moved(self) -> None:
        addresses, devices = (", ".join(some) or "nothing" for some in (self.me.station.addresses, sorted(self.me.devices)))
        log.warning("this node is now reached by %s, on %s", addresses, devices)
        self.host.announce(self.me.devices)
        self.publish.want()
        self.bgp.want()
        await self.cluster.moved()

    def _endpoints_changed(self) -> None:
        self.publish.want()
        if self.pods:
            self.pods.want()
        if self.networkstatus:
            self.networkstatus.want()

    async def _contradict(self, endpoint: Endpoint) -> None:
        """Where a pod's object says that another pod has an address, other nodes are told whose it is before it sends."""
        if self.pods and self.pods.contested(endpoint):
            await self.publish.tell(endpoint)

    def labels(self) -> Mapping[str, str]:
        """The labels of this node."""
        machine = self.cluster.machines.get(self.settings.node)
        return machine.labels if machine else {HOSTNAME_LABEL: self.settings.node}

    def _others(self, source: str) -> Others:
        kubelet = self.orchestrated is not None
        contested = self.pods.contested if self.pods else lambda _: False
        self.publish = Publish(
            self.shared, self.me, lambda: self.endpoints.all, self._shared, kubelet=kubelet, contested=contested
        )
        self.endpoints.on_change = self._endpoints_changed
        if self.pods:
            self.pods.on_claim = self.publish.want
            self.endpoints.before_link = self._contradict
        sync = Sync(
            self.settings.node,
            networks=self.networks,
            blocks=self.blocks,
            cluster=self.cluster,
            policies=self.policies,
            publish=self.publish,
            bgp=self.bgp,
            services=self.services,
            pods=self.pods,
            orchestrated=self.orchestrated,
        )
        return Others(
            self.settings,
            self.shared,
            self._presence,
            source,
            sync=sync,
            publish=self.publish,
            cluster=self.cluster,
            pods=self.pods,
            orchestrated=self.orchestrated,
            networkstatus=self.networkstatus,
            encryption=self.encryption,
        )

    def _collector(self) -> Collector:
        links = self.programs.links if self.programs else {}
        names = Names(
            self.endpoints.all.values,
            self.host.addresses,
            self.cluster.machines.values,
            lambda: self.node.state,
            links,
            elsewhere=self._elsewhere,
        )
        return Collector(self._observer(), names, rule=self.policies.rule)

    def _elsewhere(self, address: str) -> Party | None:
        return self.cluster.holder(address) or self.services.named(address)

    def _observer(self) -> Observer:
        if self.programs:
            return both.Observer(ebpf_observe.Observer(self.programs, lambda: self.node.state))
        return nftables_observe.Observer(lambda: self.node.state)

    def _listener(self) -> Listener | None:
        async def scrape() -> list[Family]:
            policies = {one.plural: len(self.policies.all[one.plural]) for one in KINDS}
            now, hits = self.agent.status(), await self.policies.hits()
            return [*self.metrics.families(now, policies, self.agent.fill()), *flows(self.collector), *rules(hits)]

        return Listener(self.settings.metrics, scrape) if self.settings.metrics else None

    async def start(self) -> None:
        """Read, bring the kernel in line, listen; only then may containers start."""
        remedy.leave(self.settings.state)
        self.host.forward()
        if self.clustered:
            self.host.announce(self.me.devices)
        if self.orchestrated:  # it may take long, and whoever asks is told why
            await self._listen()
        await self.others.begin(self.host.boot)
        await self._load()
        edition = Edition(self.settings.run, self.numbers)
        await self.node.apply(other=edition.is_other)  # restart, repair and upgrade are this one call
        edition.remember()
        if not self.programs and programs.present(self.settings.run):  # the last agent's plane
            ebpf.detach(self.settings.run)
            programs.remove(self.settings.run)
            beside.remove()
        if self.programs and nftables.present():
            nftables.remove(self.node.state.table(Bridge).values())
        fault.point("start.applied")
        await self.networks.ensure_defaults(ipv6=self.settings.ipv6, cluster=self.orchestrated is not None)
        fault.point("start.defaults")
        await self.garbage.reap()  # containers that ended while nobody looked
        await self.endpoints.resume()  # ports that were passing from one attachment to another
        self.blocks.resume()  # addresses that were claimed, and given to nobody
        fault.point("start.reaped")
        await self.monitor.start()  # from here on a change of the kernel is heard
        self.collector.start()
        self.ways = asyncio.create_task(forever("keeping the ways to other nodes", self.cluster.run))
        self.others.start(self.host.boot)
        self.bgp.start()
        if self.orchestrated:
            await self.orchestrated.start()
        self.agent.ready = True
        if not self.orchestrated:
            await self._listen()
        await self._listen_to_docker()
        if self.listener:
            await self.listener.start()
        fault.point("start.listening")
        await self._finish()

    async def _listen(self) -> None:
        paths = [self.settings.run / "agent.sock"]
        if wire.node_sockets().is_dir():  # other nodes share it: here they can ask this one
            paths.append(wire.node_socket(self.settings.node))
        await self.server.start(*paths, group=self.settings.group)

    async def _listen_to_docker(self) -> None:
        """Where Docker looks, if it looks. That nobody can be heard there is no reason to serve nobody at all."""
        if path := plugin.socket():
            try:
                await self.docker.start(path)
            except OSError as problem:
                log.error("Docker does not find this agent: %s: %s", path, problem.strerror)  # noqa: TRY400  # that is all of it

    async def _load(self) -> None:
        """Take what is stored, each kind after those that it needs."""
        all_of = self.others.all
        self.blocks.load(all_of(Block.plural))
        self.networks.load(all_of(Network.plural))  # pools before the endpoints that hold addresses of them
        if self.orchestrated:
            self.orchestrated.load(all_of(Machine.plural), all_of(Network.plural))
        await self.reservations.load()
        fault.point("start.networks")
        await self.endpoints.load()  # what an earlier boot left is released here
        self.agent.loaded = True
        fault.point("start.endpoints")
        elsewhere = all_of(Endpoint.plural) if self.clustered else []
        self.publish.load(elsewhere)
        if self.pods:
            elsewhere = self.pods.load(all_of(Pod.plural), elsewhere)
        self.cluster.adopt(all_of(Machine.plural), elsewhere)
        if self.orchestrated:
            self.publish.node = self.cluster.machines.get(self.settings.node)
        self.services.load(all_of)
        self.policies.load(all_of, self.cluster.remotes.values())
        self.peerings.load(all_of)
        fault.point("start.policies")
        await self.encryption.remember()

    async def _finish(self) -> int:
        """DELs that came while we were away, or did not answer in time."""
        return await verbs.finish_pending(self.agent, self.settings.state / "pending-del")

    async def stop(self) -> None:
        """The reverse; the kernel keeps everything."""
        self.agent.ready = False
        if self.ways:
            self.ways.cancel()
        await self.others.stop()
        await self.bgp.stop()
        await self.collector.stop()
        if self.listener:
            await self.listener.stop()
        await self.docker.stop()
        await self.server.stop()
        await self.monitor.stop()
        await self.node.close()
        await self.store.close()
        await self.shared.close()
        self.host.close()
        if self.programs:
            self.programs.close()
