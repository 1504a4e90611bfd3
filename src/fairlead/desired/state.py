"""NodeState: the waist. Everything that decides produces it; everything that acts consumes it.

It is made of keyed rows, each a frozen value that stands for one thing in the kernel. A change replaces the rows of one
owner and nothing else, so that the cost of a change does not grow with the size of the node::

    Network  --.                                   .--> links      bridges, veths, addresses, routes, limits
                >--  build  -->  NodeState (rows)  >--> datapath   segments, realms, publications, guards
    Endpoint --'                                   '--> bgp        the speaker, its sessions, what it announces
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from fairlead.kit.table import Table
from fairlead.model.address import Address, Family, Interface, InterfaceName, Mac, Prefix
from fairlead.model.endpoint import Bandwidth, Protocol
from fairlead.model.errors import Conflict
from fairlead.model.meta import Value

from .routing import Announcement, Session, Sieve, Speaker
from .ways import Crypt, CryptPeer, Detour, Fellow, Path, Tunnel, Vtep


class Bridge(Value, frozen=True, kw_only=True):
    """A Linux bridge with the gateways of its network. Key: its name."""

    name: InterfaceName
    mac: Mac
    mtu: int
    gateways: tuple[Interface, ...]
    network: str

    @property
    def key(self) -> str:
        """The bridge's name."""
        return self.name


class Hop(Value, frozen=True, kw_only=True):
    """One route inside a container: destination and gateway; without a gateway the destination is on the link."""

    dst: Prefix
    via: Address | None = None


class Link(Value, frozen=True, kw_only=True):
    """A veth pair: ``host`` on ``bridge``, ``name`` inside the namespace. Key: the endpoint's name.

    Without a bridge it is a routed link: the host has a route to each of the addresses, and the container, whose
    addresses stand alone, reaches everything through ``gateways``, which ``host`` is.
    """

    key: str
    host: InterfaceName
    bridge: InterfaceName | None
    path: str
    cookie: int
    name: InterfaceName
    mac: Mac
    mtu: int
    addresses: tuple[Interface, ...]
    routes: tuple[Hop, ...] = ()
    gateways: tuple[Address, ...] = ()
    """Of a routed link: what the container must know to be at the MAC of ``host``."""
    alone: bool = False
    """The port reaches the bridge itself but no other port (IFLA_BRPORT_ISOLATED)."""
    hairpin: bool = False
    """The bridge may send a frame back where it came from. Where bridged frames pass through netfilter
    (net.bridge.bridge-nf-call-iptables), a container's packet to its own published port is translated inside the bridge."""
    big_tcp: bool = False
    """TCP may hand on larger pieces than the 64 KiB that every device takes."""
    handover: bool = False
    """Who asked moves the far end from the host into the namespace at ``path`` (empty: not yet known), names it and sets it up;
    ``name`` is what the name begins with. Only when the pair was destroyed is a new far end set up here."""


class Sub(Value, frozen=True, kw_only=True):
    """An interface inside a container that shares the host's ``parent``: macvlan or ipvlan. Key: the endpoint's name."""

    key: str
    kind: str
    mode: str
    parent: InterfaceName
    path: str
    cookie: int
    name: InterfaceName
    mac: Mac | None
    mtu: int
    addresses: tuple[Interface, ...]
    routes: tuple[Hop, ...] = ()


class Guard(Value, frozen=True, kw_only=True):
    """What a container may send as: its MAC with its addresses, the link-local one included. Key: the host's side of its link.

    Not ``checked``: whatever it likes. A link without a guard cannot send at all. To the containers of ``network`` on this node
    it may send past the bridge, or past the ``gateway`` whose MAC a routed link knows the host by; empty: it never does.
    """

    host: InterfaceName
    mac: Mac
    addresses: tuple[Address, ...]
    checked: bool = True
    routed: bool = False
    network: str = ""
    gateway: Mac | None = None

    @property
    def key(self) -> str:
        """The host's side of the link."""
        return self.host


class Local(Value, frozen=True, kw_only=True):
    """A link that others of its network on this node reach past the bridge, or past the host. Key: its host side.

    ``gateway``: the MAC under which a routed link knows the host. Where others on the long way have a say there is no such row.
    """

    host: InterfaceName
    network: str
    mac: Mac
    mtu: int
    addresses: tuple[Address, ...]
    gateway: Mac | None = None

    @property
    def key(self) -> str:
        """The host's side of the link."""
        return self.host


