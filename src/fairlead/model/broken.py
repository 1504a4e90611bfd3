"""Broken: what a store holds and nobody here can read, since another version or a person wrote it."""

from __future__ import annotations

from typing import Any

import msgspec

from .meta import Meta, Value

_SALVAGED = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


class Broken(Value, frozen=True, kw_only=True, tag_field="kind", tag="Broken"):
    """What is known of it: its kind by its plural, as much of its metadata as can be read, why not more, and what is stored."""

    plural: str
    metadata: Meta
    reason: str
    data: bytes = b""

    @classmethod
    def of(cls, plural: str, data: bytes, reason: str, key: tuple[str, str] | None = None) -> Broken:
        """What can be known of ``data``; ``key`` is where it was found, (namespace, name), if that is known."""
        found = {name: text for name in _SALVAGED if isinstance(text := tree(data, "metadata").get(name), str)}
        if key:
            found |= {"namespace": key[0], "name": key[1]}
        return cls(plural=plural, metadata=msgspec.convert({"name": "", **found}, Meta), reason=reason, data=data)

    @property
    def name(self) -> str:
        """metadata.name."""
        return self.metadata.name

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name), as of every object."""
        return (self.metadata.namespace, self.metadata.name)

    @property
    def spec(self) -> dict[str, Any]:
        """Its spec as a plain tree; empty if there is none that could be read."""
        return tree(self.data, "spec")


def tree(data: bytes, part: str) -> dict[str, Any]:
    """One part of what is stored, if it is a mapping."""
    try:
        whole = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}
    found = whole.get(part) if isinstance(whole, dict) else None
    return found if isinstance(found, dict) else {}
