"""Who else sees to the network of this node: other people's chains and devices, known by their names.

Everything is read when somebody asks for it. ``nft`` does not show what iptables-legacy wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from fairlead.datapath.filter.table import NAME
from fairlead.kernel import nft
from fairlead.kernel.errors import KernelError
from fairlead.model.address import Prefix

_KUBERNETES = (
    "ip nat KUBE-SVC-NPX46M4PTMTKRN6Y",
    "ip6 nat KUBE-SVC-NPX46M4PTMTKRN6Y",
    "ip kube-proxy service-2QRHZV4L-default/kubernetes/tcp/https",
    "ip6 kube-proxy service-2QRHZV4L-default/kubernetes/tcp/https",
)
"""kube-proxy's chain of the Service default/kubernetes, which every cluster has: its name is made of the Service's alone."""
_LOCAL = re.compile(r"ip6? saddr != (\S+) .*(?:KUBE-MARK-MASQ|mark-for-masquerade)")


class Marks(NamedTuple):
    """How the names begin of what a network sets up on a node."""

    devices: tuple[str, ...]
    chains: tuple[str, ...]
    tables: tuple[str, ...]


_NETWORKS = {
    "Flannel": Marks(("flannel.", "flannel-v6.", "flannel-wg"), ("FLANNEL-",), ("flannel-ipv4", "flannel-ipv6")),
    "Calico": Marks(("cali", "vxlan.calico", "vxlan-v6.calico", "wireguard.cali"), ("cali-",), ("calico",)),
}


class Chain(NamedTuple):
    """A chain of anybody's. ``hook``: where it hangs and what it does in the end, as nft writes it; empty if nowhere."""

    family: str
    table: str
    name: str
    hook: str = ""


def chains() -> list[Chain]:
    """Every chain but ours."""
    found: list[Chain] = []
    family = table = ""
    for line in nft.run("list chains").splitlines():
        words = line.split()
        match words[:1]:
            case ["table"]:
                family, table = words[1:3]
            case ["chain"]:
                found.append(Chain(family, table, words[1]))
            case ["type"]:
                found[-1] = found[-1]._replace(hook=line.strip())
    return [one for one in found if one.table != NAME]


def dropping(found: Iterable[Chain]) -> Iterator[str]:
    """Forward chains that drop what no rule of theirs accepts."""
    for one in found:
        if "hook forward" in one.hook and "policy drop" in one.hook:
            yield f"{one.family} {one.table} {one.name}"


def networks(devices: Iterable[str], found: Iterable[Chain]) -> dict[str, tuple[str, ...]]:
    """What other networks of pods set up here and has not gone: devices, then chains, each once."""
    devices, found = sorted(devices), list(found)
    told: dict[str, tuple[str, ...]] = {}
    for network, marks in _NETWORKS.items():
        theirs = [one for one in devices if one.startswith(marks.devices)]
        theirs += [one.name for one in found if one.name.startswith(marks.chains) or one.table in marks.tables]
        if theirs:
            told[network] = tuple(dict.fromkeys(theirs))
    return told


def strangers(subnets: Iterable[Prefix], local: Iterable[Prefix]) -> dict[str, str]:
    """Those of the pods' subnets that kube-proxy takes for the outside, with what of their family it takes for pods."""
    pods = {one.family: one for one in local}
    known = {one: pods[one.family] for one in subnets if one.family in pods}
    return {one: mine for one, mine in known.items() if one.length < mine.length or not mine.overlaps(one)}


def local() -> Iterator[Prefix]:
    """Which sources kube-proxy takes for pods, where it goes by addresses: its ``clusterCIDR``."""
    for chain in _KUBERNETES:
        with suppress(KernelError):  # there is no kube-proxy, or it works in another way
            if written := _LOCAL.search(nft.run(f"list chain {chain}")):
                yield Prefix(written[1])
