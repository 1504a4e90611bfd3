"""Endpoints: a container start and end, the path that everything takes, whoever asked.

attach: validate → claim addresses → store (durable) → kernel → answer. From the moment the row is stored, a crash is
finished by the next start: a namespace that still exists gets its link, one that does not gives its addresses back.
detach: forget in the store (durable) → answer → the kernel lets go → the addresses are free again, never before.

A store that cannot write (a full disk) fails an attach and leaves nothing of it; it fails no detach, for removing containers is
how people make room. The kernel lets go, the addresses stay held, and the store is asked again until it has forgotten.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from msgspec.structs import replace

from fairlead.api.schema import Attach, Attached, Change, Detach, Detached, Drift
from fairlead.cni.pod import BESIDE_LABEL
from fairlead.desired import build, names
from fairlead.desired.state import Bridge, Rows
from fairlead.kernel import netns
from fairlead.kernel.errors import KernelError
from fairlead.kit import fault
from fairlead.model.address import InterfaceName
from fairlead.model.endpoint import Endpoint, EndpointSpec, PublishedPort, Sandbox, endpoint_name
from fairlead.model.errors import Invalid, Missing, Problem
from fairlead.model.network import CLUSTER, Network
from fairlead.store.base import Delete, Put, Store

from . import demand
from .addresses import Addresses
from .bounds import refuse_unbounded, refuse_unbounded_change
from .cluster import Cluster
from .host import Host
from .networks import Networks
from .node import Node
from .policies import Policies
from .ports import Ports, refuse_bound
from .unreadable import Unreadable

log = logging.getLogger(__name__)

_FEW = 16
"""Ports that are tried out on the event loop's own thread; more of them take longer than others should wait."""


