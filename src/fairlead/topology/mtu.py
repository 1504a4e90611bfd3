"""How large a container's packets may be, from what the uplink carries and what each way to another node adds."""

from __future__ import annotations

from fairlead.model.address import Family
from fairlead.model.network import Driver, NetworkSpec

VXLAN: dict[Family, int] = {4: 50, 6: 70}
"""Bytes that VXLAN adds: Ethernet 14, VXLAN 8, UDP 8, IP 20 or 40 (RFC 7348, section 5), by the underlay's family."""

WIREGUARD: dict[Family, int] = {4: 60, 6: 80}
"""Bytes that WireGuard adds: header 16, tag 16, UDP 8, IP 20 or 40."""

PADDED = 16
"""WireGuard fills packets up to a multiple of it, but not beyond the MTU of its device."""


LEAST: dict[Family, int] = {4: 68, 6: 1280}
"""What the kernel takes for the least that a route may carry."""


def overhead(spec: NetworkSpec, underlay: Family) -> int:
    """What a packet between nodes grows by."""
    if spec.encrypt:
        return WIREGUARD[underlay]
    return VXLAN[underlay] if spec.driver is Driver.VXLAN else 0


def sealed(size: int, underlay: Family) -> int:
    """What fits encrypted into ``size`` bytes, where a device with a larger MTU fills it up."""
    return (size - WIREGUARD[underlay]) // PADDED * PADDED


def inner(spec: NetworkSpec, uplink: int, underlay: Family) -> int:
    """The MTU of a network's containers: as written, else what fits the uplink."""
    return spec.mtu or uplink - overhead(spec, underlay)
