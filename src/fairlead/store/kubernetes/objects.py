"""Objects: between the API's trees and the values of the model.

Of Kubernetes's own kinds only what is used is read: a pod has four kilobytes, of which some hundred bytes matter here. Whatever
stands beside those in the metadata is passed over. What stands in a ``spec`` of ours, or of a policy, is all read: a policy
with a field that is not known here must not be half obeyed, so it is handed over as ``Broken``.

Pods come in tens of thousands, so what they have in common is kept once: labels, ports, and the names of nodes and namespaces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from fairlead.model.address import ContainerID, Prefix
from fairlead.model.broken import Broken
from fairlead.model.codec import decode, to_tree
from fairlead.model.endpointslice import EndpointSlice
from fairlead.model.errors import Failed, Invalid
from fairlead.model.meta import Object
from fairlead.model.namespace import Namespace
from fairlead.model.node import Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus
from fairlead.model.pod import CONFIG_HASH, Pod, PodSpec, PodStatus
from fairlead.model.service import Service
from fairlead.store.base import Key, Stored

from . import services
from .metadata import NONE, Loose, Many, Metadata, about, brief
from .resources import NAME, NAMESPACE, Resource, slug
from .shared import Shared

Tree = dict[str, Any]

OURS = ("fairlead.dev/",)
"""What annotations begin with that are read of nodes."""
ASKED = (
    *OURS,
    CONFIG_HASH,
    "kubernetes.io/ingress-bandwidth",
    "kubernetes.io/egress-bandwidth",
    "k8s.v1.cni.cncf.io/",
    "v1.multus-cni.io/",
)
"""What annotations begin with that are read of pods."""


class _NodeSpec(Loose, gc=False):
    pod_cidrs: tuple[Prefix, ...] = msgspec.field(default=(), name="podCIDRs")


class _NodeAddress(Loose, gc=False):
    type: str
    address: str


class _NodeCondition(Loose, gc=False):
    type: str
    status: str


class _NodeStatus(Loose, gc=False):
    addresses: tuple[_NodeAddress, ...] | None = None
    conditions: tuple[_NodeCondition, ...] | None = None


class _Node(Loose, gc=False):
    metadata: Metadata
    spec: _NodeSpec = msgspec.field(default_factory=_NodeSpec)
    status: _NodeStatus = msgspec.field(default_factory=_NodeStatus)


class _Namespace(Loose, gc=False):
    metadata: Metadata


class _Pod(Loose, gc=False):
    metadata: Many
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class _Head(Loose):
    """What is looked at of a tree that cannot be read."""

    metadata: Metadata


class Reader:
    """From bytes to values."""

    def __init__(self) -> None:
        self._pods = msgspec.json.Decoder(_Pod)
        self._shared = Shared()
        self._shared_by_slices = Shared(1 << 12)  # apart, so that pods keep what they have in common
        self._shapes: dict[Resource, type[Any]] = {}

    def read(self, of: Resource, data: msgspec.Raw | bytes) -> Stored:
        """What the API says of one object, or what cannot be read of it and why."""
        try:
            return self._special.get(of.of, Reader._plain)(self, of, data)
        except Invalid as problem:
            return self._broken(of, bytes(data), str(problem))
        except (msgspec.MsgspecError, ValueError) as problem:
            return self._broken(of, bytes(data), str(problem))

    def _plain(self, of: Resource, data: msgspec.Raw | bytes) -> Stored:
        found = decode(bytes(data), self._shape(of))
        fields = {name: getattr(found, name) for name in found.__struct_fields__ if name != "metadata"}
        made: Object = of.of(metadata=about(of, found.metadata), **fields)
        if of.ours and not of.namespaced and found.metadata.name != slug(*made.key):
            raise Invalid(f"it is stored as {found.metadata.name}, and says that it is {'/'.join(filter(None, made.key))}")
        return made

    def _node(self, of: Resource, data: msgspec.Raw | bytes) -> Stored:
        found = decode(bytes(data), _Node)
        addresses = []
        for one in found.status.addresses or ():
            try:
                addresses.append(msgspec.convert({"type": one.type, "address": one.address}, NodeAddress))
            except msgspec.ValidationError:
                continue  # a kind of address that is not known here
        meta = about(of, found.metadata)
        kept = {name: text for name, text in meta.annotations.items() if name.startswith(OURS)}
        return Node(
            metadata=msgspec.structs.replace(meta, annotations=kept),
            spec=NodeSpec(pod_cidrs=found.spec.pod_cidrs),
            status=NodeStatus(addresses=tuple(addresses), conditions=_ready(found.status.conditions or ())),
        )

    def _namespace(self, of: Resource, data: msgspec.Raw | bytes) -> Stored:
        return Namespace(metadata=about(of, decode(bytes(data), _Namespace).metadata))

    def _pod(self, _of: Resource, data: msgspec.Raw | bytes) -> Stored:
        found = self._pods.decode(data)
        spec, one = found.spec, self._shared.one
        asked = {name: text for name, text in (found.metadata.annotations or NONE).items() if name.startswith(ASKED)}
        return Pod(
            # As the id of the container that it is to policies: kept once, fifty thousand times.
            metadata=brief(found.metadata, self._shared, asked, ContainerID(found.metadata.uid)),
            spec=one(
                PodSpec(
                    node_name=one(spec.node_name),
                    host_network=spec.host_network,
                    containers=tuple(each for each in spec.containers if each.ports),
                    init_containers=tuple(each for each in spec.init_containers if each.ports),
                )
            ),
            status=PodStatus(phase=one(found.status.phase), pod_ips=found.status.pod_ips),
        )

    def _service(self, _of: Resource, data: msgspec.Raw | bytes) -> Stored:
        return services.service(data, self._shared_by_slices)

    def _slice(self, _of: Resource, data: msgspec.Raw | bytes) -> Stored:
        return services.endpoints(data, self._shared_by_slices)

    _special: dict[type[Object], Callable[[Reader, Resource, msgspec.Raw | bytes], Stored]] = {
        Node: _node,
        Namespace: _namespace,
        Pod: _pod,
        Service: _service,
        EndpointSlice: _slice,
    }

    def _shape(self, of: Resource) -> type[Any]:
        """The kind's class as it comes from the API: all that the model knows of its body, and any metadata."""
        if of not in self._shapes:
            fields = [one for one in msgspec.structs.fields(of.of) if one.name not in {"metadata", "api_version", "status"}]
            body = [(one.name, one.type, _default(one)) for one in fields]
            self._shapes[of] = msgspec.defstruct(f"Wire{of.kind}", [("metadata", Metadata), *body], kw_only=True)
        return self._shapes[of]

    def _broken(self, of: Resource, data: bytes, reason: str) -> Broken:
        try:
            meta = msgspec.json.decode(data, type=_Head).metadata
        except (msgspec.MsgspecError, UnicodeError):
            return Broken.of(of.plural, data, reason)
        said = meta.annotations or {}
        key = (meta.namespace or said.get(NAMESPACE, ""), said.get(NAME, meta.name) if of.ours else meta.name)
        return Broken.of(of.plural, data, reason, key)


