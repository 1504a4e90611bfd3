"""Namespace: a name under which endpoints and policies are grouped, and the labels by which policies speak of the group."""

from __future__ import annotations

from typing import ClassVar, Literal

from .meta import Object, Value

NAME_LABEL = "kubernetes.io/metadata.name"
"""The label that every namespace has: its own name."""
DEFAULT = "default"


class NamespaceSpec(Value, frozen=True, kw_only=True):
    """Nothing yet; Kubernetes's finalizers are its own affair."""

    finalizers: tuple[str, ...] = ()


class Namespace(Object, frozen=True, kw_only=True, tag="Namespace"):
    """A namespace. One that nobody made has its name as its only label."""

    plural: ClassVar[str] = "namespaces"

    api_version: Literal["v1"] = "v1"
    spec: NamespaceSpec = NamespaceSpec()

    @property
    def labels(self) -> dict[str, str]:
        """Its labels with the one that names it."""
        return labels(self.metadata.name, self)


def labels(name: str, found: Namespace | None) -> dict[str, str]:
    """The labels of the namespace ``name``, whether anybody made it or not."""
    own = found.metadata.labels if found else {}
    return {**own, NAME_LABEL: name}
