"""Objects to and from bytes, JSON trees and YAML. The only place that knows how a value is spelt outside."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
import yaml

from .address import Text
from .endpoint import Endpoint
from .errors import Invalid
from .meta import Object, kind
from .network import Network

KINDS: tuple[type[Object], ...] = (Network, Endpoint)
"""Every kind there is, in the order in which ``apply`` takes them."""

T = TypeVar("T")

_MAX_DOCUMENT = 4 << 20
_AT = re.compile(r" - at `\$\.?(?P<path>.*)`$")


def _enc(value: object) -> object:
    if isinstance(value, Text):
        return str(value)
    raise NotImplementedError(type(value))


def _dec(kind: type, value: object) -> object:
    if issubclass(kind, Text):
        if not isinstance(value, str):
            raise ValueError(f"Expected `str`, got `{type(value).__name__}`")
        return kind(value)
    raise NotImplementedError(kind)


_encoder = msgspec.json.Encoder(enc_hook=_enc)
encode = _encoder.encode
"""Any value of the model as compact JSON bytes."""


def decode(data: bytes | str, to: type[T], *, field: str = "") -> T:
    """Read JSON as ``to``; raise ``Invalid`` that names the field and what would be right."""
    try:
        return msgspec.json.decode(data, type=to, dec_hook=_dec)
    except msgspec.ValidationError as problem:
        raise refusal(problem, field) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise Invalid(f"not JSON: {problem}", field=field) from None


def from_tree(tree: object, to: type[T], *, field: str = "") -> T:
    """Read plain dicts and lists as ``to``; raise ``Invalid`` that names the field."""
    try:
        return msgspec.convert(tree, to, dec_hook=_dec)
    except msgspec.ValidationError as problem:
        raise refusal(problem, field) from None


def to_tree(value: object) -> Any:
    """``value`` as plain dicts, lists, strings and numbers."""
    return msgspec.to_builtins(value, enc_hook=_enc)


def refusal(problem: msgspec.ValidationError, field: str = "") -> Invalid:
    """A validation error as ``Invalid``: the path that msgspec puts at the end becomes the field."""
    text = str(problem)
    path = ""
    if found := _AT.search(text):
        path = found["path"]
        text = text[: found.start()]
    if inner := re.match(r"([A-Za-z][A-Za-z0-9]*(?:\[\d+\])?(?:\.[A-Za-z0-9]+)*): ", text):
        path = f"{path}.{inner[1]}" if path else inner[1]
        text = text[inner.end() :]
    return Invalid(text, field=".".join(part for part in (field, path) if part))


def from_yaml(text: str) -> list[Object]:
    """Every object in a YAML stream (a ``List`` is opened); raise ``Invalid`` that names the document and the field."""
    if len(text) > _MAX_DOCUMENT:
        raise Invalid(f"the file has {len(text)} characters; at most {_MAX_DOCUMENT}")
    try:
        documents = [tree for tree in yaml.load_all(text, Loader=_Loader) if tree is not None]
    except (yaml.YAMLError, ValueError, RecursionError) as problem:
        raise Invalid(f"not YAML: {problem}") from None
    objects: list[Object] = []
    for at, tree in enumerate(documents, 1):
        where = f"document {at}" if len(documents) > 1 else ""
        items = tree.get("items", []) if isinstance(tree, dict) and tree.get("kind") == "List" else [tree]
        objects.extend(from_item(item, where) for item in items)
    return objects


def from_item(tree: object, field: str = "") -> Object:
    """One object of any known kind from a plain tree."""
    if not isinstance(tree, dict):
        raise Invalid("an object is a mapping with apiVersion, kind, metadata and spec", field=field)
    wanted = tree.get("kind")
    for one in KINDS:
        if kind(one) == wanted:
            return from_tree(tree, one, field=field)
    known = ", ".join(kind(one) for one in KINDS)
    raise Invalid(f"{wanted!r} is not a kind known here; known: {known}", field=f"{field} kind".strip())


def to_yaml(objects: Iterable[Object]) -> str:
    """The objects as a YAML stream, fields in the order of the model."""
    return yaml.dump_all((to_tree(one) for one in objects), sort_keys=False, default_flow_style=False)


class _Loader(yaml.SafeLoader):
    """Safe loading without anchors, so that a small file cannot grow without bound, and without dates."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("anchors and aliases are not taken")
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, exp) for tag, exp in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