def _ready(conditions: Iterable[_NodeCondition]) -> tuple[NodeCondition, ...]:
    """Whether the node lives, which is all that is looked at of how it is."""
    return tuple(
        NodeCondition(type=one.type, status="True" if one.status == "True" else "False" if one.status == "False" else "Unknown")
        for one in conditions
        if one.type == "Ready"
    )


def _default(field: msgspec.structs.FieldInfo) -> Any:
    """What a field has when it is not there."""
    if field.default is not msgspec.NODEFAULT:
        return msgspec.field(default=field.default, name=field.encode_name)
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.field(default_factory=field.default_factory, name=field.encode_name)
    return msgspec.field(name=field.encode_name)


def written(of: Resource, thing: Object, before: Tree | None) -> Tree:
    """The tree that says what ``thing`` does; what ``before`` says besides, of others' concern, stays in it."""
    tree = to_tree(thing)
    given = tree.pop("metadata")
    annotations = dict(given.get("annotations", {}))
    if of.ours and not of.namespaced and (spelt := of.spelt(thing.key)) != thing.name:
        annotations[NAME] = thing.name
        if thing.metadata.namespace:
            annotations[NAMESPACE] = str(thing.metadata.namespace)  # it may have come as a Name
    else:
        spelt = thing.name
    meta = dict(before["metadata"]) if before else {"name": spelt}
    meta.pop("managedFields", None)
    for name, value in (("labels", given.get("labels", {})), ("annotations", annotations)):
        if value:
            meta[name] = value
        else:
            meta.pop(name, None)
    kept = {name: value for name, value in (before or {}).items() if name == "status"}
    return {**kept, **tree, "kind": of.kind, "metadata": meta}


def revision(of: Resource, text: str) -> int:
    """A resourceVersion as a number.

    Kubernetes calls it opaque, and since KEP-5504 promises what has always been so: it is a decimal number, and of two of
    one kind the larger is the later. Nothing here compares those of different kinds.
    """
    if not (text.isascii() and text.isdigit()):
        raise Failed(f"the API server gives {of.plural} the resourceVersion {text[:40]!r}, which is no number (KEP-5504)")
    return int(text)


def key_in(of: Resource, tree: Tree) -> Key:
    """The key that an object of the API has here."""
    meta = tree["metadata"]
    said = meta.get("annotations") or {}
    if of.ours and not of.namespaced:
        return (said.get(NAMESPACE, ""), said.get(NAME, meta["name"]))
    return (meta.get("namespace", ""), meta["name"])
