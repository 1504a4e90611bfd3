"""Veth pairs: the far end is born inside the container's namespace, the near end on the network's bridge.

The near end is a port of the bridge and nothing else: it has no address and takes no part in ARP. (What a container sends to
the addresses reserved for bridges is not bridged but comes up there, past the bridge's packet filter.)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from errno import EEXIST

from fairlead.api.schema import Drift
from fairlead.desired import names
from fairlead.desired.state import Hop, Link
from fairlead.kernel import netns, route, sysctl
from fairlead.kernel.errors import Exists, KernelError
from fairlead.kernel.netlink import Message, Netlink
from fairlead.kernel.route import LinkInfo
from fairlead.model.errors import Conflict, Missing

from .mark import GROUP

TABLE = "links"
_LOOPBACK = 1


def ensure(nl: Netlink, row: Link) -> int | None:
    """Make the pair and what is inside the container; where some of it is there already, add what is missing.

    Returns the id by which the host's namespace knows the container's.
    """
    with namespace(row.path, row.cookie) as fd:
        bridge = route.link(nl, row.bridge)
        if bridge is None:
            raise Missing(f"bridge {row.bridge} is gone; it comes back by itself, try again", field="network")
        try:
            nl.do(*_pair(row, bridge.index, fd))
        except Exists:
            _repair_pair(nl, row, bridge.index, fd)
        _furnish(row, fd)
        return route.nsid_of(nl, fd)


@contextmanager
def namespace(path: str, cookie: int = 0) -> Iterator[int]:
    """Open the container's namespace; ``Missing`` if it is gone or another one has taken its path."""
    try:
        fd = netns.open_path(path)
    except KernelError as error:
        raise Missing(f"the network namespace {path} is gone: {error}", field="path") from None
    try:
        if cookie and netns.cookie(fd) != cookie:
            raise Missing(f"{path} is now another network namespace", field="path")
        yield fd
    finally:
        os.close(fd)


def check_host(row: Link, links: dict[str, LinkInfo]) -> list[Drift]:
    """Compare the near end with what the kernel listed."""
    near = links.get(row.host)
    if near is None:
        return [Drift(table=TABLE, key=row.key, kind="missing", want=f"veth {row.host} on {row.bridge}")]
    master = links.get(row.bridge)
    index = master.index if master else -1
    want = {"up": True, "arp": False, "mtu": row.mtu, "bridge": index, "isolated": row.alone, "hairpin": row.hairpin}
    have = {
        "up": near.up,
        "arp": near.arp,
        "mtu": near.mtu,
        "bridge": near.master,
        "isolated": near.isolated,
        "hairpin": near.hairpin,
    }
    return _differences(row, f"{row.host} ", want, have)


def check_inside(nl: Netlink, row: Link) -> tuple[list[Drift], int | None]:
    """Compare what is inside the container; a namespace that is gone is no drift, its endpoint is collected."""
    try:
        with namespace(row.path, row.cookie) as fd, Netlink(netns=fd) as inside:
            return _check_inside(inside, row), route.nsid_of(nl, fd)
    except Missing:
        return [], None


def _check_inside(inside: Netlink, row: Link) -> list[Drift]:
    far = route.link(inside, row.name)
    if far is None:
        return [Drift(table=TABLE, key=row.key, kind="missing", want=f"interface {row.name} in the container")]
    want = {"up": True, "mtu": row.mtu, "mac": str(row.mac)}
    drift = _differences(row, f"{row.name} ", want, {"up": far.up, "mtu": far.mtu, "mac": far.mac})
    lost = [f"address {one}" for one in _lost_addresses(inside, row, far.index)]
    lost += [f"route {hop.dst}" for hop in _lost_routes(inside, row)]
    return drift + [Drift(table=TABLE, key=row.key, kind="missing", want=f"{row.name} {one}") for one in lost]


def _differences(row: Link, prefix: str, want: Mapping[str, object], have: Mapping[str, object]) -> list[Drift]:
    return [
        Drift(table=TABLE, key=row.key, kind="different", want=f"{prefix}{one} {want[one]}", have=f"{prefix}{one} {have[one]}")
        for one in want
        if want[one] != have[one]
    ]


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
    )


def _repair_pair(nl: Netlink, row: Link, bridge: int, fd: int) -> None:
    """The pair, or only the far end's name, was there already."""
    near = route.link(nl, row.host)
    with Netlink(netns=fd) as inside:
        far = route.link(inside, row.name)
    if near is None:
        raise Conflict(f"the container already has an interface {row.name}; name another", field="interface")
    if far is None or near.peer_index != far.index:
        nl.do(route.del_link(near.index))
        if far is not None:
            raise Conflict(
                f"the container already has an interface {row.name} that is not ours; name another", field="interface"
            )
        nl.do(*_pair(row, bridge, fd))
        return
    nl.do(
        route.set_link(near.index, master=bridge, mtu=row.mtu, arp=False, up=True, group=GROUP),
        route.bridge_port(near.index, isolated=row.alone, hairpin=row.hairpin),
    )


def _furnish(row: Link, fd: int) -> None:
    """Bring up what is inside: loopback, interface, addresses, routes."""
    six = any(one.family == 6 for one in row.addresses)
    if six:
        with netns.inside(fd):
            _prepare_ipv6(row.name)
    with Netlink(netns=fd) as inside:
        far = route.link(inside, row.name)
        if far is None:
            raise Missing(f"interface {row.name} vanished from the container", field="interface")
        inside.do(
            route.set_link(_LOOPBACK, up=True),
            route.set_link(far.index, mac=None if far.mac == row.mac else row.mac, mtu=row.mtu, link_local=six, up=True),
            *(route.new_address(far.index, one, nodad=True).accepting(EEXIST) for one in row.addresses),
            *(route.new_route(hop.dst, hop.via, far.index).accepting(EEXIST) for hop in row.routes),
        )


def _prepare_ipv6(name: str) -> None:
    """Docker and others start containers with IPv6 off; and a container takes no router's word but ours."""
    for key, value in (("disable_ipv6", "0"), ("accept_ra", "0"), ("accept_dad", "0")):
        full = f"net.ipv6.conf.{name}.{key}"
        if sysctl.read(full) != value:
            sysctl.write(full, value)


def _lost_addresses(inside: Netlink, row: Link, index: int) -> list[str]:
    have = {f"{one.address}/{one.length}" for one in route.addresses(inside) if one.index == index}
    return [one for one in row.addresses if one not in have]


def _lost_routes(inside: Netlink, row: Link) -> list[Hop]:
    """Routes whose destination has no route at all: of several attachments the first gives the default route."""
    if not row.routes:
        return []
    have = {one.dst for one in route.routes(inside)}
    return [hop for hop in row.routes if str(hop.dst) not in have]


def gone(path: str, cookie: int) -> bool:
    """Whether a container's namespace does not exist any more."""
    try:
        with namespace(path, cookie):
            return False
    except Missing:
        return True


def near(nl: Netlink, path: str, interface: str) -> str | None:
    """The host's end of the pair whose other end is ``interface`` inside ``path``; None if it has none here."""
    with namespace(path) as fd, Netlink(netns=fd) as inside:
        far = route.link(inside, interface)
        if far is None or not far.peer_index:
            return None
        here = route.link(nl, far.peer_index)
        return here.name if here and here.peer_index == far.index and here.kind == "veth" else None
