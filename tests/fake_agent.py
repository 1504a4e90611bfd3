"""An agent with everything in memory, behind the real socket: for tests of the edges, which only talk to one.

It answers as the agent does (``api/server.py``'s routes, sizes and refusals), gives out addresses in order, and keeps what it
was asked. With ``real=True`` an attach makes a real interface (an empty bridge) in the namespace.
"""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from aiohttp import web
from msgspec import structs

import fairlead
from fairlead.agent import demand
from fairlead.api import wire
from fairlead.api.identities import Identity
from fairlead.api.schema import (
    Applied,
    Attach,
    Attached,
    Change,
    Detach,
    Detached,
    Explained,
    Explaining,
    Finding,
    Pool,
    Previewed,
    Proposal,
    Report,
    RuleHits,
    Status,
    Unread,
)
from fairlead.kernel import netns
from fairlead.model import codec, errors
from fairlead.model.address import Address, Interface, InterfaceName, Mac, Name, Prefix
from fairlead.model.endpoint import Endpoint, EndpointSpec, Sandbox, endpoint_name
from fairlead.model.meta import Meta, Object, kind
from fairlead.model.network import Driver, Network, NetworkSpec, Subnet

CREATED = "2026-01-02T03:04:05Z"


def network(name: str, *cidrs: str, **spec: Any) -> Network:
    """A network as the agent would have it."""
    subnets = tuple(Subnet(cidr=Prefix(cidr)) for cidr in cidrs)
    return Network(metadata=Meta(name=name, creation_timestamp=CREATED), spec=NetworkSpec(subnets=subnets, **spec))


