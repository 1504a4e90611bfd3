"""Manifests: objects as people hand them in, with what Kubernetes's own tools write beside what was meant.

``kubectl get -o yaml`` and ``kubectl create --dry-run=client -o yaml`` add the bookkeeping of an API server and a status. None
of it says what anybody wants, so it is passed over, and a file that is applied to a cluster can be applied here. Names must be
such as an API server takes. What lies in a store is not looked at here: nothing that is there shall be lost for its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from .address import LongName, Name
from .errors import Invalid
from .meta import GROUP, Object
from .namespace import Namespace
from .node import Node
from .refusal import join

_BOOKKEEPING = frozenset(
    {"generation", "managedFields", "ownerReferences", "finalizers", "selfLink", "deletionGracePeriodSeconds"}
)
"""Fields of metadata that an API server writes for itself."""


def plain(tree: Mapping[str, Any], of: type[Object]) -> Mapping[str, Any]:
    """The tree without what an API server wrote into it."""
    metadata = tree.get("metadata")
    if isinstance(metadata, dict):
        tree = {**tree, "metadata": {name: value for name, value in metadata.items() if not _is_bookkeeping(name, value)}}
    fields = msgspec.structs.fields(of)
    if isinstance(tree.get("status"), dict) and not _is_ours(of) and "status" not in {one.name for one in fields}:
        tree = {name: value for name, value in tree.items() if name != "status"}
    return tree


def _is_bookkeeping(name: str, value: object) -> bool:
    return name in _BOOKKEEPING or (name == "creationTimestamp" and value is None)


def check(thing: Object, field: str) -> None:
    """Raise ``Invalid`` unless it is called as Kubernetes would have it; our own kinds, and machines, see to their names."""
    if _is_ours(type(thing)) or isinstance(thing, Node):
        return
    _check(Name if isinstance(thing, Namespace) else LongName, thing.name, join(field, "metadata.name"))
    if thing.metadata.namespace:
        _check(Name, thing.metadata.namespace, join(field, "metadata.namespace"))


def _check(to: type[Name], text: str, field: str) -> None:
    try:
        to(text)
    except ValueError as problem:
        raise Invalid(str(problem), field=field) from None


def _is_ours(of: type[Object]) -> bool:
    """Whether the kind is none of Kubernetes's."""
    return any(one.name == "api_version" and one.default == GROUP for one in msgspec.structs.fields(of))
