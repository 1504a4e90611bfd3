"""What a check is given and what it gives: facts in, findings out. A check touches nothing and asks nobody else."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fairlead.api.encryption import Encryption
from fairlead.api.routing import BgpStatus
from fairlead.api.schema import Drift, Finding, Narrow, Pool, Unread
from fairlead.model.meta import Value


class Capability(Value, frozen=True, kw_only=True):
    """One thing the kernel can or cannot do. ``needs``: what would give it."""

    name: str
    ok: bool
    needs: str = ""


class Facts(Value, frozen=True, kw_only=True):
    """Everything that the agent knows and the checks judge, gathered once for all of them."""

    drift: tuple[Drift, ...] = ()
    dead: tuple[str, ...] = ()
    """Containers whose namespace is gone."""
    pools: tuple[Pool, ...] = ()
    maps: dict[str, tuple[int, int]] = {}
    """Of each map of the plane how many entries it has and can have; none without programs."""
    evicted: int = 0
    """Connections that were forgotten before they ended."""
    unreadable: tuple[Unread, ...] = ()
    """Objects that are stored and cannot be read."""
    capabilities: tuple[Capability, ...] = ()
    forwards: bool = True
    uplink_mtu: int = 1500
    mtus: dict[str, tuple[int, int]] = {}
    """Of each network that leads outside and names one, its MTU, and the largest that fits the uplink."""
    nodes: int = 1
    """How many nodes are known, this one among them."""
    unreached: tuple[str, ...] = ()
    """Nodes whose containers cannot be reached from here, and why."""
    encryption: Encryption = Encryption()
    narrow: tuple[Narrow, ...] = ()
    """Ways to other nodes that carry less than the uplinks claim."""
    bgp: BgpStatus | None = None
    """None: nobody asked."""
    dropping: tuple[str, ...] = ()
    """Other people's forward chains whose policy is to drop, as ``family table chain``."""
    networks: dict[str, tuple[str, ...]] = {}
    """Other networks of pods that are on this node, and their devices and chains."""
    strangers: dict[str, str] = {}
    """Subnets of the pods' network that kube-proxy takes for the outside, and what it takes for pods."""


Check = Callable[[Facts], Iterable[Finding]]


def ok(check: str, message: str) -> Finding:
    """Nothing wrong."""
    return Finding(check=check, level="ok", message=message)


def warning(check: str, message: str, remedy: str = "") -> Finding:
    """Something that may hurt."""
    return Finding(check=check, level="warning", message=message, remedy=remedy)


def error(check: str, message: str, remedy: str = "", drift: Iterable[Drift] = ()) -> Finding:
    """Something that does hurt."""
    return Finding(check=check, level="error", message=message, remedy=remedy, drift=tuple(drift))
