"""``fairlead wireguard``: encryption between nodes."""

from __future__ import annotations

import typer

from fairlead.api.client import Client
from fairlead.api.encryption import Encryption, Key, Peer
from fairlead.model import codec

from . import options
from .out import Column, Format, Listing, duration, size, write

app = typer.Typer(rich_markup_mode="rich")
wireguard = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)
app.add_typer(wireguard, name="wireguard", help="See to the encryption between nodes.", rich_help_panel="Node")


@wireguard.command()
def status(output: options.Output = Format.TABLE) -> None:
    """Show this node's keys, and of every other node how packets to it are encrypted; exit 1 if to one they cannot be."""
    now = Client().encryption()
    if output in {Format.TABLE, Format.WIDE}:
        write(_head(now))
        if now.keys:
            _KEYS.show(now.keys, output)
            write("")
            _PEERS.show(now.peers, output)
    else:
        _WHOLE.show([now], output, single=True)
    raise typer.Exit(1 if now.networks and (now.lacking or any(one.problem for one in now.peers)) else 0)


@wireguard.command()
def rotate() -> None:
    """Have every node make a new key. Nothing is lost meanwhile: the old ones are good until everybody has the new ones."""
    generation = Client().rotate().generation
    write(f"Every node takes keys of generation {generation} now; fairlead wireguard status shows how far they are.")


def _head(now: Encryption) -> str:
    if not now.networks:
        return "No network is encrypted."
    names = ", ".join(now.networks)
    if now.lacking:
        return f"{names}: nothing is sent to other nodes: {now.lacking}"
    return f"What is sent to other nodes on {names} is encrypted by {now.by}."


def _handshake(one: Peer) -> str:
    if one.problem:
        return one.problem
    return "never" if one.handshake is None else f"{duration(one.handshake)} ago"


_KEYS: Listing[Key] = Listing(
    columns=(
        Column("GENERATION", lambda one: str(one.generation), right=True),
        Column("PUBLIC KEY", lambda one: one.public),
        Column("AGE", lambda one: duration(one.age)),
        Column("DEVICE", lambda one: one.device if one.up else f"{one.device} (missing)"),
        Column("PORT", lambda one: str(one.port), right=True),
    ),
    name=lambda one: one.public,
    tree=codec.to_tree,
    empty="This node has no key.",
)
_PEERS: Listing[Peer] = Listing(
    columns=(
        Column("NODE", lambda one: one.node),
        Column("GENERATION", lambda one: str(one.generation) if one.generation else "-", right=True),
        Column("ENDPOINT", lambda one: one.endpoint or "-"),
        Column("HANDSHAKE", _handshake, style=lambda one: "red" if one.problem else "", fold=True),
        Column("RECEIVED", lambda one: size(one.received), right=True),
        Column("SENT", lambda one: size(one.sent), right=True),
        Column("PUBLIC KEY", lambda one: one.public or "-", wide=True),
    ),
    name=lambda one: one.node,
    tree=codec.to_tree,
    empty="There is no other node.",
)
_WHOLE: Listing[Encryption] = Listing(columns=(), name=lambda one: one.by, tree=codec.to_tree, empty="")
