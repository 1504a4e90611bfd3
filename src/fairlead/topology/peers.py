"""The rows by which a node speaks BGP: the speaker, a session with each neighbour, the rules that routes pass.

::

    BGPPeer with peerIP          session ``peer.NAME``    with a router outside, of every node that it selects
    BGPPeer with peerSelector    session ``node.NAME``    between the nodes on its two sides; reflected, if one of them reflects
    nodeToNodeMesh               session ``node.NAME``    between any two nodes that no BGPPeer brings together

One session carries the routes of both families, over IPv4 where both ends have it. What one neighbour comes to is one owner's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from fairlead.desired import names
from fairlead.desired.routing import Announcement, Channel, Narrow, Session, SessionKind, Sieve, Speaker
from fairlead.desired.state import Rows
from fairlead.model.address import FAMILIES, Address, Family, Prefix
from fairlead.model.bgp import REFLECTOR, Bfd, BGPConfiguration, BGPPeer
from fairlead.model.bgpfilter import BGPFilter
from fairlead.model.block import Block
from fairlead.model.network import Driver, Network
from fairlead.model.node import Node
from fairlead.model.secret import Password, SecretKeyRef

from .station import Station
from .voice import Voice

_FAR = 64
"""Hops that a neighbour on no subnet of ours may be away: as many as packets usually live for."""


class Fabric:
    """Everything that BGP is decided from; ``me`` is the name of the node that it is decided for."""

    def __init__(
        self,
        me: str,
        nodes: Mapping[str, Node],
        networks: Mapping[str, Network],
        *,
        configurations: Mapping[str, BGPConfiguration] | None = None,
        peers: Mapping[str, BGPPeer] | None = None,
        filters: Mapping[str, BGPFilter] | None = None,
        limit: Callable[[Station], Station] = lambda one: one,
    ) -> None:
        """``limit``: a node with the largest packet that gets there, where that is less than it claims."""
        self.me, self.nodes, self.networks = me, nodes, networks
        self.configurations, self.peers, self.filters = configurations or {}, peers or {}, filters or {}
        self._limit = limit
        self._voices: dict[str, Voice] = {}
        self._stations: dict[str, Station] = {}

    @property
    def families(self) -> tuple[Family, ...]:
        """The families of the networks that BGP is for; none: nobody speaks."""
        used = {family for one in self.networks.values() if one.spec.driver is Driver.BGP for family in one.spec.families}
        return tuple(family for family in FAMILIES if family in used)

    @property
    def here(self) -> Station:
        """This node, as others reach it."""
        return self.station(self.me)

    def voice(self, node: str) -> Voice:
        """How a node speaks."""
        return self._voices.get(node) or self._voices.setdefault(node, Voice.of(self.configurations, node))

    def station(self, node: str) -> Station:
        """A node as others reach it."""
        return self._stations.get(node) or self._stations.setdefault(node, self._limit(Station.of(self.nodes[node])))


def rows(fabric: Fabric) -> dict[str, Rows]:
    """The rows of everything but announcements, by owner; none where BGP is not used."""
    if not fabric.families or fabric.me not in fabric.nodes:
        return {}
    found = {"bgp/speaker": speaker_rows(fabric)}
    found |= {f"bgp/node/{name}": node_rows(fabric, node) for name, node in fabric.nodes.items()}
    found |= {f"bgp/peer/{name}": peer_rows(fabric, peer) for name, peer in fabric.peers.items()}
    used = {name for some in found.values() for row in some if isinstance(row, Session) for name in row.filters}
    found |= {f"bgp/filter/{name}": filter_rows(one) for name, one in fabric.filters.items() if name in used}
    return {owner: some for owner, some in found.items() if some}


def speaker_rows(fabric: Fabric) -> Rows:
    """How this node speaks."""
    voice, here = fabric.voice(fabric.me), fabric.here
    inside = [subnet.cidr for one in fabric.networks.values() if one.spec.driver is Driver.BGP for subnet in one.spec.subnets]
    return (
        Speaker(
            asn=voice.asn,
            router_id=voice.identifier(here),
            addresses=tuple(found for family in FAMILIES if (found := here.address(family))),
            territory=tuple(sorted({*inside, *voice.services()}, key=_order)),
            port=voice.port,
            restart=voice.restart,
            narrow=tuple(_narrow(fabric)),
        ),
    )


def _narrow(fabric: Fabric) -> Iterator[Narrow]:
    """The nodes to which less gets than this node's uplink carries, by the addresses that they tell as next hops."""
    here = fabric.here
    for name in sorted(fabric.nodes.keys() - {fabric.me}):
        there = fabric.station(name)
        if there.mtu < here.mtu:
            yield from (Narrow(hop=hop, mtu=there.mtu) for family in FAMILIES if (hop := there.address(family)))