class Guest(Value, frozen=True, kw_only=True):
    """Addresses that a container has on another of its interfaces, ``endpoint``, and may also send from here.

    Linux leaves by its routes: an answer from the address of one interface may go through another. Key: (host, endpoint).
    """

    host: InterfaceName
    endpoint: str
    addresses: tuple[Address, ...]

    @property
    def key(self) -> tuple[str, str]:
        """(the host's side of the link, the endpoint whose addresses these are)."""
        return (self.host, self.endpoint)


class Chain(Value, frozen=True, kw_only=True):
    """A link that another plugin made, by its near end, to whose container ports are published. Key: the endpoint's name."""

    key: str
    host: InterfaceName


class Limit(Value, frozen=True, kw_only=True):
    """Bandwidth limits on a host-side interface. Key: the interface. ``ifb`` carries what the container sends."""

    host: InterfaceName
    ifb: InterfaceName
    bandwidth: Bandwidth

    @property
    def key(self) -> str:
        """The host-side interface."""
        return self.host


class Segment(Value, frozen=True, kw_only=True):
    """What the packet filter must know of one bridge network. Key: the bridge."""

    bridge: InterfaceName
    internal: bool
    isolated: bool
    inter_container: bool
    masquerade: bool
    prefixes: tuple[Prefix, ...]

    @property
    def key(self) -> str:
        """The bridge."""
        return self.bridge


class Realm(Value, frozen=True, kw_only=True):
    """What the packet filter must know of one routed network, whose containers are known by their addresses. Key: its name.

    ``encrypted``: what is between one of its containers and another node passes a WireGuard device, or nowhere.
    """

    network: str
    internal: bool
    isolated: bool
    inter_container: bool
    masquerade: bool
    prefixes: tuple[Prefix, ...]
    encrypted: bool = False

    @property
    def key(self) -> str:
        """The network's name."""
        return self.network


class Publication(Value, frozen=True, kw_only=True):
    """Host ports of one family that lead to a container. Key: (protocol, family, host address, first port)."""

    owner: str
    protocol: Protocol
    family: Family
    host: Address | None
    first: int
    count: int
    target: Address
    target_first: int

    @property
    def key(self) -> tuple[str, int, str, int]:
        """(protocol, family, host address or empty for any, first port)."""
        return (str(self.protocol), self.family, self.host or "", self.first)


class Peer(Value, frozen=True, kw_only=True):
    """Who has the addresses of a prefix, as policies tell them apart: the number of a class of peers. Key: the prefix.

    The longest prefix that holds an address counts. What no prefix holds is of class 0, everybody else.
    """

    prefix: Prefix
    peer: int

    @property
    def key(self) -> str:
        """The prefix."""
        return str(self.prefix)


class Front(Value, frozen=True, kw_only=True):
    """An address and port of a service: who begins a connection with it is led to somebody behind it, and judged by whom.

    ``protocol`` is IP's number. Key: all three.
    """

    address: Address
    protocol: int
    port: int

    @property
    def key(self) -> tuple[str, int, int]:
        """(address, protocol, port)."""
        return (self.address, self.protocol, self.port)


class Span(Value, frozen=True, kw_only=True):
    """What a ruling says of a run of ports of one protocol (its IP number; 0 is every protocol, and then every port).

    ``later``: of a service's own port it is said once it is known who is behind it, so that whoever meets only the service's
    address lets it pass. What is said here counts where no rule allows who that is.
    """

    protocol: int
    first: int
    last: int
    allow: bool
    rule: int
    """The number of the rule that says so; 0: none does, the endpoint is isolated."""
    later: bool = False


class Ruling(Value, frozen=True, kw_only=True):
    """The verdict on every protocol and port. Key: its number, made from what it says and whose it is.

    Spans do not overlap within a protocol; one of protocol 0 stands for all that no other names and is always there.
    """

    number: int
    spans: tuple[Span, ...]

    @property
    def key(self) -> int:
        """Its number."""
        return self.number


class Judgement(Value, frozen=True, kw_only=True):
    """Which ruling a verdict on one class of peers follows, under one set of policies in one direction. Key: both.

    Peer 0 is every class without a judgement of its own; each policy has one for it.
    """

    policy: int
    peer: int
    ruling: int

    @property
    def key(self) -> tuple[int, int]:
        """(policy, peer)."""
        return (self.policy, self.peer)


