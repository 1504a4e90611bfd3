"""Resources: which kinds the API serves. Kubernetes's own are listed here; custom ones come with their definitions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .schema import Schema

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind. ``status``: it has a status subresource. ``schema``: of custom ones."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    status: bool = False
    schema: Schema | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """``leases.coordination.k8s.io``: what tells it from all others."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


OWN = (
    Resource("", "v1", "nodes", "Node", namespaced=False, status=True),
    Resource("", "v1", "namespaces", "Namespace", namespaced=False, status=True),
    Resource("", "v1", "pods", "Pod", namespaced=True, status=True),
    Resource("", "v1", "secrets", "Secret", namespaced=True),
    Resource("", "v1", "services", "Service", namespaced=True, status=True),
    Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", namespaced=True),
    Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", namespaced=True),
    Resource("coordination.k8s.io", "v1", "leases", "Lease", namespaced=True),
)
"""As much of Kubernetes's own as anybody asks for."""


def defined(definitions: Iterable[Tree]) -> list[Resource]:
    """The kinds that CustomResourceDefinitions define."""
    specs = [one["spec"] for one in definitions]
    return [_defined(spec, version) for spec in specs for version in spec["versions"] if version["served"]]


def _defined(spec: Tree, version: Tree) -> Resource:
    return Resource(
        spec["group"],
        version["name"],
        spec["names"]["plural"],
        spec["names"]["kind"],
        spec["scope"] == "Namespaced",
        "status" in version.get("subresources", {}),
        Schema(version["schema"]["openAPIV3Schema"]),
    )
