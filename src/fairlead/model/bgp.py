"""BGPConfiguration and BGPPeer: how nodes speak BGP and with whom, in the shapes that people know from Calico.

::

    BGPConfiguration  default        how every node speaks: its AS, the mesh among nodes, what is announced beside blocks
    BGPConfiguration  node.worker-1  the same of one node; what it leaves out is as in ``default``
    BGPPeer                          with whom some nodes speak: a router outside, or other nodes that reflect routes
    BGPFilter  (``bgpfilter``)       rules that a peer's routes pass on their way in and out; named by BGPPeers
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

import msgspec

from .address import Address, Family, InterfaceName, Name, Prefix, Text
from .meta import GROUP, Object, Value
from .secret import Password
from .selector import Selector

DEFAULT = "default"
"""The BGPConfiguration of all nodes."""
OF_NODE = "node."
"""What the name of one node's BGPConfiguration begins with."""

ASN = 64512
"""The AS of nodes that nobody gave another: the first of those that anybody may use at home (RFC 6996)."""
PORT = 179
HOLD = 90
"""Seconds of silence after which a neighbour counts as dead, as RFC 4271 suggests."""
RESTART = 120
"""Seconds for which neighbours keep the routes of a speaker that went without a word."""

REFLECTOR = "fairlead.dev/route-reflector-cluster-id"
"""Annotation of a Node: it reflects routes (RFC 4456), and this is its cluster: an IPv4 address or a number."""

_UNUSABLE = {0: "nobody's", 23456: "a stand-in for larger ones (RFC 6793)", 65535: "reserved", 2**32 - 1: "reserved"}
_MOST_FILTERS, _MOST_COMMUNITIES, _MOST_CIDRS = 32, 64, 256

Asn = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Hold = Annotated[int, msgspec.Meta(ge=3, le=65535)]
Restart = Annotated[int, msgspec.Meta(ge=0, le=4095)]
Hops = Annotated[int, msgspec.Meta(ge=1, le=254)]
IPFamily = Literal["IPv4", "IPv6"]

_FAMILIES: dict[IPFamily, Family] = {"IPv4": 4, "IPv6": 6}


class Community(Text):
    """A community, ``64512:100`` (RFC 1997), or a large one, ``64512:1:100`` (RFC 8092)."""

    __slots__ = ()

    @classmethod
    def canonical(cls, text: str) -> str:
        parts = text.split(":")
        most = {2: 2**16, 3: 2**32}.get(len(parts), 0)
        if not all(part.isascii() and part.isdigit() and len(part) < 11 and int(part) < most for part in parts):
            raise ValueError(f"{text[:80]!r} is not a community; write it like 64512:100, or like 4200000000:1:100 (large)")
        return ":".join(str(int(part)) for part in parts)

    @property
    def parts(self) -> tuple[int, ...]:
        """Its two or three numbers."""
        return tuple(int(part) for part in self.split(":"))


class PeerAddress(Text):
    """A neighbour's address, with its port if that is not 179: ``192.0.2.1``, ``192.0.2.1:1790``, ``[2001:db8::1]:1790``."""

    __slots__ = ()

    @classmethod
    def canonical(cls, text: str) -> str:
        host, port = _split(text)
        try:
            address = Address(host)
        except ValueError:
            raise ValueError(f"{text[:80]!r} is not a peer's address; {_LIKE}") from None
        if not 1 <= port <= 65535:
            raise ValueError(f"{text[:80]!r}: {port} is not a port; ports are 1 to 65535")
        ip = address.ip
        if ip.is_multicast or ip.is_unspecified or ip.is_loopback:
            raise ValueError(f"{address} is no address that a neighbour can have")
        if port == PORT:
            return address
        return f"[{address}]:{port}" if address.family == 6 else f"{address}:{port}"

    @property
    def address(self) -> Address:
        """The address alone."""
        return Address(_split(self)[0])

    @property
    def port(self) -> int:
        """The port."""
        return _split(self)[1]


_LIKE = "write it like 192.0.2.1, 192.0.2.1:1790 or [2001:db8::1]:1790"


def _split(text: str) -> tuple[str, int]:
    """The address and the port of ``text``; whether they are right is not looked at."""
    found = re.fullmatch(r"\[([^]]*)\](?::(\d{1,5}))?|([^:]*):(\d{1,5})", text)
    if found is None:
        return text, PORT
    return found[1] or found[3] or "", int(found[2] or found[4] or PORT)


class Bfd(Value, frozen=True, kw_only=True):
    """Bidirectional Forwarding Detection (RFC 5880): both ends say every ``interval`` milliseconds that they are there.

    After ``multiplier`` intervals of silence the neighbour is dead. Without BFD it takes the hold time.
    """

    interval: Annotated[int, msgspec.Meta(ge=10, le=60000)] = 300
    multiplier: Annotated[int, msgspec.Meta(ge=2, le=255)] = 3


class NamedCommunity(Value, frozen=True, kw_only=True):
    """A name for a community."""

    name: Name
    value: Community


