"""Tunnels: VXLAN devices, and who is behind them. Nothing is learnt: forwarding entry and neighbour of each end are told.

An end's neighbour is its link-local address: of both families a route can go through it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from errno import ENODEV, ENOENT

from fairlead.api.schema import Drift
from fairlead.desired.ways import Tunnel, Vtep
from fairlead.kernel import route, sysctl
from fairlead.kernel.errors import Exists
from fairlead.kernel.netlink import Message, Netlink
from fairlead.kernel.route import LinkInfo, NeighbourInfo, Vxlan
from fairlead.kit import fault
from fairlead.model.errors import Conflict, Missing

from .mark import GROUP

TABLE, ENDS = "tunnels", "tunnel ends"
_GONE = (ENOENT, ENODEV)


def ensure(nl: Netlink, row: Tunnel) -> None:
    """Make the device; one of ours that differs in what cannot be changed is made anew."""
    wanted = Vxlan(row.vni, row.port, row.local)
    try:
        nl.do(*_made(row, wanted))
    except Exists:
        found = route.link(nl, row.name)
        if found is None or found.group != GROUP or found.kind != "vxlan":
            raise Conflict(f"the host has an interface {row.name} that Fairlead did not make", field="metadata.name") from None
        if found.vxlan != wanted:
            nl.do(route.del_link(found.index))
            nl.do(*_made(row, wanted))
        else:
            nl.do(route.set_link(found.index, mac=row.mac, mtu=row.mtu, up=True))
    fault.point("tunnel.made")
    # Nodes answer by whichever way is theirs: what comes out of a tunnel need not go back into it.
    sysctl.write(f"net.ipv4.conf.{row.name}.rp_filter", "0")


def _made(row: Tunnel, of: Vxlan) -> tuple[Message, ...]:
    return route.new_vxlan(row.name, of, mac=row.mac, mtu=row.mtu, group=GROUP)


def remove(nl: Netlink, row: Tunnel) -> None:
    """Remove the device if it is there and ours."""
    found = route.link(nl, row.name)
    if found and found.group == GROUP:
        nl.do(route.del_link(found.index))


def join(nl: Netlink, rows: Sequence[Vtep]) -> None:
    """Say who is behind tunnels. There may be a thousand, so the kernel is asked once who is there."""
    devices: dict[str, int] = {}
    for name in {row.tunnel for row in rows}:
        device = route.link(nl, name)
        if device is None:
            raise Missing(f"tunnel {name} is gone; it comes back by itself", field="network")
        devices[name] = device.index
    wanted = {(devices[row.tunnel], str(row.mac)): row for row in rows}
    for old in route.fdb(nl) if rows else ():
        row = wanted.get((old.index, old.mac))
        if row is not None and old.address != row.remote:
            nl.do(route.fdb_delete(old.index, row.mac, old.address).accepting(*_GONE))
    for row in rows:
        index = devices[row.tunnel]
        nl.do(
            route.fdb_replace(index, row.mac, row.remote),
            route.new_neighbour(index, row.mac.link_local, row.mac),
        )


def part(nl: Netlink, row: Vtep) -> None:
    """Forget who was behind a tunnel."""
    device = route.link(nl, row.tunnel)
    if device is not None:
        nl.do(
            route.fdb_delete(device.index, row.mac, row.remote).accepting(*_GONE),
            route.del_neighbour(device.index, row.mac.link_local).accepting(*_GONE),
        )


def check(nl: Netlink, tunnels: Iterable[Tunnel], ends: Iterable[Vtep], links: dict[str, LinkInfo]) -> list[Drift]:
    """Compare devices and who is behind them with the kernel."""
    tunnels, ends = list(tunnels), list(ends)
    if not tunnels:
        return []
    drift = [found for row in tunnels for found in _check(row, links.get(row.name))]
    indexes = {row.name: links[row.name].index for row in tunnels if row.name in links}
    entries = [one for one in route.fdb(nl) if one.index in indexes.values() and one.address]
    told = {(one.index, one.mac, one.address) for one in entries}
    near = {(one.index, one.address, one.mac) for one in route.neighbours(nl, 6) if one.state & route.PERMANENT}
    wanted = set()
    for row in ends:
        index = indexes.get(row.tunnel, -1)
        wanted.add((index, row.mac, row.remote))
        if (index, row.mac, row.remote) not in told or (index, row.mac.link_local, row.mac) not in near:
            drift.append(Drift(table=ENDS, key=row.key, kind="missing", want=f"{row.mac} of {row.node} at {row.remote}"))
    of = {index: name for name, index in indexes.items()}
    stale = [one for one in entries if (one.index, one.mac, one.address) not in wanted]
    return drift + [
        Drift(table=ENDS, key=f"{of[one.index]} {one.mac}", kind="unexpected", have=f"{one.mac} at {one.address}")
        for one in stale
    ]


def prune(nl: Netlink, tunnels: Iterable[Tunnel], ends: Iterable[Vtep]) -> int:
    """Forget who is behind a tunnel and should not be; return how many."""
    links = {one.index: one.name for one in route.links(nl)}
    ours: set[str] = {row.name for row in tunnels}
    wanted: set[tuple[str, str, str]] = {(row.tunnel, row.mac, row.remote) for row in ends}
    stale = [one for one in route.fdb(nl) if _stale(one, links, ours, wanted)]
    nl.do(*(route.fdb_delete(one.index, one.mac, one.address).accepting(*_GONE) for one in stale))
    return len(stale)


def _stale(one: NeighbourInfo, links: dict[int, str], ours: set[str], wanted: set[tuple[str, str, str]]) -> bool:
    name = links.get(one.index, "")
    return name in ours and one.address is not None and (name, one.mac, one.address) not in wanted


def _check(row: Tunnel, link: LinkInfo | None) -> list[Drift]:
    if link is None:
        return [Drift(table=TABLE, key=row.name, kind="missing", want=f"tunnel of network {row.network}")]
    want = {"up": True, "mtu": row.mtu, "mac": str(row.mac), "vxlan": f"id {row.vni} port {row.port} local {row.local}"}
    of = link.vxlan
    shown = f"id {of.vni} port {of.port} local {of.local}" if of else "no vxlan"
    have = {"up": link.up, "mtu": link.mtu, "mac": link.mac, "vxlan": shown}
    return [
        Drift(table=TABLE, key=row.name, kind="different", want=f"{name} {want[name]}", have=f"{name} {have[name]}")
        for name in want
        if want[name] != have[name]
    ]
