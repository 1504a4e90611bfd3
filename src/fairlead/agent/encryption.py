"""Encryption: this node's keys, what others are told of them, and when a way goes over to a newer one.

What follows from keys is worked out by ``topology.crypt`` and ``topology.rotation``; here is what takes time: a key is made
once an encrypted network is there, a new one is taken into use towards a node when there was a handshake with it, and an old
one is forgotten a while after everybody has a newer one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

from fairlead.api.encryption import Encryption as Now
from fairlead.api.encryption import Key, Peer
from fairlead.kernel.errors import KernelError
from fairlead.kernel.wireguard import Device
from fairlead.kit import fault
from fairlead.model.errors import Conflict, Invalid, Unsupported
from fairlead.topology import crypt, rotation
from fairlead.topology.crypt import Way
from fairlead.topology.station import Station, published

from .handshakes import Handshakes
from .keyring import Keyring
from .me import Me

log = logging.getLogger(__name__)

_GLANCE = 0.1
"""Seconds between two looks whether there was a handshake, while one is waited for."""
_REST = 60.0
"""Seconds between two looks at the keys' age."""


class Encryption:
    """Runs beside the agent for as long as it lives."""

    def __init__(
        self,
        keyring: Keyring,
        me: Me,
        *,
        able: Callable[[], tuple[str, str]],
        devices: Callable[[], Awaitable[dict[str, Device]]],
        call: Callable[[Iterable[str]], Awaitable[None]],
        changed: Callable[[], Awaitable[None]],
        moved: Callable[[Iterable[str]], Awaitable[None]],
        age: float,
        grace: float,
    ) -> None:
        """``able`` says who encrypts here, or why nobody does.

        ``devices`` reads those there are, ``call`` begins a handshake with peers. ``changed``: this node's keys are others;
        ``moved``: so are the ways to some nodes. ``age``: seconds after which a key is replaced, 0 for never; ``grace``: how
        long an old one is still good.
        """
        self._keyring, self._me = keyring, me
        self._able, self._devices, self._changed, self._moved = able, devices, changed, moved
        self._age, self._grace = age, grace
        self._handshakes = Handshakes(devices, call)
        self._others: dict[str, Station] = {}
        self._doubts: dict[str, str] = {}
        self._needed = False
        self._idle_since: float | None = None
        self._wake = asyncio.Event()
        self._one = asyncio.Lock()
        me.key = published(keyring.public)
        me.refresh()

    def look(self, others: Iterable[Station], *, needed: bool) -> set[str]:
        """The other nodes that give signs of life are these; ``needed``: there are encrypted networks.

        Returns whom we trust now and did not, or the other way round, because of what somebody else claims.
        """
        alive = {one.name: one for one in others}
        doubts = crypt.claimed_twice([self._me.station, *alive.values()])
        changed = {name for name in alive.keys() & self._others.keys() if doubts.get(name) != self._doubts.get(name)}
        self._others, self._doubts, self._needed = alive, doubts, needed
        self._expect()
        self._wake.set()
        return changed

    def way(self, other: Station) -> Way | None:
        """How packets to a node are encrypted; None: not at all, so that there must be none."""
        return crypt.way(self._me.station, self.trusted(other), self._handshakes.met(other.name))

    def trusted(self, other: Station) -> Station:
        """A node as far as it is believed: one that is not heard of, or claims what another has, has no key and no address."""
        if other.name in self._others and other.name not in self._doubts:
            return other
        return other._replace(key="", addresses=())

    async def remember(self) -> None:
        """At a start: with whom there has been a handshake already."""
        if self._needed and self._able()[0]:
            await self._handshakes.look(self._others)

    def renewed(self) -> None:
        """A device was made anew."""
        self._handshakes.again()
        self._expect()
        self._wake.set()

    async def status(self, networks: Iterable[str]) -> Now:
        """How it is, with what WireGuard counted; ``networks`` are to be encrypted."""
        by, lacking = self._able()
        devices: Mapping[str, Device] = {}
        if self._keyring.public and not lacking:
            try:
                devices = await self._devices()
            except KernelError as error:
                lacking = str(error)
        return Now(
            by=by,
            lacking=lacking,
            networks=tuple(sorted(networks)),
            keys=tuple(self._key(number, devices) for number in self._keyring.public),
            peers=tuple(self._peer(one, devices) for _, one in sorted(self._others.items())),
        )

    def _key(self, number: int, devices: Mapping[str, Device]) -> Key:
        device = crypt.device(number)
        return Key(
            generation=number,
            public=self._keyring.public[number],
            device=device,
            port=crypt.port(number),
            age=round(self._keyring.age(number), 1),
            up=device in devices,
        )

    def _peer(self, other: Station, devices: Mapping[str, Device]) -> Peer:
        if doubt := self._doubts.get(other.name):
            return Peer(node=other.name, problem=f"it claims {doubt}, as another node does; one of them is a copy, or gone")
        chosen = self.way(other)
        if chosen is None:
            return Peer(node=other.name, problem=crypt.unreached(self._me.station, other))
        public = other.keys[chosen.generation]
        found = device.peers.get(public) if (device := devices.get(chosen.device)) else None
        return Peer(
            node=other.name,
            generation=chosen.generation,
            public=public,
            device=chosen.device,
            endpoint=_shown(found.endpoint) if found and found.endpoint else "",
            handshake=round(max(time.time() - found.handshake, 0.0), 1) if found and found.handshake else None,
            received=found.received if found else 0,
            sent=found.sent if found else 0,
        )

    async def rotate(self) -> int:
        """Make a key of the next generation, which every node follows; the generation."""
        async with self._one:
            mine = self._keyring.public
            if why := self._able()[1]:
                raise Unsupported(why, field="encrypt")
            if not mine or not self._needed:
                raise Invalid("no network is encrypted: there is no key to replace", field="encrypt")
            if len(mine) > 1:
                raise Conflict(
                    f"a rotation to generation {max(mine)} is under way; fairlead wireguard status shows how far",
                    field="encrypt",
                )
            if late := rotation.behind(max(mine), self._others.values()):
                raise Conflict(f"{', '.join(late)} still has an older key; see that node, or wait", field="encrypt")
            number = max(mine) + 1
            await self._take(number)
        self._wake.set()
        return number

    async def run(self) -> None:
        """See to the keys whenever something is another, and now and then."""
        while True:
            try:
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if self._needed and self._able()[0]:
                async with self._one:
                    await self._turn()

    def _pause(self) -> float:
        if self._handshakes.waiting and self._needed:
            return _GLANCE
        rest = min(_REST, self._grace / 2 + _GLANCE) if self._idle_since is not None else _REST
        mine = self._keyring.public
        left = self._age - self._keyring.age(max(mine)) if self._age and mine else rest
        return max(_GLANCE, min(rest, left))

    async def _turn(self) -> None:
        mine = self._keyring.public
        if number := rotation.wanted(mine, self._others.values()):
            await self._take(number)
        elif self._too_old(mine) and not rotation.behind(max(mine), self._others.values()):
            log.info("the WireGuard key is %d s old: a rotation begins", self._keyring.age(max(mine)))
            await self._take(max(mine) + 1)
        if moved := await self._handshakes.look(self._others):
            fault.point("encryption.met")
            await self._moved(moved)
        await self._retire()

    def _too_old(self, mine: Mapping[int, str]) -> bool:
        return len(mine) == 1 and 0 < self._age <= self._keyring.age(max(mine))

    async def _take(self, number: int) -> None:
        """A key of a generation, and others are told of it."""
        stale = [one for one in self._keyring.public if one & 1 == number & 1]
        await asyncio.to_thread(self._keyring.make, number)
        for one in stale:
            self._keyring.drop(one)
        log.info("made a WireGuard key of generation %d", number)
        fault.point("encryption.key")
        await self._tell()

    async def _tell(self) -> None:
        self._me.key = published(self._keyring.public)
        if self._me.refresh():
            self._expect()
            await self._changed()

    def _expect(self) -> None:
        believed = (one for name, one in self._others.items() if name not in self._doubts)
        self._handshakes.expect(self._me.station, believed)

    async def _retire(self) -> None:
        """Forget old keys once nobody needs them."""
        spent = rotation.spent(self._keyring.public, self._others.values())
        if not spent or self._handshakes.waiting:
            self._idle_since = None
            return
        now = time.monotonic()
        if self._idle_since is None:
            self._idle_since = now
        if now - self._idle_since < self._grace:
            return
        self._idle_since = None
        for number in spent:
            self._keyring.drop(number)
            log.info("forgot the WireGuard key of generation %d", number)
        await self._tell()


def _shown(endpoint: tuple[str, int]) -> str:
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
