"""Topologies that need no file: what the options of ``fairlead lab up`` come to. Pure.

::

    l2   node1 ─┐                         l3   node1 ─ net1 ─┐
         node2 ─┼─ underlay ─ outside          node2 ─ net2 ─┼─ router ─ internet ─ outside
         node3 ─┘                              node3 ─ net3 ─┘
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import structs

from fairlead.model.address import Address, Family, Prefix

from .topology import Host, Label, LabSpec, Node, Router, Store, Subnet

UNDERLAY, INTERNET = Label("underlay"), Label("internet")
ROUTER, OUTSIDE = Label("router"), Label("outside")

_INTERNET: dict[Family, Prefix] = {4: Prefix("203.0.113.0/24"), 6: Prefix("2001:db8:113::/64")}
_UNDERLAY: dict[Family, Prefix] = {4: Prefix("172.16.0.0/24"), 6: Prefix("fd00:16::/64")}
_NET: dict[Family, str] = {4: "172.16.{}.0/24", 6: "fd00:16:{}::/64"}
_OUTSIDE = 254


class Underlay(StrEnum):
    """What lies between the nodes."""

    L2 = "l2"
    """One switch."""
    L3 = "l3"
    """A subnet for each node, and a router between them."""


def spec(
    underlay: Underlay,
    nodes: int,
    *,
    families: tuple[Family, ...] = (4,),
    store: Store | None = None,
    outside: bool = True,
    mtu: int = 1500,
    pods: int = 2,
    as_number: int | None = None,
) -> LabSpec:
    """A topology of so many nodes. ``as_number``: of the router between them, if there is one and it is to speak BGP."""
    made = (_flat if underlay is Underlay.L2 else _spread)(nodes, families, outside=outside)
    made = structs.replace(made, routers=tuple(structs.replace(one, as_number=as_number) for one in made.routers))
    return structs.replace(made, families=families, store=store or Store(), mtu=mtu, pods=pods)


def grown(of: LabSpec, underlay: Underlay | None, node: Node) -> LabSpec:
    """A topology with one node more, on a subnet of its own if the others are."""
    if node.subnets or underlay is not Underlay.L3:
        on = node.subnets or of.nodes[0].subnets
        return structs.replace(of, nodes=(*of.nodes, structs.replace(node, subnets=on)))
    taken = {one.name for one in of.subnets}
    at = next(at for at in range(1, len(taken) + 2) if Label(f"net{at}") not in taken)
    routers = tuple(
        structs.replace(one, subnets=(*one.subnets, Label(f"net{at}"))) if one.name == ROUTER else one for one in of.routers
    )
    placed = structs.replace(node, subnets=(Label(f"net{at}"),))
    return structs.replace(of, subnets=(*of.subnets, _net(at, of.families)), routers=routers, nodes=(*of.nodes, placed))


def name(at: int) -> Label:
    """What the ``at``-th node is called."""
    return Label(f"node{at}")


def _flat(nodes: int, families: tuple[Family, ...], *, outside: bool) -> LabSpec:
    cidrs = tuple(_UNDERLAY[family] for family in families)
    last = tuple(Address(cidr.net.network_address + _OUTSIDE) for cidr in cidrs)
    return LabSpec(
        nodes=tuple(Node(name=name(at)) for at in range(1, nodes + 1)),
        subnets=(Subnet(name=UNDERLAY, cidrs=cidrs),),
        hosts=(Host(name=OUTSIDE, addresses=last),) if outside else (),
    )


def _spread(nodes: int, families: tuple[Family, ...], *, outside: bool) -> LabSpec:
    numbers = range(1, nodes + 1)
    nets = tuple(_net(at, families) for at in numbers)
    internet = Subnet(name=INTERNET, cidrs=tuple(_INTERNET[family] for family in families))
    beyond = (internet,) if outside else ()
    return LabSpec(
        nodes=tuple(Node(name=name(at), subnets=(nets[at - 1].name,)) for at in numbers),
        subnets=(*nets, *beyond),
        routers=(Router(name=ROUTER, subnets=tuple(one.name for one in (*nets, *beyond))),),
        hosts=(Host(name=OUTSIDE, subnets=(INTERNET,)),) if outside else (),
    )


def _net(at: int, families: tuple[Family, ...]) -> Subnet:
    return Subnet(name=Label(f"net{at}"), cidrs=tuple(Prefix(_NET[family].format(at)) for family in families))
