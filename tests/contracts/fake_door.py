"""The agent's door in memory: what ``api.door.Door`` promises, without a kernel.

It keeps endpoints, gives addresses in order, refuses what the agent refuses, and writes down what it was asked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fairlead.api.schema import Applied, Attach, Attached, Detach, Detached, Drift, Pool, Report, Status
from fairlead.model.address import Address, Interface, Mac, Prefix
from fairlead.model.endpoint import Endpoint, EndpointSpec, Route, Sandbox, endpoint_name
from fairlead.model.errors import Conflict, Exhausted, Missing, Problem
from fairlead.model.meta import Meta, Object
from fairlead.model.network import Network, NetworkSpec, Subnet
from fairlead.model.pod import Pod


def network(name: str, *cidrs: str, **spec: object) -> Network:
    return Network(
        metadata=Meta(name=name), spec=NetworkSpec(subnets=tuple(Subnet(cidr=Prefix(cidr)) for cidr in cidrs), **spec)
    )


def _defaults(request: Attach, net: Network, addresses: tuple[Interface, ...]) -> list[Route]:
    if not request.gateway or net.spec.internal or request.chained is not None:
        return []
    anywhere = {4: "0.0.0.0/0", 6: "::/0"}
    return [Route(dst=anywhere[one.family]) for one in addresses if anywhere[one.family] not in {r.dst for r in request.routes}]


class FakeDoor:
    """``Door`` for tests. ``trouble`` is raised by the next attach or detach; ``drift`` is what ``check`` finds."""

    def __init__(self, *networks: Network) -> None:
        self.networks = {one.name: one for one in networks or (network("default", "10.88.0.0/24", "fd00:88::/64"),)}
        self.endpoints: dict[str, tuple[Attach, Attached]] = {}
        self.asked: list[object] = []
        self.trouble: Problem | Exception | None = None
        self.drift: tuple[Drift, ...] = ()
        self.pods: dict[tuple[str, str], Pod] = {}
        self.ready = self.loaded = True
        self.reason = ""
        self.size = 250

    def _fail(self) -> None:
        if self.trouble is not None:
            raise self.trouble

    async def attach(self, request: Attach) -> Attached:
        self.asked.append(request)
        self._fail()
        key = endpoint_name(request.container, request.interface)
        if key in self.endpoints:
            before, attached = self.endpoints[key]
            if before != request:
                raise Conflict(f"{key} exists and is otherwise", field="interface")
            return attached
        if request.network not in self.networks:
            raise Missing(f"no network {request.network}", field="network")
        attached = self._made(request, self.networks[request.network], len(self.endpoints) + 2)
        self.endpoints[key] = (request, attached)
        return attached

    def _made(self, request: Attach, net: Network, number: int) -> Attached:
        if number > self.size + 1:
            raise Exhausted(f"network {net.name} has no address left")
        if request.chained is not None:
            addresses, mac = request.chained.addresses, request.chained.mac
        else:
            wishes = {Address(w.partition("/")[0]).family: Address(w.partition("/")[0]) for w in request.addresses}
            addresses = tuple(
                Interface.of(wishes.get(s.family) or Address(s.cidr.net.network_address + number), s.cidr)
                for s in net.spec.subnets
            )
            mac = request.mac or Mac(f"02:00:00:00:00:{number % 256:02x}")
        spec = EndpointSpec(
            container=request.container,
            interface=request.interface,
            network=request.network,
            sandbox=Sandbox(path=request.path, cookie=number),
            display=request.display,
            owner=request.owner,
            mac=mac,
            addresses=addresses,
            routes=(*_defaults(request, net, addresses), *request.routes),
            ports=request.ports,
            bandwidth=request.bandwidth,
            aliases=request.aliases,
            dns=request.dns,
            chained=request.chained.host if request.chained else None,
        )
        meta = Meta(
            name=endpoint_name(request.container, request.interface), namespace=request.namespace, labels=request.labels
        )
        endpoint = Endpoint(metadata=meta, spec=spec)
        if request.chained is not None:
            return Attached(endpoint=endpoint)
        return Attached(
            endpoint=endpoint,
            host_interface=f"fl{number:08x}",
            host_mac=f"06:00:00:00:00:{number % 256:02x}",
            bridge=net.spec.bridge or f"br-{net.name}"[:15],
            bridge_mac="02:ff:00:00:00:01",
            gateways=tuple(s.router for s in net.spec.subnets),
            mtu=net.spec.mtu or 1500,
        )

    async def detach(self, request: Detach) -> Detached:
        self.asked.append(request)
        self._fail()
        gone = [
            key
            for key, (attach, _) in self.endpoints.items()
            if attach.container == request.container and request.interface in {None, attach.interface}
        ]
        return Detached(endpoints=tuple(self.endpoints.pop(key)[1].endpoint for key in gone))

    async def check(self, container: str, interface: str) -> tuple[Attached | None, tuple[Drift, ...]]:
        found = self.endpoints.get(endpoint_name(container, interface))
        return (found[1], self.drift) if found else (None, ())

    async def pod(self, namespace: str, name: str, uid: str) -> Pod | None:
        found = self.pods.get((namespace, name))
        return found if found is None or not uid or uid in found.uids else None

    async def collect(
        self, network: str, owner: str, keep: Collection[tuple[str, str]], labels: Mapping[str, str]
    ) -> tuple[Endpoint, ...]:
        self._fail()
        gone = [
            key
            for key, (attach, _) in self.endpoints.items()
            if (attach.network, attach.owner) == (network, owner)
            and (attach.container, attach.interface) not in keep
            and labels.items() <= attach.labels.items()
        ]
        return tuple(self.endpoints.pop(key)[1].endpoint for key in gone)

    async def apply(self, thing: Object) -> Applied:
        assert isinstance(thing, Network)
        self.asked.append(thing)
        result = "configured" if thing.name in self.networks else "created"
        self.networks[thing.name] = thing
        return Applied(result=result, kind="Network", name=thing.name)

    async def purge(self) -> None:
        self.endpoints.clear()

    async def delete(self, plural: str, name: str) -> Object:
        assert plural == Network.plural
        return self.networks.pop(name)

    def objects(self, plural: str) -> list[Object]:
        if plural == Network.plural:
            return list(self.networks.values())
        return [attached.endpoint for _, attached in self.endpoints.values()]

    def network(self, name: str) -> Network | None:
        return self.networks.get(name)

    def status(self) -> Status:
        pools = tuple(
            Pool(network=net.name, cidr=s.cidr, size=self.size, used=len(self.endpoints))
            for net in self.networks.values()
            for s in net.spec.subnets
        )
        return Status(
            version="0",
            pid=1,
            node="n",
            uptime=1.0,
            memory=1,
            plane="nftables",
            ready=self.ready,
            reason=self.reason,
            pools=pools,
        )

    async def doctor(self) -> Report:
        return Report(findings=())
