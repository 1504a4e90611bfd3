"""Bridges: one Linux bridge a network, with the network's gateways as its addresses.

Multicast goes to every port. Nobody on our bridges asks who listens to which group, and without a querier the kernel floods it
anyway; with snooping on, it also floods each membership report, so that every container start would reach every neighbour.

What is sent to the addresses reserved for bridges teaches a bridge nothing: such frames pass no packet filter, so that a
container could use them to draw its neighbours' traffic to its own port.
"""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.api.schema import Drift
from fairlead.desired.state import Bridge
from fairlead.kernel import route, sysctl
from fairlead.kernel.errors import Exists, KernelError
from fairlead.kernel.netlink import Netlink
from fairlead.kernel.route import AddressInfo, LinkInfo
from fairlead.kit import fault
from fairlead.model.address import Interface
from fairlead.model.errors import Conflict

from .mark import GROUP

TABLE = "bridges"

_SETTINGS = {
    "net.ipv4.conf.{name}.forwarding": "1",
    # 127.0.0.1 on a published port: the answer of the container comes in here for a loopback address.
    "net.ipv4.conf.{name}.route_localnet": "1",
    "net.ipv6.conf.{name}.forwarding": "1",
    "net.ipv6.conf.{name}.accept_ra": "0",
    "net.ipv6.conf.{name}.accept_dad": "0",
}


def ensure(nl: Netlink, row: Bridge) -> None:
    """Make the bridge, or bring an existing one of ours to what ``row`` says."""
    try:
        nl.do(route.new_bridge(row.name, mac=row.mac, mtu=row.mtu, group=GROUP, snooping=False, reserved_learning=False))
    except Exists:
        _refuse_foreign(route.link(nl, row.name), row)
    fault.point("bridge.made")
    bridge = route.link(nl, row.name)
    assert bridge is not None
    for key, value in _SETTINGS.items():
        if value != _read(key.format(name=row.name)):
            sysctl.write(key.format(name=row.name), value)
    fault.point("bridge.set")
    if bridge.snooping or bridge.reserved_learning:
        nl.do(route.set_bridge(bridge.index, snooping=False, reserved_learning=False))
    nl.do(route.set_link(bridge.index, mac=row.mac, mtu=row.mtu, up=True))
    fault.point("bridge.up")
    have = {_interface(one) for one in route.addresses(nl) if one.index == bridge.index}
    nl.do(*(route.new_address(bridge.index, one, nodad=True) for one in row.gateways if one not in have))
    stale = (one for one in have if one not in row.gateways and not one.startswith("fe80:"))
    nl.do(*(route.del_address(bridge.index, one) for one in stale))
    fault.point("bridge.addressed")


def remove(nl: Netlink, row: Bridge) -> None:
    """Remove the bridge if it is there and ours."""
    found = route.link(nl, row.name)
    if found and found.group == GROUP:
        nl.do(route.del_link(found.index))


def check(rows: Iterable[Bridge], links: dict[str, LinkInfo], addresses: Iterable[AddressInfo]) -> list[Drift]:
    """Compare every bridge with what the kernel listed."""
    have: dict[int, set[Interface]] = {}
    for one in addresses:
        have.setdefault(one.index, set()).add(_interface(one))
    return [drift for row in rows for drift in _check(row, links.get(row.name), have)]


def _check(row: Bridge, link: LinkInfo | None, have: dict[int, set[Interface]]) -> list[Drift]:
    if link is None:
        return [Drift(table=TABLE, key=row.name, kind="missing", want=f"bridge of network {row.network}")]
    want = {"up": True, "mtu": row.mtu, "mac": str(row.mac), "multicast snooping": False, "reserved learning": False}
    is_ = {
        "up": link.up,
        "mtu": link.mtu,
        "mac": link.mac,
        "multicast snooping": link.snooping,
        "reserved learning": link.reserved_learning,
    }
    drift = [
        Drift(table=TABLE, key=row.name, kind="different", want=f"{name} {want[name]}", have=f"{name} {is_[name]}")
        for name in want
        if want[name] != is_[name]
    ]
    missing = set(row.gateways) - have.get(link.index, set())
    return drift + [Drift(table=TABLE, key=row.name, kind="missing", want=f"address {one}") for one in sorted(missing)]


def _interface(info: AddressInfo) -> Interface:
    return Interface(f"{info.address}/{info.length}")


def _refuse_foreign(link: LinkInfo | None, row: Bridge) -> None:
    if link is None:
        raise Conflict(f"interface {row.name} comes and goes; somebody else makes it", field="spec.bridge")
    if link.kind != "bridge" or link.group != GROUP:
        raise Conflict(
            f"the host already has {_article(link.kind)} interface {row.name} that Fairlead did not make; name another",
            field="spec.bridge",
        )


def _article(kind: str) -> str:
    return f"a {kind}" if kind else "an"


def _read(key: str) -> str:
    try:
        return sysctl.read(key)
    except KernelError:
        return ""
