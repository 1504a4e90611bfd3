"""``fairlead policy``: who may talk to whom, and why."""

from __future__ import annotations

import re
import sys
from typing import Annotated

import typer

from fairlead.api.client import Client
from fairlead.api.schema import DEFAULT_DENY, Asked, Difference, Elsewhere, Explained, Previewed, Proposal, RuleHits
from fairlead.model import codec
from fairlead.model.address import Address
from fairlead.model.errors import Failed, Invalid, Missing

from . import complete, fault, identities, kernels, objects, options, parse
from .container import record
from .flows import line as flow_line
from .out import Column, Format, Listing, age, clean, json_of, write
from .wait import working

app = typer.Typer(rich_markup_mode="rich")
policies = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)
app.add_typer(policies, name="policy", help="Ask who may talk to whom, and why.", rich_help_panel="Objects")

_WHO = r"(?P<who>\[[0-9A-Fa-f:.]+\]|(?:svc:(?=[a-z])|(?!svc:[a-z]))[^:\[\]]+)"
_TARGETS = (
    re.compile(_WHO + r":(?P<port>[A-Za-z0-9-]{1,15})(?:/(?P<protocol>[A-Za-z]+))?"),
    re.compile(_WHO + r"/(?P<protocol>icmp)(?P<port>)"),
    re.compile(_WHO + r"(?P<protocol>)(?P<port>)"),
)
HOST = "host"
"""How the agent is asked about its node."""
_PAINT = {True: "32", False: "31"}
_MARK = {True: "✓", False: "✗", None: "·"}


@policies.command(no_args_is_help=True, epilog="Example: fairlead policy explain web db:5432")
def explain(
    source: Annotated[str, typer.Argument(metavar="FROM", help="A container, namespace/container, an address, or host.")],
    target: Annotated[
        str,
        typer.Argument(
            metavar="TO[:PORT][/PROTOCOL]",
            help="The same, with a port or its name, or with /icmp; an IPv6 address with a port in brackets. Of a service, "
            "svc:namespace/name or an address of it, everybody behind it.",
        ),
    ],
    output: options.Output = Format.TABLE,
) -> None:
    """Say whether one may open a connection to another, and which policies and rules decide; without a port, at which it may.

    It asks what the agent wrote to the kernel, for both ends: egress of the one, ingress of the other. Then it asks the
    kernel's own programs the same; if these say otherwise, that is an error. The kernel of another node is asked too where
    its agent can be reached: in a lab, and from afar.
    """
    words = _words(source, target)
    told = kernels.complete(Client().explain(**{**words, "from": _known(words["from"]), "to": _known(words["to"])}))
    if output is Format.TABLE:
        for line in lines(told, colour=fault.coloured(sys.stdout)):
            write(line)
    else:
        write(codec.encode(told).decode())
    if not all(one.agrees for each in (told, *(one.told for one in told.backends)) for one in each.kernel):
        raise Failed("the kernel says otherwise than the policies; fairlead doctor names what differs")


@policies.command(no_args_is_help=True, epilog="Example: fairlead policy preview -f new.yaml")
def preview(
    filename: objects.Files = None,
    *,
    delete: Annotated[bool, options.flag("--delete", help="As if the objects in the files were deleted.")] = False,
    limit: Annotated[int, typer.Option("--limit", metavar="COUNT", min=1, max=10_000, help="At most so many rows.")] = 200,
    output: options.Output = Format.TABLE,
) -> None:
    """Say what would change if objects were applied, or deleted, before anything is.

    Who could newly reach whom, and who not any more, by workload (`app.kubernetes.io/name`, `app` or `k8s-app`, else the
    container's name), and through which services (`svc:namespace/name`); and which connections of those seen lately would be
    cut. The objects are policies, namespaces, nodes, services and EndpointSlices.
    """
    trees = tuple(codec.to_tree(thing) for thing in objects.read(filename or ()))
    proposal = Proposal(apply=() if delete else trees, delete=trees if delete else (), limit=limit)
    with working("Comparing who may talk to whom ..."):
        found = Client().preview(proposal)
    if output in {Format.TABLE, Format.WIDE}:
        _PREVIEW.show(found.differences, output)
        if not found.differences:
            write("Nothing would change.")
        _tell_more(found)
    elif output is Format.JSON:
        write(json_of(codec.to_tree(found)))
    else:
        _PREVIEW.show(found.differences, output)


def _tell_more(found: Previewed) -> None:
    """What the table has no room for, and the connections that would be cut."""
    if found.more:
        fault.note(f"{found.more} more rows; see them with --limit.")
    if found.flows:
        write(f"\nSeen lately, and would be cut ({len(found.flows) + found.more_flows}):")
        for one in found.flows:
            write(f"  {flow_line(one)}")
    for word in found.warnings:
        fault.note(word)
    if found.more_flows:
        fault.note(f"{found.more_flows} more connections; see them with --limit.")


_PREVIEW: Listing[Difference] = Listing(
    columns=(
        Column(
            "CHANGE",
            lambda one: "+ allowed" if one.allowed else "- denied",
            style=lambda one: "green" if one.allowed else "red",
        ),
        Column("FROM", lambda one: list(one.sources), style="bold"),
        Column("TO", lambda one: list(one.destinations), style="bold"),
        Column("PORTS", lambda one: one.ports, style="cyan"),
        Column("PAIRS", lambda one: str(one.pairs), right=True),
    ),
    name=lambda one: f"{'+' if one.allowed else '-'} {','.join(one.sources)} {','.join(one.destinations)} {one.ports}",
    tree=codec.to_tree,
    empty="Nothing would change.",
)


