"""Objects to and from bytes, JSON trees and YAML. The only place that knows how a value is spelt outside.

Whatever is wrong with the input becomes ``Invalid`` with the path of the field and what would be right (``refusal``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from fairlead.kit.alone import alone

from . import document, manifest
from .address import Text
from .admin import AdminNetworkPolicy, BaselineAdminNetworkPolicy
from .bgp import BGPConfiguration, BGPPeer
from .bgpfilter import BGPFilter
from .block import Block
from .cluster import ClusterNetworkPolicy
from .endpoint import Endpoint
from .endpointslice import EndpointSlice
from .errors import Invalid
from .meta import Object, kind
from .namespace import Namespace
from .network import Network
from .node import Node
from .pod import Pod
from .policy import NetworkPolicy
from .refusal import join, named, refusal, spelt
from .reservation import Reservation
from .secret import Secret
from .service import Service

KINDS: tuple[type[Object], ...] = (
    Network,
    Endpoint,
    Reservation,
    Node,
    Block,
    Namespace,
    Pod,
    Service,
    EndpointSlice,
    NetworkPolicy,
    ClusterNetworkPolicy,
    AdminNetworkPolicy,
    BaselineAdminNetworkPolicy,
    Secret,
    BGPFilter,
    BGPConfiguration,
    BGPPeer,
)
"""Every kind there is, in the order in which ``apply`` takes them."""

T = TypeVar("T")


def _enc(value: object) -> object:
    if isinstance(value, Text):
        return str(value)
    raise NotImplementedError(type(value))


def _dec(kind: type, value: object) -> object:
    if issubclass(kind, Text):
        if not isinstance(value, str):
            raise ValueError(f"Expected `str`, got `{spelt(value)}`")
        return kind(value)
    if kind is object:
        return value
    raise NotImplementedError(kind)


_encoder = msgspec.json.Encoder(enc_hook=_enc)
encode = _encoder.encode
"""Any value of the model as compact JSON bytes."""


_decoders: dict[object, msgspec.json.Decoder[Any]] = {}


@alone
def _decoder(to: Any) -> msgspec.json.Decoder[Any]:
    """What reads ``to``. Two threads in which msgspec learns of a type at the same time crash it, so all learn here."""
    if to not in _decoders:
        _decoders[to] = msgspec.json.Decoder(type=to, dec_hook=_dec)
    return _decoders[to]


def decode(data: bytes | str, to: type[T], *, field: str = "") -> T:
    """Read JSON as ``to``; raise ``Invalid`` that names the field and what would be right."""
    decoder = _decoder(to)
    try:
        found: T = decoder.decode(data)
    except msgspec.ValidationError as problem:
        raise refusal(problem, field, to, _loose(data)) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as problem:
        raise Invalid(f"not JSON: {str(problem).removeprefix('JSON is malformed: ')}", field=field) from None
    return found


def _loose(data: bytes | str) -> Any:
    """Any JSON as plain dicts and lists; None if what comes after the first mistake is no JSON."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def from_tree(tree: object, to: type[T], *, field: str = "") -> T:
    """Read plain dicts and lists as ``to``; raise ``Invalid`` that names the field."""
    _decoder(to)
    try:
        return msgspec.convert(tree, to, dec_hook=_dec)
    except msgspec.ValidationError as problem:
        raise refusal(problem, field, to, tree) from None


def to_tree(value: object) -> Any:
    """``value`` as plain dicts, lists, strings and numbers; an object begins with its apiVersion, as people write it."""
    tree = msgspec.json.decode(encode(value))
    return {"apiVersion": value.api_version, **tree} if isinstance(value, Object) else tree


def from_yaml(text: str) -> list[Object]:
    """Every object in a YAML stream (a ``List`` is opened); raise ``Invalid`` that names the document and the field."""
    documents = document.load(text)
    objects: list[Object] = []
    for at, tree in enumerate(documents, 1):
        where = f"document {at}" if len(documents) > 1 else ""
        if isinstance(tree, dict) and tree.get("kind") == "List":
            items = tree.get("items")
            if not isinstance(items, list):
                raise Invalid(f"expected a list of objects, not {named(items)}", field=join(where, "items"))
            objects.extend(from_item(item, join(where, f"items[{place}]")) for place, item in enumerate(items))
        else:
            objects.append(from_item(tree, where))
    return objects


def from_item(tree: object, field: str = "") -> Object:
    """One object of any known kind from a plain tree."""
    if not isinstance(tree, dict):
        raise Invalid(f"expected an object with apiVersion, kind, metadata and spec, not {named(tree)}", field=field)
    wanted = tree.get("kind")
    for one in KINDS:
        if kind(one) == wanted:
            thing = from_tree(manifest.plain(tree, one), one, field=field)
            manifest.check(thing, field)
            return thing
    known = ", ".join(kind(one) for one in KINDS)
    said = "a kind is required" if wanted is None else f"{str(wanted)[:80]!r} is not a kind"
    raise Invalid(f"{said}; there are {known}", field=join(field, "kind"))


def to_yaml(objects: Iterable[Object]) -> str:
    """The objects as a YAML stream, fields in the order of the model."""
    return document.dump({"apiVersion": one.api_version, **to_tree(one)} for one in objects)