class Endpoints:
    """Every attachment of the node, in memory as in the store."""

    def __init__(
        self,
        store: Store,
        node: Node,
        networks: Networks,
        *,
        addresses: Addresses,
        policies: Policies,
        cluster: Cluster,
        host: Host,
        unreadable: Unreadable,
    ) -> None:
        self.all: dict[str, Endpoint] = {}
        self.owed: dict[str, Endpoint] = {}
        """Detached, but the store could not forget them: their addresses stay held."""
        self.on_change: Callable[[], None] = lambda: None
        self.before_link: Callable[[Endpoint], Awaitable[None]] = _nothing
        """Awaited for an endpoint that is new, and stored, before it has a link."""
        self.ports = Ports()
        self._store, self._node, self._networks, self._host = store, node, networks, host
        self._addresses, self._policies, self._cluster, self._unreadable = addresses, policies, cluster, unreadable
        self._together: dict[str, tuple[str, ...]] = {}  # the endpoints in each namespace
        self._busy: dict[str, asyncio.Lock] = {}
        self._leaving: dict[str, Endpoint] = {}
        self._own = _own_cookie()
        self._tasks: set[asyncio.Task[None]] = set()

    async def load(self) -> None:
        """Read the endpoints of this boot from the store; those of an earlier one died with it: their addresses are free."""
        dead = []
        listing = await self._store.list(Endpoint.plural)
        self._unreadable.note(listing.broken)
        for thing in listing.objects:
            assert isinstance(thing, Endpoint)
            if self._unreadable.find(Network.plural, thing.spec.network) or thing.spec.network in self._networks.refused:
                log.error("%s has no network until %s can be read and used", thing.display, thing.spec.network)
                continue
            network = self._networks.all.get(thing.spec.network)
            if network is None or thing.spec.boot != self._host.boot:
                dead.append(thing)
                continue
            self._add(thing)
            self.ports.add(thing)
        for endpoint in self.all.values():
            self._node.adopt(endpoint.name, self._rows(endpoint))
        for endpoint in dead:
            told = f"{endpoint.metadata.namespace}/{endpoint.display}"
            log.warning("endpoint %s (%s) is of an earlier boot; its addresses are free", told, endpoint.name)
            await self._erase(endpoint)
        freed = (one for one in await self._store.deleted(Endpoint.plural) if isinstance(one, Endpoint))
        for problem in self._addresses.restore(self.all.values(), freed):
            log.error("%s", problem)
        self._addresses.keep(one for one in listing.broken if one.spec.get("boot") == self._host.boot)

    async def attach(self, request: Attach) -> Attached:
        """Give a namespace an interface. Asked again for the same container and interface, it answers the same."""
        refuse_unbounded(request)
        name = endpoint_name(request.container, request.interface)
        attached = await self._attach(request, name)
        await self._refresh_beside(attached.endpoint)
        return attached

    async def _attach(self, request: Attach, name: str) -> Attached:
        async with self.alone(name):
            if name in self._node.leaving:
                await self._node.leaving[name][1]
            if owed := self.owed.get(name):
                await self._repay(owed)
            network = self._networks.get(request.network)
            demand.refuse_unfit(request, network)
            cookie = self._open(request, network)
            request = await self._find_host(request)
            fault.point("attach.validated")
            if existing := self.all.get(name):
                if demand.answers(existing, request, cookie):
                    await self._node.put(name, self._rows(existing))
                    return self._attached(existing, network)
                await self.forget(existing)
                await self._node.leaving[name][1]
            return await self._create(request, network, name, cookie)

    async def change(self, request: Change) -> Attached:
        """Change the ports or labels of an endpoint, or where the other end of one that is handed over has got to."""
        refuse_unbounded_change(request)
        name = endpoint_name(request.container, request.interface)
        before = self.all.get(name)
        attached = await self._change(request, name)
        await self._refresh_beside(attached.endpoint, *((before,) if before else ()))
        return attached

    async def _change(self, request: Change, name: str) -> Attached:
        async with self.alone(name):
            existing = self.all.get(name)
            if existing is None:
                raise Missing(f"there is no endpoint {name!r}", field="container")
            network = self._networks.get(existing.spec.network)
            await self._outlast(request.ports or ())
            wanted = replace(demand.labelled(existing, request), spec=self._changed(existing, request, network))
            self._swap(existing, wanted)
            before, stored = existing, wanted
            try:
                stored = await self._put(wanted, existing)
                self._swap(wanted, stored)
                if wanted.metadata.labels != existing.metadata.labels or wanted.display != existing.display:
                    await self._policies.admit(stored)
                await self._node.put(name, self._rows(stored))
            except BaseException:
                if stored is not wanted:
                    before = await asyncio.shield(self._put(existing, stored))
                self._swap(stored, before)
                if wanted.metadata.labels != existing.metadata.labels:
                    await asyncio.shield(self._policies.admit(before))
                raise
            return self._attached(stored, network)

    async def detach(self, request: Detach) -> Detached:
        """Take away one attachment or all of a container. What is gone already is no error."""
        found = (
            [one for one in self.all.values() if one.container == request.container]
            if request.interface is None
            else ([one] if (one := self.all.get(endpoint_name(request.container, request.interface))) else [])
        )
        found += [other for one in found for other in self._beside(one) if _goes_with(other, one) and other not in found]
        for endpoint in found:
            async with self.alone(endpoint.name):
                if endpoint.name in self.all:
                    await self.forget(endpoint)
        await self.part(found)
        if request.wait:
            await asyncio.gather(*(self._node.leaving[one.name][1] for one in found if one.name in self._node.leaving))
        return Detached(endpoints=tuple(found))

    async def follow(self, network: str) -> None:
        """Bring those on a network that was changed in line with it."""
        await self._refresh(one.name for one in self.all.values() if one.spec.network == network)

    async def check(self, container: str, interface: str) -> tuple[Attached | None, tuple[Drift, ...]]:
        """One endpoint and how the kernel differs from it."""
        endpoint = self.all.get(endpoint_name(container, interface))
        if endpoint is None:
            return None, ()
        attached = self._attached(endpoint, self._networks.get(endpoint.spec.network))
        return attached, tuple(await self._node.check_owner(endpoint.name))

    async def repay(self) -> None:
        """Have the store forget what it could not forget when it was asked."""
        for endpoint in list(self.owed.values()):
            async with self.alone(endpoint.name):
                if self.owed.get(endpoint.name) is endpoint:
                    await self._repay(endpoint)

    async def resume(self) -> None:
        """Publish what a crash left unpublished: ports that were passing from one attachment of a container to another."""
        for heir in list(self.all.values()):
            theirs = {port for one in self._beside(heir) for port in one.spec.ports}
            if orphaned := [port for port in heir.spec.standby if port not in theirs]:
                await self._inherit(heir, orphaned)

    async def gone(self, endpoints: Iterable[Endpoint]) -> list[Endpoint]:
        """Those whose namespace does not exist any more. Of what is handed over, who moves it says when it ends."""
        asked = [one for one in endpoints if not one.spec.handover]
        found = await self._node.gone([one.spec.sandbox for one in asked])
        return [one for one, is_gone in zip(asked, found, strict=True) if is_gone]

    def users(self, network: str) -> list[str]:
        """Who is on a network, as people know them."""
        return sorted({one.display for one in self.all.values() if one.spec.network == network})

    async def _create(self, request: Attach, network: Network, name: str, cookie: int) -> Attached:
        await self._outlast(request.ports, request.addresses)
        sandbox = Sandbox(path=request.path, cookie=cookie)
        standby = self._published(request.ports, sandbox)
        request = replace(request, ports=tuple(port for port in request.ports if port not in standby))
        self.ports.refuse_taken(request.ports, name)
        addresses = await self._addresses.claim(request, network, name, self.all.values())
        try:
            endpoint = demand.endpoint(request, network, addresses, sandbox)
            mtu, boot = self._mtu(endpoint, network), self._host.boot
            endpoint = replace(endpoint, spec=replace(endpoint.spec, mtu=mtu, boot=boot, standby=standby))
            build.endpoint_rows(endpoint, network)  # what cannot be built is not stored
            stored = await self._keep(endpoint)
        except Exception:
            # Not on cancellation: the commit may have happened, and the next start will find the address held.
            self._addresses.release(name)
            raise
        self._add(stored)
        fault.point("attach.committed")
        try:
            await self.before_link(stored)
            await self._policies.admit(stored)
            await self._node.put(name, self._rows(stored))
        except BaseException:
            await asyncio.shield(self.forget(stored))
            raise
        fault.point("attach.programmed")
        return self._attached(stored, network)

    async def _keep(self, endpoint: Endpoint) -> Endpoint:
        """Put a new endpoint into the store. Its ports are its own before anything is waited for: nobody else gets them."""
        self.ports.add(endpoint)
        fault.point("attach.claimed")
        try:
            if sum(port.count for port in endpoint.spec.ports) > _FEW:
                await asyncio.to_thread(refuse_bound, endpoint.spec.ports)
            else:
                refuse_bound(endpoint.spec.ports)
            (stored,) = await self._store.commit(Put(endpoint, self._unreadable.expected(endpoint)))
        except Exception:
            self.ports.remove(endpoint)
            raise
        assert isinstance(stored, Endpoint)
        return stored

    def _published(self, ports: Iterable[PublishedPort], sandbox: Sandbox) -> tuple[PublishedPort, ...]:
        """Those of the ports that another attachment of the container publishes: podman asks for them on every network."""
        theirs = {port for name in self._together.get(sandbox.key, ()) for port in self.all[name].spec.ports}
        return tuple(port for port in ports if port in theirs)

    async def _find_host(self, request: Attach) -> Attach:
        """Behind another plugin: the host's side of its link, if it has one."""
        chained = request.chained
        if chained is None or chained.host is not None:
            return request
        near = await self._node.near(request.path, request.interface)
        if near is None and request.bandwidth:
            raise Invalid(f"{request.interface} has no other end on this host that could be limited", field="bandwidth")
        return replace(request, chained=replace(chained, host=InterfaceName(near) if near else None))

    def _changed(self, existing: Endpoint, request: Change, network: Network) -> EndpointSpec:
        spec = existing.spec
        if request.path is not None:
            if not spec.handover:
                raise Invalid(f"the namespace of {existing.display} does not change", field="path")
            spec = replace(spec, sandbox=Sandbox(path=request.path))
        if request.display is not None:
            spec = replace(spec, display=request.display)
        if request.ports is not None:
            demand.refuse_unfit_ports((*request.ports, *request.any_ports), network)
            ports = request.ports
            self.ports.refuse_taken(ports, existing.name)
            # What the container had is not asked for again: podman keeps sockets bound to its ports.
            refuse_bound(port for port in ports if port not in {*spec.ports, *spec.standby})
            for wanted in request.any_ports:
                ports = (*ports, self.ports.choose(wanted, ports, existing.name))
            spec = replace(spec, ports=ports, standby=tuple(port for port in spec.standby if port not in ports))
        return spec

    async def _put(self, wanted: Endpoint, before: Endpoint) -> Endpoint:
        (stored,) = await self._store.commit(Put(wanted, before.metadata.resource_version))
        assert isinstance(stored, Endpoint)
        return stored

    def _swap(self, before: Endpoint, after: Endpoint) -> None:
        """From here on the endpoint is ``after``, and so are its ports, also for others who ask meanwhile."""
        self.ports.remove(before)
        self.ports.add(after)
        self._pop(before)
        self._add(after)

    async def _outlast(self, ports: Iterable[PublishedPort], addresses: Iterable[str] = ()) -> None:
        """Wait for endpoints on their way out that still hold a port or an address that is wanted."""
        ports, wishes = tuple(ports), {wish.partition("/")[0] for wish in addresses}
        blocking = [
            name
            for name, one in self._leaving.items()
            if any(theirs.collides(mine) for theirs in one.spec.ports for mine in ports)
            or any(interface.address in wishes for interface in one.spec.addresses)
        ]
        if waiting := [self._node.leaving[name][1] for name in blocking if name in self._node.leaving]:
            await asyncio.wait(waiting)
        elif blocking:
            await asyncio.sleep(0)  # the kernel has let go of them; what frees their addresses is the next to run

    def _open(self, request: Attach, network: Network) -> int:
        """The cookie of the namespace; refuses a path that is none, and the host's own for all but host networks."""
        if request.handover:
            return 0
        try:
            fd = netns.open_path(request.path)
        except KernelError as error:
            raise Invalid(str(error), field="path") from None
        try:
            cookie = netns.cookie(fd)
        finally:
            os.close(fd)
        if cookie == self._own and network.spec.connects and request.chained is None:
            raise Invalid(f"{request.path} is the host's own network namespace; a container needs one of its own", field="path")
        return cookie

    def _mtu(self, endpoint: Endpoint, network: Network) -> int:
        """What the network says, else the uplink's or the parent's when the network came up."""
        if not network.spec.connects or endpoint.spec.chained:
            return 0
        if network.spec.parent:
            return network.spec.mtu or self._host.mtu(network.spec.parent)
        if network.spec.driver in CLUSTER:
            return self._cluster.mtu(network)
        if network.spec.routed:
            return network.spec.mtu or self._host.mtu()
        return self._node.state.table(Bridge)[names.bridge(network)].mtu

    async def forget(self, endpoint: Endpoint) -> None:
        """Durably gone from the store; the kernel follows, and then the addresses are free."""
        fault.point("detach.found")
        await self._erase(endpoint)
        fault.point("detach.committed")
        future = self._node.drop(endpoint.name)
        self._leaving[endpoint.name] = self._pop(endpoint)
        future.add_done_callback(lambda _: self._release(endpoint))

    def _release(self, endpoint: Endpoint) -> None:
        del self._leaving[endpoint.name]
        self.ports.remove(endpoint)
        self._policies.dismiss(endpoint)
        if endpoint.name not in self.owed:
            self._addresses.returned(endpoint)
        fault.point("detach.released")
        for heir in self._beside(endpoint):
            if set(heir.spec.standby) & set(endpoint.spec.ports):
                task = asyncio.create_task(self._inherit(heir, endpoint.spec.ports))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                return

    async def _inherit(self, heir: Endpoint, ports: Iterable[PublishedPort]) -> None:
        """Another attachment of the container is gone: what it published is published by ``heir``, if that is still there."""
        spec = heir.spec
        theirs = (port for port in ports if port in spec.standby)
        try:
            await self.change(Change(container=spec.container, interface=spec.interface, ports=(*spec.ports, *theirs)))
        except Missing:
            return
        except Problem as problem:
            log.warning("%s does not publish what its other attachment did: %s", heir.display, problem)

    async def _erase(self, endpoint: Endpoint) -> None:
        try:
            await self._store.commit(Delete(Endpoint.plural, endpoint.key))
        except Problem as problem:
            self.owed[endpoint.name] = endpoint
            log.error("%s is detached, but not forgotten: %s", endpoint.name, problem)  # noqa: TRY400  # a person reads this

    async def _repay(self, endpoint: Endpoint) -> None:
        await self._store.commit(Delete(Endpoint.plural, endpoint.key))
        del self.owed[endpoint.name]
        if endpoint.name not in self._leaving:
            self._addresses.returned(endpoint)
        log.info("%s is forgotten now", endpoint.name)

    def _add(self, endpoint: Endpoint) -> None:
        key = endpoint.spec.sandbox.key
        self.all[endpoint.name] = endpoint
        self._together[key] = (*self._together.get(key, ()), endpoint.name)
        self.on_change()

    def _pop(self, endpoint: Endpoint) -> Endpoint:
        gone = self.all.pop(endpoint.name)
        key = gone.spec.sandbox.key
        self._together[key] = tuple(name for name in self._together[key] if name != gone.name)
        if not self._together[key]:
            del self._together[key]
        self.on_change()
        return gone

    def _beside(self, endpoint: Endpoint) -> list[Endpoint]:
        """The other endpoints in its namespace."""
        key = endpoint.spec.sandbox.key
        return [self.all[name] for name in self._together.get(key, ()) if key and name != endpoint.name]

    def _rows(self, endpoint: Endpoint) -> Rows:
        """What the kernel should hold of it, as its network and its neighbours in the namespace are now."""
        pairs = [(one, of) for one in self._beside(endpoint) if (of := self._networks.all.get(one.spec.network))]
        return build.endpoint_rows(endpoint, self._networks.get(endpoint.spec.network), build.beside(endpoint, pairs))

    async def _refresh_beside(self, *endpoints: Endpoint) -> None:
        """Bring those in line that share a namespace with endpoints that came, went or moved."""
        changed = {one.name for one in endpoints}
        await self._refresh({other.name for one in endpoints for other in self._beside(one)} - changed)

    async def part(self, gone: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
        """Bring those in line that shared a namespace with endpoints that went, which never fails for it; return ``gone``."""
        try:
            await self._refresh_beside(*gone)
        except Problem as problem:
            log.warning("not removed, the next comparison will: %s", problem)
        return tuple(gone)

    async def _refresh(self, endpoints: Iterable[str]) -> None:
        """Bring endpoints in line with what is now said of their networks and containers. Not under any one's lock."""
        for name in list(endpoints):
            async with self.alone(name):
                if (endpoint := self.all.get(name)) and (rows := self._rows(endpoint)) != self._node.state.owned(name):
                    await self._node.put(name, rows)

    def _attached(self, endpoint: Endpoint, network: Network) -> Attached:
        spec = endpoint.spec
        if spec.chained or not network.spec.connects:
            return Attached(endpoint=endpoint, mtu=spec.mtu)
        found = build.gateways(network, spec.addresses)
        if network.spec.parent:
            return Attached(endpoint=endpoint, gateways=tuple(found[one.family] for one in spec.addresses), mtu=spec.mtu)
        return Attached(
            endpoint=endpoint,
            host_interface=names.veth(endpoint.name),
            host_mac=names.veth_mac(endpoint.name),
            bridge="" if network.spec.routed else names.bridge(network),
            bridge_mac="" if network.spec.routed else names.bridge_mac(network.name),
            gateways=tuple(found[one.family] for one in spec.addresses),
            mtu=spec.mtu,
        )

    @asynccontextmanager
    async def alone(self, name: str) -> AsyncIterator[None]:
        """One act at a time on one endpoint."""
        lock = self._busy.setdefault(name, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and not lock._waiters:  # noqa: SLF001  # the only way to see that nobody waits
                self._busy.pop(name, None)


def _goes_with(other: Endpoint, one: Endpoint) -> bool:
    """Whether an endpoint was made beside another of its container, at nobody's own request."""
    return other.container == one.container and other.metadata.labels.get(BESIDE_LABEL) == one.spec.interface


async def _nothing(_: Endpoint) -> None:
    """What is done where nobody asks for more."""


def _own_cookie() -> int:
    fd = netns.own()
    try:
        return netns.cookie(fd)
    finally:
        os.close(fd)
