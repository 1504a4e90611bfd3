"""Metrics: what the agent counts of itself, and the one listener on TCP that tells it, to whoever can reach its address.

Without ``--metrics`` nothing listens. What is counted then costs a dictionary's entry now and then; everything else is asked of
its owner only when somebody scrapes.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from aiohttp import web

from fairlead.api.schema import DEFAULT_DENY, RuleHits, Status
from fairlead.flow.collect import Collector
from fairlead.kit.metrics import CONTENT_TYPE, Family, Histogram, counter, exposition, gauge, histogram
from fairlead.model.errors import Invalid

from .connections import Connections

log = logging.getLogger(__name__)

_MOST = 8
"""Connections at once; whoever comes then takes the place of the one that has been silent longest."""


class Metrics:
    """What is counted while the agent works: durations, in seconds, and differences found."""

    def __init__(self) -> None:
        self.requests: defaultdict[tuple[str, str, str], Histogram] = defaultdict(Histogram)
        """By method, route and status."""
        self.reconciled, self.programmed = Histogram(), Histogram()
        self.drift = 0

    def request(self, method: str, route: str, status: int, took: float) -> None:
        """A request was answered."""
        self.requests[method, route, str(status)].observe(took)

    @contextmanager
    def programming(self) -> Iterator[None]:
        """The kernel is brought to judge by a change."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.programmed.observe(time.monotonic() - begun)

    def compared(self, found: int, took: float) -> None:
        """The kernel was compared with what it should be, and put right."""
        self.drift += found
        self.reconciled.observe(took)

    def families(self, now: Status, policies: Mapping[str, int], maps: Mapping[str, tuple[int, int]]) -> Iterator[Family]:
        """All of it but flows. ``policies`` are counted by kind; ``maps``: entries and room of each map of policies."""
        yield gauge(
            "fairlead_build_info", "The agent's version and plane.", [({"version": now.version, "plane": now.plane}, 1)]
        )
        yield gauge("fairlead_ready", "Whether containers may start.", [({}, int(now.ready))])
        yield gauge("process_resident_memory_bytes", "Resident memory of the agent.", [({}, now.memory)])
        yield counter("process_cpu_seconds_total", "CPU time of the agent.", [({}, sum(os.times()[:2]))])
        yield gauge("fairlead_networks", "Networks.", [({}, now.networks)])
        yield gauge("fairlead_endpoints", "Attachments of containers.", [({}, now.endpoints)])
        yield gauge("fairlead_endpoints_leaving", "Detached, and not yet let go by the kernel.", [({}, now.pending)])
        yield gauge("fairlead_policies", "Policies by kind.", [({"kind": one}, count) for one, count in policies.items()])
        yield gauge("fairlead_unreadable_objects", "Stored objects that cannot be read.", [({}, len(now.unreadable))])
        pools = [({"network": one.network, "pool": one.cidr}, one) for one in now.pools]
        yield gauge("fairlead_pool_addresses", "Addresses of a pool.", [(at, one.size) for at, one in pools])
        yield gauge(
            "fairlead_pool_used_addresses", "Addresses of a pool that are in use.", [(at, one.used) for at, one in pools]
        )
        yield gauge(
            "fairlead_pool_elsewhere_addresses",
            "Addresses of a pool that other nodes have, or other networks of the same range.",
            [(at, one.elsewhere) for at, one in pools],
        )
        filled = [({"map": name}, *of) for name, of in maps.items()]
        yield gauge("fairlead_policy_map_entries", "Entries of a map of policies.", [(at, used) for at, used, _ in filled])
        yield gauge("fairlead_policy_map_max_entries", "Room of a map of policies.", [(at, most) for at, _, most in filled])
        yield counter("fairlead_drift_total", "Differences found between the kernel and what it should be.", [({}, self.drift)])
        yield counter("fairlead_repairs_total", "Differences that were put right.", [({}, now.repairs)])
        yield histogram("fairlead_reconcile_duration_seconds", "Comparing and repairing.", [({}, self.reconciled)])
        yield histogram(
            "fairlead_policy_program_duration_seconds", "Programming a change of policies.", [({}, self.programmed)]
        )
        yield histogram(
            "fairlead_api_request_duration_seconds",
            "Answering a request on the agent's socket.",
            [
                ({"method": method, "route": route, "status": status}, of)
                for (method, route, status), of in self.requests.items()
            ],
        )


def flows(of: Collector) -> Iterator[Family]:
    """What the collector counts."""
    now = of.status()
    counted = [({"verdict": verdict, "protocol": protocol}, count) for (verdict, protocol), count in of.counted.items()]
    yield counter("fairlead_flows_total", "Connections that began, and drops that were told.", counted)
    dropped = [({"reason": reason}, packets) for reason, packets in now.dropped.items()]
    yield counter("fairlead_dropped_packets_total", "Packets that were dropped, by reason.", dropped)
    yield counter("fairlead_flow_events_lost_total", "Events without room on their way here.", [({}, now.lost + now.missed)])
    yield gauge("fairlead_connections", "Connections that are followed.", [({}, now.connections)])


def rules(found: Iterable[RuleHits]) -> Iterator[Family]:
    """How often each rule has decided, if it ever has: of thousands most never do."""
    named = [
        ({"policy": one.policy or DEFAULT_DENY, "direction": one.direction, "rule": str(one.index) if one.policy else ""}, one)
        for one in found
    ]
    yield counter(
        "fairlead_rule_connections_total",
        "Connections that a rule let begin.",
        [(rule, one.connections) for rule, one in named if one.connections],
    )
    yield counter(
        "fairlead_rule_dropped_packets_total",
        "Packets that a rule dropped.",
        [(rule, one.drops) for rule, one in named if one.drops],
    )


class Listener:
    """``GET /metrics`` over TCP, and nothing else."""

    def __init__(self, where: str, scrape: Callable[[], Awaitable[list[Family]]]) -> None:
        """``where`` is ADDRESS:PORT, an IPv6 address in brackets; it is taken at once, and answers from ``start`` on."""
        self._socket, self._scrape = listening(where), scrape
        self._runner: web.AppRunner | None = None
        self._connections: Connections | None = None

    async def start(self) -> None:
        """Answer."""
        app = web.Application(client_max_size=1)
        app.add_routes([web.get("/metrics", self._metrics)])
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        assert self._runner.server
        self._connections = Connections(self._runner.server, most=_MOST)
        self._connections.start(self._socket)

    async def stop(self) -> None:
        """Close."""
        if self._connections:
            await self._connections.stop()
        if self._runner:
            await self._runner.cleanup()
        self._socket.close()

    async def _metrics(self, request: web.Request) -> web.Response:
        assert self._connections
        with self._connections.busy(request):
            text = exposition(await self._scrape())
            return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})


def listening(where: str) -> socket.socket:
    """A socket that listens at ADDRESS:PORT."""
    host, colon, port = where.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise Invalid(f"{where[:80]!r} is not ADDRESS:PORT, such as 127.0.0.1:9345 or [::1]:9345", field="metrics")
    try:
        made = socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as problem:
        raise Invalid(f"cannot listen on {where}: {problem.strerror or problem}", field="metrics") from None
    made.setblocking(False)
    return made
