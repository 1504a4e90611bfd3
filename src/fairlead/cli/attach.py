"""``fairlead attach`` and ``detach``: networks for a namespace that something else made."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

import msgspec
import typer

from fairlead.api.client import Client
from fairlead.api.schema import Attached, Detach
from fairlead.model.address import Address, InterfaceName, Mac, Name
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Exhausted, Invalid
from fairlead.model.network import Driver

from . import complete, fault, options, parse
from .container import order, target
from .run import DEFAULT, bandwidth, networks, publications
from .wait import working

app = typer.Typer(rich_markup_mode="rich")

_PANEL = "Containers"
_TARGET = "A container, a path of a namespace, a PID, or a name of `ip netns`."


@app.command(
    rich_help_panel=_PANEL, no_args_is_help=True, epilog="Example: fairlead attach /run/netns/blue --network front -p 8080:80"
)
def attach(
    where: Annotated[str, typer.Argument(metavar="TARGET", help=_TARGET, autocompletion=complete.containers)],
    *,
    network: options.Networks = None,
    ip: options.Ip = None,
    mac: options.MacAddress = "",
    publish: options.Publish = None,
    port_name: options.PortNames = None,
    ingress_rate: options.Ingress = "",
    egress_rate: options.Egress = "",
    interface: Annotated[
        str,
        options.text("--interface", metavar="IFNAME", help="What the first is called inside. Default: the next ethN."),
    ] = "",
    name: Annotated[str, options.text("--name", metavar="NAME", help="What to call the container.")] = "",
    label: options.Labels = None,
    namespace: options.Namespace = "default",
) -> None:
    """Connect an existing network namespace to networks.

    All of them or none: what was attached is taken away again if one is refused.
    """
    wanted = tuple(network or (DEFAULT,))
    if order.driver(wanted) is not Driver.BRIDGE:
        raise Invalid(f"{wanted[0]} is not a network that can be attached to", field="network")
    client = Client()
    endpoints = known(client)
    found = target.find(where, endpoints)
    if name:
        found = order.Target(found.container, found.path, parse.value(Name, name, "name"))
    wish = order.Wish(
        addresses=parse.values(Address, ip or (), "ip"),
        mac=parse.value(Mac, mac, "mac") if mac else None,
        ports=tuple(publications(publish or (), client)),
        bandwidth=bandwidth(ingress_rate, egress_rate),
        labels=parse.labels(label or ()),
        named_ports=parse.port_names(port_name or ()),
        namespace=parse.value(Name, namespace, "namespace"),
    )
    first = parse.value(InterfaceName, interface, "interface") if interface else None
    has = [one for one in endpoints if one.container == found.container]
    requests = order.attaches(
        found,
        wish,
        networks(wanted, client),
        _interfaces(first, {one.spec.interface for one in has}, len(wanted)),
    )
    if has:  # what it has already keeps the default route
        requests = tuple(msgspec.structs.replace(request, gateway=False) for request in requests)
    with ExitStack() as undo:
        for request in requests:
            undo.callback(client.detach, Detach(container=found.container, interface=request.interface))
            with working(f"Connecting {found.display} to {request.network} ..."):
                reply = client.attach(request)
            _tell(found.display, reply)
        undo.pop_all()


@app.command(rich_help_panel=_PANEL, no_args_is_help=True, epilog="Example: fairlead detach blue --network front")
def detach(
    where: Annotated[str, typer.Argument(metavar="TARGET", help=_TARGET, autocompletion=complete.containers)],
    *,
    network: Annotated[
        str, options.text("--network", "--net", metavar="NAME", help="Only from this.", autocompletion=complete.networks)
    ] = "",
    interface: Annotated[str, options.text("--interface", metavar="IFNAME", help="Only this.")] = "",
) -> None:
    """Disconnect a container or namespace, from one network or from all."""
    if network and interface:
        raise Invalid("give --network or --interface, not both", field="network")
    client = Client()
    endpoints = known(client)
    found = target.container(where, endpoints)
    wanted: list[InterfaceName | None] = [parse.value(InterfaceName, interface, "interface") if interface else None]
    if network:
        wanted = [one.spec.interface for one in endpoints if (one.container, one.spec.network) == (found.container, network)]
    gone = [one for each in wanted for one in client.detach(Detach(container=found.container, interface=each)).endpoints]
    for one in gone:
        typer.echo(f"{found.display} {one.spec.interface} detached from {one.spec.network}")
    if not gone:
        fault.note(f"{found.display} was not attached{f' to {network}' if network else ''}")


def known(client: Client) -> list[Endpoint]:
    """Every endpoint of the node."""
    return [one for one in client.objects(Endpoint.plural) if isinstance(one, Endpoint)]


def _interfaces(first: InterfaceName | None, taken: set[InterfaceName], count: int) -> list[InterfaceName]:
    """``count`` names that the container does not have yet: the one asked for, then eth0, eth1, ..."""
    names = [first] if first else []
    for at in range(256):
        if len(names) >= count:
            return names[:count]
        if (name := InterfaceName(f"eth{at}")) not in taken and name not in names:
            names.append(name)
    raise Exhausted("every name from eth0 to eth255 is taken; name one", field="interface")


def _tell(display: str, reply: Attached) -> None:
    spec = reply.endpoint.spec
    typer.echo(f"{display} {spec.interface} attached to {spec.network} {' '.join(spec.addresses)}".rstrip())
    for port in spec.ports:
        typer.echo(f"  published {port}")
