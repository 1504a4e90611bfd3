"""Containers on a node: started by ``fairlead run`` there, each with a web server that says who it is."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from fairlead.model.address import Name
from fairlead.model.endpoint import Endpoint

from . import node, web
from .machine import Machine
from .reach import PORT
from .topology import LabSpec, Node, Pod

SERVER = (sys.executable, "-I", "-S", str(Path(web.__file__)))


def wanted(spec: LabSpec, of: Node) -> tuple[Pod, ...]:
    """The pods of a node: as listed, or so many that are named after it."""
    if isinstance(of.pods, tuple):
        return of.pods
    count = spec.pods if of.pods is None else of.pods
    return tuple(Pod(name=Name(f"{of.name}-{at}"), labels={"app": "web", "node": of.name}) for at in range(1, count + 1))


def start(machine: Machine, pods: Iterable[Pod], network: Name | None) -> None:
    """Start pods one after another; each is on ``network`` unless it says otherwise."""
    for pod in pods:
        on = pod.networks or ((network,) if network else ())
        labels = (word for key, value in pod.labels.items() for word in ("--label", f"{key}={value}"))
        networks = (word for name in on for word in ("--network", name))
        node.fairlead(
            machine,
            "run",
            "--detach",
            "--name",
            pod.name,
            "--namespace",
            pod.namespace,
            *networks,
            *labels,
            "--",
            *server(pod.name),
        )


def server(name: str) -> tuple[str, ...]:
    """The command that a pod runs, or a host."""
    return (*SERVER, str(PORT), name)


def path(machine: Machine, endpoint: Endpoint) -> Path:
    """A container's network namespace, as seen from outside."""
    return machine.files / endpoint.spec.sandbox.path.lstrip("/")
