"""``fairlead network``: create, list, inspect and remove networks in words people know from other tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from fairlead.api.client import Client
from fairlead.model.address import Address, InterfaceName, Name, Prefix
from fairlead.model.errors import Conflict, Invalid
from fairlead.model.meta import Meta
from fairlead.model.network import Driver, Network, NetworkSpec, Range, Subnet, excluded

from . import complete, fault, objects, options, parse
from .out import Format
from .wait import working

app = typer.Typer(rich_markup_mode="rich")
networks = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)
app.add_typer(networks, name="network", help="Create, list, inspect and remove networks.", rich_help_panel="Networks")

_POOL = "Addresses"
_Names = Annotated[list[str], typer.Argument(metavar="NAME", help="Which.", autocompletion=complete.networks)]


def _pool(name: str, metavar: str, told: str) -> Any:
    return options.text(name, metavar=metavar, help=told, rich_help_panel=_POOL)


@networks.command(
    no_args_is_help=True, epilog="Example: fairlead network create front --subnet 10.20.0.0/24 --subnet fd20::/64"
)
def create(
    name: Annotated[str, typer.Argument(help="Its name.")],
    *,
    subnet: Annotated[
        list[str] | None, _pool("--subnet", "CIDR", "A subnet, IPv4 or IPv6. May be repeated. Default: free ones are chosen.")
    ] = None,
    gateway: Annotated[
        list[str] | None, _pool("--gateway", "ADDRESS", "The host's own address in a subnet. Default: the first.")
    ] = None,
    ip_range: Annotated[
        list[str] | None, _pool("--ip-range", "CIDR|FIRST-LAST", "Give out only these addresses. May be repeated.")
    ] = None,
    exclude: Annotated[list[str] | None, _pool("--exclude", "ADDRESS|CIDR", "Never give these out. May be repeated.")] = None,
    ipv6: Annotated[
        bool, options.flag("--ipv6", help="Also an IPv6 subnet; chosen if none is given.", rich_help_panel=_POOL)
    ] = False,
    driver: Annotated[Driver, typer.Option("--driver", "-d", help="How it moves packets.")] = Driver.BRIDGE,
    mtu: Annotated[int | None, options.text("--mtu", metavar="BYTES", help="Largest packet. Default: the uplink's.")] = None,
    internal: Annotated[bool, options.flag("--internal", help="No way out and no way in.")] = False,
    no_isolation: Annotated[bool, options.flag("--no-isolation", help="Let other networks reach it.")] = False,
    no_icc: Annotated[bool, options.flag("--no-icc", help="Keep its containers from reaching each other.")] = False,
    no_masquerade: Annotated[bool, options.flag("--no-masquerade", help="Route it: no NAT towards the outside.")] = False,
    no_anti_spoofing: Annotated[
        bool, options.flag("--no-anti-spoofing", help="Let its containers send with any address: for routers and the like.")
    ] = False,
    big_tcp: Annotated[
        bool, options.flag("--big-tcp", help="TCP in pieces of up to 192 KiB: for what stays on one node.")
    ] = False,
    bridge: Annotated[str, options.text("--bridge", metavar="IFNAME", help="Name of the Linux bridge.")] = "",
    parent: Annotated[
        str, options.text("--parent", metavar="IFNAME", help="Of macvlan and ipvlan: the host's interface.")
    ] = "",
    mode: Annotated[str, options.text("--mode", metavar="MODE", help="Of macvlan: bridge, private, ...; ipvlan: l2, l3.")] = "",
    dns: Annotated[
        list[str] | None, options.text("--dns", metavar="ADDRESS", help="A name server for its containers. May be repeated.")
    ] = None,
    label: options.Labels = None,
    option: Annotated[
        list[str] | None, options.text("--opt", "-o", metavar="KEY=VALUE", help="An option of the driver.")
    ] = None,
) -> None:
    """Create a network."""
    subnets = pools(subnet or (), gateway or (), ip_range or (), exclude or ())
    driver_options = parse.pairs(option or (), "opt")
    if ipv6 and not any(one.family == 6 for one in subnets):
        driver_options["ipv6"] = "true"
    spec = parse.made(
        NetworkSpec,
        driver=driver,
        subnets=subnets,
        mtu=mtu,
        bridge=parse.value(InterfaceName, bridge, "bridge") if bridge else None,
        parent=parse.value(InterfaceName, parent, "parent") if parent else None,
        mode=mode,
        internal=internal,
        isolated=not no_isolation,
        inter_container=not no_icc,
        masquerade=not no_masquerade,
        anti_spoofing=not no_anti_spoofing,
        big_tcp=big_tcp,
        dns=parse.values(Address, dns or (), "dns"),
        options=driver_options,
    )
    thing = parse.made(
        Network, metadata=Meta(name=parse.value(Name, name, "name"), labels=parse.labels(label or ())), spec=spec
    )
    client = Client()
    if any(one.name == name for one in client.objects(Network.plural)):
        raise fault.remedy(
            Conflict(f"network {name!r} exists", field="name"),
            f"fairlead network inspect {name}, or change it with fairlead apply",
        )
    with working(f"Creating {name} ..."):
        done = client.apply(thing)
    for warning in done.warnings:
        fault.warn(warning)
    typer.echo(done.name)


@networks.command("ls")
def ls(
    *,
    output: options.Output = Format.TABLE,
    selector: options.Selector = None,
) -> None:
    """List networks."""
    labels = parse.labels(selector or (), "selector")
    objects.show(Client(), Network, (), output, lambda thing: objects.matches(thing, labels))


@networks.command(no_args_is_help=True)
def inspect(names: _Names, output: options.Output = Format.YAML) -> None:
    """Show everything known of networks."""
    objects.show(Client(), Network, names, output, lambda _: True)


@networks.command(no_args_is_help=True)
def rm(names: _Names) -> None:
    """Remove networks that no container is attached to."""
    client = Client()
    objects.each(names, lambda name: client.delete(Network.plural, name).name, "fairlead network rm")


def pools(
    subnets: Sequence[str], gateways: Sequence[str], ranges: Sequence[str], excludes: Sequence[str]
) -> tuple[Subnet, ...]:
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
