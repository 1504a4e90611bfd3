"""What the shell offers after Tab: names of networks and containers. Silent when the agent cannot be asked."""

from __future__ import annotations

from contextlib import suppress

from fairlead.api.client import Client
from fairlead.model.errors import Problem
from fairlead.model.network import Network

from .container import record

_PATIENCE = 2.0


def networks(incomplete: str) -> list[str]:
    """Names of networks that begin with what was typed."""
    with suppress(Problem):
        return [one.name for one in Client(timeout=_PATIENCE).objects(Network.plural) if one.name.startswith(incomplete)]
    return []


def containers(incomplete: str) -> list[str]:
    """Names of containers made by ``fairlead run``."""
    return [one.name for one in record.every() if one.name.startswith(incomplete)]


def labs(incomplete: str) -> list[str]:
    """Names of labs."""
    from fairlead.lab import record as lab_record  # noqa: PLC0415  # other commands need no lab

    return [one for one in lab_record.names() if one.startswith(incomplete)]


def machines(incomplete: str) -> list[str]:
    """Names of the machines of all labs."""
    from fairlead.lab import plan  # noqa: PLC0415  # as above
    from fairlead.lab import record as lab_record  # noqa: PLC0415

    known = (found for name in lab_record.names() if (found := lab_record.load(name)))
    return sorted({one for found in known for one in plan.machines(found.spec) if one.startswith(incomplete)})
