"""A network that a CNI configuration defines in itself, in the words of the bridge and host-local plugins. Pure.

If the network exists already, the configuration must agree with it: what a configuration says and what is in force never
differ in silence.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from fairlead.model.address import Address, Prefix
from fairlead.model.meta import Meta
from fairlead.model.network import Network, NetworkSpec, Range, Subnet

from .config import Config, Pool
from .spec import Code, Refused, checked

CONFIG_NOTE = "fairlead.dev/cni-network"
"""The annotation that names the configuration a network comes from."""


def definition(config: Config, name: str) -> Network | None:
    """The network that the configuration defines, called ``name``; None if it defines none."""
    pools = subnets(config.ipam.pools, "ipam.ranges")
    if not pools:
        return None
    flags = {field: value for field, _, value in _flags(config) if value is not None}
    spec = checked(lambda given: NetworkSpec(subnets=pools, **given), flags, "")
    make = partial(Network, spec=spec)
    return checked(lambda given: make(metadata=Meta(name=given, annotations={CONFIG_NOTE: config.name})), name, "name")


def disagreements(config: Config, network: Network) -> list[str]:
    """What the configuration says of a network that is otherwise: each line names the key and both values."""
    spec = network.spec
    found = [
        f"{key}: the configuration says {_show(wanted)}, network {network.name} has {_show(getattr(spec, field))}"
        for field, key, wanted in _flags(config)
        if wanted is not None and wanted != getattr(spec, field)
    ]
    wanted_pools = {subnet.cidr for subnet in subnets(config.ipam.pools, "ipam.ranges")}
    if wanted_pools and wanted_pools != {subnet.cidr for subnet in spec.subnets}:
        have = ", ".join(subnet.cidr for subnet in spec.subnets) or "no subnet"
        found.append(f"ipam: the configuration says {', '.join(sorted(wanted_pools))}, network {network.name} has {have}")
    return found


def subnets(sets: tuple[tuple[Pool, ...], ...], field: str) -> tuple[Subnet, ...]:
    """host-local's sets of pools as subnets: a set gives one address, so there is at most one set a family."""
    made: list[Subnet] = []
    seen = set[int]()
    for at, pools in enumerate(sets):
        families = {pool.subnet.family for pool in pools}
        if len(families) != 1:
            raise Refused(Code.CONFIG, f"{field}[{at}]: a set must have pools, all of one address family")
        if families & seen:
            shown = ", ".join(pool.subnet for pool in pools)
            raise Refused(Code.UNSUPPORTED_FIELD, f"{field}[{at}]: [{shown}]: a second address of one family is not supported")
        seen |= families
        for cidr in dict.fromkeys(pool.subnet for pool in pools):
            runs = [pool for pool in pools if pool.subnet == cidr]
            made.append(checked(partial(_subnet, cidr), runs, f"{field}[{at}]"))
    return tuple(made)


def _subnet(cidr: Prefix, pools: list[Pool]) -> Subnet:
    """The pools of one prefix as one subnet; a pool without limits is the whole of it."""
    gateways = dict.fromkeys(pool.gateway for pool in pools if pool.gateway)
    if len(gateways) > 1:
        raise ValueError(f"{cidr} has two gateways: {', '.join(gateways)}")
    limited = all(pool.range_start or pool.range_end for pool in pools)
    first, last = cidr.net.network_address, cidr.net.broadcast_address
    if cidr.net.num_addresses > 2:
        first, last = first + 1, last - 1 if cidr.family == 4 else last
    runs = [Range(start=pool.range_start or Address(first), end=pool.range_end or Address(last)) for pool in pools if limited]
    return Subnet(cidr=cidr, gateway=next(iter(gateways), None), ranges=tuple(runs))


def _flags(config: Config) -> tuple[tuple[str, str, Any], ...]:
    """What defines a network beside its pools: the model's field, the configuration's key, the value or None."""
    return (
        ("bridge", "bridge", config.bridge),
        ("mtu", "mtu", config.mtu or None),
        ("masquerade", "ipMasq", config.ip_masq),
        ("internal", "internal", config.no_way_out),
        ("isolated", "isolated", config.isolated),
        ("inter_container", "interContainer", config.inter_container),
    )


def _show(value: object) -> str:
    """``value`` as JSON people would write it."""
    return str(value).lower() if isinstance(value, bool) else str(value or "none")
