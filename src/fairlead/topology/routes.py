"""The rows by which one node reaches the others: one tunnel a network, and for each block of another node a route.

::

    vxlan      block of node b ──> via its end of the tunnel      Tunnel, Vtep (MAC -> b's address), Path
    direct     block of node b ──> via b's own address            Path, where both are on one subnet
    host-gw    the same, and nothing where they are not
    bgp        BIRD writes the routes
    encrypted  block of node b ──> a WireGuard device, whatever the driver is (crypt)
    own block  ──> nobody, but for the addresses that a container here has (longer routes): no packet goes round in circles
    the network's other addresses ──> nobody: what is for a node that is gone does not leave by the default route

What one other node's blocks come to is one owner's rows: a node that changes costs what it has, not what there is.
"""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.desired import names
from fairlead.desired.state import Row, Rows
from fairlead.desired.ways import Path, Tunnel, Vtep
from fairlead.model.address import Family, Prefix
from fairlead.model.block import Block
from fairlead.model.network import VXLAN_PORT, Driver, Network

from . import crypt, mtu
from .crypt import Way
from .station import Station

_LAST = 4096
"""The metric of the route to a whole network: after every other to the same prefix, where it is one block."""


def own_rows(network: Network, me: Station, blocks: Iterable[Block]) -> Rows:
    """What this node has for itself: its end of the tunnel, and nobody at addresses of its blocks that no container has."""
    rows: list[Row] = []
    if tunnel := _tunnel(network, me):
        rows.append(tunnel)
    rows += [Path(dst=subnet.cidr, metric=_LAST) for subnet in network.spec.subnets]
    rows += [Path(dst=one.spec.cidr) for one in blocks if one.spec.cidr.length < _bits(one.spec.cidr)]
    return tuple(rows)


def remote_rows(network: Network, me: Station, other: Station, prefixes: Iterable[Prefix], way: Way | None = None) -> Rows:
    """How this node reaches ``prefixes``, which are ``other``'s; no rows for what cannot be reached.

    ``way``: how packets to it are encrypted, if they can be.
    """
    if network.spec.encrypt:
        return crypt.paths(me, way, prefixes)
    if network.spec.driver is Driver.BGP:
        return ()
    tunnel = _tunnel(network, me)
    vtep = _vtep(tunnel, other) if tunnel else None
    paths = [path for prefix in prefixes if (path := _path(network, me, other, vtep, prefix))]
    used = [vtep] if vtep and any(path.device for path in paths) else []
    return (*used, *paths)


def unreached(network: Network, me: Station, other: Station) -> str:
    """Why this node has no way to ``other``'s containers; empty if it has one."""
    if network.spec.encrypt:
        return crypt.unreached(me, other)
    if network.spec.driver is Driver.BGP:
        return ""
    families = network.spec.families
    if network.spec.driver is Driver.HOST_GW:
        apart = [str(family) for family in families if me.beside(other, family) is None]
        if apart:
            return f"{other.name} is on no subnet of this node (IPv{', IPv'.join(apart)}); use driver vxlan with direct: true"
        return ""
    here = me.underlay
    if here is None:
        return "this node has no address that others could reach"
    if other.address(here.family) is None:
        return f"{other.name} has no IPv{here.family} address, by which this node's tunnel goes"
    return ""


def owner(network: str, node: str) -> str:
    """The owner of the rows by which one node's containers on a network are reached."""
    return f"node/{network}/{node}"


def _tunnel(network: Network, me: Station) -> Tunnel | None:
    here = me.underlay
    if network.spec.driver is not Driver.VXLAN or network.spec.encrypt or here is None:
        return None
    return Tunnel(
        name=names.tunnel(network.name),
        network=network.name,
        vni=network.spec.vni or names.vni(network.name),
        port=network.spec.port or VXLAN_PORT,
        local=here,
        mac=names.tunnel_mac(network.name, me.name),
        mtu=mtu.inner(network.spec, me.mtu, here.family),
    )


def _vtep(tunnel: Tunnel, other: Station) -> Vtep | None:
    remote = other.address(tunnel.local.family)
    if remote is None:
        return None
    return Vtep(tunnel=tunnel.name, node=other.name, mac=names.tunnel_mac(tunnel.network, other.name), remote=remote)


def _path(network: Network, me: Station, other: Station, vtep: Vtep | None, prefix: Prefix) -> Path | None:
    family, spec = prefix.family, network.spec
    smaller = _smaller(network, me, other, family)
    if (spec.driver is Driver.HOST_GW or spec.direct) and (near := me.beside(other, family)):
        return Path(dst=prefix, via=near, mtu=smaller)
    if vtep is None:
        return None
    return Path(dst=prefix, via=vtep.mac.link_local, device=vtep.tunnel, source=me.address(family), mtu=smaller)


def _smaller(network: Network, me: Station, other: Station, family: Family) -> int:
    """The MTU towards a node whose uplink carries less than ours; 0 if it does not."""
    here = me.underlay
    if other.mtu >= me.mtu or here is None:
        return 0
    fits = other.mtu - mtu.overhead(network.spec, here.family)
    return max(fits, mtu.LEAST[family]) if fits < mtu.inner(network.spec, me.mtu, here.family) else 0


def _bits(prefix: Prefix) -> int:
    return 32 if prefix.family == 4 else 128
