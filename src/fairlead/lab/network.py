"""The network that a lab's pods are on where nobody wrote one. Pure.

::

    vxlan, host-gw, bgp   one network of all nodes: 10.244.0.0/16   fd00:244::/64
    routed, bridge        one on each node: 10.244.K.0/24   fd00:244:K::/64, to which the lab itself lays routes
"""

from __future__ import annotations

from fairlead.model.address import Family, Name, Prefix
from fairlead.model.errors import Invalid
from fairlead.model.meta import Meta
from fairlead.model.network import CLUSTER, Driver, Network, NetworkSpec, Subnet

NAME = Name("pods")
DRIVERS = (*CLUSTER, Driver.ROUTED, Driver.BRIDGE)

_CLUSTER: dict[Family, Prefix] = {4: Prefix("10.244.0.0/16"), 6: Prefix("fd00:244::/64")}
_OWN: dict[Family, str] = {4: "10.244.{}.0/24", 6: "fd00:244:{}::/64"}


def check(driver: Driver) -> None:
    """Raise ``Invalid`` unless pods of a lab can be on a network of this driver."""
    if driver not in DRIVERS:
        raise Invalid(f"{driver} connects no nodes; there are {', '.join(DRIVERS)}", field="network")


def seal(driver: Driver | None) -> None:
    """Raise ``Invalid`` unless a network of this driver can be encrypted between nodes."""
    if driver not in CLUSTER:
        which = f"driver {driver}" if driver else "a file's networks: write encrypt: true there"
        raise Invalid(
            f"only what reaches over nodes is encrypted between them ({', '.join(CLUSTER)}); not {which}", field="encrypt"
        )


def shared(driver: Driver, families: tuple[Family, ...], *, encrypt: bool = False) -> Network:
    """One network of all nodes."""
    subnets = tuple(Subnet(cidr=_CLUSTER[family]) for family in families)
    return Network(metadata=Meta(name=NAME), spec=NetworkSpec(driver=driver, subnets=subnets, encrypt=encrypt))


def own(driver: Driver, families: tuple[Family, ...], at: int) -> Network:
    """The network of the ``at``-th node: its containers are reached, and seen, at their own addresses."""
    subnets = tuple(Subnet(cidr=Prefix(_OWN[family].format(at))) for family in families)
    spec = NetworkSpec(driver=driver, subnets=subnets, isolated=False, masquerade=False)
    return Network(metadata=Meta(name=NAME), spec=spec)
