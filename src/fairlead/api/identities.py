"""What the agent tells of identities: the numbers by which the kernel of its node knows who is who."""

from __future__ import annotations

from enum import StrEnum

from fairlead.model.meta import Value


class Holder(StrEnum):
    """What those are that have a number."""

    CONTAINER = "container"
    SERVICE = "service"
    NODE = "node"
    CIDR = "cidr"
    OUTSIDE = "outside"


class Identity(Value, frozen=True, kw_only=True):
    """A class of peers: all whom no policy in force tells apart, and its number in hex.

    The rest is what policies see of them, and no more: labels and names of ports that some policy asks for, CIDRs that one
    uses. A label of which only matters that it is there has the value ``*``. ``fronts``: ports at a service's own address.
    ``addresses``: how many prefixes have the number, which is there as long as one has it; ``containers``: who has these.
    """

    number: str
    kind: Holder
    namespace: str = ""
    labels: dict[str, str] = {}
    namespace_labels: dict[str, str] = {}
    node_labels: dict[str, str] = {}
    ports: dict[str, str] = {}
    cidrs: tuple[str, ...] = ()
    fronts: tuple[str, ...] = ()
    addresses: int = 0
    containers: tuple[str, ...] = ()
