"""Where the agent listens, and how a problem travels: names, sizes, status codes."""

from __future__ import annotations

import os
from pathlib import Path

from fairlead.model import errors

from .schema import Refusal

MAX_BODY = 1 << 20
"""Bytes of one request's body; a larger one is refused."""

STATUS: dict[type[errors.Problem], int] = {
    errors.Invalid: 400,
    errors.Forbidden: 403,
    errors.Missing: 404,
    errors.Conflict: 409,
    errors.Failed: 500,
    errors.Unsupported: 501,
    errors.Unavailable: 503,
    errors.Exhausted: 507,
}


def run_dir() -> Path:
    """Where the socket, the pid file and other state of this boot lie: FAIRLEAD_RUN_DIR, else /run/fairlead."""
    return Path(os.environ.get("FAIRLEAD_RUN_DIR", "/run/fairlead"))


def state_dir() -> Path:
    """Where what must outlive a reboot lies: FAIRLEAD_STATE_DIR, else /var/lib/fairlead."""
    return Path(os.environ.get("FAIRLEAD_STATE_DIR", "/var/lib/fairlead"))


REMEDY = "start it with `fairlead up`"
"""What to do about an agent that is not running, as far as nothing else is known."""
_LONGEST_REMEDY = 200


def remedy_path(state: Path) -> Path:
    """Where an agent leaves what to do when it is not running; whoever carries requests reads it, in C too (cni/plugin.c)."""
    return state / "remedy"


def remedy() -> str:
    """What the last agent here said is to be done when it is not running."""
    try:
        with remedy_path(state_dir()).open(errors="replace") as file:
            said = file.read(_LONGEST_REMEDY).strip()
    except OSError:
        return REMEDY
    return said if said and said.isprintable() else REMEDY


def socket_path() -> Path:
    """The agent's socket."""
    return run_dir() / "agent.sock"


def node_sockets() -> Path:
    """Where other nodes' agents can be reached from here, if they can: the nodes of a lab, those of a cluster from afar."""
    return run_dir() / "nodes"


def node_socket(node: str) -> Path:
    """The socket of another node's agent."""
    return node_sockets() / f"{node}.sock"


def refusal(problem: errors.Problem) -> Refusal:
    """A problem as it is sent."""
    return Refusal(error=type(problem).__name__, message=problem.message, field=problem.field)


def problem(refusal: Refusal) -> errors.Problem:
    """A problem as it was before it was sent."""
    kinds = {kind.__name__: kind for kind in STATUS}
    return kinds.get(refusal.error, errors.Failed)(refusal.message, field=refusal.field)
