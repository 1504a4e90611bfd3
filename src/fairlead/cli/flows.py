"""``fairlead flows``: who talks to whom, by names, as it happens or as it was."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer

from fairlead.api.client import Client
from fairlead.api.schema import DEFAULT_DENY, Flow, Peer
from fairlead.model import codec

from . import fault, options
from .out import clean, plain, size, write

app = typer.Typer(rich_markup_mode="rich")

_ARROWS = {"new": "->", "active": "<>", "close": "--"}
_COLOURS = {"forwarded": "32", "dropped": "31", "lost": "33"}


class FlowFormat(StrEnum):
    """What ``-o`` takes."""

    COMPACT = "compact"
    TABLE = "table"
    JSON = "json"


class Verdict(StrEnum):
    """What became of it."""

    FORWARDED = "forwarded"
    DROPPED = "dropped"


class Transport(StrEnum):
    """Protocols that have a name."""

    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"
    ICMP = "icmp"
    ICMPV6 = "icmpv6"


_SIDE = "A container, namespace/container, address, prefix, `host`, `node/NAME`, `svc:NAMESPACE/NAME` or `world`."


@app.command(rich_help_panel="Node")
def flows(
    *,
    follow: Annotated[bool, options.flag("--follow", "-f", help="Show what comes, until interrupted.")] = False,
    source: Annotated[str, options.text("--from", metavar="WHO", help=f"Who opened the connection. {_SIDE}")] = "",
    target: Annotated[str, options.text("--to", metavar="WHO", help=f"Whom it was opened to. {_SIDE}")] = "",
    label: Annotated[str, options.text("--label", "-l", metavar="KEY=VALUE", help="A label of either side.")] = "",
    port: Annotated[
        int | None, typer.Option("--port", "-p", metavar="PORT", min=1, max=65535, help="A port of either side.")
    ] = None,
    protocol: Annotated[Transport | None, typer.Option("--protocol", help="The protocol.")] = None,
    verdict: Annotated[Verdict | None, typer.Option("--verdict", help="What became of it.")] = None,
    since: Annotated[str, options.text("--since", metavar="DURATION", help="No older than this: 30s, 5m, 2h.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="COUNT", min=1, max=16384, help="The last so many.")] = 100,
    output: Annotated[FlowFormat, typer.Option("--output", "-o", help="How to print it.")] = FlowFormat.COMPACT,
) -> None:
    """Show connections: who opened which to whom, and how much went each way."""
    asked: dict[str, object] = {"from": source, "to": target, "label": label, "port": port, "protocol": protocol}
    asked |= {"verdict": verdict, "since": since, "limit": limit}
    words = {name: str(value) for name, value in asked.items() if value}
    client = Client()
    if follow:
        _stream(client.follow(**words), output)
        return
    found = client.flows(**words)
    if output is FlowFormat.TABLE:
        _table(found)
    else:
        _stream(found, output)
    if not found and sys.stdout.isatty():
        fault.note("No flows match.")


def _stream(found: Iterable[Flow], output: FlowFormat) -> None:
    for one in found:
        write(codec.encode(one).decode() if output is FlowFormat.JSON else line(one, colour=fault.coloured(sys.stdout)))
        sys.stdout.flush()


def line(one: Flow, *, colour: bool = False) -> str:
    """One flow on one line, such as ``03:04:05.678 default/web:41234 (front) -> world 192.0.2.7:443 tcp new forwarded``."""
    if one.event == "lost":
        return f"{_clock(one.time)} {_paint(f'{one.lost} flows lost: this reader is too slow', 'lost', colour=colour)}"
    amounts = f" {_amounts(one)}" if one.event not in {"new", "drop"} else ""
    guess = " (begun before it was seen)" if one.midway else ""
    why = "".join(f" ({word})" for word in (clean(one.reason), *_rules(one)) if word)
    what = f"{one.protocol} {one.event} {_paint(one.verdict.upper(), one.verdict, colour=colour)}{amounts}{guess}{why}"
    return f"{_clock(one.time)} {_who(one.source)} {_ARROWS.get(one.event, '->')} {_who(one.destination)} {what}"


def _table(found: Iterable[Flow]) -> None:
    titles = ["TIME", "SOURCE", "DESTINATION", "PROTOCOL", "EVENT", "VERDICT", "SENT", "RECEIVED", "POLICY"]
    rows = [
        [
            _clock(o.time),
            _who(o.source),
            _who(o.destination),
            o.protocol,
            o.event,
            o.verdict,
            size(o.sent.bytes),
            size(o.received.bytes),
            ", ".join(_rules(o)) or clean(o.reason),
        ]
        for o in found
    ]
    write(plain([titles, *rows]))


def _rules(one: Flow) -> list[str]:
    """Which rules let it pass, or which dropped it; that none allows it at which end."""
    dropped = f"{one.direction} {one.policy}" if one.policy == DEFAULT_DENY else one.policy
    return [clean(word) for word in (dropped, one.egress_policy, one.ingress_policy) if word]


def _who(peer: Peer) -> str:
    port = f":{peer.port}" if peer.port else ""
    if peer.kind == "endpoint":
        return clean(f"{peer.namespace}/{peer.endpoint}{port} ({peer.network})")
    if peer.kind == "service":
        return clean(f"service {peer.namespace}/{peer.service}{port}")
    address = f"[{peer.address}]" if ":" in peer.address and port else peer.address
    return clean(f"{f'node/{peer.node}' if peer.node else peer.kind} {address}{port}")


def _amounts(one: Flow) -> str:
    ways = (("sent", one.sent), ("received", one.received))
    return ", ".join(f"{way} {size(amount.bytes)} in {amount.packets}" for way, amount in ways)


def _clock(time: str) -> str:
    try:
        return datetime.fromisoformat(time).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except ValueError:
        return clean(time)


def _paint(word: str, what: str, *, colour: bool) -> str:
    return f"\033[{_COLOURS.get(what, '0')}m{word}\033[0m" if colour else word
