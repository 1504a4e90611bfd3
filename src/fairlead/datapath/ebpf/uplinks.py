"""The devices by which other nodes are reached, and the program that sees what comes in there.

Tunnels are ours; an uplink is the user's, and so is what is attached there: our program has a priority of its own, and nothing
but it is ever taken away, and at last the place that we made for it (``places``).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fairlead.api.schema import Drift
from fairlead.datapath.base import PLANE
from fairlead.desired.names import VETH
from fairlead.desired.routing import Speaker
from fairlead.desired.state import NodeState, Realm, Row
from fairlead.desired.ways import Path, Tunnel
from fairlead.kernel import route
from fairlead.kernel.netlink import Netlink
from fairlead.kernel.route import LinkInfo
from fairlead.model.address import Address

from .entries import Found, tunnel_entries
from .layout import INDEX, Uplink
from .places import Places
from .programs import Programs

TABLE = f"{PLANE} uplinks"
PROGRAM = "from_net"
PRIORITY = 0x666D
"""Of our program: that of limits (``links.mark``) is the one before."""
_PLACES = ("clsact", "ingress")
_ETHERNET = len("00:00:00:00:00:00")


class Wish(NamedTuple):
    """What tells the devices: tunnels and their ends here, next hops on the subnets of others, and those that less gets to."""

    tunnels: frozenset[str] = frozenset()
    ends: frozenset[Address] = frozenset()
    hops: frozenset[Address] = frozenset()
    narrow: frozenset[Address] = frozenset()


class Uplinks:
    """Shares the socket of its plane."""

    def __init__(self, netlink: Netlink, programs: Programs) -> None:
        self._netlink = netlink
        self._programs = programs
        self._places = Places(netlink, programs.run_dir)
        self._wish = Wish()
        self.held: frozenset[int] = frozenset()
        """Where the program was last seen to."""

    def is_news(self, state: NodeState, rows: Iterable[Row]) -> bool:
        """Whether ``rows``, which have come or gone, change the devices that there should be, or made one anew."""
        rows = [row for row in rows if isinstance(row, Path | Tunnel | Speaker | Realm)]
        return any(isinstance(row, Tunnel) for row in rows) or (bool(rows) and _wish(state) != self._wish)

    def apply(self, state: NodeState, links: Mapping[str, LinkInfo]) -> None:
        """Attach the program where it is missing or another, and take it off where nobody wants it."""
        program, at = self._programs.programs[PROGRAM], self._attached(links)
        wanted = {one: links[one].index for one in self.wanted(state, links) if one in links}
        self.held = frozenset(wanted.values())
        for name, index in wanted.items():
            if at.get(name) != program.info.id:
                self._attach(index, program.fd)
        for name in at:
            if name not in wanted:
                self._netlink.do(route.del_program(links[name].index, route.RECEIVED, PRIORITY))

    def check(self, state: NodeState, links: Mapping[str, LinkInfo]) -> list[Drift]:
        """Compare what is attached with ``state``; a tunnel that is missing is without its program."""
        have, wanted = self._attached(links), self.wanted(state, links)
        program = self._programs.programs[PROGRAM].info.id
        want = f"program {PROGRAM} (id {program})"
        drift = [
            Drift(
                table=TABLE,
                key=name,
                kind="different" if name in have else "missing",
                want=want,
                have=f"id {have[name]}" if name in have else "",
            )
            for name in wanted
            if have.get(name) != program
        ]
        stray = (name for name in have if name not in wanted)
        return drift + [Drift(table=TABLE, key=name, kind="unexpected", have=f"id {have[name]}") for name in stray]

    def entries(self, state: NodeState, links: Mapping[str, LinkInfo]) -> Found:
        """What the maps of devices and of tunnels hold."""
        wanted = {name: use for name, use in self.wanted(state, links).items() if name in links}
        found: Found = {"uplinks": {INDEX.pack(links[name].index): INDEX.pack(use) for name, use in wanted.items()}}
        found |= {"tunnels": {}, "arrivals": {}}
        for row in state.table(Tunnel).values():
            if row.name in wanted:
                for name, entries in tunnel_entries(row, links[row.name].index).items():
                    found[name] |= entries
        return found

    def wanted(self, state: NodeState, links: Mapping[str, LinkInfo]) -> dict[str, Uplink]:
        """What each is for: tunnels of networks that are not encrypted, what carries them, and where next hops are.

        The last not where a BGP speaker knows next hops that less gets to: its routes are not ours to look at.
        """
        self._wish = wish = _wish(state)
        uses = dict.fromkeys(wish.tunnels | (self._on(wish.hops, links) - self._on(wish.narrow, links)), Uplink.ROUTES)
        for name in self._on(wish.ends, links):
            uses[name] = uses.get(name, Uplink(0)) | Uplink.TUNNELS
        return dict(sorted(uses.items()))

    def _on(self, hops: Iterable[Address], links: Mapping[str, LinkInfo]) -> set[str]:
        """The Ethernet devices on whose subnets ``hops`` are."""
        missing = {ipaddress.ip_address(one) for one in hops}
        names = {one.index: name for name, one in links.items() if len(one.mac) == _ETHERNET and not name.startswith(VETH)}
        found: set[str] = set()
        for one in route.addresses(self._netlink) if missing else ():
            if one.index not in names or one.scope == route.LINK:
                continue
            subnet = ipaddress.ip_interface(one.interface).network
            if near := {hop for hop in missing if hop in subnet}:
                found.add(names[one.index])
                missing -= near
        return found

    def _attached(self, links: Mapping[str, LinkInfo]) -> dict[str, int]:
        """The program's number by the device where it is."""
        names = {one.index: name for name, one in links.items() if not name.startswith(VETH)}
        places = {one.index for one in route.qdiscs(self._netlink) if one.kind in _PLACES and one.index in names}
        return {
            names[index]: one.program
            for index in places
            for one in route.programs(self._netlink, index, PRIORITY)
            if one.name == PROGRAM
        }

    def _attach(self, index: int, fd: int) -> None:
        self._places.ensure(index)
        self._netlink.do(route.new_program(index, route.RECEIVED, fd, PROGRAM, PRIORITY))

    def clear(self) -> None:
        """Leave no trace on any device."""
        self.held = frozenset()
        detach(self._netlink)
        self._places.clear()


def detach(netlink: Netlink) -> None:
    """Take the program off every device."""
    for index in {one.index for one in route.qdiscs(netlink) if one.kind in _PLACES}:
        if any(one.name == PROGRAM for one in route.programs(netlink, index, PRIORITY)):
            netlink.do(route.del_program(index, route.RECEIVED, PRIORITY))


def _wish(state: NodeState) -> Wish:
    plain = {row.network for row in state.table(Realm).values() if row.inter_container and not row.encrypted}
    if not plain:
        return Wish()
    speakers = state.table(Speaker).values()
    vias = (row.via for row in state.table(Path).values() if row.via and not row.device and not row.apart)
    tunnels = [row for row in state.table(Tunnel).values() if row.network in plain]
    return Wish(
        frozenset(row.name for row in tunnels),
        frozenset(row.local for row in tunnels if row.local.family == 4),
        frozenset((*vias, *(one for row in speakers for one in row.addresses))),
        frozenset(one.hop for row in speakers for one in row.narrow),
    )
