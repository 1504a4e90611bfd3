"""What ``fairlead wireguard`` asks of the agent and is answered.

========  =====================  =====================================================================
method    path                   reply
========  =====================  =====================================================================
GET       /v1/wireguard          ``Encryption``
POST      /v1/wireguard/rotate   ``Rotated``
========  =====================  =====================================================================
"""

from __future__ import annotations

from fairlead.model.meta import Value


class Key(Value, frozen=True, kw_only=True):
    """A key of this node, and the device that it is on. ``age`` in seconds; ``up``: the device is there and answers."""

    generation: int
    public: str
    device: str
    port: int
    age: float
    up: bool


class Peer(Value, frozen=True, kw_only=True):
    """Another node. ``handshake``: seconds since the last one, None if there was none. ``problem``: why there is no way to it.

    ``generation`` is that of the keys by which packets to it are encrypted now, and what else is told is of these.
    """

    node: str
    generation: int = 0
    public: str = ""
    device: str = ""
    endpoint: str = ""
    handshake: float | None = None
    received: int = 0
    sent: int = 0
    problem: str = ""


class Encryption(Value, frozen=True, kw_only=True):
    """Encryption between this node and the others. ``by``: ``kernel`` or ``wireguard-go``; ``lacking``: why nobody does it.

    ``networks``: those that are encrypted.
    """

    by: str = ""
    lacking: str = ""
    networks: tuple[str, ...] = ()
    keys: tuple[Key, ...] = ()
    peers: tuple[Peer, ...] = ()


class Rotated(Value, frozen=True, kw_only=True):
    """A rotation has begun: every node makes a key of this generation."""

    generation: int
