"""What a lab is to look like, as a person writes it: subnets, the machines on them, and a store.

A file is a YAML stream with one document of kind ``Lab``; the others are objects to apply, such as networks and policies.
What is left out is chosen by ``plan``. Nothing here touches the machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

import msgspec

from fairlead.model import codec, document
from fairlead.model.address import Address, Family, Name, Prefix
from fairlead.model.errors import Invalid, Problem
from fairlead.model.meta import GROUP, Meta, Object, Value
from fairlead.model.network import MTU_MAX, MTU_MIN, MTU_MIN_IPV6

SWITCH = "switch"
MANAGEMENT = "mgmt"
"""The subnet by which nodes reach an etcd, apart from the underlay, so that what cuts the one leaves the other."""
ETCD = "etcd"

NAME_MAX = 12
"""Characters of a name, which becomes an interface's with something behind it."""
NODES_MAX, PODS_MAX = 64, 64
MTU_DEFAULT = 1500
MEMBERS = (1, 3, 5)
KIND = "Lab"


class Label(Name):
    """The name of a subnet or a machine: short, as it is an interface's too."""

    __slots__ = ()

    @classmethod
    def canonical(cls, text: str) -> str:
        if len(text) > NAME_MAX or "." in text or text in {"lo", "all", "default"}:
            raise ValueError(
                f"{text[:80]!r} names no machine or subnet: at most {NAME_MAX} lower case letters, digits and '-', "
                "as it is an interface's name too"
            )
        return Name.canonical(text)


class Subnet(Value, frozen=True, kw_only=True):
    """One layer 2: a bridge of the switch. ``cidrs`` are chosen if left out, one a family; ``mtu``: the lab's."""

    name: Label
    cidrs: tuple[Prefix, ...] = ()
    mtu: int | None = None

    def __post_init__(self) -> None:
        families = [cidr.family for cidr in self.cidrs]
        if len(set(families)) < len(families):
            raise ValueError("cidrs: at most one of each address family")
        for at, cidr in enumerate(self.cidrs):
            if cidr.net.num_addresses < 4:
                raise ValueError(f"cidrs[{at}]: {cidr} has no room for two machines; at least a /30 or a /126")
        _check_mtu(self.mtu, families)

    @property
    def families(self) -> tuple[Family, ...]:
        """Those of its prefixes."""
        return tuple(cidr.family for cidr in self.cidrs)


class Pod(Value, frozen=True, kw_only=True):
    """A container with a small web server. ``networks``: the lab's first, if left out."""

    name: Name
    networks: tuple[Name, ...] = ()
    labels: dict[str, str] = {}
    namespace: Name = Name("default")


class Station(Value, frozen=True, kw_only=True):
    """A machine on subnets. An address goes to the interface on the subnet that holds it; what is left out is chosen."""

    name: Label
    subnets: tuple[Label, ...] = ()
    addresses: tuple[Address, ...] = ()
    mtu: int | None = None
    """Of all its interfaces, where it is smaller than the subnet's."""

    def __post_init__(self) -> None:
        _check_mtu(self.mtu, ())


class Node(Station, frozen=True, kw_only=True):
    """A machine with an agent. ``pods``: how many, or which."""

    labels: dict[str, str] = {}
    pods: int | tuple[Pod, ...] | None = None

    def __post_init__(self) -> None:
        Station.__post_init__(self)
        Meta(name=self.name, labels=self.labels)
        _check_count("pods", self.pods, PODS_MAX)


class Router(Station, frozen=True, kw_only=True):
    """A machine that forwards between its subnets, and knows the way to all others.

    ``as_number``: it speaks BGP, with the nodes on its subnets and with other routers that do.
    """

    as_number: Annotated[int, msgspec.Meta(ge=1, le=2**32 - 2)] | None = None


class Host(Station, frozen=True, kw_only=True):
    """A machine with a web server and no agent."""


class Link(Value, frozen=True, kw_only=True):
    """A cable between two routers, which is a subnet of its own."""

    routers: tuple[Label, Label]
    cidrs: tuple[Prefix, ...] = ()
    mtu: int | None = None


class StoreDriver(StrEnum):
    """Where agents keep what people write."""

    OWN = "own"
    """Each in a file of its own: nodes know nothing of each other."""
    SQLITE = "sqlite"
    """One file that all share."""
    ETCD = "etcd"
    """etcd, on a management network beside the underlay."""


