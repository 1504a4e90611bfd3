"""Names and MAC addresses in the kernel, made from what people named, the same after every restart.

``fl-<network>`` is a bridge (``fairlead0`` that of the network ``default``), ``flv…`` a container's veth on the host,
``flh…`` the container's end of it while it waits on the host to be handed over, ``fli…`` the ifb that shapes what the container
sends, ``flx-<network>`` a tunnel to other nodes, ``flw0`` and ``flw1`` WireGuard devices. Interface names have 15 bytes; what
does not fit is hashed. BGP sessions have names of up to 63 letters, digits, ``-``, ``_`` and ``.``: ``node.<node>``,
``peer.<BGPPeer>``.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from ipaddress import IPv4Address

from fairlead.model.address import Address, InterfaceName, Mac
from fairlead.model.network import Network

DEFAULT_NETWORK = "default"
VETH = "flv"
HANDOVER = "flh"
IFB = "fli"
TUNNEL = "flx"
CRYPT = "flw"
NODE = "node"
PEER = "peer"
GUARDED = 0x666C
"""The mark of a packet that the eBPF plane has held against its link's guard, on its way from there to the bridge."""
_SYMBOL = re.compile(r"[A-Za-z0-9_.-]{1,63}")


def bridge(network: Network) -> InterfaceName:
    """The Linux bridge of a network."""
    if network.spec.bridge:
        return network.spec.bridge
    if network.name == DEFAULT_NETWORK:
        return InterfaceName("fairlead0")
    plain = f"fl-{network.name}"
    return InterfaceName(plain if len(plain) <= 15 else f"fl-{_digest(network.name, 6)}")


def tunnel(network: str) -> InterfaceName:
    """The tunnel device of a network."""
    plain = f"{TUNNEL}-{network}"
    return InterfaceName(plain if len(plain) <= 15 else f"{TUNNEL}-{_digest(network, 5)}")


def tunnel_mac(network: str, node: str) -> Mac:
    """The MAC of a node's end of a network's tunnel: every node can tell it, and it is the same after every restart."""
    return Mac("0e:" + ":".join(_pairs(_digest(f"tunnel/{network}/{node}", 5))))


def vni(network: str) -> int:
    """The VXLAN network identifier of a network that names none: 24 bits, not 0."""
    return int(_digest(f"vni/{network}", 3), 16) or 1


def crypt(number: int) -> InterfaceName:
    """A WireGuard device."""
    return InterfaceName(f"{CRYPT}{number}")


def symbol(kind: str, name: str) -> str:
    """What the BGP speaker calls something: a session with a node (``NODE``) or by a BGPPeer (``PEER``), or rules."""
    plain = f"{kind}.{name}"
    return plain if _SYMBOL.fullmatch(plain) else f"{kind}.{_digest(name, 12)}"


def router_id(node: str) -> Address:
    """The 32 bits by which BGP tells speakers apart, of a node without an IPv4 address."""
    return Address(IPv4Address(int(_digest(f"router/{node}", 4), 16) or 1))


def veth(endpoint: str) -> InterfaceName:
    """The host side of an endpoint's veth pair."""
    return InterfaceName(VETH + _digest(endpoint, 6))


def handover(endpoint: str) -> InterfaceName:
    """The container's end of an endpoint's veth pair while it lies on the host for somebody to move."""
    return InterfaceName(HANDOVER + _digest(endpoint, 6))


def ifb(host: str) -> InterfaceName:
    """The ifb through which the traffic that leaves a container by the host interface ``host`` is shaped."""
    return InterfaceName(IFB + _digest(host, 6))


def bridge_mac(network: str) -> Mac:
    """A bridge's own MAC: fixed, since one without takes the lowest of its ports' and changes it as they come and go."""
    return Mac("02:" + ":".join(_pairs(_digest(f"bridge/{network}", 5))))


def veth_mac(endpoint: str) -> Mac:
    """The MAC of a veth's host side: fixed too, so that it can be told without asking the kernel."""
    return Mac("fe:" + ":".join(_pairs(_digest(f"veth/{endpoint}", 5))))


def endpoint_mac(addresses: tuple[Address, ...], endpoint: str) -> Mac:
    """A container's MAC: from its IPv4 address, so that neighbours' ARP entries stay right when the address is used again.

    Without an IPv4 address it is made from the IPv6 address, and without any from the endpoint's name.
    """
    if not addresses:
        return Mac("0a:59:" + ":".join(_pairs(_digest(endpoint, 4))))
    first = min(addresses, key=lambda address: address.family)
    tail = first.packed.hex() if first.family == 4 else _digest(first, 4)
    return Mac(("0a:58:" if first.family == 4 else "0a:56:") + ":".join(_pairs(tail)))


def _digest(text: str, size: int) -> str:
    return blake2b(text.encode(), digest_size=size).hexdigest()


def _pairs(text: str) -> list[str]:
    return [text[at : at + 2] for at in range(0, len(text), 2)]
