"""What to do when the agent is not there, left where whoever misses it finds it: it knows who runs it, they do not."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from fairlead.api import wire

log = logging.getLogger(__name__)

_GROUPS = Path("/proc/self/cgroup")
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def leave(state: Path) -> None:
    """Write it down for the time when this agent is gone."""
    said = words(_GROUPS.read_text(), os.environ, _ACCOUNT.read_text() if _ACCOUNT.exists() else "")
    try:
        wire.remedy_path(state).write_text(f"{said}\n")
    except OSError as problem:
        log.warning("who misses the agent will not be told how it is started: %s", problem)


def words(groups: str, environment: Mapping[str, str], namespace: str) -> str:
    """How an agent is started that has these control groups, or runs as a pod of this namespace, or neither."""
    if name := service(groups):
        return f"start it with `systemctl start {name.removesuffix('.service')}`"
    if "KUBERNETES_SERVICE_HOST" in environment and namespace:
        node = environment.get("NODE_NAME", "")
        where = f" --field-selector spec.nodeName={node}" if node else ""
        return f"see why its pod does not run: `kubectl -n {namespace.strip()} describe pods{where}`"
    return wire.REMEDY


def service(groups: str) -> str:
    """The agent's own systemd service, by its control groups; empty if it has none. What is only killed systemd starts anew."""
    names = (line.rpartition("/")[2] for line in groups.splitlines())
    return next((name for name in names if name.startswith("fairlead") and name.endswith(".service")), "")