class Store(Value, frozen=True, kw_only=True):
    """The store.

    ``driver``: left out, a file that all share if a network reaches over nodes, else each its own. Of etcd: ``members``,
    how many there are, and ``cidrs``, of the network by which nodes reach them.
    """

    driver: StoreDriver | None = None
    members: int = 1
    cidrs: tuple[Prefix, ...] = ()

    def __post_init__(self) -> None:
        if self.members not in MEMBERS:
            raise ValueError(f"members: {self.members} is not one of {', '.join(map(str, MEMBERS))}")
        if self.members > 1 and self.driver is not StoreDriver.ETCD:
            raise ValueError(f"members: only a store with driver {StoreDriver.ETCD} has several")

    @property
    def machines(self) -> tuple[Label, ...]:
        """What the machines of its members are called."""
        if self.driver is not StoreDriver.ETCD:
            return ()
        return tuple(Label(f"{ETCD}{at}") for at in range(1, self.members + 1))


class LabSpec(Value, frozen=True, kw_only=True):
    """Everything. ``families``: of what is chosen; ``pods``: how many a node has that does not say; ``plane``: of agents."""

    nodes: tuple[Node, ...]
    subnets: tuple[Subnet, ...] = ()
    routers: tuple[Router, ...] = ()
    links: tuple[Link, ...] = ()
    hosts: tuple[Host, ...] = ()
    store: Store = Store()
    families: tuple[Literal[4, 6], ...] = (4,)
    mtu: int = MTU_DEFAULT
    pods: int = 2
    plane: Literal["auto", "ebpf", "nftables"] = "auto"

    def __post_init__(self) -> None:
        if not 1 <= len(self.nodes) <= NODES_MAX:
            raise ValueError(f"nodes: {len(self.nodes)} of them; from 1 to {NODES_MAX}")
        if not self.families or len(set(self.families)) < len(self.families):
            raise ValueError("families: 4, 6 or both")
        _check_mtu(self.mtu, self.families)
        _check_count("pods", self.pods, PODS_MAX)
        self._check_names()
        self._check_subnets()
        self._check_links()
        self._check_addresses()
        self._check_pods()

    @property
    def systems(self) -> dict[str, int]:
        """The routers that speak BGP, with their autonomous systems."""
        return {one.name: one.as_number for one in self.routers if one.as_number is not None}

    @property
    def stations(self) -> Iterator[tuple[str, Station]]:
        """Every machine that a person names, with its field."""
        for field, machines in (("nodes", self.nodes), ("routers", self.routers), ("hosts", self.hosts)):
            yield from ((f"{field}[{at}]", one) for at, one in enumerate(machines))

    def _check_names(self) -> None:
        """Machines and subnets share one space of names: both are interfaces of the switch."""
        taken = {SWITCH: "the machine that joins all others", MANAGEMENT: "the network of a store"}
        taken |= dict.fromkeys(self.store.machines, "a member of the store")
        subnets = ((f"subnets[{at}]", one.name) for at, one in enumerate(self.subnets))
        for field, name in (*subnets, *((field, one.name) for field, one in self.stations)):
            if name in taken:
                raise ValueError(f"{field}.name: {name} is {taken[name]}")
            taken[name] = field

    def _check_subnets(self) -> None:
        known = [one.name for one in self.subnets]
        for field, one in self.stations:
            for at, name in enumerate(one.subnets):
                if name not in known:
                    raise ValueError(
                        f"{field}.subnets[{at}]: there is no subnet {name}; there are: {', '.join(known) or 'none'}"
                    )
            if len(set(one.subnets)) < len(one.subnets):
                raise ValueError(f"{field}.subnets: a machine is on a subnet once")
            if not one.subnets and len(known) > 1:
                raise ValueError(f"{field}.subnets: say which, as there are several: {', '.join(known)}")
        given = [(f"subnets[{at}]", one.cidrs) for at, one in enumerate(self.subnets)]
        given += [(f"links[{at}]", one.cidrs) for at, one in enumerate(self.links)]
        given += [("store", self.store.cidrs)]
        cidrs = [(f"{field}.cidrs[{at}]", cidr) for field, each in given for at, cidr in enumerate(each)]
        for at, (field, cidr) in enumerate(cidrs):
            for other, before in cidrs[:at]:
                if cidr.overlaps(before):
                    raise ValueError(f"{field}: {cidr} overlaps {before} of {other}")

    def _check_links(self) -> None:
        known = [one.name for one in self.routers]
        for at, link in enumerate(self.links):
            for end, name in enumerate(link.routers):
                if name not in known:
                    raise ValueError(
                        f"links[{at}].routers[{end}]: there is no router {name}; there are: {', '.join(known) or 'none'}"
                    )
            if link.routers[0] == link.routers[1]:
                raise ValueError(f"links[{at}].routers: {link.routers[0]} needs no cable to itself")

    def _check_addresses(self) -> None:
        """Each address is on one of its machine's subnets, one a subnet and family, and no other machine's."""
        taken: dict[Address, str] = {}
        prefixes = {one.name: one.cidrs for one in self.subnets}
        for field, one in self.stations:
            homes: Counter[Prefix] = Counter()
            on = one.subnets or tuple(prefixes)[:1]
            for at, address in enumerate(one.addresses):
                home = next((cidr for name in on for cidr in prefixes[name] if cidr.holds(address)), None)
                where = f"{field}.addresses[{at}]"
                if address in taken:
                    raise ValueError(f"{where}: {address} is {taken[address]}'s")
                if home is None:
                    there = ", ".join(cidr for name in on for cidr in prefixes[name]) or "chosen later: write cidrs too"
                    raise ValueError(f"{where}: {address} is on no subnet of {one.name}; they are {there}")
                if address.ip in {home.net.network_address, home.net.broadcast_address}:
                    raise ValueError(f"{where}: {address} is no machine's address in {home}")
                homes[home] += 1
                if homes[home] > 1:
                    raise ValueError(f"{where}: {one.name} has an address in {home} already")
                taken[address] = one.name

    def _check_pods(self) -> None:
        taken: dict[tuple[str, str], str] = {}
        for at, node in enumerate(self.nodes):
            for place, pod in enumerate(node.pods if isinstance(node.pods, tuple) else ()):
                where = f"nodes[{at}].pods[{place}].name"
                if (pod.namespace, pod.name) in taken:
                    raise ValueError(f"{where}: {pod.name} is {taken[pod.namespace, pod.name]} already")
                taken[pod.namespace, pod.name] = where


