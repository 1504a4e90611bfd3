"""What the agent tells of BGP: its neighbours, and the routes that they and this node tell each other."""

from __future__ import annotations

from fairlead.model.meta import Value


class RouteCount(Value, frozen=True, kw_only=True):
    """Routes of one family, ipv4 or ipv6: those that a neighbour told, how many of them passed, and how many it was told."""

    family: str
    received: int = 0
    accepted: int = 0
    exported: int = 0


class Neighbour(Value, frozen=True, kw_only=True):
    """One session. ``peer``: a node or a BGPPeer. ``type``: mesh, reflector, client or external. Empty where nothing is known.

    ``state``: BGP's own word, ``Established`` if all is well. ``since`` when (RFC 3339). ``error``: the last that was met, and
    ``bfd`` the state of BFD where it is asked for.
    """

    name: str
    peer: str
    type: str
    address: str
    asn: int
    state: str = ""
    since: str = ""
    error: str = ""
    bfd: str = ""
    routes: tuple[RouteCount, ...] = ()

    @property
    def up(self) -> bool:
        """Whether routes are told."""
        return self.state == "Established"


class BgpStatus(Value, frozen=True, kw_only=True):
    """The speaker. ``reason``: why it does not run, if it should; not ``wanted``: no network has driver bgp."""

    wanted: bool
    running: bool = False
    reason: str = ""
    node: str = ""
    asn: int = 0
    router_id: str = ""
    version: str = ""
    restarts: int = 0
    """How often it ended by itself since the agent started, and was started again."""
    neighbours: tuple[Neighbour, ...] = ()


class BgpRoute(Value, frozen=True, kw_only=True):
    """One route as one neighbour told it. ``peer`` is empty for what this node announces itself.

    ``best``: of all for its prefix it is the one that counts. ``filtered``: it did not pass.
    """

    prefix: str
    peer: str = ""
    via: tuple[str, ...] = ()
    best: bool = False
    filtered: bool = False
    since: str = ""
    next_hop: str = ""
    as_path: str = ""
    communities: tuple[str, ...] = ()
    local_preference: int | None = None
    med: int | None = None
