"""Veth pairs: the far end is born inside the container's namespace, the near end on the network's bridge, or on none.

Without a bridge the link is routed: the host has a route to each of the container's addresses through the near end, and both
ends are told the other's MAC for good, so that nobody asks and nobody can answer in another's place.

Of a link that is handed over the far end is born beside the near one, and who asked for it moves, names and configures it (so
does Docker); from then on only the near end is looked after here. A pair lives and dies as one: while the near end exists, so
does the far one. If it was destroyed under a running container, a new far end is born inside, as for everybody else.

The near end is a port of the bridge and nothing else: it has no address and takes no part in ARP. (What a container sends to
the addresses reserved for bridges is not bridged but comes up there, past the bridge's packet filter.)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from typing import NamedTuple

from msgspec.structs import replace

from fairlead.api.schema import Drift
from fairlead.desired import names
from fairlead.desired.state import Link
from fairlead.kernel import netns, route, sysctl
from fairlead.kernel.errors import Exists
from fairlead.kernel.netlink import Message, Netlink
from fairlead.kernel.route import LinkInfo
from fairlead.kit import fault
from fairlead.model.address import InterfaceName
from fairlead.model.errors import Conflict, Missing

from .inside import TABLE, differences, furnish, gone, has_big_tcp, namespace, segment
from .mark import GROUP, PROTOCOL

Gate = Callable[[Link], None]
"""What must be done with the near end before it carries anything."""


def ensure(nl: Netlink, row: Link, gate: Gate) -> int | None:
    """Make the pair and what is inside the container; where some of it is there already, add what is missing.

    The near end is down until ``gate`` has returned.
    Returns the id by which the host's namespace knows the container's; None of a link that is handed over.
    """
    if row.handover:
        _ensure_handover(nl, row, gate)
        return None
    with namespace(row.path, row.cookie) as fd:
        master = _master(nl, row)
        try:
            _make(nl, row, master, fd, gate)
        except Exists:
            _repair_pair(nl, row, master, fd, gate)
        fault.point("veth.made")
        furnish(row, fd)
        if row.bridge is None:
            lead(nl, row)
        fault.point("veth.furnished")
        return route.nsid_of(nl, fd)


def lead(nl: Netlink, row: Link) -> None:
    """Routes from the host to the addresses of a routed link, and the MAC behind them."""
    near = route.link(nl, row.host)
    if near is None:
        raise Missing(f"interface {row.host} vanished", field="interface")
    # 127.0.0.1 on a published port: the packet goes out, and its answer comes in, with a loopback address.
    sysctl.write(f"net.ipv4.conf.{row.host}.route_localnet", "1")
    for one in row.addresses:
        nl.do(
            route.new_neighbour(near.index, one.address, row.mac),
            route.new_route(one.address.host(), None, near.index, protocol=PROTOCOL, replace=True),
        )


class Host(NamedTuple):
    """What the kernel listed of the host: interfaces by name, routes of ours, neighbours."""

    links: dict[str, LinkInfo]
    routes: frozenset[tuple[str, int]]
    neighbours: frozenset[tuple[str, str, int]]

    @classmethod
    def read(cls, nl: Netlink, links: dict[str, LinkInfo], *, routed: bool) -> Host:
        """``routed``: whether there are links for which routes and neighbours matter."""
        if not routed:
            return cls(links, frozenset(), frozenset())
        routes = frozenset((one.dst, one.index) for one in route.routes(nl) if one.protocol == PROTOCOL)
        return cls(links, routes, frozenset((one.address or "", one.mac, one.index) for one in route.neighbours(nl)))


def check_host(row: Link, host: Host) -> list[Drift]:
    """Compare the near end with what the kernel listed."""
    near = host.links.get(row.host)
    if near is None:
        return [Drift(table=TABLE, key=row.key, kind="missing", want=f"veth {row.host} on {row.bridge or 'no bridge'}")]
    master = host.links.get(row.bridge or "")
    index = master.index if master else -1 if row.bridge else 0
    want = {"up": True, "arp": False, "mtu": row.mtu, "bridge": index, "isolated": row.alone, "hairpin": row.hairpin}
    have = {
        "up": near.up,
        "arp": near.arp,
        "mtu": near.mtu,
        "bridge": near.master,
        "isolated": near.isolated,
        "hairpin": near.hairpin,
    }
    want["big TCP"], have["big TCP"] = has_big_tcp(row), near.big_tcp
    want["group"], have["group"] = GROUP, near.group  # one that was about to go when the agent died would go with the next
    drift = differences(row.key, f"{row.host} ", want, have)
    if row.bridge is None:
        lost = [f"route {one.address.host()}" for one in row.addresses if (one.address.host(), near.index) not in host.routes]
        lost += [
            f"neighbour {one.address}" for one in row.addresses if (one.address, row.mac, near.index) not in host.neighbours
        ]
        drift += [Drift(table=TABLE, key=row.key, kind="missing", want=f"{row.host} {one}") for one in lost]
    return drift


def _master(nl: Netlink, row: Link) -> int:
    """The index of the bridge; 0 of a routed link."""
    if row.bridge is None:
        return 0
    bridge = route.link(nl, row.bridge)
    if bridge is None:
        raise Missing(f"bridge {row.bridge} is gone; it comes back by itself, try again", field="network")
    return bridge.index


def _make(nl: Netlink, row: Link, bridge: int, fd: int, gate: Gate) -> None:
    nl.do(*_pair(row, bridge, fd))
    fault.point("veth.down")
    gate(row)
    nl.do(route.set_link(row.host, up=True, segment=route.BIG if has_big_tcp(row) else 0))


def _pair(row: Link, bridge: int, fd: int) -> tuple[Message, ...]:
    return route.new_veth(
        row.host,
        row.name,
        fd,
        master=bridge,
        mtu=row.mtu,
        mac=row.mac,
        host_mac=names.veth_mac(row.key),
        group=GROUP,
        arp=False,
        isolated=row.alone,
        hairpin=row.hairpin,
        up=False,
    )


def _repair_pair(nl: Netlink, row: Link, bridge: int, fd: int, gate: Gate) -> None:
    """The pair, or only the far end's name, was there already."""
    near = route.link(nl, row.host)
    with Netlink(netns=fd) as inside:
        far = route.link(inside, row.name)
    if near is None:
        raise Conflict(f"the container already has an interface {row.name}; name another", field="interface")
    if far is None or near.peer_index != far.index:
        nl.do(route.del_link(near.index))
        fault.point("veth.removed")
        if far is not None:
            raise Conflict(
                f"the container already has an interface {row.name} that is not ours; name another", field="interface"
            )
        _make(nl, row, bridge, fd, gate)
        return
    gate(row)
    _settle(nl, row, near, bridge)


