"""``fairlead run``: a command in a network namespace of its own."""

from __future__ import annotations

import errno
import os
import secrets
import socket
from collections.abc import Sequence
from typing import Annotated

import typer
from msgspec import structs

from fairlead.api.client import Client
from fairlead.desired.names import DEFAULT_NETWORK
from fairlead.kernel.process import Process
from fairlead.model.address import Address, ContainerID, InterfaceName, Mac, Name
from fairlead.model.endpoint import Bandwidth, Endpoint, Protocol, PublishedPort
from fairlead.model.errors import Exhausted, Forbidden, Invalid, Missing
from fairlead.model.network import Driver, Network

from . import fault, options, parse, ports
from .container import finish, launch, names, order, record, spawn
from .container.record import Record

app = typer.Typer(rich_markup_mode="rich")

DEFAULT = DEFAULT_NETWORK
"""The network of a container that asks for none."""

_CHOSEN = range(32768, 61000)
"""Where a host port is chosen from: Linux's own range for such ports."""


@app.command(
    no_args_is_help=True,
    context_settings={"allow_interspersed_args": False},
    rich_help_panel="Containers",
    epilog="Example: fairlead run -d --name web -p 8080:80 -- python3 -m http.server 80",
)
def run(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="What to run; options after it are its own.")],
    *,
    detach: Annotated[bool, options.flag("--detach", "-d", help="Return once it runs; see it with `fairlead logs`.")] = False,
    name: Annotated[str, options.text("--name", metavar="NAME", help="Its name; one is made if left out.")] = "",
    remove: Annotated[
        bool | None, options.flag("--rm/--no-rm", help="Forget it when it ends. Default: unless it is detached.")
    ] = None,
    network: options.Networks = None,
    ip: options.Ip = None,
    mac: options.MacAddress = "",
    publish: options.Publish = None,
    port_name: options.PortNames = None,
    dns: Annotated[
        list[str] | None,
        options.text("--dns", metavar="ADDRESS", help="A name server. May be repeated.", rich_help_panel=options.NETWORK),
    ] = None,
    ingress_rate: options.Ingress = "",
    egress_rate: options.Egress = "",
    hostname: Annotated[str, options.text("--hostname", metavar="NAME", help="Its host name; its name if left out.")] = "",
    env: options.Env = None,
    label: options.Labels = None,
    namespace: options.Namespace = "default",
    interactive: options.Interactive = False,  # noqa: ARG001  # for hands that type -it; it is always so
    tty: options.Tty = False,  # noqa: ARG001
) -> None:
    """Run a command in a network namespace of its own.

    It has its own /etc/hosts, /etc/resolv.conf and host name, and its network is complete before it starts. In the
    foreground its exit status is passed on, and nothing of it is left when it ends. `--network host` and `--network none`
    stand alone.
    """
    if os.geteuid() != 0:
        raise fault.remedy(Forbidden("a network namespace is made by root"), "sudo fairlead run ...")
    wanted = tuple(network or (DEFAULT,))
    client = Client()
    on = networks(wanted, client)
    kind = _driver(wanted, on)
    wish = order.Wish(
        addresses=parse.values(Address, ip or (), "ip"),
        mac=parse.value(Mac, mac, "mac") if mac else None,
        ports=tuple(publications(publish or (), client if kind is Driver.BRIDGE else None)),
        bandwidth=bandwidth(ingress_rate, egress_rate),
        dns=parse.values(Address, dns or (), "dns"),
        labels=parse.labels(label or ()),
        named_ports=parse.port_names(port_name or ()),
        namespace=parse.value(Name, namespace, "namespace"),
    )
    made = _record(_name(name, client), command, kind, wish)
    made = structs.replace(
        made,
        networks=wanted,
        hostname=_hostname(hostname or (made.name if made.sandbox else "")),
        remove=not detach if remove is None else remove,
    )
    plan = _plan(made, parse.environment(env or (), os.environ), wish, on if kind is Driver.BRIDGE else (), detach=detach)
    if kind is Driver.HOST:
        fault.note("\n".join((f"{made.name} {order.HOST_GIVES_UP[0]}", *order.HOST_GIVES_UP[1:])))
    raise typer.Exit(_launch(plan, client))


def publications(texts: Sequence[str], client: Client | None) -> list[PublishedPort]:
    """What ``--publish`` asks for; where no host port is named, one is chosen that nobody ``client`` knows has published."""
    found: list[PublishedPort] = []
    for text in texts:
        wish = ports.parse(text)
        port = wish.publish(wish.host_port) if wish.host_port else _choose(wish, [*found, *_published(client)])
        if clash := next((other for other in found if other.collides(port)), None):
            raise Invalid(f"{port} and {clash} cannot both be published", field=ports.FIELD)
        found.append(port)
    return found


