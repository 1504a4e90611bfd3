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
