"""How services and EndpointSlices are listed, as kubectl lists them."""

from __future__ import annotations

from fairlead.model.endpointslice import EndpointSlice
from fairlead.model.service import HEADLESS, Service, ServiceType

from .kinds import label, tree
from .out import Column, Listing, age


def _inside(one: Service) -> list[str]:
    return [str(each) for each in one.cluster_addresses] or [HEADLESS if one.headless else ""]


def _outside(one: Service) -> list[str]:
    if one.spec.type is ServiceType.NAME:
        return [one.spec.external_name]
    inside = one.cluster_addresses
    return [str(each) for each in one.addresses if each not in inside]


SERVICES: Listing[Service] = Listing(
    columns=(
        Column("NAMESPACE", lambda one: one.metadata.namespace, style="cyan"),
        Column("NAME", lambda one: one.name, style="bold"),
        Column("TYPE", lambda one: str(one.spec.type)),
        Column("CLUSTER-IP", _inside),
        Column("EXTERNAL-IP", _outside),
        Column("PORTS", lambda one: [each.word for each in one.spec.ports], style="yellow"),
        Column("SELECTOR", lambda one: ",".join(f"{k}={v}" for k, v in one.spec.selector.items()), wide=True),
        Column("AGE", lambda one: age(one.metadata.creation_timestamp), right=True, spare=1),
    ),
    name=label,
    tree=tree,
    empty="No services.",
)


def _word(one: EndpointSlice, at: int) -> str:
    each = one.endpoints[at]
    state = "" if each.ready else " (serving)" if each.serving else " (not ready)"
    return f"{each.addresses[0] if each.addresses else ''}{state}"


SLICES: Listing[EndpointSlice] = Listing(
    columns=(
        Column("NAMESPACE", lambda one: one.metadata.namespace, style="cyan"),
        Column("NAME", lambda one: one.name, style="bold"),
        Column("SERVICE", lambda one: one.service[1]),
        Column("ADDRESSTYPE", lambda one: one.address_type, wide=True),
        Column("PORTS", lambda one: [f"{each.port or 'all'}/{each.protocol}" for each in one.ports], style="yellow"),
        Column("ENDPOINTS", lambda one: [_word(one, at) for at in range(len(one.endpoints))]),
        Column("AGE", lambda one: age(one.metadata.creation_timestamp), right=True, spare=1),
    ),
    name=label,
    tree=tree,
    empty="No EndpointSlices.",
)
