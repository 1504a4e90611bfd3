"""What every object has: apiVersion, kind and metadata, in Kubernetes's own shape."""

from __future__ import annotations

import re
from typing import ClassVar, Final

import msgspec

GROUP: Final = "fairlead.dev/v1"

_LABEL_KEY = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """The base of everything in the model: immutable, keyword only, camelCase outside, unknown fields refused."""


class Meta(Value, frozen=True, kw_only=True):
    """Who an object is. ``resource_version`` is the store's revision, empty before the object was stored.

    ``deletion_timestamp``: since when it is on its way out, where that takes a while, as in Kubernetes.
    """

    name: str
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str = ""
    deletion_timestamp: str = ""

    def __post_init__(self) -> None:
        """Check labels by Kubernetes's syntax (apimachinery, IsQualifiedName and IsValidLabelValue)."""
        for key, value in self.labels.items():
            try:
                check_label(key, value)
            except ValueError as problem:
                raise ValueError(f"labels: {problem}") from None


class Object(Value, frozen=True, kw_only=True, tag_field="kind"):
    """One stored object, keyed by (kind, namespace, name). Subclasses set ``tag``, which is the kind, and ``plural``."""

    plural: ClassVar[str] = ""
    namespaced: ClassVar[bool] = False
    """Whether people name it with a namespace."""

    metadata: Meta
    api_version: str = GROUP

    @property
    def name(self) -> str:
        """metadata.name."""
        return self.metadata.name

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name): what tells one object of a kind from another."""
        return (self.metadata.namespace, self.metadata.name)


def kind(of: type[Object] | Object) -> str:
    """The kind as it is written in YAML, such as ``Network``."""
    return str(of.__struct_config__.tag)


def check_label(key: str, value: str) -> None:
    """Raise ``ValueError`` unless ``key: value`` is a label that Kubernetes would take."""
    if not _LABEL_KEY.fullmatch(key):
        raise ValueError(f"label key {key[:80]!r} must be [prefix/]name of letters, digits, '-', '_', '.'; the name at most 63")
    if not _LABEL_VALUE.fullmatch(value):
        raise ValueError(f"label {key}: {value[:80]!r} must be empty or letters, digits, '-', '_', '.', at most 63 characters")
