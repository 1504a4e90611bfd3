"""From addresses to names: endpoints of this node, the host itself, the world.

A connection outlives its container by a moment: so the name of an address stays until somebody else gets the address.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from functools import lru_cache
from time import monotonic

from fairlead.model.address import Address
from fairlead.model.endpoint import Endpoint

Party = Endpoint | str
"""An endpoint, ``host`` or ``world``."""

HOST, WORLD = "host", "world"
_MAPPED = bytes(10) + b"\xff\xff"
_STALE = 2.0
"""Seconds for which the host's own addresses are taken as they were read."""
_PAST = 4096
"""Addresses nobody has any more whose names are kept."""


class Names:
    """Who has which address."""

    def __init__(
        self,
        endpoints: Callable[[], Iterable[Endpoint]],
        host: Callable[[], Iterable[str]],
        version: Callable[[], object],
        elsewhere: Callable[[str], Endpoint | None] = lambda _: None,
    ) -> None:
        """``version`` answers with another object after every change of ``endpoints``; the ``host`` is asked now and then.

        ``elsewhere`` answers with the endpoint of another node that has an address: there may be too many to list them.
        """
        self._elsewhere = elsewhere
        self._ask_endpoints, self._ask_host, self._ask_version = endpoints, host, version
        self._version: object = None
        self._read = 0.0
        self._names: dict[bytes, Party] = {}
        self._past: dict[bytes, Party] = {}

    def refresh(self) -> None:
        """Learn who has which address now, if anything may have changed."""
        version, now_is = self._ask_version(), monotonic()
        if version is self._version and now_is - self._read < _STALE:
            return
        self._version, self._read = version, now_is
        before = self._names
        now: dict[bytes, Party] = {packed(one): HOST for one in self._ask_host()}
        for endpoint in self._ask_endpoints():
            now |= {packed(one.address): endpoint for one in endpoint.spec.addresses}
        self._past |= {key: party for key, party in before.items() if key not in now and party is not HOST}
        while len(self._past) > _PAST:
            del self._past[next(iter(self._past))]
        self._names = now

    def of(self, key: bytes) -> Party:
        """Whose address this is."""
        if found := self._names.get(key):
            return found
        if other := self._elsewhere(address(key)):
            self._past[key] = other
            return other
        return self._past.get(key, WORLD)


def packed(text: str) -> bytes:
    """An address as the programs have it: 16 bytes, IPv4 mapped into IPv6."""
    raw = Address(text).packed
    return raw if len(raw) == 16 else _MAPPED + raw


@lru_cache(maxsize=8192)
def address(key: bytes) -> str:
    """The address as people write it."""
    if key.startswith(_MAPPED):
        return str(ipaddress.IPv4Address(key[12:]))
    return str(ipaddress.IPv6Address(key))
