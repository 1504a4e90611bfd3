"""``fairlead network``: create, list, inspect and remove networks in words people know from other tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from fairlead.api.client import Client
from fairlead.model.address import Address, InterfaceName, Name, Prefix
from fairlead.model.errors import Conflict, Invalid
from fairlead.model.meta import Meta
from fairlead.model.network import Driver, Network, NetworkSpec, Range, Subnet, excluded

from . import complete, fault, objects, parse
from .out import Format, Output

app = typer.Typer(rich_markup_mode="rich")
networks = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)
app.add_typer(networks, name="network", help="Create, list, inspect and remove networks.", rich_help_panel="Networks")

_POOL = "Addresses"
_Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Which.", autocompletion=complete.networks)]


@networks.command(
    no_args_is_help=True, epilog="Example: fairlead network create front --subnet 10.20.0.0/24 --subnet fd20::/64"
)
def create(
    name: Annotated[str, typer.Argument(help="Its name.")],
    subnet: Annotated[
        list[str] | None,
        typer.Option(help="A subnet, IPv4 or IPv6. May be repeated; free ones are chosen if left out.", rich_help_panel=_POOL),
    ] = None,
    gateway: Annotated[
        list[str] | None, typer.Option(help="The host's address in a subnet; the first if left out.", rich_help_panel=_POOL)
    ] = None,
    ip_range: Annotated[
        list[str] | None,
        typer.Option(help="Give out only these: CIDR or FIRST-LAST. May be repeated.", metavar="CIDR|A-B", rich_help_panel=_POOL),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Never give out these: address or CIDR. May be repeated.", rich_help_panel=_POOL)
    ] = None,
    ipv6: Annotated[bool, typer.Option("--ipv6", help="Also an IPv6 subnet, chosen if none is given.", rich_help_panel=_POOL)] = False,
    driver: Annotated[Driver, typer.Option("--driver", "-d", help="How it moves packets.")] = Driver.BRIDGE,
    mtu: Annotated[int | None, typer.Option(help="Bytes a packet; the uplink's if left out.", show_default=False)] = None,
    internal: Annotated[bool, typer.Option("--internal", help="No way out and no way in.")] = False,
    no_isolation: Annotated[bool, typer.Option("--no-isolation", help="Let other networks reach it.")] = False,
    no_icc: Annotated[bool, typer.Option("--no-icc", help="Keep its containers from reaching each other.")] = False,
    no_masquerade: Annotated[bool, typer.Option("--no-masquerade", help="Route it: no NAT towards the outside.")] = False,
    bridge: Annotated[str, typer.Option(help="Name of the Linux bridge.", metavar="IFNAME", show_default=False)] = "",
    dns: Annotated[list[str] | None, typer.Option(help="A name server for its containers. May be repeated.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="A label: key=value.")] = None,
    option: Annotated[list[str] | None, typer.Option("--opt", "-o", help="An option of the driver: key=value.")] = None,
) -> None:
    """Create a network."""
    subnets = pools(subnet or (), gateway or (), ip_range or (), exclude or ())
    options = parse.pairs(option or (), "opt")
    if ipv6 and not any(one.family == 6 for one in subnets):
        options["ipv6"] = "true"
    spec = parse.made(
        NetworkSpec,
        driver=driver,
        subnets=subnets,
        mtu=mtu,
        bridge=parse.value(InterfaceName, bridge, "bridge") if bridge else None,
        internal=internal,
        isolated=not no_isolation,
        inter_container=not no_icc,
        masquerade=not no_masquerade,
        dns=parse.values(Address, dns or (), "dns"),
        options=options,
    )
    thing = Network(metadata=Meta(name=parse.value(Name, name, "name"), labels=parse.labels(label or ())), spec=spec)
    client = Client()
    if any(one.name == name for one in client.objects(Network.plural)):
        raise fault.remedy(
            Conflict(f"network {name!r} exists", field="name"), f"fairlead network inspect {name}, or change it with fairlead apply"
        )
    done = client.apply(thing)
    for warning in done.warnings:
        fault.warn(warning)
    typer.echo(done.name)


@networks.command("ls")
def ls(
    output: Output = Format.TABLE,
    selector: Annotated[list[str] | None, typer.Option("--selector", "-l", help="Only with this label: key=value.")] = None,
) -> None:
    """List networks."""
    objects.show(Client(), Network, (), output, parse.labels(selector or (), "selector"))


@networks.command(no_args_is_help=True)
def inspect(names: _Names, output: Output = Format.YAML) -> None:
    """Show everything known of networks."""
    objects.show(Client(), Network, names, output, {})


@networks.command(no_args_is_help=True)
def rm(names: _Names) -> None:
    """Remove networks that no container is attached to."""
    client = Client()
    objects.each(names, lambda name: client.delete(Network.plural, name).name)


def pools(subnets: Sequence[str], gateways: Sequence[str], ranges: Sequence[str], excludes: Sequence[str]) -> tuple[Subnet, ...]:
    """Subnets with the gateway, ranges and excludes that lie in them."""
    prefixes = parse.values(Prefix, subnets, "subnet")
    gates: dict[Prefix, Address] = {}
    for gate in parse.values(Address, gateways, "gateway"):
        home = _home(gate.host(), prefixes, "gateway", gate)
        if home in gates:
            raise Invalid(f"{gates[home]} and {gate} are both in {home}; a subnet has one gateway", field="gateway")
        gates[home] = gate
    runs: dict[Prefix, list[Range]] = {}
    for text in ranges:
        run = _range(text)
        runs.setdefault(_home(run.start.host(), prefixes, "ip-range", text), []).append(run)
    kept: dict[Prefix, list[str]] = {}
    for text in excludes:
        kept.setdefault(_home(_excluded(text), prefixes, "exclude", text), []).append(text)
    return tuple(
        parse.made(
            Subnet,
            field="subnet",
            cidr=prefix,
            gateway=gates.get(prefix),
            ranges=tuple(runs.get(prefix, ())),
            exclude=tuple(kept.get(prefix, ())),
        )
        for prefix in prefixes
    )


def _home(inside: Prefix, prefixes: Sequence[Prefix], field: str, text: str) -> Prefix:
    for prefix in prefixes:
        if prefix.overlaps(inside):
            return prefix
    where = f"in no subnet: {', '.join(prefixes)}" if prefixes else "without a subnet; give --subnet too"
    raise Invalid(f"{text} is {where}", field=field)


def _range(text: str) -> Range:
    first, dash, last = text.partition("-")
    if dash:
        start, end = (parse.value(Address, word.strip(), "ip-range") for word in (first, last))
    else:
        net = parse.value(Prefix, text, "ip-range").net
        start, end = Address(net[0]), Address(net[-1])
    return parse.made(Range, field="ip-range", start=start, end=end)


def _excluded(text: str) -> Prefix:
    try:
        return excluded(text)
    except ValueError as problem:
        raise Invalid(str(problem), field="exclude") from None
