"""``fairlead ps``, ``exec``, ``logs``, ``port``, ``inspect``, ``stop`` and ``rm``: containers, whoever runs them."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections import deque
from pathlib import Path
from typing import Annotated

import typer

from fairlead.api.client import Client
from fairlead.api.schema import Detach
from fairlead.kernel import process
from fairlead.kernel.errors import Refused
from fairlead.model import codec
from fairlead.model.address import Address, ContainerID
from fairlead.model.endpoint import Endpoint, PublishedPort
from fairlead.model.errors import Conflict, Failed, Forbidden, Missing, Problem, Unavailable

from . import complete, fault, options, parse
from .container import finish, record, roster, spawn
from .container.record import Record
from .container.roster import Container
from .out import Column, Format, Listing, age, write
from .wait import working

app = typer.Typer(rich_markup_mode="rich")

_PANEL = "Containers"
_Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name or id.", autocompletion=complete.containers)]
_Names = Annotated[list[str], typer.Argument(metavar="NAME", help="Names or ids.", autocompletion=complete.containers)]

_ANY = {4: Address("0.0.0.0"), 6: Address("::")}  # noqa: S104  # to be shown
_STATES = {"running": "green", "starting": "yellow", "attached": "green", "gone": "red"}


def _state(one: Container) -> str:
    return f"exited ({one.exit_code})" if one.ended and one.exit_code is not None else one.state


def _colour(one: Container) -> str:
    return _STATES.get(one.state) or ("bright_black" if one.exit_code == 0 else "red")


def _command(one: Container) -> str:
    text = shlex.join(one.command)
    return text if len(text) <= 30 else text[:29] + "\N{HORIZONTAL ELLIPSIS}"


def _networks(one: Container) -> list[str]:
    """Networks, each beside the first of its addresses."""
    return [line for each in one.networks for line in [each.network, *[""] * (len(each.addresses) - 1)]]


def _addresses(one: Container) -> list[str]:
    return [line for each in one.networks for line in [str(interface.address) for interface in each.addresses] or [""]]


_LISTING: Listing[Container] = Listing(
    columns=(
        Column("NAME", lambda one: one.name, style="bold"),
        Column("ID", lambda one: one.id[:12], wide=True, style="bright_black"),
        Column("OWNER", lambda one: one.owner, spare=3),
        Column("STATE", _state, style=_colour),
        Column("NETWORKS", _networks, style="cyan"),
        Column("ADDRESSES", _addresses),
        Column("PORTS", lambda one: [str(port) for each in one.networks for port in each.ports], style="yellow"),
        Column("INTERFACES", lambda one: [each.interface or "" for each in one.networks], wide=True),
        Column("PID", lambda one: str(one.pid or ""), right=True, spare=4),
        Column("COMMAND", _command, spare=2),
        Column("AGE", lambda one: age(one.created), right=True, spare=1),
    ),
    name=lambda one: one.name,
    tree=codec.to_tree,
    empty="No containers. Start one: fairlead run -- COMMAND",
)


@app.command(rich_help_panel=_PANEL)
def ps(
    *,
    everything: Annotated[bool, options.flag("--all", "-a", help="Also those that have ended.")] = False,
    output: options.Output = Format.TABLE,
    selector: options.Selector = None,
) -> None:
    """List containers: those of `fairlead run`, of CNI, of Docker, and namespaces attached by hand."""
    wanted = parse.labels(selector or (), "selector").items()
    found = [one for one in gather() if (everything or not one.ended) and wanted <= one.labels.items()]
    _LISTING.show(found, output)
    for one in found:
        if one.problem:
            fault.warn(f"{one.name}: {one.problem}")


@app.command(rich_help_panel=_PANEL, no_args_is_help=True)
def inspect(names: _Names, output: options.Output = Format.YAML) -> None:
    """Show everything known of containers."""
    containers = gather()
    _LISTING.show([roster.find(containers, name) for name in names], output, single=True)


@app.command(rich_help_panel=_PANEL, no_args_is_help=True)
def port(name: _Name) -> None:
    """Show where a container's ports are published."""
    found = roster.find(gather(), name)
    for attachment in found.networks:
        families = {address.family for address in attachment.addresses} or {4}
        for published in attachment.ports:
            for line in _mapping(published, families):
                write(line)


@app.command(
    "exec",
    rich_help_panel=_PANEL,
    no_args_is_help=True,
    context_settings={"allow_interspersed_args": False},
    epilog="Example: fairlead exec web -- ss -tln",
)
def execute(
    name: _Name,
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="What to run.")],
    *,
    env: options.Env = None,
    interactive: options.Interactive = False,  # noqa: ARG001  # for hands that type -it; it is always so
    tty: options.Tty = False,  # noqa: ARG001
) -> None:
    """Run a command where a container is: its network, mounts and host name.

    In a container of another runtime only the network is entered. The exit status is that of the command.
    """
    words = command[1:] if command[0] == "--" else command
    if not words:
        raise fault.remedy(Missing("there is no command to run", field="command"), f"fairlead exec {name} -- COMMAND")
    own = record.find(name)
    environment = parse.environment(env or (), os.environ)
    try:
        if own is not None:
            _enter_own(own)
            environment.setdefault("HOSTNAME", own.hostname)
        else:
            _enter_other(roster.find(gather(), name))
        spawn.execute(words, environment)
    except spawn.Unrunnable as problem:
        fault.tell(str(problem))
        raise typer.Exit(problem.status) from None
    except Refused:
        raise fault.remedy(Forbidden("namespaces are entered by root"), "sudo fairlead exec ...") from None


