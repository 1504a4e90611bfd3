"""Options that several commands share, described once."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from . import complete
from .out import Format

NETWORK = "Network"
"""The panel of ``--help`` for what a container has on its networks."""


def flag(*names: str, **more: Any) -> Any:
    """An option without a value."""
    return typer.Option(*names, metavar="", show_default=False, **more)


def text(*names: str, metavar: str, **more: Any) -> Any:
    """An option with a value; left out, it is empty."""
    return typer.Option(*names, metavar=metavar, **{"show_default": False, **more})


def _network(*names: str, metavar: str, help: str) -> Any:  # noqa: A002  # typer's own word
    return text(*names, metavar=metavar, help=help, rich_help_panel=NETWORK)


Networks = Annotated[
    list[str] | None,
    text(
        "--network",
        "--net",
        metavar="NAME",
        help="A network. May be repeated: eth0, eth1, ... Default: the network `default`.",
        autocompletion=complete.networks,
        rich_help_panel=NETWORK,
    ),
]
Ip = Annotated[list[str] | None, _network("--ip", metavar="ADDRESS", help="A static address. May be repeated.")]
MacAddress = Annotated[str, _network("--mac", metavar="MAC", help="The MAC address on the first network.")]
Publish = Annotated[
    list[str] | None,
    _network("--publish", "-p", metavar="PORTS", help=r"Publish \[HOSTIP:]HOST\[-LAST]:PORT\[/tcp|udp|sctp]. May be repeated."),
]
PortNames = Annotated[
    list[str] | None,
    _network("--port-name", metavar="NAME=PORT", help=r"Name a port for policies: http=80\[/tcp|udp|sctp]. May be repeated."),
]
Ingress = Annotated[str, _network("--ingress-rate", metavar="RATE", help="Limit what it receives: bit/s, such as 10M.")]
Egress = Annotated[str, _network("--egress-rate", metavar="RATE", help="Limit what it sends: bit/s, such as 10M.")]
Labels = Annotated[list[str] | None, text("--label", "-l", metavar="KEY=VALUE", help="A label. May be repeated.")]
Namespace = Annotated[str, text("--namespace", "-n", metavar="NAME", help="The namespace of its endpoints.", show_default=True)]
Env = Annotated[list[str] | None, text("--env", "-e", metavar="KEY=VALUE", help="Set a variable. May be repeated.")]
Selector = Annotated[list[str] | None, text("--selector", "-l", metavar="KEY=VALUE", help="Only those with this label.")]
Grace = Annotated[
    float, typer.Option("--time", "-t", metavar="SECONDS", min=0, help="From SIGTERM to SIGKILL.", show_default=True)
]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to print it.", show_choices=True)]

Interactive = Annotated[bool, typer.Option("--interactive", "-i", hidden=True)]
Tty = Annotated[bool, typer.Option("--tty", "-t", hidden=True)]
"""Both are always so; the options are there for hands that type ``-it``."""
