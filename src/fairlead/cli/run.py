"""``fairlead run``: a command in a network namespace of its own."""

from __future__ import annotations

import errno
import os
import secrets
import socket
from collections.abc import Sequence
from typing import Annotated

import typer

from fairlead.api.client import Client
from fairlead.model.address import Address, ContainerID, InterfaceName, Mac, Name
from fairlead.model.endpoint import Bandwidth, Endpoint, Protocol, PublishedPort
from fairlead.model.errors import Exhausted, Forbidden, Invalid
from fairlead.model.network import Driver, Network

from . import complete, fault, parse, ports
from .container import launch, names, order, record, spawn
from .container.record import Process, Record

app = typer.Typer(rich_markup_mode="rich")

DEFAULT = "default"
"""The network of a container that asks for none."""

_CHOSEN = range(32768, 61000)
"""Where a host port is chosen from: Linux's own range for such ports."""

_NETWORK = "Network"


@app.command(
    no_args_is_help=True,
    context_settings={"allow_interspersed_args": False},
    rich_help_panel="Containers",
    epilog="Example: fairlead run -d --name web -p 8080:80 -- python3 -m http.server 80",
)
def run(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="What to run; options after it are its own.")],
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once it runs; see it with `fairlead logs`.")] = False,
    name: Annotated[str, typer.Option(help="Its name; one is made if left out.", show_default=False)] = "",
    remove: Annotated[
        bool | None,
        typer.Option("--rm/--no-rm", help="Forget it when it ends. Default: in the foreground yes, detached no.", show_default=False),
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(
            help="A network, or host, or none. May be repeated: eth0, eth1, ...",
            autocompletion=complete.networks,
            rich_help_panel=_NETWORK,
            show_default=DEFAULT,
        ),
    ] = None,
    ip: Annotated[list[str] | None, typer.Option(help="A static address. May be repeated.", rich_help_panel=_NETWORK)] = None,
    mac: Annotated[str, typer.Option(help="MAC address on the first network.", rich_help_panel=_NETWORK, show_default=False)] = "",
    publish: Annotated[
        list[str] | None,
        typer.Option("--publish", "-p", help=r"Publish ports: \[HOSTIP:]HOST\[-LAST]:PORT\[/tcp|udp|sctp].", rich_help_panel=_NETWORK),
    ] = None,
    dns: Annotated[list[str] | None, typer.Option(help="A name server. May be repeated.", rich_help_panel=_NETWORK)] = None,
    ingress_rate: Annotated[
        str, typer.Option(help="Limit what it receives, bit/s, such as 10M.", rich_help_panel=_NETWORK, show_default=False)
    ] = "",
    egress_rate: Annotated[
        str, typer.Option(help="Limit what it sends, bit/s, such as 10M.", rich_help_panel=_NETWORK, show_default=False)
    ] = "",
    hostname: Annotated[str, typer.Option(help="Its host name; its name if left out.", show_default=False)] = "",
    env: Annotated[list[str] | None, typer.Option("--env", "-e", help="Set a variable: KEY=VALUE.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="Label its endpoints: key=value.")] = None,
    namespace: Annotated[str, typer.Option(help="The namespace of its endpoints.")] = "default",
    interactive: Annotated[bool, typer.Option("--interactive", "-i", hidden=True)] = False,  # noqa: ARG001  # always so
    tty: Annotated[bool, typer.Option("--tty", "-t", hidden=True)] = False,  # noqa: ARG001  # the terminal is passed through
) -> None:
    """Run a command in a network namespace of its own.

    It has its own /etc/hosts, /etc/resolv.conf and host name, and its network is complete before it starts. In the
    foreground its exit status is passed on, and nothing of it is left when it ends.
    """
    _need_root()
    wanted = tuple(network or (DEFAULT,))
    kind = order.driver(wanted)
    client = Client()
    known = record.every()
    chosen = parse.value(Name, name, "name") if name else Name(names.pick({one.name for one in known}))
    wish = order.Wish(
        addresses=parse.values(Address, ip or (), "ip"),
        mac=parse.value(Mac, mac, "mac") if mac else None,
        ports=tuple(publications(publish or (), client)) if kind is Driver.BRIDGE else _unchosen(publish or ()),
        bandwidth=bandwidth(ingress_rate, egress_rate),
        dns=parse.values(Address, dns or (), "dns"),
        labels=parse.labels(label or ()),
        namespace=parse.value(Name, namespace, "namespace"),
    )
    networks = [client.network(one) for one in wanted] if kind is Driver.BRIDGE else []
    kind = _alone(networks) or kind
    target = order.Target(ContainerID(secrets.token_hex(6)), str(record.netns(chosen)), chosen)
    if kind is not Driver.BRIDGE:
        order.check_alone(kind, wish)
        networks = []
    attaches = order.attaches(target, wish, networks, [InterfaceName(f"eth{at}") for at in range(len(networks))])
    private = kind is not Driver.HOST
    host = _hostname(hostname or (chosen if private else ""))
    plan = launch.Plan(
        record=Record(
            id=target.container,
            name=chosen,
            command=tuple(command),
            networks=wanted,
            created=record.now(),
            hostname=host,
            sandbox=target.path if private else "",
            labels=wish.labels,
            namespace=wish.namespace,
            attached=bool(attaches),
            remove=not detach if remove is None else remove,
            monitor=Process.of(os.getpid()),
        ),
        environment=parse.environment(env or (), {**os.environ, **({"HOSTNAME": host} if host else {})}),
        attaches=attaches,
        servers=wish.dns or tuple(dict.fromkeys(server for one in networks for server in one.spec.dns)),
        detach=detach,
    )
    if not private:
        fault.note("\n".join((f"{chosen} {order.HOST_GIVES_UP[0]}", *order.HOST_GIVES_UP[1:])))
    raise typer.Exit(_launch(plan, client, chosen, detach=detach))


def publications(texts: Sequence[str], client: Client) -> list[PublishedPort]:
    """What ``--publish`` asks for; where no host port is named, a free one is chosen."""
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
    return Bandwidth(ingress_rate=parse.rate(ingress, "ingress-rate"), egress_rate=parse.rate(egress, "egress-rate"))


def _launch(plan: launch.Plan, client: Client, name: str, *, detach: bool) -> int:
    try:
        status = launch.launch(plan, client)
    except spawn.Unrunnable as problem:
        fault.tell(str(problem))
        return problem.status
    if detach:
        typer.echo(name)
    return status


def _alone(networks: Sequence[Network]) -> Driver | None:
    """The driver of a network object that is not a bridge; it stands alone like the built-in names."""
    other = [one for one in networks if one.spec.driver is not Driver.BRIDGE]
    if other and len(networks) > 1:
        raise Invalid(f"{other[0].name} ({other[0].spec.driver}) cannot be combined with another network", field="network")
    return other[0].spec.driver if other else None


def _unchosen(texts: Sequence[str]) -> tuple[PublishedPort, ...]:
    """Ports that are going to be refused, checked for their form."""
    wishes = [ports.parse(text) for text in texts]
    return tuple(wish.publish(wish.host_port or _CHOSEN[0]) for wish in wishes)


def _published(client: Client) -> list[PublishedPort]:
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


def _need_root() -> None:
    if os.geteuid() != 0:
        raise fault.remedy(Forbidden("a network namespace is made by root"), "sudo fairlead run ...")