def node_rows(fabric: Fabric, node: Node) -> Rows:
    """The session with another node, if there is to be one."""
    if node.name == fabric.me or unmet(fabric, node):
        return ()
    here, there = fabric.here, fabric.station(node.name)
    mine, theirs = fabric.voice(fabric.me), fabric.voice(node.name)
    peer = _between(fabric, node)
    common = _common(here, there)
    assert common
    local, remote = common
    kind = _kind(fabric, node, mine.asn == theirs.asn) if peer else "mesh"
    spec = peer.spec if peer else None
    both = mine.bfd if theirs.bfd else None
    return (
        Session(
            name=names.symbol(names.NODE, node.name),
            kind=kind,
            peer=node.name,
            asn=mine.asn,
            local=local,
            remote=remote,
            port=theirs.port,
            remote_asn=theirs.asn,
            channels=tuple(_inner(fabric, here, there, remote.family)),
            hops=0 if _beside(here, remote) else _FAR,
            hold=(spec.hold_time if spec else None) or mine.hold,
            restart=_first(spec.max_restart_time if spec else None, mine.restart),
            bfd=(spec.bfd if spec else None) or both,
            cluster=reflects(fabric.nodes[fabric.me]) if kind == "client" else "",
            keep=bool(spec and spec.keep_original_next_hop),
            own=spec.num_allowed_local_as_numbers if spec else 0,
            password=_reference(spec.password) if spec else mine.password,
            filters=spec.filters if spec else (),
        ),
    )


def unmet(fabric: Fabric, node: Node) -> str:
    """Why there is no session with another node; empty if there is one."""
    if not _between(fabric, node) and not (fabric.voice(fabric.me).mesh and fabric.voice(node.name).mesh):
        return "no BGPPeer brings the two together, and they are not in a mesh"
    here, there = fabric.here, fabric.station(node.name)
    common = _common(here, there)
    if common is None:
        return f"{fabric.me} and {node.name} have no address of one family"
    if not list(_inner(fabric, here, there, common[1].family)):
        return f"the networks are of IPv6 alone, which {fabric.me} and {node.name} do not both have"
    return ""


def peer_rows(fabric: Fabric, peer: BGPPeer) -> Rows:
    """The session with a router outside, if this node is to have it."""
    node, spec = fabric.nodes[fabric.me], peer.spec
    if spec.peer_ip is None or not peer.selects(node.name, node.labels):
        return ()
    here, voice, remote = fabric.here, fabric.voice(fabric.me), spec.peer_ip.address
    channels = tuple(_outer(fabric, here, peer, remote))
    if not channels:
        return ()
    local = None if spec.interface else _source(here, spec.source_address, remote.family)
    hops = spec.multihop or spec.ttl_security or (1 if spec.interface or _beside(here, remote) else _FAR)
    if hops == 1:
        hops = 0
    return (
        Session(
            name=names.symbol(names.PEER, peer.name),
            kind="external",
            peer=peer.name,
            asn=voice.asn,
            local=local,
            remote=remote,
            port=spec.peer_ip.port,
            remote_asn=spec.as_number or 0,
            channels=channels,
            device=spec.interface,
            hops=hops,
            gateway=spec.reachable_by if hops else None,
            secure=spec.ttl_security is not None,
            hold=spec.hold_time or voice.hold,
            restart=_first(spec.max_restart_time, voice.restart),
            bfd=_bfd(spec.bfd, local, hops),
            keep=spec.keep_original_next_hop,
            own=spec.num_allowed_local_as_numbers,
            password=_reference(spec.password),
            filters=spec.filters,
        ),
    )


