"""Metadata: what is read of it, of kinds of which there are some, and of those of which there are very many."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from fairlead.model.meta import Meta

from .resources import NAME, NAMESPACE, Resource
from .shared import Shared

NONE: dict[str, str] = {}
"""Of those that have none. Nobody may change it."""


class Loose(msgspec.Struct, rename="camel", gc=False):
    """A part of an answer, of which more than this may be there."""


class Metadata(Loose, gc=False):
    """All of it that matters."""

    name: str = ""
    namespace: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None


class Many(Loose, gc=False):
    """The metadata of a kind of which there are very many, in namespaces: labels are read once for all that have the same."""

    name: str
    namespace: str
    uid: str
    resource_version: str
    labels: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    annotations: dict[str, str] | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None


def about(of: Resource, meta: Metadata) -> Meta:
    """As the model has it; of ours under the name that they really have."""
    annotations = meta.annotations or {}
    namespace, name = meta.namespace, meta.name
    if of.ours and not of.namespaced:
        annotations = dict(annotations)
        namespace, name = annotations.pop(NAMESPACE, ""), annotations.pop(NAME, name)
    return Meta(
        name=name,
        namespace=namespace,
        labels=meta.labels or {},
        annotations=annotations,
        uid=meta.uid,
        resource_version=meta.resource_version,
        creation_timestamp=meta.creation_timestamp or "",
        deletion_timestamp=meta.deletion_timestamp or "",
    )


def brief(meta: Many, shared: Shared, annotations: Mapping[str, str] = NONE, uid: str = "") -> Meta:
    """As the model has it, with these annotations of it. ``uid``: in place of its own, which says the same."""
    return Meta(
        name=meta.name,
        namespace=shared.one(meta.namespace),
        labels=shared.labels(meta.labels),
        annotations=dict(annotations) if annotations else NONE,
        uid=uid or meta.uid,
        resource_version=meta.resource_version,
        creation_timestamp=shared.one(meta.creation_timestamp or ""),
        deletion_timestamp=meta.deletion_timestamp or "",
    )
