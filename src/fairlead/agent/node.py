"""The node's desired state and the kernel that follows it.

Everything that programs the kernel runs in one thread, in order, so that no two changes meet. What only removes goes through a
second thread: a removal costs a grace period of the kernel, some 20 ms, for which no container start should wait; removals
that come together share one. A container takes the thread for milliseconds, and policies' rows for a fraction of one: these go
before the containers that wait, so that a start, which waits for both, waits among the others once.

::

    program(changes)   state' = state with the rows of policies     kernel thread, before the links that wait
    put(owner, rows)   state' = state + rows      kernel thread: filter, then links     back when the kernel has them
    drop(owner)        state' = state - rows      broom thread: all that waits at once  back at once, or when it is done
    check() repair()   state compared, row by row, with what the kernel lists
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from msgspec.structs import replace

from fairlead.api.schema import OUTDATED, Drift
from fairlead.datapath.base import Answer, Comparison, Hits, Look, Question
from fairlead.desired.state import (
    Guard,
    Guest,
    Inside,
    Link,
    Local,
    NodeState,
    Publication,
    Realm,
    Row,
    Rows,
    Subject,
)
from fairlead.desired.ways import Crypt, CryptPeer
from fairlead.kernel.errors import Gone, KernelError
from fairlead.kernel.wireguard import Device
from fairlead.kit import fault
from fairlead.kit.gently import Rest, rest
from fairlead.kit.turns import Turn, Turns
from fairlead.links import crypts, inside
from fairlead.model.endpoint import Protocol, Sandbox
from fairlead.model.errors import Failed, Problem

from . import repairs
from .hands import Hands
from .underway import UnderWay, lasting

log = logging.getLogger(__name__)

T = TypeVar("T")
_CHUNK = 16
"""Containers that are compared in one go, so that a container start never waits long behind a comparison."""
_MOMENT = 0.5
"""Seconds without a container that is made: then it is quiet."""


class Node:
    """The state, and the only way to change it."""

    def __init__(self, make: Callable[[], Hands], linger: float) -> None:
        """``make`` gives each thread its own hands; ``linger``: seconds that removals wait for company."""
        self.state = NodeState()
        self.repairs = 0
        self._hosts: dict[str, Link] = {}  # links by the name of their host side
        self._guests: dict[str, dict[str, Guest]] = {}  # what each link carries for others of its container
        self.checked = time.monotonic()
        self.on_renewal: Callable[[], None] = lambda: None
        """Called when a WireGuard device, or a peer of one, was made anew."""
        self.leaving: dict[str, tuple[Rows, asyncio.Future[None]]] = {}
        self._under_way = UnderWay()
        self._linger = linger
        self._hands, self._broom = make(), make()
        self._kernel = Turns("kernel")
        self._sweep = ThreadPoolExecutor(1, "broom")
        self._sweeping: asyncio.Task[None] | None = None

    def adopt(self, owner: str, rows: Rows) -> None:
        """Make ``rows`` what ``owner`` has in the state alone; the kernel follows with ``apply``."""
        for row in self.state.owned(owner):
            if isinstance(row, Link):
                self._hosts.pop(row.host, None)
            elif isinstance(row, Guest):
                self._guests[row.host].pop(row.endpoint)
                if not self._guests[row.host]:
                    del self._guests[row.host]
        for row in rows:
            if isinstance(row, Link):
                self._hosts[row.host] = row
            elif isinstance(row, Guest):
                self._guests.setdefault(row.host, {})[row.endpoint] = row
        self.state = self.state.replace(owner, rows)

    async def put(self, owner: str, rows: Rows) -> None:
        """Make ``rows`` what ``owner`` has. If the kernel refuses, the state is as before and what was made is taken back."""
        before = self.state.owned(owner)
        number = self._under_way.begin({owner: before})
        self.adopt(owner, rows)
        try:
            await self._in_kernel(self._carry_out, number, self._change, rows, before, turn=Turn.PATIENT)
        except BaseException:
            undo = partial(self._undo, self._hands, rows, before)
            await asyncio.shield(self._take_back(number, partial(self.adopt, owner, before), undo))
            raise
        if any(isinstance(row, Publication) and row.protocol is not Protocol.TCP for row in rows):
            asyncio.get_running_loop().run_in_executor(self._sweep, self._broom.filter.settle, rows, ())

    async def _take_back(self, number: int, adopt: Callable[[], None], undo: Callable[[], object]) -> None:
        """In one breath out of the state and in line for the kernel: who looks between the two would find it left over."""
        adopt()
        self._under_way.end(number)
        await self._in_kernel(undo)

    def adopt_all(self, changes: Mapping[str, Rows]) -> None:
        """Make each of ``changes`` what its owner has, in the state alone: rows that are no links."""
        self.state = self.state.replace_all(changes)

    async def program(self, changes: Mapping[str, Rows]) -> None:
        """Make each of ``changes`` what its owner has, all in one go: rows that no link is made for, those of policies.

        If the kernel refuses, the state is as before, and so is the kernel.
        """
        before = {owner: self.state.owned(owner) for owner in changes}
        add, remove = self._difference(changes)
        number = self._under_way.begin(before)
        self.adopt_all(changes)
        try:
            await self._in_kernel(self._carry_out, number, self._program, add, remove, turn=Turn.QUICK)
        except BaseException:
            undo = partial(_attempt, self._restore)
            await asyncio.shield(self._take_back(number, partial(self.adopt_all, before), undo))
            raise

    async def follow(self, changes: Mapping[str, Rows]) -> None:
        """Make each of ``changes`` what its owner has: ways to other nodes, of which the store is the judge, not the kernel.

        What the kernel refuses is logged, and done by the next comparison.
        """
        changes = {owner: rows for owner, rows in changes.items() if self.state.owned(owner) != rows}
        if not changes:
            return
        add, remove = self._difference(changes)
        number = self._under_way.begin({owner: self.state.owned(owner) for owner in changes})
        self.adopt_all(changes)
        try:
            for failure in await self._in_kernel(self._carry_out, number, self._lead, add, remove):
                log.warning("not done, the next comparison will: %s", failure)
        finally:
            self._under_way.end(number)

    async def lead(self, rows: Iterable[Row]) -> None:
        """See to the devices of ways that ``rows``, which have come or gone, are of; the next comparison does what fails."""
        changed = list(rows)
        await self._in_kernel(_attempt, lambda: self._hands.plane.lead(self.state, changed))

    def drop(self, owner: str) -> asyncio.Future[None]:
        """Forget ``owner``; the future is done when the kernel has let go of everything it had."""
        if owner in self.leaving:
            return self.leaving[owner][1]
        rows = self.state.owned(owner)
        self.adopt(owner, ())
        self._hands.links.forget(owner)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.leaving[owner] = (rows, future)
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.create_task(self._sweep_all())
        return future

    async def apply(self, *, other: bool = False) -> None:
        """Bring the whole kernel in line: start, restart and upgrade are this. What is right already is not touched.

        What is made for the first time since the machine started is no repair, nor is what an ``other`` edition left.
        """
        first = not self._hands.filter.made
        await self._in_kernel(lambda: self._hands.plane.apply(self.state))
        drift = await self.check()
        fresh = [one for one in drift if first and one.kind in {"missing", OUTDATED}]
        for one in fresh:
            log.info("making %s %s", one.table, one.key)
        await self._put_right(fresh)
        left = (one for one in drift if one not in fresh)
        await self.repair(replace(one, kind=OUTDATED) if other else one for one in left)

    def quiet(self) -> bool:
        """Whether no container is being made, nor has been for a moment; from any thread."""
        return self._kernel.quiet(_MOMENT)

    async def check(self, *, inside: bool = True, rest: Rest = rest) -> list[Drift]:
        """Every difference between the state and the kernel; touches nothing. ``inside``: look into the containers too.

        ``rest``: what the comparison does now and then, in its thread.
        """
        state, leaving = self.state, bool(self.leaving)
        drift = await self._differences(inside, rest)
        if drift and (leaving or self.leaving or state is not self.state):
            # What was just leaving, or was taken back, is another thing by now; what somebody broke is still so.
            drift = lasting(drift, await self._differences(inside, rest))
        self.checked = time.monotonic()
        return drift

    async def _differences(self, inside: bool, rest: Rest) -> list[Drift]:
        drift: list[Drift] = []
        for look in self._hands.looks:  # each in a turn of its own: whoever starts a container waits for one of them
            drift += await asyncio.to_thread(await self._in_kernel(self._look, look), rest)
        if inside:
            drift += await self.check_inside(self.state.inside())
        return [one for one in drift if one.kind != "unexpected"] if self.leaving else drift

    async def check_inside(self, rows: Iterable[Inside]) -> list[Drift]:
        """The differences inside the containers of ``rows``, those that ended meanwhile left out."""
        waiting = list(rows)
        drift: list[Drift] = []
        for start in range(0, len(waiting), _CHUNK):
            there = [row for row in waiting[start : start + _CHUNK] if self.state.owned(row.key)]
            drift += await self._in_kernel(self._check_inside, there)
        return [one for one in drift if self.state.owned(one.key)]

    async def check_owner(self, owner: str) -> list[Drift]:
        """The differences in what one owner has, its published ports and limits included."""
        rows = self.state.owned(owner)
        only = NodeState().replace(owner, rows)
        under = self.state.table(Subject)
        known = (*rows, *(under[row.host] for row in rows if isinstance(row, Link) and row.host in under))
        host = await self._in_kernel(self._check_owner, only, known)
        inside = await self.check_inside(row for row in only.inside() if row in rows)
        return [one for one in host if one.kind != "unexpected"] + inside

    def _difference(self, changes: Mapping[str, Rows]) -> tuple[list[Row], list[Row]]:
        """The rows that ``changes`` add or alter, and those that they take away."""
        new = {(type(row), row.key): row for rows in changes.values() for row in rows}
        old = {(type(row), row.key): row for owner in changes for row in self.state.owned(owner)}
        return [row for key, row in new.items() if old.get(key) != row], [row for key, row in old.items() if key not in new]

    async def repair(self, drift: Iterable[Drift]) -> int:
        """Put right what ``drift`` names; return how many differences there were. A failure is logged and met again later.

        What another version left, and nobody broke, is no repair.
        """
        drift = list(drift)
        for one in drift:
            if one.kind == OUTDATED:
                log.info("updating %s %s to this version; want %r, have %r", one.table, one.key, one.want, one.have)
                continue
            self.repairs += 1
            log.warning("repairing %s %s: %s; want %r, have %r", one.table, one.key, one.kind, one.want, one.have)
        if drift:
            await self._put_right(drift)
        return len(drift)

    async def _put_right(self, drift: list[Drift]) -> None:
        for failure in await self._in_kernel(self._repair, self.state, drift):
            log.error("not repaired: %s", failure)
        if any(one.table in {crypts.TABLE, crypts.PEERS} for one in drift):
            self.on_renewal()

    @property
    def plane(self) -> str:
        """The name of what enforces policies."""
        return self._hands.plane.name

    def behind(self, nsid: int) -> set[str]:
        """The owners of links whose container the kernel knows by this namespace id."""
        return {key for key in self._hands.links.behind(nsid) if self.state.owned(key)}

    def at(self, host: str) -> Link | None:
        """The link whose host side has this name."""
        return self._hosts.get(host)

    def holds(self, index: int) -> bool:
        """Whether programs of ours are to stand at this interface of the host."""
        return self._hands.plane.holds(index)

    async def ask(self, question: Question) -> Answer | None:
        """What the kernel would do with the first packet of a connection; None: it cannot be asked."""
        if question.host not in self._hosts:
            return None
        return await self._in_kernel(self._hands.plane.ask, question)

    def fill(self) -> dict[str, tuple[int, int]]:
        """How full the maps of the plane were at the last comparison."""
        return self._hands.plane.fill()

    async def hits(self) -> dict[int, Hits]:
        """How often each rule decided, by its number."""
        return await self._in_kernel(self._hands.plane.hits)

    async def forget_hits(self, known: Collection[int]) -> None:
        """Forget what was counted for rules that are not known any more."""
        stale = [rule for rule in await self.hits() if rule not in known]
        await self._in_kernel(self._hands.plane.forget_hits, stale)

    async def devices(self) -> dict[str, Device]:
        """The WireGuard devices that there should be, as they are."""
        rows = list(self.state.table(Crypt))
        return await self._in_kernel(self._hands.links.devices, rows)

    async def call(self, peers: Iterable[str]) -> None:
        """Begin a handshake with WireGuard peers, by the keys of their rows."""
        table = self.state.table(CryptPeer)
        rows = [row for key in peers if (row := table.get(key))]
        await self._in_kernel(self._hands.links.call, rows)

    async def purge(self) -> None:
        """Remove everything that Fairlead made from the kernel."""
        self.state = NodeState()
        await self.settle()
        await self._in_kernel(self._purge)

    async def settle(self) -> None:
        """Wait until nothing is leaving."""
        while self.leaving:
            await asyncio.wait([future for _, future in self.leaving.values()])

    async def gone(self, sandboxes: Sequence[Sandbox]) -> list[bool]:
        """For each namespace whether it does not exist any more."""
        return await self._in_kernel(lambda: [inside.gone(one.path, one.cookie) for one in sandboxes])

    async def near(self, path: str, interface: str) -> str | None:
        """The host's end of an interface inside a namespace; None if it has none here."""
        return await self._in_kernel(self._hands.links.near, path, interface)

    async def close(self) -> None:
        """Finish what is leaving, then let go of the kernel; everything in it stays."""
        await self.settle()
        self._kernel.close()
        self._sweep.shutdown()
        self._hands.close()
        self._broom.close()

    # ---- in the kernel thread ----

    def _change(self, rows: Rows, before: Rows) -> None:
        if any(isinstance(row, Realm) and row not in before for row in rows):
            self._hands.plane.change(_realms(rows), _realms(before))  # what is encrypted from now on takes no shorter way
        try:
            self._hands.filter.change(rows, before)
        except Gone:
            # Somebody flushed our table, and the event has not reached us yet.
            self._hands.filter.apply(self.state)
        fault.point("change.filter")
        kept = {(type(row), row.key) for row in rows}
        fresh = [row for row in rows if row not in before]
        self._hands.links.ensure(fresh, self._guard)
        fault.point("change.made")
        self._hands.plane.change(*_of_links_that_stay(rows, before))
        self._hands.plane.lead(self.state, _realms(rows))
        self._hands.links.remove(row for row in before if (type(row), row.key) not in kept)
        fault.point("change.removed")

    def _guard(self, link: Link) -> None:
        """What judges that which passes, and whom it judges by: before the link carries anything."""
        state, host = self.state, link.host
        found = (state.table(Subject).get(host), state.table(Guard).get(host), state.table(Local).get(host))
        self._hands.plane.ensure((link, *(row for row in found if row), *self._guests.get(host, {}).values()))
        fault.point("change.guarded")

    def _program(self, add: Sequence[Row], remove: Sequence[Row]) -> None:
        self._hands.plane.change(add, remove)
        fault.point("policy.programmed")

    def _restore(self) -> None:
        """Half of a change may be in the kernel."""
        self._hands.plane.apply(self.state)

    def _lead(self, add: Sequence[Row], remove: Sequence[Row]) -> list[Exception]:
        """New ways before old ones go. Each row by itself where all together are refused: one that fails keeps no other."""
        links = self._hands.links
        failures = [failure] if (failure := _attempt(lambda: self._hands.filter.change(add, remove))) else []
        if _attempt(lambda: links.ensure(add, self._guard)):
            steps = [partial(links.ensure, (row,), self._guard) for row in add]
            failures += [failure for step in steps if (failure := _attempt(step))]
        for step in (
            lambda: self._hands.plane.change(add, remove),
            lambda: self._hands.plane.lead(self.state, (*add, *remove)),
        ):
            failures += [failure] if (failure := _attempt(step)) else []
        fault.point("way.made")
        if failure := _attempt(lambda: links.remove(remove)):
            failures.append(failure)
        fault.point("way.removed")
        return failures

    @staticmethod
    def _undo(hands: Hands, changed: Rows, before: Rows) -> None:
        rows = tuple(row for row in changed if row not in before)
        for step in (
            lambda: hands.links.remove(rows),
            lambda: hands.filter.change(before, rows),
            lambda: hands.plane.change(before, rows),
        ):
            if failure := _attempt(step):
                log.warning("undoing: %s", failure)
            fault.point("undo.step")

    def _carry_out(self, number: int, change: Callable[..., T], *arguments: object) -> T:
        answer = change(*arguments)
        self._under_way.end(number)
        return answer

    def _due(self) -> NodeState:
        state = self.state
        return self._under_way.without(state, self.leaving)

    def _look(self, look: Look) -> Comparison:
        """What finds the differences while containers start."""
        return look(self._due())

    def _check_owner(self, only: NodeState, rows: Rows) -> list[Drift]:
        hands = self._hands
        return hands.filter.check(only) + hands.links.check(only) + hands.plane.check_links(rows)

    def _check_inside(self, rows: list[Inside]) -> list[Drift]:
        due = self._due()
        there = (row for row in rows if row in due.owned(row.key))
        return [drift for row in there for drift in self._hands.links.check_inside(row)]

    def _repair(self, state: NodeState, drift: list[Drift]) -> list[Exception]:
        """Each row by itself: what cannot be put right keeps nothing else wrong."""
        failures = []
        for step in repairs.steps(state, drift, self._hands, self._guard):
            if failure := _attempt(step):
                failures.append(failure)
            fault.point("repair.step")
        return failures

    def _purge(self) -> None:
        self._hands.filter.close(purge=True)
        fault.point("purge.filter")
        self._hands.links.purge()
        self._hands.plane.purge()

    # ---- in the broom thread ----

    async def _sweep_all(self) -> None:
        while True:
            await asyncio.sleep(self._linger)
            batch = dict(self.leaving)
            if not batch:
                return
            rows = tuple(row for one, _ in batch.values() for row in one)
            try:
                await asyncio.get_running_loop().run_in_executor(self._sweep, self._remove, rows)
            except (KernelError, Problem) as error:
                log.warning("not removed, the next comparison will: %s", error)
            if realms := _realms(rows):
                await self.lead(realms)
            for owner, (_, future) in batch.items():
                del self.leaving[owner]
                if not future.done():
                    future.set_result(None)

    def _remove(self, rows: Rows) -> None:
        try:
            self._broom.filter.change((), rows)
        except Gone:
            # Somebody was there before us; bring what is left in line.
            self._broom.filter.apply(self.state)
        fault.point("remove.filter")
        self._broom.plane.forget(rows)
        self._broom.links.remove(rows)
        fault.point("remove.links")
        self._broom.filter.settle((), rows)
        fault.point("remove.settled")

    async def _in_kernel(self, act: Callable[..., T], *arguments: object, turn: Turn = Turn.PLAIN) -> T:
        try:
            return await self._kernel.take(act, *arguments, turn=turn)
        except KernelError as error:
            raise Failed(str(error)) from error


def _of_links_that_stay(rows: Rows, before: Rows) -> tuple[Sequence[Row], Sequence[Row]]:
    """What is to be known of links and no more, where it did not come with the making of a link; and what was to be known."""
    told = [row for row in rows if isinstance(row, (Guard, Guest, Local))]
    stale = [row for row in before if isinstance(row, (Guard, Guest, Local)) and row not in rows]
    made = {row.host for row in rows if isinstance(row, Link) and row not in before}
    if not stale and all(row in before or row.host in made for row in told):
        return [], []
    return told, stale


def _realms(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if isinstance(row, Realm)]


def _attempt(step: Callable[[], object]) -> Exception | None:
    """The failure of one step among several that must all be tried."""
    try:
        step()
    except (KernelError, Problem) as error:
        return error
    return None