class PrefixAdvertisement(Value, frozen=True, kw_only=True):
    """What announcements inside ``cidr`` carry: communities, each by its name or as it is."""

    cidr: Prefix
    communities: tuple[str, ...]


class CidrBlock(Value, frozen=True, kw_only=True):
    """Addresses, as Calico spells a list of them."""

    cidr: Prefix


class BGPConfigurationSpec(Value, frozen=True, kw_only=True):
    """How nodes speak. What is left out is as in ``default``, and there as docs/bgp.md says.

    ``node_to_node_mesh``: each two nodes have a session. ``node_mesh_password``: the secret of the mesh's sessions.
    ``graceful_restart``: seconds for which neighbours keep our routes while a speaker restarts; 0: not at all. ``bfd``: of the
    mesh. ``router_id``: of one node an IPv4 address; ``hash`` makes it of the node's name, as it is where the node has no IPv4
    address. ``communities`` and ``prefix_advertisements``: what announcements carry. ``service_…``: of which addresses of
    services are announced.
    """

    as_number: Asn | None = None
    node_to_node_mesh: bool | None = None
    node_mesh_password: Password | None = None
    listen_port: Port | None = None
    hold_time: Hold | None = None
    graceful_restart: Restart | None = None
    bfd: Bfd | None = None
    router_id: str = msgspec.field(name="routerID", default="")
    communities: tuple[NamedCommunity, ...] = ()
    prefix_advertisements: tuple[PrefixAdvertisement, ...] = ()
    service_cluster_ips: tuple[CidrBlock, ...] = msgspec.field(name="serviceClusterIPs", default=())
    service_external_ips: tuple[CidrBlock, ...] = msgspec.field(name="serviceExternalIPs", default=())
    service_load_balancer_ips: tuple[CidrBlock, ...] = msgspec.field(name="serviceLoadBalancerIPs", default=())

    def __post_init__(self) -> None:
        if self.as_number is not None:
            _check_asn(self.as_number, "asNumber")
        if self.router_id not in {"", "hash"}:
            try:
                right = Address(self.router_id).family == 4 and self.router_id != "0.0.0.0"  # noqa: S104  # no socket is bound
            except ValueError:
                right = False
            if not right:
                raise ValueError(f"routerID: {self.router_id[:80]!r} is neither an IPv4 address nor the word hash")
        for field, given in self._lists():
            if len(given) > _MOST_CIDRS:
                raise ValueError(f"{field}: {len(given)} entries; at most {_MOST_CIDRS}")
        self._check_communities()

    def _lists(self) -> tuple[tuple[str, tuple[object, ...]], ...]:
        return (
            ("communities", self.communities),
            ("prefixAdvertisements", self.prefix_advertisements),
            ("serviceClusterIPs", self.service_cluster_ips),
            ("serviceExternalIPs", self.service_external_ips),
            ("serviceLoadBalancerIPs", self.service_load_balancer_ips),
        )

    def _check_communities(self) -> None:
        names = [one.name for one in self.communities]
        for at, name in enumerate(names):
            if name in names[:at]:
                raise ValueError(f"communities[{at}].name: {name} is there twice")
        for at, advertised in enumerate(self.prefix_advertisements):
            field = f"prefixAdvertisements[{at}]"
            if len(advertised.communities) > _MOST_COMMUNITIES:
                raise ValueError(f"{field}.communities: more than {_MOST_COMMUNITIES} entries")
            for place, word in enumerate(advertised.communities):
                try:
                    if word not in names:
                        Community(word)
                except ValueError:
                    named = f"named in communities are {', '.join(names)}" if names else "communities names none"
                    said = f"{word[:80]!r} is neither a community such as 64512:100 nor a name; {named}"
                    raise ValueError(f"{field}.communities[{place}]: {said}") from None


class BGPConfiguration(Object, frozen=True, kw_only=True, tag="BGPConfiguration"):
    """How all nodes speak (``default``), or one of them (``node.NAME``)."""

    plural: ClassVar[str] = "bgpconfigurations"

    api_version: Literal["fairlead.dev/v1"] = GROUP
    spec: BGPConfigurationSpec = BGPConfigurationSpec()

    def __post_init__(self) -> None:
        if self.name != DEFAULT and not (self.name.startswith(OF_NODE) and len(self.name) > len(OF_NODE)):
            raise ValueError(f"metadata.name: {self.name[:80]!r} must be {DEFAULT}, or {OF_NODE}NAME for one node")
        if self.name == DEFAULT:
            if self.spec.router_id not in {"", "hash"}:
                raise ValueError(f"spec.routerID: each node needs its own; set {self.spec.router_id} in {OF_NODE}NAME")
        elif self.spec.node_mesh_password is not None:
            raise ValueError(f"spec.nodeMeshPassword: the mesh has one for all; set it in {DEFAULT}")


