"""Making a container: as a whole or not at all. Each step registers its undo before the next begins.

::

    claim the name → network namespace → attach, every network → hosts, resolv.conf → the command

The agent has answered every attach before the command starts, so that it has no moment without its network. If the undo is
itself cut off, the record is left without anyone who waits for it, and ``finish.sweep`` takes it from there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fairlead.api.client import Client
from fairlead.api.schema import Attach, Attached, Detach
from fairlead.cli.fault import remedy, warn
from fairlead.cli.wait import working
from fairlead.kernel import netns, process
from fairlead.kernel.errors import KernelError
from fairlead.model.address import Address, ContainerID
from fairlead.model.errors import Failed, Problem

from . import detached, files, finish, foreground, record, spawn
from .record import Record


@dataclass(frozen=True)
class Plan:
    """Everything that is needed to make one container. ``servers`` are the name servers its networks prescribe."""

    record: Record
    environment: dict[str, str]
    attaches: tuple[Attach, ...]
    servers: tuple[str, ...]
    detach: bool


def launch(plan: Plan, client: Client) -> int:
    """Make a container and start its command; wait for it unless it is detached. Return the exit status to pass on."""
    name = plan.record.name
    with ExitStack() as undo:
        record.claim(name)
        undo.callback(record.forget, name)
        record.save(plan.record)
        with working(f"Connecting {name} ..."):
            _network(plan, client, undo)
        if plan.detach:
            detached.start(_command(plan), plan.record)
            undo.pop_all()
            return 0
        status = foreground.run(_command(plan), plan.record)
        undo.pop_all()
    return finish.end(name, status, client)


def _network(plan: Plan, client: Client, undo: ExitStack) -> None:
    """The namespace, its attachments and the files that follow from them."""
    made = plan.record
    if not made.sandbox:
        return
    path = record.netns(made.name)
    try:
        finish.unpin(made.name)  # left by a crash; the name is ours now
        netns.create(str(path))
        undo.callback(finish.unpin, made.name)
        _loopback(path)
    except KernelError as problem:
        raise Failed(str(problem)) from None
    if plan.attaches:
        _check_seen(client)
        undo.callback(_give_back, made.id, client)
    _write_files(plan, [client.attach(request) for request in plan.attaches])


def _check_seen(client: Client) -> None:
    """Refuse where the agent could not see the namespace: a mount made here does not show in another mount namespace."""
    try:
        same = Path("/proc/self/ns/mnt").stat().st_ino == Path(f"/proc/{client.pid()}/ns/mnt").stat().st_ino
    except OSError:
        return  # the agent is in another PID namespace; it will say what it sees
    if not same:
        problem = Failed("this shell has mounts of its own, as under `ip netns exec`: the agent would not see the namespace")
        raise remedy(problem, "nsenter --net=/run/netns/NAME fairlead run ..., or a shell on the host")


def _loopback(path: Path) -> None:
    fd = netns.open_path(str(path))
    try:
        with netns.inside(fd):
            process.loopback_up()
    finally:
        os.close(fd)


def _give_back(container: str, client: Client) -> None:
    """Undo attachments, also one whose answer never came. The problem that led here is what the person must read."""
    try:
        client.detach(Detach(container=ContainerID(container)))
    except Problem as problem:
        warn(f"not everything could be undone: {problem}")


def _write_files(plan: Plan, attached: Sequence[Attached]) -> None:
    made = plan.record
    addresses: list[Address] = [one.address for reply in attached for one in reply.endpoint.spec.addresses]
    told = [server for reply in attached for server in reply.endpoint.spec.dns.nameservers]
    servers = tuple(dict.fromkeys(told)) or plan.servers
    host = files.host_resolvers() if attached else ()
    why = "" if attached else "this container has no network"
    (made.directory / "hosts").write_text(files.hosts(addresses, (made.hostname, made.name)))
    (made.directory / "resolv.conf").write_text(files.resolv(servers, host, why))


def _command(plan: Plan) -> spawn.Command:
    made = plan.record
    private = (("/etc/hosts", str(made.directory / "hosts")), ("/etc/resolv.conf", str(made.directory / "resolv.conf")))
    return spawn.Command(
        words=made.command,
        environment=plan.environment,
        netns=made.sandbox,
        hostname=made.hostname,
        files=private if made.sandbox else (),
        hide=os.path.realpath(record.netns(made.name).parent),
    )
