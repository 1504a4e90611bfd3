"""Voice: how one node speaks BGP, which is its own BGPConfiguration over that of all nodes over what is usual."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from fairlead.desired import names
from fairlead.model.address import Address, Prefix
from fairlead.model.bgp import (
    ASN,
    DEFAULT,
    HOLD,
    OF_NODE,
    PORT,
    RESTART,
    Bfd,
    BGPConfiguration,
    BGPConfigurationSpec,
    Community,
)
from fairlead.model.secret import SecretKeyRef

from .station import Station


class Voice(NamedTuple):
    """Everything that BGPConfigurations say of one node, with nothing left open but what is looked up by need."""

    asn: int
    port: int
    mesh: bool
    hold: int
    restart: int
    bfd: Bfd | None
    password: SecretKeyRef | None
    router_id: str
    spec: BGPConfigurationSpec
    """What the two say of communities and services: each list is the node's own, or that of all."""

    @classmethod
    def of(cls, configurations: Mapping[str, BGPConfiguration], node: str) -> Voice:
        """The voice of a node."""
        own, everyones = (_spec(configurations, name) for name in (f"{OF_NODE}{node}", DEFAULT))

        def said(field: str, usual: object = None) -> object:
            return next((value for spec in (own, everyones) if (value := getattr(spec, field)) is not None), usual)

        lists = (
            "communities",
            "prefix_advertisements",
            "service_cluster_ips",
            "service_external_ips",
            "service_load_balancer_ips",
        )
        password = everyones.node_mesh_password
        return cls(
            asn=_number(said("as_number", ASN)),
            port=_number(said("listen_port", PORT)),
            mesh=bool(said("node_to_node_mesh", usual=True)),
            hold=_number(said("hold_time", HOLD)),
            restart=_number(said("graceful_restart", RESTART)),
            bfd=own.bfd or everyones.bfd,
            password=password.secret_key_ref if password else None,
            router_id=own.router_id or everyones.router_id,
            spec=BGPConfigurationSpec(**{field: getattr(own, field) or getattr(everyones, field) for field in lists}),
        )

    def identifier(self, station: Station) -> Address:
        """The router id: as written, else the node's IPv4 address, else made of its name."""
        if self.router_id not in {"", "hash"}:
            return Address(self.router_id)
        plain = station.address(4) if not self.router_id else None
        return plain or names.router_id(station.name)

    def services(self) -> Iterator[Prefix]:
        """Where addresses of services lie that are announced."""
        for blocks in (self.spec.service_cluster_ips, self.spec.service_external_ips, self.spec.service_load_balancer_ips):
            yield from (block.cidr for block in blocks)

    def communities(self, prefix: Prefix) -> tuple[Community, ...]:
        """What an announcement carries: of every advertisement that it lies in."""
        by_name: dict[str, Community] = {one.name: one.value for one in self.spec.communities}
        found = [
            by_name.get(word) or Community(word)
            for one in self.spec.prefix_advertisements
            if one.cidr.family == prefix.family and one.cidr.length <= prefix.length and one.cidr.overlaps(prefix)
            for word in one.communities
        ]
        return tuple(dict.fromkeys(found))


def _spec(configurations: Mapping[str, BGPConfiguration], name: str) -> BGPConfigurationSpec:
    found = configurations.get(name)
    return found.spec if found else BGPConfigurationSpec()


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value