def _settle(nl: Netlink, row: Link, near: LinkInfo, bridge: int) -> None:
    """The near end as it should be."""
    change = route.set_link(near.index, master=bridge, mtu=row.mtu, arp=False, up=True, group=GROUP, segment=segment(row, near))
    nl.do(change)
    if bridge:
        nl.do(route.bridge_port(near.index, isolated=row.alone, hairpin=row.hairpin))


def _ensure_handover(nl: Netlink, row: Link, gate: Gate) -> None:
    """Make the pair, its far end on the host; or, if there was one that was destroyed, inside the container it had got to."""
    bridge = _master(nl, row)
    if ours := route.link(nl, row.host):
        gate(row)
        _settle(nl, row, ours, bridge)
        return
    sandbox = None if gone(row.path, row.cookie) else netns.open_path(row.path)
    fd = netns.own() if sandbox is None else sandbox
    try:
        name = names.handover(row.key) if sandbox is None else _unused(sandbox, row.name)
        made = replace(row, name=name)
        _make(nl, made, bridge, fd, gate)
        if sandbox is not None:
            furnish(made, sandbox)
    finally:
        os.close(fd)


def _unused(fd: int, prefix: str) -> InterfaceName:
    """The first of ``eth0``, ``eth1``, ... that is free inside, as Docker chooses."""
    with Netlink(netns=fd) as inside:
        taken = {one.name for one in route.links(inside)}
    return next(InterfaceName(name) for name in (f"{prefix}{number}" for number in count()) if name not in taken)


def near(nl: Netlink, path: str, interface: str) -> str | None:
    """The host's end of the pair whose other end is ``interface`` inside ``path``; None if it has none here."""
    with namespace(path) as fd, Netlink(netns=fd) as inside:
        far = route.link(inside, interface)
        if far is None or not far.peer_index:
            return None
        here = route.link(nl, far.peer_index)
        return here.name if here and here.peer_index == far.index and here.kind == "veth" else None