def bandwidth(ingress: str, egress: str) -> Bandwidth | None:
    """The limits that were asked for, or None."""
    if not ingress and not egress:
        return None
    receives, sends = parse.rate(ingress, "ingress-rate"), parse.rate(egress, "egress-rate")
    return parse.made(Bandwidth, ingress_rate=receives, egress_rate=sends)


def networks(names: Sequence[str], client: Client) -> list[Network]:
    """The networks of these names; ``host`` and ``none`` are no networks."""
    if order.driver(names) is not Driver.BRIDGE:
        return []
    known = {one.name: one for one in client.objects(Network.plural) if isinstance(one, Network)}
    for name in names:
        if name not in known:
            raise Missing(f"there is no network {name!r}; there are: {', '.join(known) or 'none'}", field="network")
    return [known[name] for name in names]


def _driver(names: Sequence[str], on: Sequence[Network]) -> Driver:
    """What kind of network that makes. A network whose driver is not bridge stands alone, as the words do."""
    other = [one for one in on if not one.spec.connects]
    if other and len(on) > 1:
        raise Invalid(f"{other[0].name} ({other[0].spec.driver}) cannot be combined with another network", field="network")
    return other[0].spec.driver if other else order.driver(names)


def _name(text: str, client: Client) -> Name:
    """The name asked for, or a new one. What ended without being cleaned up after is cleaned up first."""
    known = record.every()
    if any(one.abandoned for one in known):
        finish.sweep(client)
    return parse.value(Name, text, "name") if text else Name(names.pick({one.name for one in known}))


def _record(name: Name, command: Sequence[str], kind: Driver, wish: order.Wish) -> Record:
    if kind is not Driver.BRIDGE:
        order.check_alone(kind, wish)
    return Record(
        id=secrets.token_hex(6),
        name=name,
        command=tuple(command),
        networks=(),
        created=record.now(),
        sandbox="" if kind is Driver.HOST else str(record.netns(name)),
        labels=wish.labels,
        namespace=wish.namespace,
        attached=kind is Driver.BRIDGE,
        monitor=Process.of(os.getpid()),
    )


def _plan(made: Record, environment: dict[str, str], wish: order.Wish, on: Sequence[Network], *, detach: bool) -> launch.Plan:
    target = order.Target(ContainerID(made.id), made.sandbox, made.name)
    return launch.Plan(
        record=made,
        environment={**environment, "HOSTNAME": made.hostname} if made.hostname else environment,
        attaches=order.attaches(target, wish, on, [InterfaceName(f"eth{at}") for at in range(len(on))]),
        servers=wish.dns or tuple(dict.fromkeys(server for one in on for server in one.spec.dns)),
        detach=detach,
    )


def _launch(plan: launch.Plan, client: Client) -> int:
    try:
        status = launch.launch(plan, client)
    except spawn.Unrunnable as problem:
        fault.tell(str(problem))
        return problem.status
    if plan.detach:
        typer.echo(plan.record.name)
    return status


def _published(client: Client | None) -> list[PublishedPort]:
    if client is None:
        return []
    return [port for one in client.objects(Endpoint.plural) if isinstance(one, Endpoint) for port in one.spec.ports]


def _choose(wish: ports.Wish, taken: Sequence[PublishedPort]) -> PublishedPort:
    """A host port that nobody publishes and nobody listens on."""
    for _ in range(256):
        port = wish.publish(secrets.choice(_CHOSEN))
        if not any(port.collides(other) for other in taken) and _free(port):
            return port
    raise Exhausted(f"no free host port found between {_CHOSEN[0]} and {_CHOSEN[-1]}; name one", field=ports.FIELD)


def _free(port: PublishedPort) -> bool:
    kinds = {
        Protocol.TCP: (socket.SOCK_STREAM, socket.IPPROTO_TCP),
        Protocol.UDP: (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
        Protocol.SCTP: (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
    }
    for family, anywhere, number in ((socket.AF_INET, "0.0.0.0", 4), (socket.AF_INET6, "::", 6)):  # noqa: S104  # asks only
        if not port.serves(number):
            continue
        try:
            with socket.socket(family, *kinds[port.protocol]) as asking:
                asking.bind((port.host_ip or anywhere, port.host_port))
        except OSError as problem:
            if problem.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
    return True


def _hostname(text: str) -> str:
    if len(text) > 64 or any(c.isspace() or not c.isprintable() for c in text):
        raise Invalid(f"{text[:80]!r} is not a host name: at most 64 characters, no spaces", field="hostname")
    return text
