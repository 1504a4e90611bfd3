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

from fairlead.kernel.errors import KernelError
from fairlead.kernel.wireguard import Device
from fairlead.kit import fault
from fairlead.model.errors import Conflict, Invalid, Unsupported
from fairlead.topology import crypt, rotation
from fairlead.topology.crypt import Way
from fairlead.topology.station import Station, published

from .keyring import Keyring
from .me import Me

log = logging.getLogger(__name__)

_GLANCE = 0.1
"""Seconds between two looks whether there was a handshake, while one is waited for."""
_PATIENCE = 10.0
"""Seconds after which a newer key is used without having seen a handshake: its first packet asks for one."""
_REST = 60.0
"""Seconds between two looks at the keys' age."""


class Encryption:
    """Runs beside the agent for as long as it lives."""

    def __init__(
        self,
        keyring: Keyring,
        me: Me,
        *,
        lacking: Callable[[], str],
        devices: Callable[[], Awaitable[dict[str, Device]]],
        changed: Callable[[], Awaitable[None]],
        moved: Callable[[Iterable[str]], Awaitable[None]],
        age: float,
        grace: float,
    ) -> None:
        """``lacking`` says why there is no encryption here, or nothing; ``devices`` reads those there are.

        ``changed``: this node's keys are others; ``moved``: so are the ways to some nodes. ``age``: seconds after which a key
        is replaced, 0 for never; ``grace``: for how long an old one is still good.
        """
        self._keyring, self._me = keyring, me
        self._lacking, self._devices, self._changed, self._moved = lacking, devices, changed, moved
        self._age, self._grace = age, grace
        self._others: dict[str, Station] = {}
        self._doubts: dict[str, str] = {}
        self._needed = False
        self._met: dict[str, set[int]] = {}
        self._waiting: dict[tuple[str, int], float] = {}
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
        self._met = {name: met for name, met in self._met.items() if name in alive}
        self._wake.set()
        return changed

    def way(self, other: Station) -> Way | None:
        """How packets to a node are encrypted; None: not at all, so that there must be none."""
        return crypt.way(self._me.station, self.trusted(other), self._met.get(other.name, ()))

    def trusted(self, other: Station) -> Station:
        """A node as far as it is believed: one that is not heard of, or claims what another has, has no key and no address."""
        if other.name in self._others and other.name not in self._doubts:
            return other
        return other._replace(key="", addresses=())

    def why_not(self) -> str:
        """Why this node encrypts nothing; empty if it does, or would."""
        return self._lacking()

    async def remember(self) -> None:
        """At a start: with whom there has been a handshake already."""
        if self._needed and len(self._keyring.public) > 1:
            await self._greet()

    async def rotate(self) -> int:
        """Make a key of the next generation, which every node follows; the generation."""
        async with self._one:
            mine = self._keyring.public
            if why := self._lacking():
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
            if self._needed and not self._lacking():
                async with self._one:
                    await self._turn()

    def _pause(self) -> float:
        if self._unmet():
            return _GLANCE
        return min(_REST, self._grace / 2 + _GLANCE) if self._idle_since is not None else _REST

    async def _turn(self) -> None:
        mine = self._keyring.public
        if number := rotation.wanted(mine, self._others.values()):
            await self._take(number)
        elif self._too_old(mine) and not rotation.behind(max(mine), self._others.values()):
            log.info("the WireGuard key is %d s old: a rotation begins", self._keyring.age(max(mine)))
            await self._take(max(mine) + 1)
        await self._greet()
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
            await self._changed()

    def _unmet(self) -> list[tuple[str, int]]:
        """The nodes towards which a newer key waits for a handshake, and its generation."""
        me = self._me.station
        newest = {name: crypt.common(me, other) for name, other in self._others.items()}
        return [
            (name, generations[0])
            for name, generations in newest.items()
            if len(generations) > 1 and generations[0] not in self._met.get(name, ())
        ]

    async def _greet(self) -> None:
        """Use newer keys where there was a handshake, or where it is waited for long enough."""
        unmet = self._unmet()
        if not unmet:
            self._waiting.clear()
            return
        now = time.monotonic()
        try:
            devices = await self._devices()
        except KernelError as error:
            log.warning("WireGuard cannot be asked: %s", error)
            devices = {}
        moved = []
        for name, generation in unmet:
            since = self._waiting.setdefault((name, generation), now)
            device = devices.get(crypt.device(generation))
            peer = device.peers.get(self._others[name].keys[generation]) if device else None
            if (peer and peer.handshake) or now - since >= _PATIENCE:
                self._met.setdefault(name, set()).add(generation)
                moved.append(name)
        if moved:
            fault.point("encryption.met")
            await self._moved(moved)

    async def _retire(self) -> None:
        """Forget old keys once nobody needs them."""
        spent = rotation.spent(self._keyring.public, self._others.values())
        if not spent or self._unmet():
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
        self._met = {name: met - spent for name, met in self._met.items()}
        await self._tell()