@app.command(rich_help_panel=_PANEL, no_args_is_help=True)
def logs(
    name: _Name,
    *,
    follow: Annotated[bool, options.flag("--follow", "-f", help="Go on until it ends.")] = False,
    tail: Annotated[int | None, options.text("--tail", "-n", metavar="LINES", min=0, help="Only the last of it.")] = None,
) -> None:
    """Show what a detached container has printed."""
    found = record.need(name)
    try:
        log = found.log.open("rb")
    except FileNotFoundError:
        raise Missing(f"{found.name} runs in the foreground and prints to its terminal", field="name") from None
    with log:
        if tail is not None:
            sys.stdout.buffer.writelines(deque(log, maxlen=tail))
        while True:
            running = found.running
            while chunk := log.read(1 << 16):
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            if not follow or not running:
                return
            time.sleep(0.1)


@app.command(rich_help_panel=_PANEL, no_args_is_help=True)
def stop(
    names: _Names,
    grace: options.Grace = 10,
) -> None:
    """End containers' commands: SIGTERM, and SIGKILL if that does not help."""
    for name in names:
        found = record.need(name)
        with working(f"Stopping {found.name} ..."):
            finish.stop(found, grace)
        typer.echo(found.name)


@app.command(rich_help_panel=_PANEL, no_args_is_help=True)
def rm(
    names: _Names,
    *,
    force: Annotated[bool, options.flag("--force", "-f", help="Stop those that run; detach those of other runtimes.")] = False,
    grace: options.Grace = 10,
) -> None:
    """Remove containers that have ended, or with --force any."""
    failed = False
    for name in names:
        try:
            with working(f"Removing {name} ..."):
                removed = _remove(name, grace, force=force)
        except Problem as problem:
            fault.tell(*fault.explain(problem, "fairlead rm"))
            failed = True
        else:
            typer.echo(removed)
    raise typer.Exit(1 if failed else 0)


def gather() -> list[Container]:
    """Every container. Without an agent, those of this runtime, and a word about it."""
    endpoints: list[Endpoint] = []
    try:
        endpoints = [one for one in Client().objects(Endpoint.plural) if isinstance(one, Endpoint)]
    except Unavailable as problem:
        if not record.every():
            raise
        fault.warn(f"networks and other runtimes' containers are not shown: {problem}")
    return roster.roster(record.every(), endpoints, os.path.exists)


def _mapping(published: PublishedPort, families: set[int]) -> list[str]:
    """``80/tcp -> 0.0.0.0:8080``, a line a port and a family, as docker port prints it."""
    hosts = [published.host_ip] if published.host_ip else [_ANY[family] for family in sorted(families)]
    shown = [f"[{host}]" if host.family == 6 else str(host) for host in hosts]
    return [
        f"{published.container_port + at}/{published.protocol} -> {host}:{published.host_port + at}"
        for at in range(published.count)
        for host in shown
    ]


def _enter_own(found: Record) -> None:
    """Enter a running container's namespaces through a pidfd, which cannot come to mean another process."""
    if found.process is None or not found.running:
        raise fault.remedy(Conflict(f"{found.name} is not running", field="name"), "fairlead ps -a")
    with os.fdopen(os.pidfd_open(found.process.pid), "rb") as fd:
        if not found.running:
            raise Conflict(f"{found.name} has just ended", field="name")
        network = process.CLONE_NEWNET if found.sandbox else 0
        here = Path.cwd()
        process.setns(fd.fileno(), process.CLONE_NEWNS | process.CLONE_NEWUTS | network)  # and goes to /
        os.chdir(here)


def _enter_other(found: Container) -> None:
    if not found.sandbox or not Path(found.sandbox).exists():
        raise Missing(f"the namespace of {found.name} is gone ({found.sandbox})", field="name")
    spawn.enter(found.sandbox)


def _remove(name: str, grace: float, *, force: bool) -> str:
    found = record.find(name)
    if found is None:
        return _remove_other(name, force=force)
    if found.running or found.starting:
        if not force:
            state = "running" if found.running else "being started"
            raise fault.remedy(Conflict(f"{found.name} is {state}", field="name"), f"fairlead rm -f {found.name}")
        finish.stop(found, grace)
    left = record.load(found.name)
    if left is not None and left.running:
        raise Failed(f"{left.name} does not end, even by SIGKILL", field="name")
    if left is not None:
        finish.remove(left, Client(), force=force)
    return found.name


def _remove_other(name: str, *, force: bool) -> str:
    if name in record.names():  # left by a crash before there was a record
        record.forget(name)
        return name
    client = Client()
    found = roster.find(gather(), name)
    if found.state == "attached" and not force:
        who = f"it belongs to {found.owner}, which removes it" if found.owner != "cli" else "its namespace was made by others"
        raise fault.remedy(Conflict(f"{found.name} is in use: {who}", field="name"), f"fairlead detach {found.name}")
    client.detach(Detach(container=ContainerID(found.id)))
    return found.name
