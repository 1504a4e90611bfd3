"""Write deploy/kubernetes/base/crds.yaml: a definition of each kind of ours, made from the classes of the model.

    .venv/bin/python scripts/crds.py

The classes are the one source: a field that is added there is in the definition when this has run, and a test says when it has
not. What a schema cannot say (that an address lies in a subnet) the model checks when it reads, and says in the status.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec import inspect as types

from fairlead.model.address import Text
from fairlead.model.codec import KINDS
from fairlead.model.meta import GROUP, Object, kind
from fairlead.model.reservation import Reservation

Tree = dict[str, Any]

TARGET = Path(__file__).parent.parent / "deploy/kubernetes/base/crds.yaml"
LOCAL = (Reservation,)
"""Kinds that a node keeps to itself."""

_ACCEPTED = {
    "name": "Accepted",
    "type": "string",
    "jsonPath": '.status.conditions[?(@.type=="Accepted")].status',
    "description": "Whether it can be read and is used.",
}
_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}

FACTS: dict[str, Tree] = {
    "Network": {
        "subnets": {"type": "string", "description": "All of its subnets, for tables, which show one value of a list alone."}
    }
}
"""What a status says beside conditions."""

COLUMNS: dict[str, list[tuple[str, str]]] = {
    "Network": [("Driver", ".spec.driver"), ("Subnets", ".status.subnets")],
    "Block": [("Network", ".spec.network"), ("CIDR", ".spec.cidr"), ("Node", ".spec.node")],
    "Endpoint": [
        ("Container", ".spec.display"),
        ("Network", ".spec.network"),
        ("Node", ".spec.node"),
        ("Addresses", ".spec.addresses"),
    ],
    "BGPPeer": [("Peer", ".spec.peerIP"), ("AS", ".spec.asNumber"), ("Filters", ".spec.filters")],
    "BGPConfiguration": [("AS", ".spec.asNumber"), ("Mesh", ".spec.nodeToNodeMesh")],
}
"""What kubectl shows of each beside its name and age."""

SHORT = {"Network": "flnet", "Block": "flblock", "Endpoint": "flep"}
"""Names for kubectl that are no one else's."""

CONDITIONS: Tree = {
    "type": "array",
    "description": "What is found of it.",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["type"],
    "items": {
        "type": "object",
        "required": ["type", "status", "reason", "lastTransitionTime"],
        "properties": {
            "type": {"type": "string"},
            "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "reason": {"type": "string"},
            "message": {"type": "string"},
            "lastTransitionTime": {"type": "string", "format": "date-time"},
            "observedGeneration": {"type": "integer", "format": "int64"},
        },
    },
}


def ours() -> list[type[Object]]:
    """The kinds that have a definition."""
    return [one for one in KINDS if _api_version(one) == GROUP and one not in LOCAL]


def definition(of: type[Object]) -> Tree:
    """The CustomResourceDefinition of one kind."""
    group, _, version = GROUP.partition("/")
    columns = [{"name": name, "type": "string", "jsonPath": path} for name, path in COLUMNS.get(kind(of), [])]
    short = SHORT.get(kind(of))
    names = {"kind": kind(of), "listKind": f"{kind(of)}List", "plural": of.plural, "singular": kind(of).lower()}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{of.plural}.{group}", "labels": {"app.kubernetes.io/name": "fairlead"}},
        "spec": {
            "group": group,
            "names": {**names, **({"shortNames": [short]} if short else {}), "categories": ["fairlead"]},
            "scope": "Namespaced" if of.namespaced else "Cluster",
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [*columns, _ACCEPTED, _AGE],
                    "schema": {"openAPIV3Schema": _object(of)},
                }
            ],
        },
    }


def _object(of: type[Object]) -> Tree:
    about = types.type_info(of)
    assert isinstance(about, types.StructType)
    body = {one.encode_name: one for one in about.fields if one.name not in {"metadata", "api_version"}}
    status = {"type": "object", "properties": {"conditions": CONDITIONS, **FACTS.get(kind(of), {})}}
    return {
        "type": "object",
        "description": _doc(of),
        **_required(list(body.values())),
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            **{name: _schema(one.type) for name, one in body.items()},
            "status": status,
        },
    }


def _schema(about: types.Type) -> Tree:
    """A type as a structural schema has it."""
    match about:
        case types.StructType():
            return _struct(about)
        case types.UnionType():
            return _union(about)
        case types.VarTupleType() | types.ListType():
            return {"type": "array", "items": _schema(about.item_type)}
        case types.DictType():
            return {"type": "object", "additionalProperties": _schema(about.value_type)}
    return _scalar(about)


def _scalar(about: types.Type) -> Tree:
    match about:
        case types.EnumType():
            return {"type": "string", "enum": [one.value for one in about.cls]}
        case types.LiteralType():
            return {"type": "string", "enum": sorted(str(one) for one in about.values)}
        case types.IntType():
            bounds = {"minimum": about.ge, "maximum": about.le}
            return {
                "type": "integer",
                "format": "int64",
                **{name: value for name, value in bounds.items() if value is not None},
            }
        case types.StrType():
            return {"type": "string", **({"maxLength": about.max_length} if about.max_length else {})}
        case types.BoolType():
            return {"type": "boolean"}
        case types.FloatType():
            return {"type": "number"}
        case types.CustomType() if issubclass(about.cls, Text):
            return {"type": "string", "description": _doc(about.cls)}
    raise TypeError(f"{about} has no structural schema yet")


def _struct(about: types.StructType) -> Tree:
    return {
        "type": "object",
        "description": _doc(about.cls),
        **_required(about.fields),
        "properties": {one.encode_name: _schema(one.type) for one in about.fields},
    }


def _required(fields: Sequence[types.Field]) -> Tree:
    names = [one.encode_name for one in fields if one.required]
    return {"required": names} if names else {}


def _union(about: types.UnionType) -> Tree:
    inner = [one for one in about.types if not isinstance(one, types.NoneType)]
    if {type(one) for one in inner} == {types.IntType, types.StrType}:
        return {"x-kubernetes-int-or-string": True}
    (only,) = inner
    return _schema(only)


def _doc(of: type) -> str:
    """What a class says of itself, as plain text; a reader of kubectl explain has no Python before him."""
    text = inspect.cleandoc(of.__doc__ or "").partition("``docs/")[0]
    return re.sub(r"\s+", " ", re.sub(r"``([^`]*)``", lambda found: _camel(found[1]), text)).strip()


def _camel(word: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), word) if re.fullmatch(r"[a-z_]+", word) else word


def _api_version(of: type[Object]) -> str:
    field = next(one for one in msgspec.structs.fields(of) if one.name == "api_version")
    return str(field.default)


def text() -> str:
    """The whole file."""
    head = "# The kinds of Fairlead's own. Written by scripts/crds.py from the classes in fairlead.model; do not edit.\n"
    return head + yaml.safe_dump_all((definition(one) for one in ours()), sort_keys=False, width=120, allow_unicode=True)


if __name__ == "__main__":
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(text(), encoding="utf-8")
    print(TARGET, file=sys.stderr)  # noqa: T201  # for the one who started it
