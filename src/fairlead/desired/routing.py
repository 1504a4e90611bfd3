"""The rows of BGP: how this node speaks, with whom, what it tells, and what it lets pass.

Nothing here is a secret: a session names its password, and whoever writes the speaker's configuration looks it up.
"""

from __future__ import annotations

from typing import Literal

from fairlead.model.address import Address, Family, InterfaceName, Prefix
from fairlead.model.bgp import Bfd, Community
from fairlead.model.bgpfilter import BGPFilterSpec
from fairlead.model.meta import Value
from fairlead.model.secret import SecretKeyRef

SessionKind = Literal["mesh", "reflector", "client", "external"]
"""With another node; with a node that reflects routes to us; with one that we reflect to; with a router outside."""


class Narrow(Value, frozen=True, kw_only=True):
    """A next hop to which less gets than this node's uplink carries."""

    hop: Address
    mtu: int


class Speaker(Value, frozen=True, kw_only=True):
    """This node as a BGP speaker. There is one; its key says so.

    ``addresses``: the node's own, at most one of each family: what it sends with, and what others reach it by. ``territory``:
    what belongs to the cluster; only that is learned from nodes, and told to routers. ``restart``: seconds for which others
    keep our routes while the speaker restarts; 0: not at all. ``narrow``: routes through these carry less.
    """

    asn: int
    router_id: Address
    addresses: tuple[Address, ...]
    territory: tuple[Prefix, ...]
    port: int
    restart: int
    narrow: tuple[Narrow, ...] = ()

    @property
    def key(self) -> str:
        """There is one."""
        return "speaker"


class Channel(Value, frozen=True, kw_only=True):
    """What a session carries of one family: routes to us go through ``next_hop``.

    ``extended``: routes of IPv4 may have an IPv6 next hop (RFC 8950).
    """

    family: Family
    next_hop: Address
    extended: bool = False


class Session(Value, frozen=True, kw_only=True):
    """One neighbour. Key: its name, which is the session's in BIRD.

    ``peer``: what people call it, a node or a BGPPeer. ``hops``: how far away it is; 0: on a subnet of ours. ``secure``: what
    comes from farther away is dropped (RFC 5082). ``cluster``: whose routes we reflect to it, if it is a client.
    ``gateway``: through whom it is reached, if it is hops away. ``keep``: the next hop of what others told stays as it is.
    ``own``: how often our own AS may be in a route's path.
    """

    name: str
    kind: SessionKind
    peer: str
    asn: int
    local: Address | None
    remote: Address
    port: int
    remote_asn: int
    channels: tuple[Channel, ...]
    device: InterfaceName | None = None
    hops: int = 0
    gateway: Address | None = None
    secure: bool = False
    hold: int
    restart: int
    bfd: Bfd | None = None
    cluster: str = ""
    keep: bool = False
    own: int = 0
    password: SecretKeyRef | None = None
    filters: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The session's name."""
        return self.name

    @property
    def internal(self) -> bool:
        """Whether the neighbour is of our AS."""
        return self.asn == self.remote_asn


class Sieve(Value, frozen=True, kw_only=True):
    """The rules that routes of some sessions pass. Key: its name, a BGPFilter's."""

    name: str
    rules: BGPFilterSpec

    @property
    def key(self) -> str:
        """The filter's name."""
        return self.name


class Announcement(Value, frozen=True, kw_only=True):
    """Addresses that are reached through this node, as it tells others. Key: the prefix."""

    prefix: Prefix
    communities: tuple[Community, ...] = ()

    @property
    def key(self) -> str:
        """The prefix."""
        return self.prefix
