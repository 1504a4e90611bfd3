"""Handshakes: with whom there was one, and by keys of which generation; and that there is one soon.

Of two nodes one begins (``CryptPeer.calls``): if both did at once, both would fail and try again after five seconds. But the
one that begins may not be known to the other yet, which then does not hear it. So the other begins too, a moment later, if
nobody has called by then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

from fairlead.kernel.errors import KernelError
from fairlead.kernel.wireguard import Device
from fairlead.topology import crypt
from fairlead.topology.station import Station

log = logging.getLogger(__name__)

_MOMENT = 0.3
"""Seconds after which one begins a handshake that the other should have begun."""
_PATIENCE = 10.0
"""Seconds after which nobody waits for a handshake any more: the first packet asks for one."""

Pair = tuple[str, int]
"""A node, and a generation of which both have a key."""


class Handshakes:
    """What is known of them, and what is waited for."""

    def __init__(
        self,
        devices: Callable[[], Awaitable[dict[str, Device]]],
        call: Callable[[Iterable[str]], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``devices`` reads those there are; ``call`` begins a handshake with peers, by the keys of their rows."""
        self._devices, self._call, self._clock = devices, call, clock
        self._met: dict[str, set[int]] = {}
        self._waiting: dict[Pair, float] = {}
        self._done: set[Pair] = set()
        self._called: set[Pair] = set()

    def met(self, name: str) -> frozenset[int]:
        """The generations in which there was a handshake with a node, or in which one was awaited for long enough."""
        return frozenset(self._met.get(name, ()))

    def again(self) -> None:
        """A device was made anew: whoever is behind it is to be met again."""
        self._done.clear()

    def expect(self, me: Station, others: Iterable[Station]) -> None:
        """With each of these, by each generation that both have."""
        pairs = {(one.name, number) for one in others for number in crypt.common(me, one)}
        now = self._clock()
        self._done &= pairs
        self._called &= pairs - self._done
        self._waiting = {pair: self._waiting.get(pair, now) for pair in pairs - self._done}
        names: dict[str, set[int]] = {}
        for name, number in pairs:
            names.setdefault(name, set()).add(number)
        self._met = {name: met & names[name] for name, met in self._met.items() if name in names}

    @property
    def waiting(self) -> bool:
        """Whether any is."""
        return bool(self._waiting)

    async def look(self, others: Mapping[str, Station]) -> set[str]:
        """See what has come of those awaited; the nodes that are met by another generation now."""
        if not self._waiting:
            return set()
        try:
            devices = await self._devices()
        except KernelError as error:
            log.warning("WireGuard cannot be asked: %s", error)
            devices = {}
        moved, silent = set(), []
        for (name, number), since in list(self._waiting.items()):
            device = devices.get(crypt.device(number))
            public = others[name].keys.get(number, "") if name in others else ""
            peer = device.peers.get(public) if device else None
            waited = self._clock() - since
            if (peer and peer.handshake) or waited >= _PATIENCE:
                del self._waiting[name, number]
                self._done.add((name, number))
                if number not in self._met.setdefault(name, set()):
                    self._met[name].add(number)
                    moved.add(name)
            elif peer and not peer.sent and waited >= _MOMENT and (name, number) not in self._called:
                self._called.add((name, number))
                silent.append(f"{crypt.device(number)} {public}")
        if silent:
            await self._call(silent)
        return moved
