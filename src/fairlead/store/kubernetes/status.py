"""Status: what is found of an object, written beside it for people: conditions, as every kind of Kubernetes has them.

By server-side apply and under one name for all nodes: who finds the same writes the same, which changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from fairlead.model.errors import Invalid, Missing, Unavailable
from fairlead.model.meta import Meta
from fairlead.store.base import Key

from .client import APPLY, MERGE, Client
from .errors import Absent, Again, Stale, Unserved
from .resources import Resource

MANAGER = "fairlead-status"

_MESSAGE = 32 << 10


class Condition(NamedTuple):
    """One condition (meta/v1 Condition)."""

    type: str
    status: bool
    reason: str
    message: str = ""
    generation: int = 0


class _Known(msgspec.Struct, rename="camel"):
    type: str
    status: str = ""
    last_transition_time: str | None = None  # null, of conditions that others wrote without


class _Status(msgspec.Struct):
    conditions: list[_Known] = []


class _Object(msgspec.Struct):
    status: _Status = msgspec.field(default_factory=_Status)


async def report(
    client: Client, of: Resource, key: Key, conditions: Sequence[Condition], facts: Mapping[str, str] | None = None
) -> None:
    """Write the conditions of one object that is there. The time of one stays as long as it is as it was.

    ``facts`` are other fields of its status, which are gone with the next report that has them not.
    """
    path = of.path(key)
    try:
        before = {one.type: one for one in msgspec.json.decode(await client.read(path), type=_Object).status.conditions}
        tree = {
            "apiVersion": of.api_version,
            "kind": of.kind,
            "metadata": {"name": of.spelt(key)},
            "status": {"conditions": [_tree(one, before.get(one.type)) for one in conditions], **(facts or {})},
        }
        query = {"fieldManager": MANAGER, "force": "true"}
        await client.change("PATCH", f"{path}/status", msgspec.json.encode(tree), APPLY, query)
    except (Absent, Unserved):
        raise Missing(f"there is no {of.kind} {key[1]!r} whose status could be written", field="metadata.name") from None
    except (Again, Stale) as problem:
        raise Unavailable(f"the status of {of.kind} {key[1]!r} was perhaps not written: {problem}") from None
    except msgspec.MsgspecError as problem:
        raise Invalid(f"the status of {of.kind} {key[1]!r} cannot be read: {problem}", field="status") from None


async def annotate(client: Client, of: Resource, about: Meta, annotations: Mapping[str, str]) -> None:
    """Write annotations of one object, if it is still the one that is meant.

    By its status, which agents may be let write where the object itself they may not.
    """
    path = f"{of.path((about.namespace, about.name))}/status"
    tree = {"metadata": {"uid": str(about.uid), "annotations": dict(annotations)}}
    try:
        await client.change("PATCH", path, msgspec.json.encode(tree), MERGE, {"fieldManager": MANAGER})
    except (Absent, Unserved, Stale, Invalid) as problem:
        if isinstance(problem, Invalid) and problem.field != "metadata.uid":
            raise
        raise Missing(f"there is no {of.kind} {about.name!r} with UID {about.uid} any more", field="metadata.name") from None
    except Again as problem:
        raise Unavailable(f"the annotations of {of.kind} {about.name!r} were perhaps not written: {problem}") from None


def _tree(one: Condition, before: _Known | None) -> dict[str, object]:
    word = "True" if one.status else "False"
    same = before is not None and before.status == word
    return {
        "type": one.type,
        "status": word,
        "reason": one.reason,
        "lastTransitionTime": (before.last_transition_time if before and same else None) or _now(),
        # Kubernetes 1.20 makes null of an empty one, which it then refuses.
        **({"message": one.message[:_MESSAGE]} if one.message else {}),
        **({"observedGeneration": one.generation} if one.generation else {}),
    }


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
