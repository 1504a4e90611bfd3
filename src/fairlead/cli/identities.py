"""How identities are listed: the numbers by which the kernel of a node knows who is who."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.api.identities import Holder, Identity
from fairlead.model import codec
from fairlead.policy.lens import THERE

from .out import Column, Listing

_FEW = 3
"""Containers that are named where there is not much room."""


def chosen(all_of_them: Iterable[Identity], namespace: str, labels: dict[str, str]) -> list[Identity]:
    """Those of a namespace, if one is named, of whom policies see these labels or that they are there; a node's too."""
    return [one for one in all_of_them if namespace in {"", one.namespace} and _has(one, labels)]


def _has(one: Identity, labels: dict[str, str]) -> bool:
    seen = {**one.node_labels, **one.labels}
    return all(seen.get(key) in {value, THERE} for key, value in labels.items())


def _what(one: Identity) -> list[str]:
    """What policies see, a line each."""
    heads = {Holder.CONTAINER: [one.namespace], Holder.CIDR: [], Holder.SERVICE: ["service"], Holder.NODE: ["node"]}
    return [
        *heads.get(one.kind, ["outside"]),
        *(f"{key}={value}" for key, value in one.labels.items()),
        *(f"namespace {key}={value}" for key, value in one.namespace_labels.items()),
        *(f"node {key}={value}" for key, value in one.node_labels.items()),
        *(f"port {name}={port}" for name, port in one.ports.items()),
        *one.fronts,
        *(cidr if one.kind is Holder.CIDR else f"in {cidr}" for cidr in one.cidrs),
    ]


def _containers(one: Identity) -> list[str]:
    """The first few, and how many more."""
    more = len(one.containers) - _FEW
    return [*one.containers[:_FEW], *([f"and {more} more"] if more > 0 else [])]


LISTING: Listing[Identity] = Listing(
    columns=(
        Column("NUMBER", lambda one: one.number, style="bold"),
        Column("KIND", lambda one: one.kind, wide=True),
        Column("WHAT", _what, style="cyan"),
        Column("ADDRESSES", lambda one: str(one.addresses), right=True),
        Column("CONTAINERS", _containers),
    ),
    name=lambda one: one.number,
    tree=codec.to_tree,
    empty="No policy in force tells anybody from anybody else.",
)
