"""``fairlead up``, ``down``, ``status``, ``doctor`` and ``version``: the agent of this node."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer

from fairlead import __version__
from fairlead.api.client import Client
from fairlead.api.schema import Drift, Finding, Status
from fairlead.model import codec
from fairlead.model.errors import Failed, Forbidden, Problem, Unavailable

from . import daemon, fault, options, panel
from .container import finish, record
from .out import Column, Format, Listing, write
from .wait import working

app = typer.Typer(rich_markup_mode="rich")

_PANEL = "Node"
_DAY = 86400


class Plane(StrEnum):
    """What filters and translates packets."""

    AUTO = "auto"
    NFTABLES = "nftables"
    EBPF = "ebpf"


class Level(StrEnum):
    """How much the agent says."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@app.command(rich_help_panel=_PANEL)
def up(
    *,
    foreground: Annotated[bool, options.flag("--foreground", help="Stay here, and log to the terminal.")] = False,
    group: Annotated[str, options.text("--group", metavar="NAME", help="A group that may use the agent's socket.")] = "",
    node: Annotated[str, options.text("--node", metavar="NAME", help="The node's name; the host's if left out.")] = "",
    node_ip: Annotated[
        str, options.text("--node-ip", metavar="ADDRESS,...", help="How other nodes reach it; by its uplink if left out.")
    ] = "",
    store: Annotated[
        str,
        options.text(
            "--store", metavar="URL", help="Where nodes tell each other of themselves: sqlite:///FILE, etcd://HOST,..."
        ),
    ] = "",
    plane: Annotated[
        Plane, typer.Option(help="What enforces policies: eBPF, nftables, or the former where the kernel can.")
    ] = Plane.AUTO,
    ipv6: Annotated[
        bool, options.flag("--ipv6", help="Give the default network an IPv6 subnet too, when it is created.")
    ] = False,
    no_node_access: Annotated[
        bool, options.flag("--no-node-access", help="Policies say what this node may reach of its containers, too.")
    ] = False,
    map_size: Annotated[
        list[str] | None,
        typer.Option(
            "--map-size", metavar="MAP=ENTRIES", help="How much a map of the eBPF plane has room for; may be repeated."
        ),
    ] = None,
    rotate_keys: Annotated[
        float,
        typer.Option("--rotate-keys", metavar="DAYS", min=0, help="Replace WireGuard keys of this age; 0: only when asked to."),
    ] = 0,
    metrics: Annotated[
        str,
        options.text(
            "--metrics", metavar="ADDRESS:PORT", help="Where Prometheus may ask, such as 127.0.0.1:9345; else nowhere."
        ),
    ] = "",
    log_level: Annotated[Level, typer.Option(help="How much the agent says.")] = Level.INFO,
) -> None:
    """Start the agent: by systemd where that runs the machine, else as a daemon."""
    if os.geteuid() != 0:
        raise fault.remedy(Forbidden("the agent changes the kernel's network and runs as root"), "sudo fairlead up")
    start = daemon.Start(
        group=group,
        node=node,
        node_ip=node_ip,
        store=store,
        plane=plane.value,
        log_level=log_level.value,
        ipv6=ipv6,
        node_access=not no_node_access,
        map_sizes=tuple(map_size or ()),
        key_age=rotate_keys * _DAY,
        metrics=metrics,
    )
    client = Client(timeout=5)
    if pid := _running(client):
        fault.note(f"The agent is running already (pid {pid}).")
        return
    if foreground:
        daemon.become(start)
    by = "systemd" if daemon.systemd() else "daemon"
    with working("Starting the agent ..."):
        status = daemon.start_by_systemd(start, client) if by == "systemd" else daemon.start(start, client)
        finished = finish.sweep(client)
    write(f"The agent is ready (pid {status.pid}, version {status.version}, plane {status.plane}).")
    if finished:
        write(f"Cleaned up after {', '.join(finished)}, which ended without it.")


