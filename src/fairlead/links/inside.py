"""What is inside a container: the same for every kind of interface, however it got there.

A namespace that is gone, or whose path another one has taken, is ``Missing``; nothing here outlives the call.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from errno import EEXIST

from fairlead.api.schema import Drift
from fairlead.desired import names
from fairlead.desired.state import Hop, Link, Sub
from fairlead.kernel import features, netns, route, sysctl
from fairlead.kernel.errors import KernelError
from fairlead.kernel.netlink import Netlink
from fairlead.kernel.route import LinkInfo
from fairlead.kit import fault
from fairlead.model.address import Address, Mac
from fairlead.model.errors import Missing

TABLE = "links"
"""The table that drift of containers' interfaces is shown under, whatever their kind."""

_LOOPBACK = 1


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


def check(nl: Netlink, row: Link | Sub) -> tuple[list[Drift], int | None]:
    """Compare what is inside the container; a namespace that is gone is no drift, its endpoint is collected."""
    try:
        with namespace(row.path, row.cookie) as fd, Netlink(netns=fd) as inside:
            return _check(inside, row), route.nsid_of(nl, fd)
    except Missing:
        return [], None


def _check(inside: Netlink, row: Link | Sub) -> list[Drift]:
    far = route.link(inside, row.name)
    if far is None:
        return [Drift(table=TABLE, key=row.key, kind="missing", want=f"interface {row.name} in the container")]
    want = {"up": True, "mtu": row.mtu, "mac": str(row.mac or far.mac)}
    have = {"up": far.up, "mtu": far.mtu, "mac": far.mac}
    if isinstance(row, Link):
        want["big TCP"], have["big TCP"] = has_big_tcp(row), far.big_tcp
    drift = differences(row.key, f"{row.name} ", want, have)
    lost = [f"address {one}" for one in _lost_addresses(inside, row, far.index)]
    lost += [f"route {hop.dst}" for hop in _lost_routes(inside, row)]
    lost += [f"gateway {one}" for one in _lost_gateways(inside, row, far.index)]
    return drift + [Drift(table=TABLE, key=row.key, kind="missing", want=f"{row.name} {one}") for one in lost]


def differences(key: str, prefix: str, want: Mapping[str, object], have: Mapping[str, object]) -> list[Drift]:
    """One drift for each property of ``want`` that ``have`` has otherwise; ``prefix`` says whose they are."""
    return [
        Drift(table=TABLE, key=key, kind="different", want=f"{prefix}{one} {want[one]}", have=f"{prefix}{one} {have[one]}")
        for one in want
        if want[one] != have[one]
    ]


def has_big_tcp(row: Link) -> bool:
    """Whether TCP is to hand on larger pieces, where this kernel can: of several nodes one may be older."""
    return row.big_tcp and features.probe("BIG TCP")[0].ok


def segment(row: Link | Sub, have: LinkInfo) -> int:
    """What ``set_link`` must be told for TCP's pieces to be as the row says; 0: nothing. A child of a parent is as that."""
    if isinstance(row, Sub) or has_big_tcp(row) == have.big_tcp:
        return 0
    return route.BIG if row.big_tcp else route.ORDINARY


def furnish(row: Link | Sub, fd: int) -> None:
    """Bring up what is inside: loopback, interface, addresses, routes."""
    six = any(one.family == 6 for one in row.addresses)
    if six:
        with netns.inside(fd):
            _prepare_ipv6(row.name)
        fault.point("veth.prepared")
    with Netlink(netns=fd) as inside:
        far = route.link(inside, row.name)
        if far is None:
            raise Missing(f"interface {row.name} vanished from the container", field="interface")
        inside.do(
            route.set_link(_LOOPBACK, up=True),
            route.set_link(
                far.index,
                mac=None if row.mac == far.mac else row.mac,
                mtu=row.mtu,
                link_local=six,
                up=True,
                segment=segment(row, far),
            ),
            *(route.new_address(far.index, one, nodad=True).accepting(EEXIST) for one in row.addresses),
            *(route.new_neighbour(far.index, one, mac) for one, mac in _gateways(row)),
            *(route.new_route(hop.dst, hop.via, far.index, onlink=_is_ours(row, hop)).accepting(EEXIST) for hop in row.routes),
        )


def _prepare_ipv6(name: str) -> None:
    """Docker and others start containers with IPv6 off; and a container takes no router's word but ours."""
    for key, value in (("disable_ipv6", "0"), ("accept_ra", "0"), ("accept_dad", "0")):
        full = f"net.ipv6.conf.{name}.{key}"
        if sysctl.read(full) != value:
            sysctl.write(full, value)


def _lost_addresses(inside: Netlink, row: Link | Sub, index: int) -> list[str]:
    have = {f"{one.address}/{one.length}" for one in route.addresses(inside) if one.index == index}
    return [one for one in row.addresses if one not in have]


def _lost_routes(inside: Netlink, row: Link | Sub) -> list[Hop]:
    """Routes whose destination has no route at all: of several attachments the first gives the default route."""
    if not row.routes:
        return []
    have = {one.dst for one in route.routes(inside)}
    return [hop for hop in row.routes if str(hop.dst) not in have]


def _gateways(row: Link | Sub) -> list[tuple[Address, Mac]]:
    """What the container must be told of a routed link: who its gateways are."""
    return [(one, names.veth_mac(row.key)) for one in row.gateways] if isinstance(row, Link) else []


def _is_ours(row: Link | Sub, hop: Hop) -> bool:
    """Whether a route leads through the gateway of a routed link, to which no other route leads."""
    return isinstance(row, Link) and hop.via in row.gateways


def _lost_gateways(inside: Netlink, row: Link | Sub, index: int) -> list[Address]:
    wanted = _gateways(row)
    if not wanted:
        return []
    have = {(one.address, one.mac) for one in route.neighbours(inside) if one.index == index}
    return [address for address, mac in wanted if (address, mac) not in have]


def gone(path: str, cookie: int) -> bool:
    """Whether a container's namespace does not exist any more."""
    try:
        with namespace(path, cookie):
            return False
    except Missing:
        return True
