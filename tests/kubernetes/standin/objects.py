"""Objects: create, read, update, patch and delete one, with the refusals of the API server in its own words and codes."""

from __future__ import annotations

import copy
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any

from . import apply
from .history import History, Kept, Key, Tree
from .resources import Resource

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_ANNOTATIONS = 256 << 10
_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class Refused(Exception):
    """An answer that is a Status."""

    def __init__(
        self, code: int, message: str, reason: str = "", causes: list[tuple[str, str]] | None = None, **details: Any
    ) -> None:
        super().__init__(message)
        self.code = code
        if causes:
            details["causes"] = [{"field": field, "message": text, "reason": "FieldValueInvalid"} for field, text in causes]
        self.tree: Tree = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason or _REASONS.get(code, ""),
            "details": details,
            "code": code,
        }


class Objects:
    """The verbs on one object, over a history."""

    def __init__(self, history: History, namespaces: bool = True) -> None:
        self.history = history
        self._namespaces = namespaces

    def get(self, of: Resource, key: Key) -> Kept:
        if found := self.history.get(of.name, key):
            return found
        raise Refused(404, f'{of.name} "{key[1]}" not found', name=key[1], kind=of.plural)

    def create(self, of: Resource, namespace: str, tree: Tree, manager: str) -> Kept:
        meta = tree.setdefault("metadata", {})
        name = meta.get("name", "")
        if meta.get("resourceVersion"):
            raise Refused(400, "resourceVersion should not be set on objects to be created")
        if of.namespaced:
            if meta.setdefault("namespace", namespace) != namespace:
                raise Refused(400, "the namespace of the provided object does not match the namespace sent on the request")
            if self._namespaces and not self.history.get("namespaces", ("", namespace)):
                raise Refused(404, f'namespaces "{namespace}" not found', name=namespace, kind="namespaces")
        key = (namespace if of.namespaced else "", name)
        if self.history.get(of.name, key):
            raise Refused(409, f'{of.name} "{name}" already exists', "AlreadyExists", name=name, kind=of.plural)
        if of.status:
            tree.pop("status", None)
        self._check(of, tree)
        now = _now()
        meta.update(uid=str(uuid.uuid4()), creationTimestamp=now, generation=1)
        meta["managedFields"] = [{"manager": manager, "operation": "Update", "time": now, "fieldsV1": {}}]
        meta["managedFields"][0]["fieldsV1"] = {path: {} for path in apply.changed({}, tree)}
        return self.history.put(of.name, key, tree)

    def update(self, of: Resource, key: Key, tree: Tree, manager: str, part: str = "") -> Kept:
        before = self.get(of, key)
        meta = tree.setdefault("metadata", {})
        if meta.get("name", key[1]) != key[1]:
            raise Refused(400, f"the name of the object ({meta['name']}) does not match the name on the URL ({key[1]})")
        if not meta.get("resourceVersion") and of.schema:
            text = (
                f'{of.name} "{key[1]}" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update'
            )
            raise Refused(422, text, causes=[("metadata.resourceVersion", "must be specified for an update")])
        self._match(of, key, before, meta)
        return self._replace(of, key, before.tree, tree, manager, "Update", part)

    def patch(self, of: Resource, key: Key, patch: Tree, manager: str, part: str = "") -> Kept:
        before = self.get(of, key)
        wanted = patch.get("metadata", {})
        if wanted.get("uid", before.tree["metadata"]["uid"]) != before.tree["metadata"]["uid"]:
            text = f'{of.kind} "{key[1]}" is invalid: metadata.uid: Invalid value: "{wanted["uid"]}": field is immutable'
            raise Refused(422, text, causes=[("metadata.uid", "field is immutable")], name=key[1], kind=of.kind)
        self._match(of, key, before, wanted)
        return self._replace(of, key, before.tree, apply.merge(before.tree, patch), manager, "Update", part)

    def apply(self, of: Resource, key: Key, config: Tree, manager: str, *, force: bool, part: str = "") -> Kept:
        if config.get("metadata", {}).get("managedFields"):
            raise Refused(400, "metadata.managedFields must be nil")
        meta = config.get("metadata", {})
        before = self.history.get(of.name, key)
        if before is None:
            if part or meta.get("resourceVersion") or meta.get("uid"):
                raise Refused(404, f'{of.name} "{key[1]}" not found', name=key[1], kind=of.plural)
            meta["name"] = key[1]
            return self.create(of, key[0], config, manager)
        self._match(of, key, before, meta)
        try:
            after = apply.apply(before.tree, config, manager, force=force)
        except apply.Owned as problem:
            raise Refused(409, f"Apply failed with 1 conflict: {problem}") from None
        return self._replace(of, key, before.tree, after, manager, "Apply", part)

    def delete(self, of: Resource, key: Key, options: Mapping[str, Any]) -> Kept:
        before = self.get(of, key)
        self._match(of, key, before, options.get("preconditions") or {})
        if before.tree["metadata"].get("finalizers"):
            tree = before.tree
            tree["metadata"].setdefault("deletionTimestamp", _now())
            return before if tree == before.tree else self.history.put(of.name, key, tree)
        return self.history.drop(of.name, key)

    def _match(self, of: Resource, key: Key, before: Kept, wanted: Mapping[str, Any]) -> None:
        have = before.tree["metadata"]
        if wanted.get("uid") and wanted["uid"] != have["uid"]:
            text = f"Precondition failed: UID in precondition: {wanted['uid']}, UID in object meta: {have['uid']}"
            raise Refused(409, f'Operation cannot be fulfilled on {of.name} "{key[1]}": {text}', name=key[1], kind=of.plural)
        if wanted.get("resourceVersion") and wanted["resourceVersion"] != have["resourceVersion"]:
            text = "the object has been modified; please apply your changes to the latest version and try again"
            raise Refused(409, f'Operation cannot be fulfilled on {of.name} "{key[1]}": {text}', name=key[1], kind=of.plural)

    def _replace(self, of: Resource, key: Key, old: Tree, new: Tree, manager: str, operation: str, part: str) -> Kept:
        new = _part(of, part, old, copy.deepcopy(new))
        self._check(of, new)
        meta, was = new["metadata"], old["metadata"]
        for name in ("uid", "creationTimestamp", "generation", "namespace", "deletionTimestamp"):
            if name in was:
                meta[name] = was[name]
            else:
                meta.pop(name, None)
        meta["resourceVersion"] = was["resourceVersion"]
        fields = new.get("metadata", {}).get("managedFields", was.get("managedFields", []))
        if _bare(new) == _bare(old) and (operation != "Apply" or fields == was.get("managedFields", [])):
            return self.get(of, key)
        meta["managedFields"] = _managed(fields, old, new, manager, operation)
        if _body(new) != _body(old):
            meta["generation"] = was.get("generation", 1) + 1
        if meta.get("deletionTimestamp") and not meta.get("finalizers"):
            return self.history.drop(of.name, key)
        return self.history.put(of.name, key, new)

    def _check(self, of: Resource, tree: Tree) -> None:
        tree.setdefault("apiVersion", of.api_version)
        tree.setdefault("kind", of.kind)
        if tree["apiVersion"] != of.api_version or tree["kind"] != of.kind:
            raise Refused(400, f"the object provided is a {tree['kind']} of {tree['apiVersion']}, not a {of.kind}")
        problems = _meta_problems(tree["metadata"])
        if of.schema:
            of.schema.prune(tree)
            problems += of.schema.problems(tree)
        if problems:
            said = ", ".join(f"{field}: Invalid value: {text}" for field, text in problems)
            name = tree["metadata"].get("name", "")
            raise Refused(422, f'{of.kind} "{name[:80]}" is invalid: {said}', causes=problems, name=name[:80], kind=of.kind)


