"""The agent as its callers see it: one method for each thing it can be asked, each handed to the part that does it."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from pathlib import Path

from msgspec.structs import replace

import fairlead
from fairlead.api.encryption import Encryption, Rotated
from fairlead.api.identities import Identity
from fairlead.api.routing import BgpRoute, BgpStatus
from fairlead.api.schema import (
    Applied,
    Attach,
    Attached,
    Change,
    Detach,
    Detached,
    Drift,
    Explained,
    Flow,
    Narrow,
    Pool,
    Previewed,
    Proposal,
    Report,
    Reserve,
    RuleHits,
    Status,
)
from fairlead.doctor.base import Facts
from fairlead.doctor.examine import examine
from fairlead.doctor.maps import NEARLY
from fairlead.flow.collect import Collector
from fairlead.flow.filter import Query
from fairlead.ipam.ledger import Ledger
from fairlead.model.address import Family, Prefix
from fairlead.model.block import Block
from fairlead.model.broken import Broken
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Invalid, Missing, Unavailable
from fairlead.model.meta import Object, kind
from fairlead.model.network import CLUSTER, Driver, Network
from fairlead.model.node import Node as Machine
from fairlead.model.pod import Pod
from fairlead.model.reservation import Reservation
from fairlead.model.secret import Secret
from fairlead.service.directory import Thing as Served

from . import beside
from .behind import behind
from .bgp import Bgp
from .blocks import Blocks
from .cluster import Cluster
from .config import Settings
from .endpoints import Endpoints
from .explain import Town, explain
from .garbage import Garbage
from .host import Host
from .identities import identities
from .networks import Networks
from .node import Node
from .peerings import KINDS as BGP_KINDS
from .pods import Pods
from .policies import KINDS, Policies, Thing, placed
from .preview import Scene, preview, refuse_other
from .reservations import Reservations
from .services import KINDS as SERVICE_KINDS
from .services import Services
from .services import placed as served
from .unreadable import Unreadable

log = logging.getLogger(__name__)

_COUNTABLE = 2**63 - 1
"""The largest number that JSON readers agree on having room for; an IPv6 pool can be larger."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Agent:
    """Implements ``api.door.Door``."""

    def __init__(
        self,
        settings: Settings,
        *,
        host: Host,
        ledger: Ledger,
        node: Node,
        networks: Networks,
        reservations: Reservations,
        endpoints: Endpoints,
        garbage: Garbage,
        policies: Policies,
        cluster: Cluster,
        blocks: Blocks,
        unreadable: Unreadable,
        bgp: Bgp,
        services: Services,
        collector: Collector,
    ) -> None:
        self.settings, self._host, self._ledger, self.collector = settings, host, ledger, collector
        self._garbage, self.policies, self._unreadable = garbage, policies, unreadable
        self.cluster, self.blocks = cluster, blocks
        self.bgp, self.peerings, self.services = bgp, bgp.peerings, services
        self.node, self.networks, self.endpoints, self.reservations = node, networks, endpoints, reservations
        self._since = time.monotonic()
        self.pods: Pods | None = None
        """Where Kubernetes runs the nodes: its pods."""
        self.unsynced: Callable[[], str] = lambda: ""
        """Why a runtime must start nothing yet although it could."""
        self.ready = False
        self.loaded = False
        """Whether it is known what there is: before, nothing can be taken away."""
        self.reason = "starting: the kernel is being brought in line"
        self._warned: set[str] = set()
        self._changing, self._examining = asyncio.Lock(), asyncio.Lock()

    async def attach(self, request: Attach) -> Attached:
        """Give a namespace an interface."""
        self._refuse_unready()
        return await self.endpoints.attach(request)

    async def change(self, request: Change) -> Attached:
        """Change what an endpoint has."""
        self._refuse_unready()
        return await self.endpoints.change(request)

    async def reserve(self, request: Reserve) -> Reservation:
        """Set an address or a network aside."""
        self._refuse_unready()
        async with self._changing:  # the network may not go meanwhile
            return await self.reservations.reserve(request)

    async def detach(self, request: Detach) -> Detached:
        """Take interfaces away."""
        if not self.loaded:
            raise Unavailable(f"the agent does not know yet what there is: {self.why}")
        return await self.endpoints.detach(request)

    async def pod(self, namespace: str, name: str, uid: str) -> Pod | None:
        """The pod of these names, once its object is known; None where there are no pods."""
        self._refuse_unready()
        return None if self.pods is None else await self.pods.find(namespace, name, uid)

    @property
    def why(self) -> str:
        """Why containers may not start; empty if they may."""
        return self.unsynced() or ("" if self.ready else self.reason)

    async def check(self, container: str, interface: str) -> tuple[Attached | None, tuple[Drift, ...]]:
        """One endpoint, and how the kernel differs from it."""
        return await self.endpoints.check(container, interface)

    async def collect(
        self, network: str, owner: str, keep: Collection[tuple[str, str]], labels: Mapping[str, str]
    ) -> tuple[Endpoint, ...]:
        """Remove what the runtime does not list."""
        return await self._garbage.collect(network, owner, keep, labels)

    async def apply(self, thing: Object) -> Applied:
        """Create a network or change it."""
        self._refuse_unready()
        async with self._changing:
            if isinstance(thing, KINDS):
                done = await self.policies.apply(thing)
                self.bgp.want()  # labels of nodes
                return done
            if isinstance(thing, BGP_KINDS):
                done = await self.peerings.apply(thing)
                self.bgp.want()
                return done
            if isinstance(thing, SERVICE_KINDS):
                done = await self.services.apply(thing)
                await self.policies.hear(())  # who is judged as those behind it
                return done
            if not isinstance(thing, Network):
                raise Invalid(f"a {kind(thing)} is not made by apply; containers that are attached make it", field="kind")
            done = await self.networks.apply(thing, self._users(thing.name))
            self.bgp.want()
            await self.endpoints.follow(thing.name)
            await self.policies.renew()  # a gateway is an address of this node
            return done

    async def delete(self, plural: str, name: str) -> Object | Broken:
        """Remove a network nobody uses, a policy, or what cannot be read; or detach an endpoint."""
        if broken := self._unreadable.find(plural, name):
            async with self._changing:
                await self.policies.discard(broken)
            if plural == Endpoint.plural:
                self._ledger.release(broken.name)
            return broken
        if plural == Endpoint.plural:
            endpoint = self.endpoints.all.get(name)
            if endpoint is None:
                raise Missing(f"there is no endpoint {name!r}", field="name")
            await self.detach(Detach(container=endpoint.spec.container, interface=endpoint.spec.interface))
            return endpoint
        if plural == Reservation.plural:
            return await self.reservations.delete(name)
        if plural in self.policies.all:
            async with self._changing:
                if plural == Machine.plural and self.cluster.alive is not None:
                    await self.cluster.leave_behind(name)
                return await self.policies.delete(plural, name)
        if plural in self.peerings.all:
            async with self._changing:
                said = await self.peerings.delete(plural, name)
                self.bgp.want()
                return said
        if plural in self.services.all:
            async with self._changing:
                deleted = await self.services.delete(plural, name)
                await self.policies.hear(())
                return deleted
        self.objects(plural)
        return await self._delete_network(name)

    async def _delete_network(self, name: str) -> Object:
        if not self._own_users(name):
            await self.cluster.let_go(name)
        async with self._changing:
            gone = await self.networks.delete(name, self._users(name))
            await self.policies.renew()
            self.bgp.want()
            return gone

    async def purge(self) -> None:
        """Every endpoint goes, then everything of ours in the kernel. The agent is of no use until it is started again."""
        self.ready, self.reason = False, "everything was removed; start the agent again"
        for endpoint in list(self.endpoints.all.values()):
            await self.endpoints.detach(Detach(container=endpoint.spec.container, wait=False))
        await self.bgp.purge()
        await self.node.purge()

    def objects(self, plural: str, *, everywhere: bool = False, reveal: bool = False) -> list[Object]:
        """All objects of a kind, by name."""
        endpoints: Mapping[str, Object] = self.endpoints.all
        if everywhere:
            endpoints = {**endpoints, **{one.name: one for one in self.cluster.remotes.values()}}
        shown = self.policies.shown()
        tables: dict[str, Mapping[str, Object]] = {
            Network.plural: self.networks.all,
            Endpoint.plural: endpoints,
            Block.plural: self.blocks.all,
            Reservation.plural: self.reservations.all,
            **self.peerings.all,
            **self.services.all,
            **shown,
            Machine.plural: self.cluster.seen(shown[Machine.plural]),
        }
        if reveal:
            tables[Secret.plural] = self.peerings.of(Secret)
        if plural not in tables:
            raise Missing(f"{plural[:80]!r} is not a kind known here; known: {', '.join(tables)}", field="kind")
        return [thing for _, thing in sorted(tables[plural].items())]

    def network(self, name: str) -> Network | None:
        """One network, or None."""
        return self.networks.all.get(name)

    def free(self, family: Family) -> Prefix:
        """A subnet that nobody uses."""
        return self.networks.free(family)

    def status(self) -> Status:
        """The agent in numbers."""
        now = time.monotonic()
        memory = int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
        return Status(
            version=fairlead.__version__,
            pid=os.getpid(),
            node=self.settings.node,
            uptime=round(now - self._since, 3),
            memory=memory,
            plane=self.node.plane,
            ready=not self.why,
            reason=self.why,
            networks=len(self.networks.all),
            endpoints=len(self.endpoints.all),
            policies=self.policies.count,
            repairs=self.node.repairs,
            pending=len(self.node.leaving) + len(self.endpoints.owed),
            last_check=round(now - self.node.checked, 3),
            pools=tuple(self._pools()),
            maps={name: (used, most) for name, (used, most) in self.fill().items() if used > most * NEARLY},
            narrow=tuple(self._narrow()),
            unreadable=tuple(self._unreadable.told()),
            flows=self.collector.status(),
        )

    async def encryption(self) -> Encryption:
        """Encryption between this node and the others."""
        names = (one.name for one in self.networks.all.values() if one.spec.encrypt)
        return await self.cluster.encryption.status(names)

    async def rotate(self) -> Rotated:
        """Begin to replace the keys of all nodes."""
        self._refuse_unready()
        return Rotated(generation=await self.cluster.encryption.rotate())

    async def bgp_status(self) -> BgpStatus:
        """The speaker and its neighbours."""
        return await self.bgp.status()

    async def bgp_routes(self, query: Mapping[str, str]) -> list[BgpRoute]:
        """The routes that it knows."""
        return await self.bgp.routes(query)

    async def explain(self, query: Mapping[str, str]) -> Explained:
        """Whether one may talk to another, and why."""
        town = self._town

        async def one(words: Mapping[str, str]) -> Explained:
            return await explain(self.policies.book, town, words, self.node.ask)

        return await (behind(self.services.directory, query, one) or one(query))

    async def identities(self, query: Mapping[str, str]) -> list[Identity]:
        """The numbers by which the kernel knows who is who."""
        return identities(self.policies.book, self._town, query)

    @property
    def _town(self) -> Town:
        return Town(self._everybody, self.policies.here, self.cluster.machines, self._shares)

    @property
    def _everybody(self) -> tuple[Endpoint, ...]:
        """The containers of this node and those that others tell of."""
        return (*self.endpoints.all.values(), *self.cluster.remotes.values())

    def _shares(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint is on the host's network."""
        return self.networks.get(endpoint.spec.network).spec.driver is Driver.HOST

    async def preview(self, proposal: Proposal) -> Previewed:
        """What would change if objects were applied or deleted."""
        flows = await self.collector.recent()
        scene = Scene(
            self.settings.node,
            [*self.policies.depended_on(), *self._everybody],
            flows,
            [one for table in self.services.all.values() for one in table.values()],
        )
        async with self._examining:  # each takes two books' memory
            return await preview(scene, proposal, self._placed)

    @staticmethod
    def _placed(thing: Object) -> Thing | Served:
        if isinstance(thing, SERVICE_KINDS):
            return served(thing)
        if not isinstance(thing, KINDS):
            raise refuse_other(thing)
        return placed(thing)

    async def hits(self) -> list[RuleHits]:
        """Every rule and how often it has decided."""
        return await self.policies.hits()

    async def flows(self, query: Mapping[str, str]) -> list[Flow]:
        """The last flows that match."""
        return await self.collector.query(Query(query))

    def follow(self, query: Mapping[str, str]) -> AsyncIterator[list[Flow]]:
        """What matches from now on."""
        return self.collector.follow(Query(query))

    async def doctor(self) -> Report:
        """Compare everything, touch nothing."""
        async with self._examining:  # however many ask: a container start waits behind one examination at most
            dead = await self.endpoints.gone(self.endpoints.all.values())
            chains = beside.chains()
            facts = Facts(
                drift=tuple(await self.node.check()),
                dead=tuple(one.display for one in dead),
                pools=tuple(self._pools()),
                maps=self.fill(),
                evicted=self.collector.evicted,
                unreadable=tuple(self._unreadable.told()),
                capabilities=await self._host.capabilities(),
                forwards=self._host.forwards(),
                uplink_mtu=self._host.mtu(),
                mtus=dict(self._mtus()),
                dropping=tuple(beside.dropping(chains)),
                networks=beside.networks(self._host.devices(), chains),
                strangers=beside.strangers(self._subnets(), beside.local()),
                nodes=max(1, len(self.cluster.machines)),
                unreached=tuple(self.cluster.unreached()),
                encryption=await self.encryption(),
                narrow=tuple(self._narrow()),
                bgp=await self.bgp.status(),
            )
            return examine(facts)

    async def warn(self) -> None:
        """Say once of each table of the kernel that it fills up."""
        full = {name: f"{used} of {most}" for name, (used, most) in self.fill().items() if used > most * NEARLY}
        for name in full.keys() - self._warned:
            log.warning("the kernel's map of %s is nearly full: %s; fairlead doctor says what to do", name, full[name])
        self._warned = set(full)

    def fill(self) -> dict[str, tuple[int, int]]:
        """How full the kernel's tables were when they were last looked through."""
        return {**self.node.fill(), self.collector.table: self.collector.room}

    def _users(self, network: str) -> list[str]:
        return self._own_users(network) + self.cluster.users(network)

    def _own_users(self, network: str) -> list[str]:
        return self.endpoints.users(network) + self.reservations.holders(network)

    def _refuse_unready(self) -> None:
        if not self.ready:
            raise Unavailable(f"the agent is not ready: {self.why}")

    def _subnets(self) -> Iterator[Prefix]:
        """Where pods have their addresses from."""
        if network := self.networks.all.get(self.settings.pod_network):
            yield from (Prefix(one.cidr) for one in network.spec.subnets)

    def _mtus(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """Of networks that lead outside and whose MTU somebody wrote: it, and what the uplink carries of them."""
        for one in self.networks.all.values():
            if one.spec.mtu and not one.spec.internal:
                fits = self.cluster.mtu(replace(one, spec=replace(one.spec, mtu=None)))
                yield one.name, (one.spec.mtu, fits if one.spec.driver in CLUSTER else self._host.mtu(one.spec.parent))

    def _narrow(self) -> Iterator[Narrow]:
        mine = self.cluster.uplink
        for name, depth in self.cluster.sounding.narrow().items():
            yield Narrow(node=name, address=depth.address, mine=mine, claimed=depth.claimed, found=depth.found)

    def _pools(self) -> Iterator[Pool]:
        for network in self.networks.all.values():
            for cidr, *counted in self.blocks.fill(network):
                size, used, elsewhere = (min(one, _COUNTABLE) for one in counted)
                yield Pool(network=network.name, cidr=cidr, size=size, used=used, elsewhere=elsewhere)