def filter_rows(one: BGPFilter) -> Rows:
    """The rules of a filter."""
    return (Sieve(name=one.name, rules=one.spec),)


def announced(network: Network, me: str, blocks: Iterable[Block]) -> tuple[Prefix, ...]:
    """What of a network is reached through this node: its blocks, and single addresses lent to it from other nodes' blocks."""
    if network.spec.driver is not Driver.BGP:
        return ()
    found: set[Prefix] = set()
    for block in (one.spec for one in blocks if one.spec.network == network.name):
        if block.node == me:
            found.add(block.cidr)
        else:
            found.update(Address(one).host() for one, node in block.lent.items() if node == me)
    return tuple(sorted(found, key=_order))


def announcement_rows(voice: Voice, prefixes: Iterable[Prefix]) -> Rows:
    """What this node tells of."""
    return tuple(Announcement(prefix=prefix, communities=voice.communities(prefix)) for prefix in prefixes)


_CLUSTER = re.compile(r"\d{1,10}")


def reflects(node: Node) -> str:
    """The cluster of a route reflector; empty if a node is none. What makes no sense counts as absent."""
    said = node.metadata.annotations.get(REFLECTOR, "").strip()
    if _CLUSTER.fullmatch(said):
        return said if 0 < int(said) < 2**32 else ""
    try:
        return said if Address(said).family == 4 else ""
    except ValueError:
        return ""


def _between(fabric: Fabric, node: Node) -> BGPPeer | None:
    """The first BGPPeer, by name, with this node on one side and ``node`` on the other."""
    one, other = fabric.nodes[fabric.me], node
    for _, peer in sorted(fabric.peers.items()):
        if selector := peer.spec.peer_selector:
            for near, far in ((one, other), (other, one)):
                if peer.selects(near.name, near.labels) and selector.matches(far.labels):
                    return peer
    return None


def _kind(fabric: Fabric, node: Node, internal: bool) -> SessionKind:
    mine, theirs = reflects(fabric.nodes[fabric.me]), reflects(node)
    if not internal or bool(mine) == bool(theirs):  # two reflectors tell each other as equals
        return "mesh"
    return "client" if mine else "reflector"


def _common(here: Station, there: Station) -> tuple[Address, Address] | None:
    """The two ends of a session: of IPv4 where both have it."""
    for family in FAMILIES:
        if (mine := here.address(family)) and (theirs := there.address(family)):
            return mine, theirs
    return None


def _inner(fabric: Fabric, here: Station, there: Station, over: Family) -> Iterator[Channel]:
    """What two nodes tell each other. IPv4 is routed through an IPv6 next hop where one of them has no IPv4 (RFC 8950)."""
    for family in fabric.families:
        if (mine := here.address(family)) and there.address(family):
            yield Channel(family=family, next_hop=mine)
        elif family == 4 and over == 6 and (mine := here.address(6)):
            yield Channel(family=4, next_hop=mine, extended=True)


def _outer(fabric: Fabric, here: Station, peer: BGPPeer, remote: Address) -> Iterator[Channel]:
    """What a node and a router tell each other."""
    for family in (one for one in fabric.families if one in peer.spec.allowed):
        extended = peer.spec.extended_next_hop and family == 4 and remote.family == 6
        if mine := here.address(6 if extended else family):
            yield Channel(family=family, next_hop=mine, extended=extended)


def _source(here: Station, said: str, family: Family) -> Address | None:
    if said == "None":
        return None
    return here.address(family) if said == "UseNodeIP" else Address(said)


def _beside(here: Station, remote: Address) -> bool:
    return any(one.prefix.holds(remote) for one in here.addresses)


def _bfd(wanted: Bfd | None, local: Address | None, hops: int) -> Bfd | None:
    """Over several hops BFD needs to know the address that it sends from."""
    return wanted if local or not hops else None


def _reference(password: Password | None) -> SecretKeyRef | None:
    return password.secret_key_ref if password else None


def _first(value: int | None, usual: int) -> int:
    return usual if value is None else value


def _order(prefix: Prefix) -> tuple[int, int, int]:
    return prefix.family, int(prefix.net.network_address), prefix.length
