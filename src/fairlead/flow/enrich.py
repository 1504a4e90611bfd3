"""From addresses to names: endpoints, the host itself, other nodes, services, the world.

A connection outlives its container by a moment: so the name of an address stays until somebody else gets the address.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from time import monotonic

from fairlead.desired import names
from fairlead.model.address import Address
from fairlead.model.endpoint import Endpoint
from fairlead.model.node import Node

Party = Endpoint | str
"""An endpoint, ``host``, ``node/`` with another node's name, ``service/`` with namespace and name, or ``world``."""

HOST, NODE, SERVICE, WORLD = "host", "node", "service", "world"
_MAPPED = bytes(10) + b"\xff\xff"
_STALE = 2.0
"""Seconds for which the host's own addresses are taken as they were read."""
_PAST = 4096
"""Addresses nobody has any more whose names are kept."""
_KEPT = 4
"""How many an address is known to have belonged to."""


class Names:
    """Who has which address, and had it before; who is behind which link.

    Time is counted in turns, one for each time that something was seen: what was seen in one turn is asked about later, mostly
    never.
    """

    def __init__(
        self,
        endpoints: Callable[[], Iterable[Endpoint]],
        host: Callable[[], Iterable[str]],
        nodes: Callable[[], Iterable[Node]],
        version: Callable[[], object],
        links: Mapping[str, int],
        *,
        elsewhere: Callable[[str], Party | None] = lambda _: None,
    ) -> None:
        """``version`` answers with another object after every change of ``endpoints``; the others are asked now and then.

        ``links``: the number of each endpoint's interface, by name, as it is at any time. ``elsewhere`` answers with the
        endpoint of another node, or the service, that has an address: there may be too many to list them.
        """
        self._ask_endpoints, self._ask_host, self._ask_nodes = endpoints, host, nodes
        self._ask_version, self._links, self._elsewhere = version, links, elsewhere
        self._version: object = None
        self._read = 0.0
        self._turn = 0
        self._now: dict[bytes | int, Party] = {}
        self._since: dict[bytes | int, tuple[tuple[int, Party], ...]] = {}
        """By address or link: from which turn on who has it, the last one last."""

    def refresh(self) -> int:
        """Begin a turn: learn who has which address now, if anything may have changed. Returns the number of the turn."""
        self._turn += 1
        version, now_is = self._ask_version(), monotonic()
        if version is not self._version or now_is - self._read >= _STALE:
            self._version, self._read = version, now_is
            self._learn()
        return self._turn

    def of(self, key: bytes, turn: int) -> Party:
        """Whose address this was in a turn."""
        if key not in self._now and (other := self._elsewhere(address(key))):
            known = self._since.get(key, ())
            if not known or (known[-1][1] is not other and known[-1][1] != other):
                self._since[key] = (*known[1 - _KEPT :], (turn, other))
        return self._at(key, turn) or WORLD

    def behind(self, interface: int, turn: int) -> Party | None:
        """Who was at the other end of a link."""
        return self._at(interface, turn)

    def _at(self, key: bytes | int, turn: int) -> Party | None:
        known = self._since.get(key, ())
        return next((party for begin, party in reversed(known) if begin <= turn), known[0][1] if known else None)

    def _learn(self) -> None:
        now: dict[bytes | int, Party] = {
            packed(address): f"{NODE}/{one.name}" for one in self._ask_nodes() for address in one.addresses
        }
        now |= {packed(one): HOST for one in self._ask_host()}
        for endpoint in self._ask_endpoints():
            if index := self._links.get(names.veth(endpoint.name)):
                now[index] = endpoint
            now |= {packed(one.address): endpoint for one in endpoint.spec.addresses}
        for key, party in now.items():
            if (before := self._now.get(key)) is not party and before != party:
                known = self._since.pop(key, ())  # what changed last is forgotten last
                self._since[key] = (*known[1 - _KEPT :], (self._turn, party))
        for key in self._now.keys() - now.keys():
            if isinstance(self._now[key], str):
                del self._since[key]
        self._now = now
        past = (key for key in tuple(self._since) if key not in now)
        for _ in range(len(self._since) - len(now) - _PAST):
            del self._since[next(past)]


def service(namespace: str, name: str) -> str:
    """How a service is called among the parties."""
    return f"{SERVICE}/{namespace}/{name}"


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