@dataclass
class FakeAgent:
    """Listens on ``path`` in a thread of its own while used as a context manager."""

    path: Path
    real: bool = False
    networks: dict[str, Network] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Objects of other kinds, by plural and name."""
    unreadable: tuple[Unread, ...] = ()
    explained: Explained = field(default_factory=lambda: Explained(allowed=True, steps=(Explaining(text="yes", allows=True),)))
    previewed: Previewed = field(default_factory=Previewed)
    hits: tuple[RuleHits, ...] = ()
    identities: tuple[Identity, ...] = ()
    questions: list[dict[str, str]] = field(default_factory=list)
    proposals: list[Proposal] = field(default_factory=list)
    findings: tuple[Finding, ...] = (Finding(check="drift", level="ok", message="the kernel is as it should be"),)
    ready: bool = True
    attached: list[Attach] = field(default_factory=list)
    detached: list[Detach] = field(default_factory=list)
    refuse: dict[str, errors.Problem] = field(default_factory=dict)
    """What to raise, by the name of the act and, for attach, of the network: ``attach back``."""
    before_attach: Callable[[Attach], None] | None = None

    def __enter__(self) -> Self:
        self.networks.setdefault("default", network("default", "10.88.0.0/16"))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        up = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(up,))
        self._thread.start()
        assert up.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self.path.unlink(missing_ok=True)

    def _run(self, up: threading.Event) -> None:
        async def start() -> web.AppRunner:
            app = web.Application(client_max_size=wire.MAX_BODY, middlewares=[self._guard])
            app.add_routes(
                [
                    web.get("/v1/status", self._status),
                    web.get("/v1/doctor", self._doctor),
                    web.get("/v1/objects/{plural}", self._list),
                    web.get("/v1/objects/{plural}/{name}", self._get),
                    web.put("/v1/objects", self._apply),
                    web.delete("/v1/objects/{plural}/{name}", self._delete),
                    web.post("/v1/attach", self._attach),
                    web.post("/v1/detach", self._detach),
                    web.post("/v1/change", self._change),
                    web.delete("/v1/node", self._purge),
                    web.get("/v1/policy/explain", self._explain),
                    web.post("/v1/policy/preview", self._preview),
                    web.get("/v1/policy/hits", self._hits),
                    web.get("/v1/policy/identities", self._identities),
                ]
            )
            runner = web.AppRunner(app, access_log=None, handle_signals=False)
            await runner.setup()
            await web.UnixSite(runner, str(self.path)).start()
            return runner

        asyncio.set_event_loop(self._loop)
        runner = self._loop.run_until_complete(start())
        up.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except errors.Problem as problem:
            body = codec.encode(wire.refusal(problem))
            return web.Response(status=wire.STATUS[type(problem)], body=body, content_type="application/json")

    def _raise(self, act: str) -> None:
        if problem := self.refuse.get(act):
            raise problem

    async def _status(self, _: web.Request) -> web.Response:
        self._raise("status")
        pools = [
            Pool(
                network=one.name,
                cidr=subnet.cidr,
                size=2 ** ((32 if subnet.family == 4 else 128) - subnet.cidr.length) - 2,
                used=used,
            )
            for one in self.networks.values()
            for subnet in one.spec.subnets
            for used in [sum(subnet.cidr.holds(a.address) for e in self.endpoints.values() for a in e.spec.addresses)]
        ]
        return _json(
            Status(
                version=fairlead.__version__,
                pid=1234,
                node="harbour",
                uptime=4000.0,
                memory=47 << 20,
                plane="nftables",
                ready=self.ready,
                reason="" if self.ready else "the kernel is being brought in line",
                networks=len(self.networks),
                endpoints=len(self.endpoints),
                repairs=2,
                last_check=12.0,
                pools=tuple(pools),
                unreadable=self.unreadable,
            )
        )

    async def _doctor(self, _: web.Request) -> web.Response:
        return _json(Report(findings=self.findings))

    def _table(self, plural: str) -> dict[str, Any]:
        tables: dict[str, dict[str, Any]] = {"networks": self.networks, "endpoints": self.endpoints}
        tables |= {one.plural: self.objects.setdefault(one.plural, {}) for one in codec.KINDS if one.plural not in tables}
        if plural not in tables:
            raise errors.Missing(f"{plural!r} is not a kind known here", field="kind")
        return tables[plural]

    def _find(self, request: web.Request) -> Object:
        plural, name = request.match_info["plural"], request.match_info["name"]
        found: Object | None = self._table(plural).get(name)
        if found is None:
            raise errors.Missing(f"there is no {plural.removesuffix('s')} {name!r}", field="name")
        return found

    async def _list(self, request: web.Request) -> web.Response:
        return _json([thing for _, thing in sorted(self._table(request.match_info["plural"]).items())])

    async def _get(self, request: web.Request) -> web.Response:
        return _json(self._find(request))

    async def _apply(self, request: web.Request) -> web.Response:
        thing = codec.from_item(codec.decode(await request.read(), dict[str, Any]))
        if isinstance(thing, Endpoint):
            raise errors.Invalid("endpoints are made by attaching a container, not by apply", field="kind")
        if not isinstance(thing, Network):
            name = "/".join(part for part in thing.key if part)
            known = self._table(thing.plural)
            result = "unchanged" if known.get(name) == thing else "configured" if name in known else "created"
            known[name] = thing
            return _json(Applied(result=result, kind=kind(thing), name=name))
        self._raise(f"apply {thing.name}")
        before = self.networks.get(thing.name)
        if before and (before.spec, before.metadata.labels) == (thing.spec, thing.metadata.labels):
            return _json(Applied(result="unchanged", kind="Network", name=thing.name))
        if not thing.spec.subnets and thing.spec.driver is Driver.BRIDGE:
            chosen = [Subnet(cidr=Prefix(f"10.{89 + len(self.networks)}.0.0/16"))]
            if thing.spec.options.get("ipv6"):
                chosen.append(Subnet(cidr=Prefix(f"fd00:{89 + len(self.networks)}::/64")))
            thing = structs.replace(thing, spec=structs.replace(thing.spec, subnets=tuple(chosen)))
        self.networks[thing.name] = structs.replace(thing, metadata=structs.replace(thing.metadata, creation_timestamp=CREATED))
        return _json(Applied(result="configured" if before else "created", kind="Network", name=thing.name))

    async def _delete(self, request: web.Request) -> web.Response:
        found = self._find(request)
        if users := sorted(e.display for e in self.endpoints.values() if e.spec.network == found.name):
            raise errors.Conflict(f"network {found.name} is used by {', '.join(users)}", field="name")
        del self._table(request.match_info["plural"])[found.name]
        return _json(found)

    async def _attach(self, request: web.Request) -> web.Response:
        wanted = codec.decode(await request.read(), Attach)
        if self.before_attach:
            self.before_attach(wanted)
        self._raise(f"attach {wanted.network}")
        if wanted.network not in self.networks:
            raise errors.Missing(f"there is no network {wanted.network!r}", field="network")
        self.attached.append(wanted)
        endpoint = self._endpoint(wanted)
        if self.real:
            await asyncio.to_thread(_interface, endpoint)
        self.endpoints[endpoint.name] = endpoint
        return _json(Attached(endpoint=endpoint, mtu=1500))

    def _endpoint(self, wanted: Attach) -> Endpoint:
        static = [Address(text.partition("/")[0]) for text in wanted.addresses]
        addresses = []
        for subnet in self.networks[wanted.network].spec.subnets:
            taken = {a.address for e in self.endpoints.values() for a in e.spec.addresses}
            free = (Address(subnet.cidr.net[at]) for at in range(2, 1000))
            given = [one for one in static if subnet.cidr.holds(one)]
            addresses.append(Interface.of(given[0] if given else next(a for a in free if a not in taken), subnet.cidr))
        return Endpoint(
            metadata=Meta(
                name=endpoint_name(wanted.container, wanted.interface),
                namespace=wanted.namespace,
                labels=wanted.labels,
                creation_timestamp=CREATED,
            ),
            spec=EndpointSpec(
                container=wanted.container,
                interface=wanted.interface,
                network=wanted.network,
                sandbox=Sandbox(path=wanted.path, cookie=_cookie(wanted.path) if self.real else 0),
                display=wanted.display,
                owner=wanted.owner,
                mac=wanted.mac or Mac(f"02:00:00:00:00:{len(self.endpoints) + 2:02x}"),
                addresses=tuple(addresses),
                ports=wanted.ports,
                bandwidth=wanted.bandwidth,
                dns=wanted.dns,
            ),
        )

    async def _detach(self, request: web.Request) -> web.Response:
        wanted = codec.decode(await request.read(), Detach)
        self._raise("detach")
        self.detached.append(wanted)
        gone = [
            one
            for one in self.endpoints.values()
            if one.container == wanted.container and wanted.interface in {None, one.spec.interface}
        ]
        for one in gone:
            del self.endpoints[one.name]
            if self.real:
                await asyncio.to_thread(_remove, one)
        return _json(Detached(endpoints=tuple(gone)))

    async def _change(self, request: web.Request) -> web.Response:
        wanted = codec.decode(await request.read(), Change)
        name = endpoint_name(wanted.container, wanted.interface)
        endpoint = demand.labelled(self.endpoints[name], wanted)
        self.endpoints[name] = endpoint
        return _json(Attached(endpoint=endpoint, mtu=1500))

    async def _explain(self, request: web.Request) -> web.Response:
        self.questions.append(dict(request.query))
        return _json(self.explained)

    async def _preview(self, request: web.Request) -> web.Response:
        self.proposals.append(codec.decode(await request.read(), Proposal))
        return _json(self.previewed)

    async def _hits(self, _: web.Request) -> web.Response:
        return _json(self.hits)

    async def _identities(self, request: web.Request) -> web.Response:
        self.questions.append(dict(request.query))
        return _json(self.identities)

    async def _purge(self, _: web.Request) -> web.Response:
        self.endpoints.clear()
        return web.json_response({})

    def add(self, container: str, name: str = "default", interface: str = "eth0", **fields: Any) -> Endpoint:
        """An endpoint that someone else attached."""
        wanted = Attach(
            container=container,  # type: ignore[arg-type]
            path=fields.pop("path", "/run/netns/gone"),
            network=Name(name),
            interface=InterfaceName(interface),
            **fields,
        )
        endpoint = self._endpoint(wanted)
        self.endpoints[endpoint.name] = endpoint
        return endpoint


def _cookie(path: str) -> int:
    with open(netns.open_path(path), "rb") as namespace:  # noqa: PTH123
        return netns.cookie(namespace.fileno())


def _interface(endpoint: Endpoint) -> None:
    link = endpoint.spec.interface
    commands = [("link", "add", link, "type", "bridge"), ("link", "set", link, "up")]
    commands += [("address", "add", one, "dev", link, "nodad") for one in endpoint.spec.addresses]
    for command in commands:
        subprocess.run(_inside(endpoint, *command), check=True, timeout=20)


def _remove(endpoint: Endpoint) -> None:
    """Nothing there is no error, as with the agent."""
    if Path(endpoint.spec.sandbox.path).exists():
        command = _inside(endpoint, "link", "delete", endpoint.spec.interface)
        subprocess.run(command, check=False, timeout=20, stderr=subprocess.DEVNULL)


def _inside(endpoint: Endpoint, *command: str) -> list[str]:
    return ["nsenter", f"--net={endpoint.spec.sandbox.path}", "ip", *command]


def _json(value: object) -> web.Response:
    return web.Response(body=codec.encode(value), content_type="application/json")
