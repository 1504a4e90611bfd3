"""Which networks may have ranges that share addresses."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.ipam.overlaps import refuse
from fairlead.model.address import InterfaceName, Prefix
from fairlead.model.errors import Conflict
from fairlead.model.meta import Meta
from fairlead.model.network import SUBS, Driver, Network, NetworkSpec, Subnet


def network(name: str, driver: Driver, *cidrs: str, size: int | None = None, **spec: Any) -> Network:
    subnets = tuple(Subnet(cidr=Prefix(cidr), block_size=size) for cidr in cidrs)
    parent = InterfaceName("eth0") if driver in SUBS else None
    return Network(metadata=Meta(name=name), spec=NetworkSpec(driver=driver, parent=parent, subnets=subnets, **spec))


@pytest.mark.parametrize("cidr", ["10.1.0.0/24", "10.1.0.128/25", "10.0.0.0/8", "10.2.0.0/24"])
@pytest.mark.parametrize("driver", SUBS)
def test_single_addresses_on_host_interfaces_may_be_shared(driver: Driver, cidr: str) -> None:
    refuse(network("cam", driver, cidr, size=32), network("lan", Driver.MACVLAN, "10.1.0.0/24", size=32))
    refuse(network("cam", driver, "fd01::/64", size=128), network("lan", Driver.MACVLAN, "fd01::/48", size=128))


@pytest.mark.parametrize("driver", [Driver.BRIDGE, Driver.ROUTED, Driver.VXLAN, Driver.HOST_GW, Driver.BGP])
def test_what_passes_the_hosts_routes_shares_with_nobody(driver: Driver) -> None:
    size = 32 if driver in {Driver.VXLAN, Driver.HOST_GW, Driver.BGP} else None
    blue, lan = network("blue", driver, "10.1.0.0/24", size=size), network("lan", Driver.MACVLAN, "10.1.0.0/16", size=32)
    red = network("red", driver, "10.1.0.128/25", size=size)
    for wanted, other, told in ((blue, lan, "blue"), (lan, blue, "blue"), (red, blue, "blue"), (blue, red, "red")):
        with pytest.raises(Conflict) as refused:
            refuse(wanted, other)
        assert refused.value.field == "spec.subnets[0].cidr"
        assert refused.value.message == (
            f"{wanted.spec.subnets[0].cidr} overlaps {other.spec.subnets[0].cidr} of network {other.name}; hosts tell "
            f"containers of network {told} (driver {driver}) by their prefix, which no other network can have: choose another"
        )
    refuse(network("red", driver, "10.2.0.0/24", size=size), blue)


def test_blocks_share_with_nobody_and_it_is_said_which_network_must_change() -> None:
    single, many = (network(name, Driver.MACVLAN, "10.1.0.0/24", size=size) for name, size in (("lan", 32), ("cam", 26)))
    with pytest.raises(
        Conflict, match=r"of network cam, which gives out .*by the block; .*network cam anew with blockSize: 32"
    ):
        refuse(single, many)
    with pytest.raises(Conflict, match=r"of network lan; to share its range, set spec.subnets\[0\].blockSize: 32, or choose"):
        refuse(many, single)
    unsaid = network("old", Driver.MACVLAN, "fd01::/64")
    with pytest.raises(Conflict, match=r"make network old anew with blockSize: 128"):
        refuse(network("lan", Driver.MACVLAN, "fd01::/64", size=128), unsaid)