class BGPPeerSpec(Value, frozen=True, kw_only=True):
    """Who speaks with whom, and how. docs/bgp.md tells each field.

    ``node`` or ``node_selector``: which nodes; all, if both are left out. ``peer_ip`` with ``as_number``: the router that they
    speak with; or ``peer_selector``: the nodes. ``source_address``: UseNodeIP, None (as the host routes) or an address.
    ``reachable_by``: the gateway to a router some hops away.
    """

    node: str = ""
    node_selector: Selector | None = None
    peer_ip: PeerAddress | None = msgspec.field(name="peerIP", default=None)
    as_number: Asn | None = None
    peer_selector: Selector | None = None
    interface: InterfaceName | None = None
    families: tuple[IPFamily, ...] = ()
    extended_next_hop: bool = False
    password: Password | None = None
    source_address: str = "UseNodeIP"
    keep_original_next_hop: bool = False
    hold_time: Hold | None = None
    max_restart_time: Restart | None = None
    ttl_security: Hops | None = None
    multihop: Hops | None = None
    reachable_by: Address | None = None
    num_allowed_local_as_numbers: Annotated[int, msgspec.Meta(ge=0, le=10)] = msgspec.field(
        name="numAllowedLocalASNumbers", default=0
    )
    bfd: Bfd | None = None
    filters: tuple[Name, ...] = ()

    def __post_init__(self) -> None:
        if self.node and self.node_selector is not None:
            raise ValueError("nodeSelector: cannot stand beside node; there must be one of them")
        if self.peer_ip is None and self.peer_selector is None:
            raise ValueError("peerIP: is required, unless peerSelector says which nodes are meant")
        if self.peer_ip is not None and self.peer_selector is not None:
            raise ValueError("peerSelector: cannot stand beside peerIP; there must be one of them")
        if self.peer_ip is None:
            self._check_inside()
        else:
            self._check_outside(self.peer_ip.address)
        if len(self.filters) > _MOST_FILTERS:
            raise ValueError(f"filters: {len(self.filters)} entries; at most {_MOST_FILTERS}")
        if len(set(self.filters)) < len(self.filters) or len(set(self.families)) < len(self.families):
            raise ValueError(f"{'filters' if len(set(self.filters)) < len(self.filters) else 'families'}: one is there twice")

    def _check_inside(self) -> None:
        """Between nodes, whose addresses and AS are known."""
        for field, given in (
            ("asNumber", self.as_number),
            ("interface", self.interface),
            ("ttlSecurity", self.ttl_security),
            ("multihop", self.multihop),
            ("reachableBy", self.reachable_by),
            ("extendedNextHop", self.extended_next_hop),
            ("sourceAddress", self.source_address != "UseNodeIP"),
        ):
            if given:
                raise ValueError(f"{field}: is for peerIP; what nodes need among themselves is known")

    def _check_outside(self, address: Address) -> None:
        if self.as_number is None:
            raise ValueError("asNumber: is required: the AS of the router at peerIP")
        _check_asn(self.as_number, "asNumber")
        if self.ttl_security and self.multihop:
            raise ValueError("multihop: cannot stand beside ttlSecurity, which says how many hops there are")
        local = address.ip.is_link_local
        if local and self.interface is None:
            raise ValueError(f"interface: is required: {address} is link-local, and there is one on every link")
        if not local and self.interface is not None:
            raise ValueError(f"interface: is for link-local addresses; {address} is none")
        if local and (self.multihop or (self.ttl_security or 1) > 1):
            raise ValueError("multihop: a link-local address is one hop away")
        if self.reachable_by and self.reachable_by.family != address.family:
            raise ValueError(f"reachableBy: {self.reachable_by} and peerIP {address} are not of one address family")
        if self.source_address not in {"UseNodeIP", "None"}:
            try:
                source = Address(self.source_address)
            except ValueError:
                raise ValueError(
                    f"sourceAddress: {self.source_address[:80]!r} is neither UseNodeIP nor None nor an IP address"
                ) from None
            if source.family != address.family:
                raise ValueError(f"sourceAddress: {source} and peerIP {address} are not of one address family")

    @property
    def allowed(self) -> tuple[Family, ...]:
        """The families that it may carry."""
        return tuple(_FAMILIES[one] for one in self.families or ("IPv4", "IPv6"))


class BGPPeer(Object, frozen=True, kw_only=True, tag="BGPPeer"):
    """A session of some nodes."""

    plural: ClassVar[str] = "bgppeers"

    api_version: Literal["fairlead.dev/v1"] = GROUP
    spec: BGPPeerSpec

    def __post_init__(self) -> None:
        check_name(self)

    def selects(self, node: str, labels: dict[str, str]) -> bool:
        """Whether a node has this session."""
        if self.spec.node:
            return node == self.spec.node
        return self.spec.node_selector is None or self.spec.node_selector.matches(labels)


def _check_asn(number: int, field: str) -> None:
    if number in _UNUSABLE:
        raise ValueError(f"{field}: {number} is {_UNUSABLE[number]}; take one of 64512 to 65534 if you have none of your own")


def check_name(thing: Object) -> None:
    """Raise ``ValueError`` unless the object's name is one."""
    try:
        Name(thing.name)
    except ValueError as problem:
        raise ValueError(f"metadata.name: {problem}") from None
