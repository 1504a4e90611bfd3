"""Schema: an object against the structural schema of its definition, as the API server's: what is unknown is dropped, what
is left must be right.

A definition that the API server would refuse is refused here too, as far as ours could be wrong: every field has a type, and
nothing stands in it that structural schemas do not have.
"""

from __future__ import annotations

from typing import Any

import jsonschema

Tree = dict[str, Any]

_KNOWN = {
    *("type", "properties", "items", "additionalProperties", "required", "enum", "pattern", "format", "description", "default"),
    *("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties", "nullable", "anyOf"),
    *("x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-list-type"),
    *("x-kubernetes-list-map-keys", "x-kubernetes-validations"),
}


class NotStructural(ValueError):
    """The definition itself is wrong."""


class Schema:
    """One kind's."""

    def __init__(self, schema: Tree) -> None:
        _check(schema, "")
        self._schema = schema
        self._validator = jsonschema.Draft202012Validator(_plain(schema))

    def prune(self, tree: Tree) -> None:
        """Drop what no field is known for."""
        meta = tree.pop("metadata")
        _prune(tree, self._schema)
        tree["metadata"] = meta

    def problems(self, tree: Tree) -> list[tuple[str, str]]:
        """(field, what is wrong) for each wrong field."""
        body = {name: value for name, value in tree.items() if name != "metadata"}
        found = []
        for error in self._validator.iter_errors(body):
            path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
            found.append((path.lstrip("."), error.message))
        return found


def _check(schema: Tree, path: str) -> None:
    if unknown := set(schema) - _KNOWN:
        raise NotStructural(f"{path}: {', '.join(sorted(unknown))} is in no structural schema")
    if "type" not in schema and not schema.get("x-kubernetes-int-or-string"):
        raise NotStructural(f"{path}: must have a type")
    for name, one in schema.get("properties", {}).items():
        _check(one, f"{path}.{name}")
    if isinstance(items := schema.get("items"), dict):
        _check(items, f"{path}[]")
    if schema.get("type") == "array" and "items" not in schema:
        raise NotStructural(f"{path}: an array must have items")
    if isinstance(more := schema.get("additionalProperties"), dict):
        if "properties" in schema:
            raise NotStructural(f"{path}: additionalProperties and properties exclude each other")
        _check(more, f"{path}.*")


def _plain(schema: Tree) -> Tree:
    """As JSON Schema has it."""
    found = {name: value for name, value in schema.items() if not name.startswith("x-") and name not in {"nullable", "format"}}
    if schema.get("x-kubernetes-int-or-string"):
        found["type"] = ["integer", "string"]
        found.pop("anyOf", None)
    if "properties" in schema:
        found["properties"] = {name: _plain(one) for name, one in schema["properties"].items()}
    if isinstance(schema.get("items"), dict):
        found["items"] = _plain(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        found["additionalProperties"] = _plain(schema["additionalProperties"])
    if schema.get("nullable"):
        found["type"] = [found["type"], "null"]
    return found


def _prune(value: Any, schema: Tree) -> None:
    if schema.get("x-kubernetes-preserve-unknown-fields") or not isinstance(value, dict | list):
        return
    if isinstance(value, list):
        for one in value:
            _prune(one, schema.get("items", {}))
        return
    if isinstance(more := schema.get("additionalProperties"), dict):
        for one in value.values():
            _prune(one, more)
        return
    known = schema.get("properties", {})
    for name in [name for name in value if name not in known]:
        del value[name]
    for name, one in value.items():
        _prune(one, known[name])
