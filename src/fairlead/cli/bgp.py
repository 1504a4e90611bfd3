"""``fairlead bgp``: whom this node speaks BGP with, and which routes they tell each other."""

from __future__ import annotations

from typing import Annotated

import typer

from fairlead.api.client import Client
from fairlead.api.routing import BgpRoute, BgpStatus, Neighbour
from fairlead.model import codec
from fairlead.model.errors import Invalid

from . import fault, options
from .out import Column, Format, Listing, age, write

app = typer.Typer(rich_markup_mode="rich")
bgp = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)
app.add_typer(bgp, name="bgp", help="See whom this node speaks BGP with.", rich_help_panel="Node")

_COLOURS = {True: "green", False: "bold red"}


def _counts(one: Neighbour, field: str) -> list[str]:
    """A number of each family, where there is more than one with its name."""
    several = len(one.routes) > 1
    return [f"{getattr(count, field)}{f' {count.family}' if several else ''}" for count in one.routes]


NEIGHBOURS: Listing[Neighbour] = Listing(
    columns=(
        Column("PEER", lambda one: one.peer, style="bold"),
        Column("TYPE", lambda one: one.type),
        Column("ADDRESS", lambda one: one.address, style="cyan"),
        Column("AS", lambda one: str(one.asn), right=True),
        Column("STATE", lambda one: one.state or "Unknown", style=lambda one: _COLOURS[one.up]),
        Column("SINCE", lambda one: age(one.since), right=True),
        Column("RECEIVED", lambda one: _counts(one, "received"), right=True, spare=1),
        Column("ACCEPTED", lambda one: _counts(one, "accepted"), right=True),
        Column("EXPORTED", lambda one: _counts(one, "exported"), right=True),
        Column("BFD", lambda one: one.bfd, spare=2),
        Column("LAST-ERROR", lambda one: one.error, fold=True),
    ),
    name=lambda one: one.peer,
    tree=codec.to_tree,
    empty="No neighbours. Nodes with networks of driver bgp speak with each other; a router is a BGPPeer.",
)

_STATUS: Listing[BgpStatus] = Listing(columns=(), name=lambda one: one.node, tree=codec.to_tree, empty="")


def _marked(one: BgpRoute) -> str:
    return "filtered" if one.filtered else "best" if one.best else ""


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


ROUTES: Listing[BgpRoute] = Listing(
    columns=(
        Column("PREFIX", lambda one: one.prefix, style="bold"),
        Column("FROM", lambda one: one.peer or "this node", style="cyan"),
        Column("VIA", lambda one: one.via),
        Column("STATE", _marked),
        Column("AS-PATH", lambda one: one.as_path),
        Column("COMMUNITIES", lambda one: one.communities, spare=2),
        Column("NEXT-HOP", lambda one: one.next_hop, wide=True),
        Column("PREFERENCE", lambda one: _number(one.local_preference), wide=True, right=True),
        Column("MED", lambda one: _number(one.med), right=True, spare=3),
        Column("SINCE", lambda one: age(one.since), right=True, spare=1),
    ),
    name=lambda one: one.prefix,
    tree=codec.to_tree,
    empty="No routes.",
)


@bgp.command(epilog="Example: fairlead bgp status -o json")
def status(output: options.Output = Format.TABLE) -> None:
    """Show each neighbour, and how much it and this node tell each other; exit 1 if a session is down."""
    now = Client().bgp_status()
    if output in {Format.TABLE, Format.WIDE}:
        _table(now, output)
    else:
        _STATUS.show([now], output, single=True)
    well = now.running and all(one.up for one in now.neighbours)
    raise typer.Exit(0 if well or not now.wanted else 1)


def _table(now: BgpStatus, output: Format) -> None:
    if now.reason:
        fault.warn(now.reason)
    if not now.wanted:
        fault.note("This node speaks no BGP: there is no network with driver bgp.")
        return
    again = f", started again {now.restarts} times" if now.restarts else ""
    runs = f"BIRD {now.version}{again}" if now.running else "BIRD does not run"
    write(f"{now.node}: AS {now.asn}, router id {now.router_id}, {runs}\n")
    NEIGHBOURS.show(now.neighbours, output)


@bgp.command(epilog="Example: fairlead bgp routes --peer tor --exported")
def routes(
    *,
    peer: Annotated[str, options.text("--peer", metavar="NAME", help="Only of this neighbour: a node or a BGPPeer.")] = "",
    exported: Annotated[bool, options.flag("--exported", help="What this node tells that neighbour.")] = False,
    filtered: Annotated[bool, options.flag("--filtered", help="What was told and did not pass.")] = False,
    output: options.Output = Format.TABLE,
) -> None:
    """List the routes that neighbours tell, and those that this node announces."""
    if exported and filtered:
        raise Invalid("cannot stand beside --exported", field="filtered")
    words = {"peer": peer, "show": "exported" if exported else "filtered" if filtered else ""}
    ROUTES.show(Client().bgp_routes(**{word: said for word, said in words.items() if said}), output)
