"""``fairlead policy``: who may talk to whom, and why."""

from __future__ import annotations

import re
import sys
from typing import Annotated

import typer

from fairlead.api.client import Client
from fairlead.api.schema import Asked, Explained
from fairlead.model import codec
from fairlead.model.address import Address
from fairlead.model.errors import Failed, Invalid

from . import fault, options
from .out import Format, clean, write

app = typer.Typer(rich_markup_mode="rich")
policies = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)
app.add_typer(policies, name="policy", help="Ask who may talk to whom, and why.", rich_help_panel="Objects")

_WHO = r"(?P<who>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)"
_TARGETS = (
    re.compile(_WHO + r":(?P<port>[A-Za-z0-9-]{1,15})(?:/(?P<protocol>[A-Za-z]+))?"),
    re.compile(_WHO + r"/(?P<protocol>icmp)(?P<port>)"),
    re.compile(_WHO + r"(?P<protocol>)(?P<port>)"),
)
_PAINT = {True: "32", False: "31"}
_MARK = {True: "✓", False: "✗", None: "·"}


@policies.command(no_args_is_help=True, epilog="Example: fairlead policy explain web db:5432")
def explain(
    source: Annotated[str, typer.Argument(metavar="FROM", help="A container, namespace/container, an address, or host.")],
    target: Annotated[
        str,
        typer.Argument(
            metavar="TO[:PORT][/PROTOCOL]",
            help="The same, with a port or its name, or with /icmp; an IPv6 address with a port in brackets.",
        ),
    ],
    output: options.Output = Format.TABLE,
) -> None:
    """Say whether one may open a connection to another, and which policies and rules decide; without a port, at which it may.

    It asks what the agent wrote to the kernel, for both ends: egress of the one, ingress of the other. Then it asks the
    kernel's own programs the same; if these say otherwise, that is an error.
    """
    told = Client().explain(**_words(source, target))
    if output is Format.TABLE:
        for line in lines(told, colour=fault.coloured(sys.stdout)):
            write(line)
    else:
        write(codec.encode(told).decode())
    if not all(one.agrees for one in told.kernel):
        raise Failed("the kernel says otherwise than the policies; fairlead doctor names what differs")


def lines(told: Explained, *, colour: bool = False) -> list[str]:
    """The story as people read it: a head for each direction, its steps, and the verdict last."""
    shown, direction = [], ""
    for one in told.steps:
        if one.direction and one.direction != direction:
            direction = one.direction
            shown.append(direction)
        text = f"{_MARK[one.allows]} {clean(one.text)}"
        if colour and one.allows is not None:
            text = f"\033[{_PAINT[one.allows]}m{text}\033[0m"
        shown.append(f"  {text}" if one.direction else text)
    return [*shown[:-1], *_kernel(told), shown[-1]]


def _kernel(told: Explained) -> list[str]:
    """What the programs in the kernel say of each end."""
    said = [f"  {_MARK[one.allowed]} {one.direction} on {one.link}: {_said(one)}" for one in told.kernel]
    return ["kernel", *said] if said else []


def _said(one: Asked) -> str:
    by = f"by {one.rule}" if one.rule else ""
    words = f"passes {by}".rstrip() if one.allowed else f"{one.reason} {by}".rstrip()
    return words if one.agrees else f"{words}, against the above"


def _words(source: str, target: str) -> dict[str, str]:
    found = next((match for one in _TARGETS if (match := one.fullmatch(target))), None)
    asked = found.groupdict() if found else {"who": target, "port": "", "protocol": ""}
    if found is None and not _is_address(target):
        told = "db:5432, shop/db:53/udp, db:http, db/icmp or db"
        raise Invalid(f"{target[:80]!r} is not TO[:PORT][/PROTOCOL], such as {told}", field="to")
    words = {"from": source.strip("[]"), "to": asked["who"].strip("[]"), "protocol": asked["protocol"], "port": asked["port"]}
    return {name: word for name, word in words.items() if word}


def _is_address(word: str) -> bool:
    try:
        Address(word)
    except ValueError:
        return False
    return True
