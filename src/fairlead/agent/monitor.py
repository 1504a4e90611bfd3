"""Self-healing: hears what changes in the kernel, compares what it concerns, and repairs. A timer compares what nobody heard.

Our own changes are heard too, many at every container start. So what an event says is first held against the state in memory,
and only a difference leads to a comparison with the kernel::

    event ── a difference? ──> suspicion ── debounce ──> compare ──> repair
    timer ──────────────────> everything ─────────────^
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress

from fairlead.api.schema import Drift
from fairlead.datapath.filter.filter import TABLES
from fairlead.datapath.nftables import tables as policies
from fairlead.desired import names
from fairlead.desired.state import Bridge, Inside, Limit, Link, Sub
from fairlead.desired.ways import Crypt, Tunnel, Vtep
from fairlead.kernel.events import Event, Events
from fairlead.kernel.route import NeighbourInfo, name_of
from fairlead.kit.gently import Rest, rest, resting
from fairlead.model.errors import Problem

from .config import Settings
from .garbage import Garbage
from .host import EVERYWHERE
from .metrics import Metrics
from .node import Node
from .underway import lasting

Chore = Callable[[], Awaitable[object]]

log = logging.getLogger(__name__)

_FIGHT, _SHORT = 20, 4.0
"""So many repairs in so many seconds, and somebody else clearly wants it otherwise: then one a second is enough."""
_TRUCE = 0.9
_MOMENT = 0.01
"""Seconds for which what happens is gathered: a container's start alone would wake the agent five times."""
_LOOK = 0.1
"""Seconds from one look whether it is quiet to the next."""
_FEW, _TURNS = 64, 10
"""So many containers are looked into at every turn of the timer; of more, a tenth: looking into one takes a millisecond."""
_OUR_TABLES = frozenset(table.path for table in TABLES) | policies.PATHS