@policies.command(epilog="Example: fairlead policy hits shop/db")
def hits(
    policy: Annotated[
        list[str] | None,
        typer.Argument(metavar="POLICY", help="Only these: namespace/name, Admin/name, ANP/name ...", show_default=False),
    ] = None,
    output: options.Output = Format.TABLE,
) -> None:
    """Say how often each rule has let a connection begin or dropped one, ever since it is there.

    A rule that was never hit is listed too: it may be one that nobody needs.
    """
    wanted = set(policy or ())
    found = [one for one in Client().hits() if not wanted or one.policy in wanted]
    if missing := wanted - {one.policy for one in found}:
        raise Missing(f"there is no policy {', '.join(sorted(missing))} with rules", field="policy")
    _HITS.show(found, output)


def _rule(one: RuleHits) -> str:
    return f"{one.direction}[{one.index}]" + (f' "{one.name}"' if one.name else "") if one.policy else one.direction


def _last(one: RuleHits) -> str:
    """When it decided: long ago if it did so before the agent that tells of it was there."""
    if one.last:
        return f"{age(one.last)} ago"
    return "not known" if one.connections or one.drops else "never"


_HITS: Listing[RuleHits] = Listing(
    columns=(
        Column("POLICY", lambda one: one.policy or "(default deny)", style="bold"),
        Column("RULE", _rule),
        Column("ACTION", lambda one: one.action, style="cyan"),
        Column("CONNECTIONS", lambda one: str(one.connections), right=True),
        Column("DROPS", lambda one: str(one.drops), right=True),
        Column("LAST", _last, right=True),
    ),
    name=lambda one: f"{one.policy} {_rule(one)}" if one.policy else f"{one.direction} {DEFAULT_DENY}",
    tree=codec.to_tree,
    empty="There is no rule.",
)


@policies.command("identities", epilog="Example: fairlead policy identities shop/web")
def who_is_who(
    who: Annotated[
        str,
        typer.Argument(
            metavar="[WHO]",
            help="Only his: a container, namespace/container, an address, a node or host.",
            show_default=False,
            autocompletion=complete.containers,
        ),
    ] = "",
    *,
    namespace: Annotated[str, options.text("--namespace", "-n", metavar="NAME", help="Only those of a namespace.")] = "",
    selector: options.Selector = None,
    output: options.Output = Format.TABLE,
) -> None:
    """List the numbers by which the kernel of this node knows who is who, and what policies see of those who have them.

    All whom no policy in force tells apart have one number, whatever else they differ in. It is there from the first address
    that has it to the last. Each node has its own numbers, which nobody can tell without its key.
    """
    labels = parse.labels(selector or (), "selector")
    found = Client().identities(**({"who": who} if who else {}))
    identities.LISTING.show(identities.chosen(found, namespace, labels), output)


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
    return [*_backends(told, colour=colour), *shown[:-1], *_kernel(told), shown[-1]]


def _backends(told: Explained, *, colour: bool) -> list[str]:
    """Each that is behind a service, with his own story."""
    shown = []
    for one in told.backends:
        address = f"[{one.address}]" if one.address.family == 6 else one.address
        shown.append(f"{address}:{one.port}{f' on {clean(one.node)}' if one.node else ''}")
        shown += [f"  {line}" for line in lines(one.told, colour=colour)]
    return shown


def _kernel(told: Explained) -> list[str]:
    """What the programs in the kernel say of each end."""
    said = [f"  {_MARK[one.allowed]} {one.direction} on {_where(one)}: {_said(one)}" for one in told.kernel]
    said += [f"  {_MARK[None]} {one.direction} on node {clean(one.node)}: not asked{_why(one)}" for one in told.elsewhere]
    return ["kernel", *said] if said else []


def _where(one: Asked) -> str:
    return f"{one.link} of node {clean(one.node)}" if one.node else one.link


def _why(one: Elsewhere) -> str:
    return (f", {clean(one.why)}" if one.why else "") + f"; run there: {clean(kernels.again(one))}"


def _said(one: Asked) -> str:
    by = f" by {one.rule}" if one.rule else ""
    words = f"passes{by}" if one.allowed else f"denied{by}" if by else one.reason
    return words if one.agrees else f"{words}, against the above"


def _words(source: str, target: str) -> dict[str, str]:
    found = next((match for one in _TARGETS if (match := one.fullmatch(target))), None)
    asked = found.groupdict() if found else {"who": target, "port": "", "protocol": ""}
    if found is None and not _is_address(target):
        told = "db:5432, shop/db:53/udp, svc:shop/db:5432, db:http, db/icmp or db"
        raise Invalid(f"{target[:80]!r} is not TO[:PORT][/PROTOCOL], such as {told}", field="to")
    words = {"from": source.strip("[]"), "to": asked["who"].strip("[]"), "protocol": asked["protocol"], "port": asked["port"]}
    return {name: word for name, word in words.items() if word}


def _known(word: str) -> str:
    """Who is meant: a container of `fairlead run` on the host's network, of which the agent knows nothing, is the host."""
    own = record.find(word)
    return HOST if own and not own.sandbox else word


def _is_address(word: str) -> bool:
    try:
        Address(word)
    except ValueError:
        return False
    return True