class Subject(Value, frozen=True, kw_only=True):
    """The sets of policies that an endpoint is under; 0 is none, everything passes. Key: the host's side of its link.

    A link that has none carries nothing. ``addresses``: all it is known by there; ``via``: where the host meets it.
    """

    host: InterfaceName
    ingress: int = 0
    egress: int = 0
    via: InterfaceName | None = None
    addresses: tuple[Address, ...] = ()

    @property
    def key(self) -> str:
        """The host's side of the link."""
        return self.host


Row = (
    Bridge
    | Link
    | Sub
    | Guard
    | Local
    | Guest
    | Chain
    | Limit
    | Segment
    | Realm
    | Publication
    | Tunnel
    | Vtep
    | Crypt
    | CryptPeer
    | Path
    | Detour
    | Fellow
    | Peer
    | Ruling
    | Judgement
    | Front
    | Subject
    | Speaker
    | Session
    | Sieve
    | Announcement
)
R = TypeVar(
    "R",
    Bridge,
    Link,
    Sub,
    Guard,
    Local,
    Guest,
    Chain,
    Limit,
    Segment,
    Realm,
    Publication,
    Tunnel,
    Vtep,
    Crypt,
    CryptPeer,
    Path,
    Detour,
    Fellow,
    Peer,
    Ruling,
    Judgement,
    Front,
    Subject,
    Speaker,
    Session,
    Sieve,
    Announcement,
)
Rows = tuple[Row, ...]
"""The rows of one owner, a Network or an Endpoint."""


Inside = Link | Sub
"""Rows that put an interface into a container."""


class NodeState:
    """Every row, by table and key. Immutable: ``replace`` makes a new one that shares all that it does not change."""

    __slots__ = ("_owners", "_tables")

    TABLES: tuple[type[Row], ...] = (
        Bridge,
        Link,
        Sub,
        Guard,
        Local,
        Guest,
        Chain,
        Limit,
        Segment,
        Realm,
        Publication,
        Tunnel,
        Vtep,
        Crypt,
        CryptPeer,
        Path,
        Detour,
        Fellow,
        Peer,
        Ruling,
        Judgement,
        Front,
        Subject,
        Speaker,
        Session,
        Sieve,
        Announcement,
    )

    def __init__(self) -> None:
        self._owners: Table[str, Rows] = Table()
        self._tables: Mapping[type[Row], Table[object, Row]] = {table: Table() for table in self.TABLES}

    def table(self, of: type[R]) -> Mapping[object, R]:
        """One table, keyed."""
        return self._tables[of]  # type: ignore[return-value]  # a table holds rows of its own type

    def version(self, of: type[Row]) -> object:
        """Another object after every change of a table, and the same as long as there is none."""
        return self._tables[of]

    def inside(self) -> list[Inside]:
        """Every row that puts an interface into a container whose inside is ours to look after."""
        links = (row for row in self.table(Link).values() if not row.handover)
        return [*links, *self.table(Sub).values()]

    def owned(self, owner: str) -> Rows:
        """The rows that ``owner`` brought; empty if it brought none."""
        return self._owners.get(owner, ())

    def owners(self) -> Mapping[str, Rows]:
        """Rows by owner."""
        return self._owners

    def replace(self, owner: str, rows: Rows) -> NodeState:
        """The state with ``rows`` in place of what ``owner`` brought before. No rows: the owner is gone.

        ``Conflict`` if a row's key is taken: two owners of one row would undo each other.
        """
        return self.replace_all({owner: rows})

    def replace_all(self, changes: Mapping[str, Rows]) -> NodeState:
        """The same for several owners in one step: a row may pass from one of them to another."""
        changes = {owner: rows for owner, rows in changes.items() if self.owned(owner) != rows}
        if not changes:
            return self
        laid: dict[type[Row], dict[object, Row | None]] = {}
        for owner in changes:
            for row in self.owned(owner):
                laid.setdefault(type(row), {})[row.key] = None
        new = object.__new__(NodeState)
        new._owners = self._owners.over({owner: rows or None for owner, rows in changes.items()})
        for owner, rows in changes.items():
            for row in rows:
                fresh = laid.setdefault(type(row), {})
                if held := fresh[row.key] if row.key in fresh else self._tables[type(row)].get(row.key):
                    raise Conflict(f"{type(row).__name__} {row.key} of {owner} is already held by {new._holder(held)}")
                fresh[row.key] = row
        new._tables = {**self._tables, **{of: self._tables[of].over(rows) for of, rows in laid.items()}}
        return new

    def _holder(self, row: Row) -> str:
        return next(owner for owner, rows in self._owners.items() if row in rows)
