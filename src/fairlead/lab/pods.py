"""Containers on a node: started by ``fairlead run`` there, each with a web server that says who it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fairlead.kernel import netns, route
from fairlead.kernel.errors import KernelError
from fairlead.kernel.netlink import Netlink
from fairlead.model.address import Address, Name
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Problem

from . import node, web
from .machine import Machine
from .reach import PORT
from .topology import LabSpec, Node, Pod

_GLOBAL = 0
SERVER = (sys.executable, "-I", "-S", str(Path(web.__file__)))


@dataclass(frozen=True)
class Found:
    """A container that is there: where its network namespace is seen from outside, and its addresses."""

    name: str
    path: Path
    addresses: tuple[Address, ...]
    network: str = ""
    namespace: str = ""


def wanted(spec: LabSpec, of: Node) -> tuple[Pod, ...]:
    """The pods of a node: as listed, or so many that are named after it."""
    if isinstance(of.pods, tuple):
        return of.pods
    count = spec.pods if of.pods is None else of.pods
    return tuple(Pod(name=Name(f"{of.name}-{at}"), labels={"node": of.name}) for at in range(1, count + 1))


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


def found(machine: Machine) -> list[Found]:
    """The containers on a node by name: as its agent knows them, or, without one, as its kernel does."""
    try:
        known = node.endpoints(machine)
    except Problem:
        return sorted(_seen(machine), key=lambda one: one.name)
    containers: dict[str, list[Endpoint]] = {}
    for one in known:
        containers.setdefault(one.container, []).append(one)
    return sorted((_told(machine, each) for each in containers.values()), key=lambda one: one.name)


def _told(machine: Machine, endpoints: Sequence[Endpoint]) -> Found:
    first = endpoints[0]
    return Found(
        name=first.display,
        path=machine.files / first.spec.sandbox.path.lstrip("/"),
        addresses=tuple(at.address for one in endpoints for at in one.spec.addresses),
        network=",".join(one.spec.network for one in endpoints),
        namespace=first.metadata.namespace,
    )


def _seen(machine: Machine) -> Iterator[Found]:
    """What `fairlead run` has made, from the names of its namespaces, and the addresses inside."""
    names = machine.files / "run/fairlead/netns"
    for path in names.iterdir() if names.is_dir() else ():
        with suppress(KernelError):
            fd = netns.open_path(str(path))
            try:
                with Netlink(netns=fd) as nl:
                    inside = [one.address for one in route.addresses(nl) if one.scope == _GLOBAL]
            finally:
                os.close(fd)
            yield Found(name=path.name, path=path, addresses=tuple(map(Address, inside)))
