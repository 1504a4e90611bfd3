"""Encryption between nodes: with which key, by which device, and what is behind it. Pure: the same stations, the same rows.

A key has a generation, a number that grows with every rotation. A node has one, and while it is being replaced two: each on a
device of its own, ``flw0`` for even generations and ``flw1`` for odd ones, with a UDP port of its own, and it takes packets
from both. So two nodes may go over to the new one at different moments and none is lost::

    keys of a    7        7 8      7 8             8         a way is of the newest generation that both have; while there is
    keys of b    7        7        7 8             7 8       an older one too, only once they met there, with a handshake
    way          7        7        7, met: 8       8

What is encrypted is every packet between two nodes that has an end in an encrypted network, whatever its other end is: a
container of any network that the nodes share, or a node itself::

    to an encrypted network       route of the block ──> device                      main table
    from one, to a node or        detour: what comes from the network's prefix
    a network in the clear        looks among the paths that are apart first ──> device

To each destination there is a second route, of a higher metric, that says that nobody is there. It is what is left when the
device is missing, and what there is alone as long as there is no key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from fairlead.desired import names
from fairlead.desired.state import Rows
from fairlead.desired.ways import Crypt, CryptPeer, Detour, Path
from fairlead.model.address import InterfaceName, Prefix
from fairlead.model.network import Network

from . import mtu
from .station import Station

PORT = 51871
"""The UDP port of the device for even generations; that for odd ones is the next."""

NOBODY = 1064
"""The metric of the route that says so: above the kernel's own defaults, below what BIRD writes."""


class Way(NamedTuple):
    """How packets to another node are encrypted. ``mtu``: the largest that fits, 0 if the device's own says it."""

    generation: int
    device: InterfaceName
    mtu: int


def way(me: Station, other: Station, met: Collection[int]) -> Way | None:
    """The way to a node; None if there is none. ``met``: the generations in which there was a handshake with it."""
    ends = me.between(other)
    generations = common(me, other)
    if ends is None or not generations:
        return None
    chosen = next((one for one in generations if one in met), generations[-1])
    family, size = ends[0].family, min(me.mtu, other.mtu)
    narrow = size - mtu.WIREGUARD[family] < _device_mtu(me)
    return Way(chosen, device(chosen), max(mtu.sealed(size, family), mtu.LEAST[4]) if narrow else 0)


def common(me: Station, other: Station) -> list[int]:
    """The generations of which both have a key, the newest first."""
    return sorted(me.keys.keys() & other.keys.keys(), reverse=True)


def device(generation: int) -> InterfaceName:
    """The device of a generation."""
    return names.crypt(generation & 1)


def own_rows(me: Station, encrypted: Iterable[Network]) -> Rows:
    """A device for each of this node's keys, and the detour of what comes from an encrypted network."""
    prefixes = dict.fromkeys(subnet.cidr for network in encrypted for subnet in network.spec.subnets)
    if not prefixes:
        return ()
    size = _device_mtu(me)
    devices = (Crypt(name=device(number), port=port(number), public=public, mtu=size) for number, public in me.keys.items())
    return (*devices, *(Detour(prefix=one) for one in prefixes))


def peer_rows(
    me: Station,
    other: Station,
    chosen: Way | None,
    *,
    behind: Iterable[Prefix],
    plain: Iterable[Prefix],
) -> Rows:
    """The other node behind each device that both have, and the paths apart.

    ``behind``: what its containers have; ``plain``: that of it which is no encrypted network's.
    """
    own = [one.address.host() for one in other.addresses]
    apart = [path for prefix in (*own, *plain) for path in _both(me, prefix, chosen, apart=True)]
    ends = me.between(other)
    if ends is None:
        return tuple(apart)
    allowed = tuple(sorted({*own, *behind}))
    generations = common(me, other)
    peers = (
        CryptPeer(
            device=device(number),
            node=other.name,
            public=other.keys[number],
            endpoint=ends[1],
            port=port(number),
            allowed=allowed,
            # Two that begin at once both fail, and try again after five seconds.
            calls=me.keys[number] < other.keys[number],
        )
        for number in generations
    )
    return (*peers, *apart)


def paths(me: Station, chosen: Way | None, prefixes: Iterable[Prefix]) -> Rows:
    """The routes to addresses of an encrypted network on another node."""
    return tuple(path for prefix in prefixes for path in _both(me, prefix, chosen, apart=False))


def claimed_twice(stations: Iterable[Station]) -> dict[str, str]:
    """Of each station that has an address or a key which another has too, what it is: nobody can tell whose it is."""
    claims: dict[str, list[str]] = {}
    for one in stations:
        for what in (*(each.address for each in one.addresses), *one.keys.values()):
            claims.setdefault(what, []).append(one.name)
    return {name: what for what, names in claims.items() if len(names) > 1 for name in names}


def unreached(me: Station, other: Station) -> str:
    """Why there is no way to a node; empty if there is one."""
    if not me.keys:
        return "this node has no WireGuard key, so that it reaches nobody on encrypted networks"
    if not other.keys:
        return f"{other.name} has no WireGuard key: its agent is not running, too old, or finds no WireGuard there"
    if me.between(other) is None:
        return f"{other.name} and this node have no address of one family"
    if not common(me, other):
        theirs, mine = ", ".join(map(str, other.keys)), ", ".join(map(str, me.keys))
        return (
            f"{other.name} has a WireGuard key of generation {theirs}, this node of {mine}; one of them does not see the store"
        )
    return ""


def port(generation: int) -> int:
    """The UDP port of a generation's device."""
    return PORT + (generation & 1)


def _device_mtu(me: Station) -> int:
    here = me.underlay
    return me.mtu - mtu.WIREGUARD[here.family if here else 4]


def _both(me: Station, prefix: Prefix, chosen: Way | None, *, apart: bool) -> Iterator[Path]:
    if chosen:
        yield Path(
            dst=prefix,
            device=chosen.device,
            source=None if apart else me.address(prefix.family),
            mtu=max(chosen.mtu, mtu.LEAST[prefix.family]) if chosen.mtu else 0,
            apart=apart,
        )
    yield Path(dst=prefix, metric=NOBODY, apart=apart)