@app.command(rich_help_panel=_PANEL)
def down(
    *,
    purge: Annotated[bool, options.flag("--purge", help="First remove everything of Fairlead from the kernel.")] = False,
    yes: Annotated[bool, options.flag("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Stop the agent. Containers and their network go on.

    With --purge every interface, bridge and rule of Fairlead is removed first, and containers lose their network.
    """
    client = Client()
    if not _running(client):
        if purge:
            raise Unavailable("the agent is not running, and it is what removes things; start it with: fairlead up")
        fault.note("The agent is not running.")
        return
    status = client.status()
    if purge:
        _purge(client, status.endpoints, asked=yes)
    with working("Stopping the agent ..."):
        daemon.stop(client)
    write("The agent has stopped." if purge else f"The agent has stopped. {_survivors(status.endpoints)}")


@app.command(rich_help_panel=_PANEL)
def status(output: options.Output = Format.TABLE) -> None:
    """Show the agent in numbers; exit 1 if containers cannot start."""
    now = Client().status()
    if output in {Format.TABLE, Format.WIDE}:
        panel.show(now, sum(one.running for one in record.every()))
    else:
        _STATUS.show([now], output, single=True)
    raise typer.Exit(0 if now.ready else 1)


_STATUS: Listing[Status] = Listing(columns=(), name=lambda one: one.node, tree=codec.to_tree, empty="")

_MARKS = {"ok": "\N{CHECK MARK} ok", "warning": "! warning", "error": "\N{BALLOT X} error"}
_COLOURS = {"ok": "green", "warning": "yellow", "error": "bold red"}

_FINDINGS: Listing[Finding] = Listing(
    columns=(
        Column("RESULT", lambda one: _MARKS.get(one.level, one.level), style=lambda one: _COLOURS.get(one.level, "")),
        Column("CHECK", lambda one: one.check, style="bold"),
        Column("FINDING", lambda one: [one.message, *map(_drift, one.drift)], fold=True),
        Column("REMEDY", lambda one: one.remedy, fold=True),
    ),
    name=lambda one: one.check,
    tree=codec.to_tree,
    empty="Nothing was checked.",
)


@app.command(rich_help_panel=_PANEL)
def doctor(output: options.Output = Format.TABLE) -> None:
    """Compare the kernel with what it should be, without touching it; exit 1 on errors."""
    with working("Comparing the kernel with what it should be ..."):
        report = Client().doctor()
    _FINDINGS.show(report.findings, output)
    raise typer.Exit(1 if any(one.level == "error" for one in report.findings) else 0)


@app.command(rich_help_panel=_PANEL)
def version() -> None:
    """Print the version, and that of the agent if it runs."""
    write(f"fairlead {__version__}")
    try:
        write(f"agent    {Client(timeout=2).status().version}")
    except Problem:
        write("agent    not running")


def _drift(one: Drift) -> str:
    """One difference: where, and what should be or is."""
    change = f"{one.have or 'nothing'} instead of {one.want or 'nothing'}" if one.have or one.want else one.kind
    return f"  {one.table} {one.key}: {change}"


def _running(client: Client) -> int:
    """The agent's pid, 0 if it does not run."""
    try:
        return client.pid()
    except Unavailable:
        return 0


def _survivors(endpoints: int) -> str:
    if not endpoints:
        return "There were no endpoints."
    what = "1 endpoint keeps" if endpoints == 1 else f"{endpoints} endpoints keep"
    return f"Containers go on: {what} all of the network."


def _purge(client: Client, endpoints: int, *, asked: bool) -> None:
    lose = f" {endpoints} endpoint{'s lose' if endpoints > 1 else ' loses'} the network." if endpoints else ""
    question = f"Remove every interface, bridge and rule of Fairlead from this machine?{lose}"
    if not asked and not (sys.stdin.isatty() and typer.confirm(question, err=True)):
        raise fault.remedy(Failed("nothing was removed"), "fairlead down --purge --yes")
    with working("Removing everything ..."):
        client.purge()
    write("Everything of Fairlead was removed from the kernel.")