def _meta_problems(meta: Tree) -> list[tuple[str, str]]:
    problems = []
    name = meta.get("name", "")
    if not name:
        problems.append(("metadata.name", "Required value: name or generateName is required"))
    elif len(name) > 253 or not _NAME.fullmatch(name):
        problems.append(("metadata.name", f"{name[:80]!r}: a lowercase RFC 1123 subdomain must consist of lower case ..."))
    for field in ("labels", "annotations"):
        for at, value in (meta.get(field) or {}).items():
            key = at.lower() if field == "annotations" else at
            if not _QUALIFIED.fullmatch(key):
                problems.append((f"metadata.{field}", f"{at[:80]!r}: name part must consist of alphanumeric characters ..."))
            if field == "labels" and (len(value) > 63 or not re.fullmatch(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?", value)):
                problems.append((f"metadata.{field}", f"{value[:80]!r}: a valid label must be an empty string or ..."))
    total = sum(len(name.encode()) + len(value.encode()) for name, value in (meta.get("annotations") or {}).items())
    if total > _ANNOTATIONS:
        problems.append(("metadata.annotations", f"Too long: may not be more than {_ANNOTATIONS} bytes"))
    return problems


def _managed(fields: list[Tree], old: Tree, new: Tree, manager: str, operation: str) -> list[Tree]:
    """Who owns what, after a change."""
    found = copy.deepcopy(fields)
    if operation == "Apply":
        mine = next(one for one in found if one["manager"] == manager and one["operation"] == "Apply")
        mine["time"] = _now()
        return found
    touched = apply.changed(old, new)
    for one in found:
        one["fieldsV1"] = {path: {} for path in one.get("fieldsV1", {}) if path not in touched}
    mine = next((one for one in found if one["manager"] == manager and one["operation"] == "Update"), {})
    if not mine:
        mine = {"manager": manager, "operation": "Update", "fieldsV1": {}}
        found.append(mine)
    mine["time"] = _now()
    mine["fieldsV1"] |= {path: {} for path in touched}
    return [one for one in found if one["fieldsV1"]]


def _part(of: Resource, part: str, old: Tree, new: Tree) -> Tree:
    """What a change of one part of an object comes to: the status is changed by itself, or not at all."""
    if part == "status":
        whole = {**old, "status": new.get("status"), "metadata": {**old["metadata"], **_fields(of, new)}}
        return {name: value for name, value in whole.items() if value is not None}
    if of.status:
        new.pop("status", None)
        new.update({name: value for name, value in old.items() if name == "status"})
    return new


def _body(tree: Tree) -> Tree:
    return {name: value for name, value in tree.items() if name not in {"metadata", "status"}}


def _fields(of: Resource, tree: Tree) -> Tree:
    """What an update of a status changes of the metadata: who owns what, and of Kubernetes's own kinds labels and such, too."""
    taken = {"managedFields"} if of.schema else {"managedFields", "labels", "annotations", "finalizers"}
    return {name: value for name, value in tree.get("metadata", {}).items() if name in taken and value}


def _bare(tree: Tree) -> Tree:
    meta = {
        name: value for name, value in tree["metadata"].items() if name not in {"managedFields", "resourceVersion"} and value
    }
    return {**tree, "metadata": meta}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
