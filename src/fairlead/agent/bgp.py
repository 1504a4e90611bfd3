"""Bgp: from nodes, blocks and what people wrote to rows, and from rows to the speaker, which runs only if there is need.

::

    Peerings, Ground ──  topology.peers  ──> rows of NodeState ──  bgp.config  ──> BIRD

Whatever changes, all of it is worked out again, once for changes that come together; only what differs reaches BIRD, and BIRD
drops no session but those that are different.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from fairlead.api.routing import BgpRoute, BgpStatus
from fairlead.bgp import config, report, written
from fairlead.bgp.bird import LOG, Bird
from fairlead.desired.routing import Session, Speaker
from fairlead.desired.state import Rows
from fairlead.kit.backoff import Backoff
from fairlead.kit.tasks import forever
from fairlead.model.bgp import BGPConfiguration, BGPPeer
from fairlead.model.bgpfilter import BGPFilter
from fairlead.model.block import Block
from fairlead.model.errors import Failed, Invalid, Missing, Problem, Unavailable
from fairlead.model.network import Network
from fairlead.model.node import Node as Machine
from fairlead.model.secret import SecretKeyRef
from fairlead.topology import peers
from fairlead.topology.peers import Fabric
from fairlead.topology.station import Station

from .node import Node
from .peerings import Peerings

log = logging.getLogger(__name__)

_TOGETHER = 0.05
"""Seconds for which a change waits for others."""
_FIRST, _MOST = 0.5, 30.0
_SHOWN = ("", "exported", "filtered")


class Ground(NamedTuple):
    """What it is decided from, beside what people wrote about it: nodes, ``me`` among them, networks, and blocks by network.

    ``limit``: a node with the largest packet that gets there.
    """

    me: str
    machines: Mapping[str, Machine]
    networks: Mapping[str, Network]
    blocks: Callable[[str], list[Block]]
    limit: Callable[[Station], Station]


class Bgp:
    """Runs beside the agent for as long as it lives; the speaker goes on after it."""

    def __init__(self, run: Path, node: Node, peerings: Peerings, ground: Callable[[], Ground]) -> None:
        """``run``: the directory of what belongs to this boot."""
        self.reason = ""
        self.peerings = peerings
        self._bird = Bird(run / "bgp")
        self._node, self._ground = node, ground
        self._owners: set[str] = set()
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._first = True

    def want(self) -> None:
        """Something has changed that may concern it."""
        self._wanted.set()

    def start(self) -> None:
        """Follow from now on."""
        self._task = asyncio.create_task(forever("speaking BGP", self._run))

    async def stop(self) -> None:
        """Follow no more, and look after the speaker no more; it goes on."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._bird.leave()

    async def purge(self) -> None:
        """Follow no more; end the speaker, and remove what it wrote."""
        await self.stop()
        await self._end()

    async def status(self) -> BgpStatus:
        """The speaker and its neighbours."""
        state = self._node.state
        speaker = next(iter(state.table(Speaker).values()), None)
        if speaker is None:
            return BgpStatus(wanted=False, node=self._ground().me, reason=self.reason)
        seen: Mapping[str, report.Seen] = {}
        liveness: Mapping[str, str] = {}
        version, reason = "", self.reason
        try:
            version = report.version(await self._bird.ask("show status"))
            seen = report.sessions(await self._bird.ask("show protocols all"))
            with suppress(Failed):  # it has no BFD
                liveness = report.bfd(await self._bird.ask("show bfd sessions"))
        except Problem as problem:
            reason = reason or str(problem)
        sessions = sorted(state.table(Session).values(), key=lambda one: (one.kind == "external", one.peer))
        return BgpStatus(
            wanted=True,
            running=bool(version),
            reason=reason,
            node=self._ground().me,
            asn=speaker.asn,
            router_id=speaker.router_id,
            version=version,
            restarts=self._bird.restarts,
            neighbours=tuple(
                report.neighbour(one, seen.get(one.name), liveness, self._locked(one.password)) for one in sessions
            ),
        )

    async def routes(self, query: Mapping[str, str]) -> list[BgpRoute]:
        """The routes that are known; of one ``peer``, if it is named; ``show`` those that it was told, or that did not pass."""
        peer, show = query.get("peer", ""), query.get("show", "")
        if show not in _SHOWN:
            raise Invalid(f"{show[:40]!r} is neither exported nor filtered", field="show")
        named = {one.name: one.peer for one in self._node.state.table(Session).values()}
        chosen = [name for name, of in named.items() if peer in {of, name}]
        if peer and not chosen:
            known = ", ".join(sorted(named.values())) or "none"
            raise Missing(f"there is no BGP peer {peer[:80]!r}; there are: {known}", field="peer")
        if show == "exported" and not peer:
            raise Invalid("say to whom", field="peer")
        if not named and not self._node.state.table(Speaker):
            raise Unavailable("this node speaks no BGP: there is no network with driver bgp", field="bgp")
        of = {"": "protocol", "exported": "export", "filtered": "protocol"}[show]
        words = " filtered" if show == "filtered" else ""
        found: list[BgpRoute] = []
        for name in chosen if peer else [""]:
            answer = await self._bird.ask(f"show route all{words}" + (f" {of} '{name}'" if name else ""))
            found += report.routes(answer, named, filtered=bool(words))
        return found

    async def _run(self) -> None:
        """Follow whatever changes; what fails is tried again."""
        backoff = Backoff(_FIRST, _MOST)
        self.want()
        while True:
            await self._wanted.wait()
            await asyncio.sleep(_TOGETHER)
            self._wanted.clear()
            try:
                await self._follow()
                backoff.reset()
                self.reason = ""
            except Problem as problem:
                log.error("BGP: %s", problem)  # noqa: TRY400  # a person reads this
                self.reason = str(problem)
                self.want()
                await asyncio.sleep(backoff.next())

    async def _follow(self) -> None:
        before = self._speakers()
        self._decide()
        await self._node.lead((*before, *self._speakers()))
        passwords = {one.password: self._password(one.password) for one in self._sessions() if one.password}
        text = config.text(self._node.state, {key: value for key, value in passwords.items() if value}, LOG)
        if text:
            await self._bird.tell(text)
        elif self._first or await self._bird.running():
            await self._end()
        self._first = False

    async def _end(self) -> None:
        await self._bird.end()
        await asyncio.to_thread(written.flush)

    def _decide(self) -> None:
        """Bring the rows in line with everything that they come from."""
        known, said = self._ground(), self.peerings
        fabric = Fabric(
            known.me,
            known.machines,
            known.networks,
            configurations=said.of(BGPConfiguration),
            peers=said.of(BGPPeer),
            filters=said.of(BGPFilter),
            limit=known.limit,
        )
        found: dict[str, Rows] = peers.rows(fabric)
        if found:
            voice = fabric.voice(known.me)
            for name, network in known.networks.items():
                told = peers.announced(network, known.me, known.blocks(name))
                found[f"bgp/network/{name}"] = peers.announcement_rows(voice, told)
        self._node.adopt_all({**dict.fromkeys(self._owners - found.keys(), ()), **found})
        self._owners = set(found)

    def _speakers(self) -> list[Speaker]:
        return list(self._node.state.table(Speaker).values())

    def _sessions(self) -> list[Session]:
        return list(self._node.state.table(Session).values())

    def _password(self, reference: SecretKeyRef) -> str:
        """A password that can be used; empty if there is none."""
        value = self.peerings.secret(reference)
        text = value.decode(errors="replace") if value else ""
        return "" if config.refuse_password(text) else text

    def _locked(self, reference: SecretKeyRef | None) -> str:
        """Why a session's password cannot be used; empty if it can, or if it has none."""
        if reference is None:
            return ""
        value = self.peerings.secret(reference)
        if value is None:
            return f"there is no Secret {reference}"
        wrong = config.refuse_password(value.decode(errors="replace"))
        return f"the password in Secret {reference} {wrong}" if wrong else ""
