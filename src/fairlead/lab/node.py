"""An agent on a machine: started as a person would, by ``fairlead up``, and asked through its own socket."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from fairlead.api.client import Client
from fairlead.model.address import Interface
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Conflict, Failed, Missing, Problem
from fairlead.model.meta import Meta, Object
from fairlead.model.network import Network
from fairlead.model.node import Node

from .machine import Machine

SOCKET = "run/fairlead/agent.sock"
_PATIENCE = 30.0
_QUICK = 3.0


def fairlead(machine: Machine, *words: str, patience: float = _PATIENCE) -> str:
    """Run one ``fairlead`` command on a machine; what it complains of is the problem."""
    done = machine.attempt(sys.executable, "-m", "fairlead.cli", *words, patience=patience)
    if done.returncode:
        raise Failed(f"{machine.name}: fairlead {' '.join(words[:3])} ...: {_complaint(done.stderr)}")
    return done.stdout


def up(machine: Machine, options: Sequence[str]) -> None:
    """Start the agent; return when containers can start."""
    fairlead(machine, "up", "--node", machine.name, *options, patience=2 * _PATIENCE)


def client(machine: Machine, *, quick: bool = False) -> Client:
    """The agent's client, from outside. ``quick``: for questions that must not be waited for."""
    return Client(machine.files / SOCKET, timeout=_QUICK if quick else _PATIENCE)


def endpoints(machine: Machine) -> list[Endpoint]:
    """The containers of this node, as its agent knows them."""
    found = client(machine, quick=True).objects(Endpoint.plural)
    return [one for one in found if isinstance(one, Endpoint) and here(machine, one)]


def here(machine: Machine, endpoint: Endpoint) -> bool:
    """Whether an endpoint's namespace is on this machine."""
    path = endpoint.spec.sandbox.path
    return bool(path) and (machine.files / path.lstrip("/")).exists()


def apply(machine: Machine, objects: Iterable[Object]) -> None:
    """Have the agent store objects."""
    asked = client(machine)
    for one in objects:
        try:
            asked.apply(one)
        except Problem as problem:
            raise problem.under(f"{type(one).__name__} {one.name}") from None


def label(machine: Machine, labels: Mapping[str, str]) -> None:
    """Give the node its labels, while its agent tells the store of it."""
    labelled = Node(metadata=Meta(name=machine.name, labels=dict(labels)))
    _patiently(lambda: client(machine).apply(labelled), f"{machine.name} could not be labelled")


def knows(machine: Machine, network: str) -> None:
    """Return once the agent knows a network, which it may have to hear of from others."""
    asked = client(machine)
    _patiently(lambda: asked.object(Network.plural, network), f"{machine.name} has not heard of network {network}")


def _patiently(ask: Callable[[], object], otherwise: str) -> None:
    """Ask until what is asked for is there."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            ask()
        except (Missing, Conflict) as problem:
            if time.monotonic() > end:
                raise Failed(f"{otherwise} within {_PATIENCE:g} s: {problem}") from None
            time.sleep(0.02)
        else:
            return


def addresses(interfaces: Iterable[Interface]) -> str:
    """Addresses as ``--node-ip`` takes them."""
    return ",".join(interface.address for interface in interfaces)


def _complaint(said: str) -> str:
    """The error among what a command said, without its remedy, which is for people on that machine."""
    lines = [line for line in said.strip().splitlines() if not line.startswith("Try: ")]
    return " ".join(line.removeprefix("Error: ") for line in lines[-3:]) or "it said nothing"
