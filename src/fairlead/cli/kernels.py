"""The kernels of other nodes, asked by way of their agents where these can be reached from here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from pathlib import Path

from msgspec.structs import replace

from fairlead.api import wire
from fairlead.api.client import Client
from fairlead.api.schema import Asked, Elsewhere, Explained
from fairlead.model.errors import Problem, Unavailable

_PATIENCE = 5.0


def _beside(node: str) -> AbstractContextManager[Path]:
    return nullcontext(wire.node_socket(node))


reach: ContextVar[Callable[[str], AbstractContextManager[Path]]] = ContextVar("reach", default=_beside)
"""How a node's agent is reached: a socket, for as long as the context lasts, which need not be there."""


def complete(told: Explained) -> Explained:
    """With what the kernels elsewhere say, of each behind a service too; of those that cannot be asked, why."""
    asked = [_ask(one) for one in told.elsewhere]
    verdicts = {one.direction: one.allows for one in told.steps if one.allows is not None}
    found = [
        replace(one, agrees=one.agrees and one.allowed == verdicts.get(one.direction))
        for several in asked
        if isinstance(several, list)
        for one in several
    ]
    ordered = sorted((*told.kernel, *found), key=lambda one: one.direction)  # as the packet goes: egress, ingress
    left = tuple(one for one in asked if isinstance(one, Elsewhere))
    backends = tuple(replace(one, told=complete(one.told)) for one in told.backends)
    return replace(told, kernel=tuple(ordered), elsewhere=left, backends=backends)


def again(one: Elsewhere) -> str:
    """The command that asks the same on that node."""
    words = one.query
    to = f"[{words['to']}]" if ":" in words["to"] and "port" in words else words["to"]
    port = f":{words['port']}" if "port" in words else ""
    return f"fairlead policy explain {words['from']} {to}{port}/{words['protocol']}"


def _ask(one: Elsewhere) -> list[Asked] | Elsewhere:
    try:
        with reach.get()(one.node) as path:
            if not path.exists():
                return one
            answer = Client(path, timeout=_PATIENCE).explain(**one.query)
    except Unavailable:
        return replace(one, why="its agent does not answer")
    except Problem as problem:
        return replace(one, why=str(problem))
    return [replace(end, node=one.node) for end in answer.kernel if end.direction == one.direction]