class Monitor:
    """Two tasks: one wakes on events, one on the timer. One repair at a time."""

    def __init__(
        self,
        settings: Settings,
        node: Node,
        garbage: Garbage,
        chores: Sequence[Chore],
        *,
        uplinks: Callable[[], Collection[str]],
        moved: Callable[[], Awaitable[bool]],
        metrics: Metrics,
    ) -> None:
        """``chores``: what else the timer sees to; each must be harmless to repeat.

        ``uplinks``: the interfaces by which other nodes are reached. ``moved``: they, or the host's addresses, are perhaps
        others; whether they are.
        """
        self._settings, self._node, self._garbage, self._chores = settings, node, garbage, chores
        self._uplinks, self._moved, self._moves, self._metrics = uplinks, moved, False, metrics
        self._events = Events()
        self._doubted: set[str] = set()
        self._seen: set[str] = set()
        self._version: object = None
        self._known: dict[str, list[Vtep]] = {}
        self._turn = 0
        self._host = False
        self._inside: set[str] = set()
        self._wake = asyncio.Event()
        self._one = asyncio.Lock()
        self._repaired: deque[float] = deque(maxlen=_FIGHT)
        self._gathering: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to listen."""
        self._listen()
        self._tasks = [asyncio.create_task(self._on_events()), asyncio.create_task(self._on_timer())]

    async def stop(self) -> None:
        """Stop listening."""
        self._deafen()
        if self._gathering:
            self._gathering.cancel()
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._events.close()

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in self._events.filenos:
            loop.add_reader(number, self._gather)

    def _deafen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in self._events.filenos:
            loop.remove_reader(number)

    def _gather(self) -> None:
        self._deafen()
        self._gathering = asyncio.get_running_loop().call_later(_MOMENT, self._hear)

    def _hear(self) -> None:
        self._listen()
        self.weigh(self._events.read())

    def weigh(self, events: Iterable[Event]) -> None:
        """Remember what the events make suspicious. Of several about one interface the last one counts."""
        events = list(events)
        # The routes over an interface go with it, or when it is down for a moment, without a word.
        self._host = self._host or any(self._is_loss(event) for event in events)
        last = {(event.nsid, event.kind, event.index, event.name, event.deleted): event for event in events}
        for event in last.values():
            if event.kind == "overrun":
                self._host = True
                self._inside |= {row.key for row in self._node.state.inside()}
            elif event.kind == "nft":
                self._host = self._host or (not event.ours and event.name in _OUR_TABLES)
            elif event.nsid is None:
                self._moves = self._moves or self._is_move(event)
                differs = self._differs_on_host(event)
                if event.link is not None and not event.deleted:
                    # One that is just being made differs until it is whole; the last that is heard of it counts.
                    (self._doubted.add if differs else self._doubted.discard)(event.name)
                else:
                    self._host = self._host or differs
            elif event.deleted or (event.link is not None and not event.link.up):
                self._inside |= self._node.behind(event.nsid)
        if self._host or self._doubted or self._inside or self._moves:
            self._wake.set()

    def _is_loss(self, event: Event) -> bool:
        """Whether an uplink is gone or down."""
        lost = event.deleted or (event.link is not None and not event.link.up)
        return lost and event.kind == "link" and event.nsid is None and event.name in self._uplinks()

    def _is_move(self, event: Event) -> bool:
        """Whether this node is perhaps reached otherwise now: its addresses, its default route, its uplinks."""
        if event.kind == "address":
            return not event.name.startswith("fe80:")
        if event.kind == "route":
            return event.name in EVERYWHERE
        return event.kind == "link" and event.name in self._uplinks()

    def _differs_on_host(self, event: Event) -> bool:
        if event.neighbour is not None:
            return self._differs_behind(event.neighbour, gone=event.deleted)
        if event.kind == "program":
            return self._node.holds(event.index)
        if event.link is None:
            return event.deleted
        state = self._node.state
        if event.deleted and event.name.startswith(names.IFB):
            return any(row.ifb == event.name for row in state.table(Limit).values())
        way = state.table(Tunnel).get(event.name) or state.table(Crypt).get(event.name)
        if way is not None:
            mac = way.mac if isinstance(way, Tunnel) else event.link.mac
            return event.deleted or not event.link.up or event.link.mtu != way.mtu or event.link.mac != mac
        row: Bridge | Link | None = state.table(Bridge).get(event.name) or self._node.at(event.name)
        if row is None:
            return False
        link = event.link
        if isinstance(row, Link):
            altered = bool(link.master) != bool(row.bridge) or link.arp
        elif isinstance(row, Tunnel):
            altered = link.mac != row.mac
        else:
            altered = link.snooping or link.reserved_learning
        return event.deleted or not link.up or link.mtu != row.mtu or altered

    def _differs_behind(self, near: NeighbourInfo, *, gone: bool) -> bool:
        """Whether what was told of a tunnel's other end is gone, is now another thing, or leads where there is none."""
        ends = {row.key: row for row in (*self._ends(str(near.mac)), *self._ends(str(near.address)))}.values()
        places = {(row.mac, place) for row in ends for place in (row.remote, row.mac.link_local)}
        if gone:
            return any(near.address == place for _, place in places)
        if not ends:
            return near.remote and name_of(near.index) in self._node.state.table(Tunnel)
        return (near.mac, near.address) not in places

    def _ends(self, word: str) -> list[Vtep]:
        """The tunnels' other ends of a MAC, or of the link-local address that it makes. There is one for each other node."""
        version = self._node.state.version(Vtep)
        if version is not self._version:
            self._version, self._known = version, {}
            for row in self._node.state.table(Vtep).values():
                self._known.setdefault(row.mac, []).append(row)
                self._known.setdefault(row.mac.link_local, []).append(row)
        return self._known.get(word, [])

    async def _on_events(self) -> None:
        while True:
            await self._wake.wait()
            fighting = len(self._repaired) == _FIGHT and time.monotonic() - self._repaired[0] < _SHORT
            await asyncio.sleep(_TRUCE if fighting else self._settings.debounce)
            self._wake.clear()
            lasting = self._doubted & self._seen
            moves, self._moves = self._moves, False
            # With an address of the host the kernel drops, and refuses, routes that it is the source of.
            host, self._host = self._host or bool(lasting) or moves, False
            self._doubted -= lasting
            self._seen = set(self._doubted)
            if self._seen:
                self._wake.set()  # by then they are whole, or something is wrong with them
            keys, self._inside = self._inside, set()
            rows = [row for key in keys for row in self._node.state.owned(key) if isinstance(row, (Link, Sub))]
            if moves:
                with suppress(Problem):
                    host = await self._moved() or host
            if (host or rows) and await self._compare(host=host, rows=rows):
                self._repaired.append(time.monotonic())

    async def _on_timer(self) -> None:
        while True:
            await asyncio.sleep(self._settings.interval)
            rest = resting(self._node.quiet, self._settings.interval)  # as long as the lull was not waited for
            await self._lull()
            await self._compare(host=True, rows=self._next(), rest=rest)
            self._node.checked = time.monotonic()
            for chore in (self._garbage.reap, *self._chores):
                with suppress(Problem):
                    await chore()

    async def _lull(self) -> None:
        """Wait while containers are being made, for another interval at the most: they would wait for the comparison."""
        waited = 0.0
        while waited < self._settings.interval and not self._node.quiet():
            await asyncio.sleep(_LOOK)
            waited += _LOOK

    def _next(self) -> list[Inside]:
        """The containers whose turn it is to be looked into: all of a few, a tenth of many. A change in one is heard anyway."""
        rows = self._node.state.inside()
        some = max(_FEW, -(-len(rows) // _TURNS))
        begin = self._turn if self._turn < len(rows) else 0
        self._turn = begin + some
        return rows[begin : begin + some]

    async def _look(self, *, host: bool, rows: Iterable[Inside], rest: Rest) -> list[Drift]:
        """What differs, but for what is gone with a container whose namespace took its interface along."""
        rows, state = list(rows), self._node.state

        async def look() -> list[Drift]:
            drift = await self._node.check(inside=False, rest=rest) if host else []
            return drift + await self._node.check_inside(rows)

        drift = await look()
        if any(one.kind == "missing" for one in drift):
            await self._garbage.reap()
            if self._node.state is not state:
                drift = lasting(drift, await look())
        return drift

    async def _compare(self, *, host: bool, rows: Iterable[Inside], rest: Rest = rest) -> list[Drift]:
        async with self._one:
            begun = time.monotonic()
            try:
                drift = await self._look(host=host, rows=rows, rest=rest)
                await self._node.repair(drift)
            except Problem as problem:
                log.error("comparing with the kernel: %s", problem)  # noqa: TRY400  # met again at the next timer
                return []
            self._metrics.compared(len(drift), time.monotonic() - begun)
            return drift
