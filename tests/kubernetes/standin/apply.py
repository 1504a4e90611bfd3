"""Apply: fields and who owns them. Server-side apply as far as a store uses it, and JSON merge patch (RFC 7396).

A field is a path; lists whose items have a ``type`` (conditions, addresses) are merged by it, other lists are one value.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

Tree = dict[str, Any]
Path = tuple[str, ...]


class Owned(ValueError):
    """A field is another's, and has another value."""

    def __init__(self, path: Path, owner: str) -> None:
        super().__init__(f'conflict with "{owner}": .{".".join(path)}')
        self.path, self.owner = path, owner


def merge(tree: Any, patch: Any) -> Any:
    """``tree`` with a merge patch applied."""
    if not isinstance(patch, dict):
        return patch
    found = dict(tree) if isinstance(tree, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merge(found.get(name), value)
    return found


def apply(tree: Tree, config: Tree, manager: str, *, force: bool) -> Tree:
    """``tree`` with a manager's fields as ``config`` has them; those that he had and no longer names are gone."""
    found = copy.deepcopy(tree)
    wanted = {path: value for path, value in leaves(config) if path[0] not in {"apiVersion", "kind"} and _named(path)}
    entries = found.get("metadata", {}).setdefault("managedFields", [])
    mine = next((one for one in entries if one["manager"] == manager and one["operation"] == "Apply"), None)
    before = {tuple(path.split("\0")) for path in (mine or {}).get("fieldsV1", {})}
    for other in entries:
        if other is mine:
            continue
        theirs = {tuple(path.split("\0")) for path in other.get("fieldsV1", {})}
        for path in theirs & set(wanted):
            if _look(found, path) != wanted[path]:
                if not force:
                    raise Owned(path, other["manager"])
                del other["fieldsV1"]["\0".join(path)]
    others = {path for one in entries if one is not mine for path in one.get("fieldsV1", {})}
    for path in before - set(wanted):
        if "\0".join(path) not in others:
            _remove(found, path)
    for path, value in wanted.items():
        _set(found, path, value)
    if mine is None:
        mine = {"manager": manager, "operation": "Apply"}
        entries.append(mine)
    mine["fieldsV1"] = {"\0".join(path): {} for path in wanted}
    return found


def changed(before: Tree, after: Tree) -> set[str]:
    """The fields that differ, as they are written into managedFields."""
    old, new = dict(leaves(before)), dict(leaves(after))
    return {"\0".join(path) for path in {*old, *new} if old.get(path) != new.get(path) and _named(path)}


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every field and its value."""
    if isinstance(value, dict) and (value or not path):
        for name, one in value.items():
            yield from leaves(one, (*path, name))
    elif isinstance(value, list) and value and all(isinstance(one, dict) and "type" in one for one in value):
        for one in value:
            yield from leaves(one, (*path, f"type={one['type']}"))
    else:
        yield path, value


def _named(path: Path) -> bool:
    """Whether it is a field that somebody owns."""
    return path[0] != "metadata" or (len(path) > 1 and path[1] in {"labels", "annotations", "finalizers", "ownerReferences"})


def _step(value: Any, part: str, *, make: bool) -> Any:
    if isinstance(value, list):
        kind = part.partition("=")[2]
        found = next((one for one in value if one.get("type") == kind), None)
        if found is None and make:
            found = {"type": kind}
            value.append(found)
        return found
    return value.get(part) if isinstance(value, dict) else None


def _look(tree: Any, path: Path) -> Any:
    for part in path:
        tree = _step(tree, part, make=False)
    return tree


def _set(tree: Any, path: Path, value: Any) -> None:
    for at, part in enumerate(path[:-1]):
        inner = _step(tree, part, make=True)
        if not isinstance(inner, dict | list):
            inner = [] if path[at + 1].startswith("type=") else {}
            tree[part] = inner
        tree = inner
    if not isinstance(tree, list):
        tree[path[-1]] = value


def _remove(tree: Any, path: Path) -> None:
    inner = _step(tree, path[0], make=False)
    if len(path) == 1:
        if isinstance(tree, dict):
            tree.pop(path[0], None)
        return
    if inner is None:
        return
    _remove(inner, path[1:])
    if inner in ({}, []) or (isinstance(tree, list) and set(inner) <= {"type"}):
        if isinstance(tree, list):
            tree.remove(inner)
        else:
            tree.pop(path[0], None)
