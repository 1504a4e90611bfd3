"""Ways to other nodes, as rows of ``NodeState``: tunnels, encryption and the routes that lead through them."""

from __future__ import annotations

from fairlead.model.address import Address, InterfaceName, Mac, Prefix
from fairlead.model.meta import Value


class Tunnel(Value, frozen=True, kw_only=True):
    """A VXLAN device: what leaves by it goes to other nodes inside UDP. Key: its name.

    It learns nothing: every ``Vtep`` behind it is told.
    """

    name: InterfaceName
    network: str
    vni: int
    port: int
    local: Address
    mac: Mac
    mtu: int

    @property
    def key(self) -> str:
        """The device's name."""
        return self.name


class Vtep(Value, frozen=True, kw_only=True):
    """The end of a tunnel on another node: its MAC, and the node's address to which its packets are sent. Key: tunnel and MAC.

    Routes through the tunnel name its link-local address, made of its MAC, as their gateway.
    """

    tunnel: InterfaceName
    node: str
    mac: Mac
    remote: Address

    @property
    def key(self) -> str:
        """Tunnel and MAC."""
        return f"{self.tunnel} {self.mac}"


class Path(Value, frozen=True, kw_only=True):
    """A route of the host: how to get to addresses on another node, or that there is nobody. Key: the destination, and which.

    ``device`` is left out where the gateway lies on a subnet of the host. ``source``: what the host itself sends with. Neither
    gateway nor device: whatever has no longer match is answered that it cannot be reached. ``metric``: of several to one
    destination the lowest counts; the kernel's default if 0. ``apart``: only for what a ``Detour`` leads there.
    """

    dst: Prefix
    via: Address | None = None
    device: InterfaceName | None = None
    source: Address | None = None
    mtu: int = 0
    metric: int = 0
    apart: bool = False

    @property
    def key(self) -> str:
        """The destination, with the metric and that it is apart where it is so."""
        return self.dst + (f" metric {self.metric}" if self.metric else "") + (" apart" if self.apart else "")


class Crypt(Value, frozen=True, kw_only=True):
    """A WireGuard device: what leaves by it goes to other nodes encrypted. Key: its name.

    ``public``: its public key, by which the private one is found.
    """

    name: InterfaceName
    port: int
    public: str
    mtu: int

    @property
    def key(self) -> str:
        """The device's name."""
        return self.name


class CryptPeer(Value, frozen=True, kw_only=True):
    """Another node behind a WireGuard device: what it may send as, and where it is. Key: device and public key.

    ``calls``: of the two this node begins the handshake, and keeps it up though nobody sends anything.
    """

    device: InterfaceName
    node: str
    public: str
    endpoint: Address
    port: int
    allowed: tuple[Prefix, ...]
    calls: bool

    @property
    def key(self) -> str:
        """Device and public key."""
        return f"{self.device} {self.public}"


class Detour(Value, frozen=True, kw_only=True):
    """What comes from these addresses looks for its way among the paths that are ``apart`` first. Key: the prefix."""

    prefix: Prefix

    @property
    def key(self) -> str:
        """The prefix."""
        return self.prefix


class Fellow(Value, frozen=True, kw_only=True):
    """Another node: addresses from which it reaches containers of networks that it shares. Key: its name."""

    name: str
    addresses: tuple[Address, ...]

    @property
    def key(self) -> str:
        """The node's name."""
        return self.name