class Topology(Object, frozen=True, kw_only=True, tag=KIND):
    """A lab as a document. It is not stored by any agent."""

    plural: ClassVar[str] = "labs"

    api_version: Literal["fairlead.dev/v1"] = GROUP
    metadata: Meta = Meta(name="")
    spec: LabSpec


def read(text: str) -> tuple[Topology, list[Object]]:
    """The lab of a file and the objects to apply there; raise ``Invalid`` that names the document and the field."""
    documents = document.load(text)
    labs: list[Topology] = []
    objects: list[Object] = []
    for at, tree in enumerate(documents, 1):
        where = f"document {at}" if len(documents) > 1 else ""
        if isinstance(tree, dict) and tree.get("kind") == KIND:
            labs.append(codec.from_tree(tree, Topology, field=where))
        else:
            objects.append(_object(tree, where))
    if len(labs) != 1:
        raise Invalid(f"{len(labs)} documents of kind {KIND}; a topology file has one", field="kind")
    return labs[0], objects


def _object(tree: object, where: str) -> Object:
    try:
        return codec.from_item(tree, where)
    except Problem as problem:
        if problem.field.endswith("kind"):
            raise Invalid(f"{problem.message}; and {KIND}, once", field=problem.field) from None
        raise


def _check_mtu(mtu: int | None, families: Sequence[Family]) -> None:
    low = MTU_MIN_IPV6 if 6 in families else MTU_MIN
    if mtu is not None and not low <= mtu <= MTU_MAX:
        raise ValueError(f"mtu: {mtu} is not between {low} and {MTU_MAX}")


def _check_count(field: str, count: object, most: int) -> None:
    if isinstance(count, int) and not 0 <= count <= most:
        raise ValueError(f"{field}: {count} is not between 0 and {most}")
    if isinstance(count, tuple) and len(count) > most:
        raise ValueError(f"{field}: {len(count)} of them; at most {most}")
