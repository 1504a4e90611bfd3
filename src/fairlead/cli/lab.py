"""``fairlead lab``: several nodes on one machine, for demonstrations, documents and tests."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from msgspec import structs

from fairlead.kernel import process
from fairlead.kernel.errors import Refused
from fairlead.lab import grow, lab, network, pods, record, shape, speaker, topology
from fairlead.lab.grow import Wanted
from fairlead.lab.lab import Lab
from fairlead.lab.machine import SPACES, Machine
from fairlead.lab.plan import machines
from fairlead.lab.report import report
from fairlead.lab.shape import Underlay
from fairlead.lab.topology import Label, Node, Store, StoreDriver
from fairlead.model.address import Address, Name
from fairlead.model.errors import Conflict, Forbidden, Invalid, Missing, Problem
from fairlead.model.network import Driver
from fairlead.model.network import Network as NetworkObject

from . import complete, fault, labview, options, parse
from .container import foreground, spawn
from .objects import read_text
from .out import Format, write
from .wait import working

app = typer.Typer(rich_markup_mode="rich")
labs = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)
app.add_typer(labs, name="lab", help="Several nodes on this machine, each a set of namespaces.", rich_help_panel="Lab")

DEFAULT = "lab"
"""What a lab is called that nobody named."""
NODES, PODS, MTU = 2, 2, 1500

Network = StrEnum("Network", {one.name: one.value for one in network.DRIVERS})  # type: ignore[misc]  # its members are a list's
_SHAPE = "Instead of a file"
_STORE = re.compile(r"(?P<driver>own|sqlite|etcd)(:(?P<members>[0-9]{1,2}))?")


class Plane(StrEnum):
    """What enforces policies on the nodes."""

    AUTO = "auto"
    EBPF = "ebpf"
    NFTABLES = "nftables"


def _shape(*names: str, metavar: str, told: str) -> Any:
    return options.text(*names, metavar=metavar, help=told, rich_help_panel=_SHAPE)


def _flag(*names: str, told: str) -> Any:
    return options.flag(*names, help=told, rich_help_panel=_SHAPE)


_Name = Annotated[
    str, options.text("--name", metavar="NAME", help="Which lab, if there are several.", autocompletion=complete.labs)
]
_Machine = Annotated[
    str, typer.Argument(metavar="NODE", help="A node, or another machine of the lab.", autocompletion=complete.machines)
]
_Addresses = Annotated[list[str] | None, options.text("--address", metavar="ADDRESS", help="Its address. May be repeated.")]


@labs.command(epilog="Example: fairlead lab up --nodes 3 --dual")
def up(
    *,
    filename: Annotated[str, options.text("--filename", "-f", metavar="FILE", help="A topology, or - for stdin.")] = "",
    name: Annotated[str, options.text("--name", metavar="NAME", help="What to call it.")] = DEFAULT,
    network: Annotated[
        Network | None, typer.Option("--network", help="The driver of the network that pods are on.", show_default=False)
    ] = None,
    encrypt: Annotated[bool, options.flag("--encrypt", help="Have WireGuard encrypt that network between nodes.")] = False,
    store: Annotated[
        str, options.text("--store", metavar=r"own|sqlite|etcd\[:N]", help="Where agents keep what they share.")
    ] = "",
    nodes: Annotated[int | None, _shape("--nodes", metavar="N", told=f"How many. Default: {NODES}.")] = None,
    underlay: Annotated[
        Underlay | None,
        typer.Option("--underlay", help="One switch, or a router between.", show_default=False, rich_help_panel=_SHAPE),
    ] = None,
    ipv6: Annotated[bool, _flag("--ipv6", told="IPv6 alone.")] = False,
    dual: Annotated[bool, _flag("--dual", told="IPv4 and IPv6.")] = False,
    mtu: Annotated[int | None, _shape("--mtu", metavar="BYTES", told=f"Of the underlay. Default: {MTU}.")] = None,
    pods_each: Annotated[int | None, _shape("--pods", metavar="N", told=f"Containers on each node. Default: {PODS}.")] = None,
    no_outside: Annotated[bool, _flag("--no-outside", told="No host outside the nodes.")] = False,
    plane: Annotated[Plane | None, typer.Option(help="As of fairlead up.", show_default=False)] = None,
) -> None:
    """Make a lab: nodes with agents, an underlay, a store, a network and some pods on it.

    Everything of it is in namespaces of its own: this machine's interfaces, firewall and agent stay as they are.
    """
    called = parse.value(Name, name, "name")
    if filename:
        shaped = {"nodes": nodes, "underlay": underlay, "mtu": mtu, "pods": pods_each}
        given = [option for option, value in shaped.items() if value is not None]
        given += [option for option, on in {"ipv6": ipv6, "dual": dual, "no-outside": no_outside}.items() if on]
        if given:
            raise Invalid(f"{filename} says it; give the file or the option", field=given[0])
        wanted = _written(called, filename, network)
    else:
        between, driver = underlay or Underlay.L2, Driver(network or Driver.VXLAN)
        made = grow.fitting(
            lambda: shape.spec(
                between,
                NODES if nodes is None else nodes,
                families=(4, 6) if dual else (6,) if ipv6 else (4,),
                outside=not no_outside,
                mtu=MTU if mtu is None else mtu,
                pods=PODS if pods_each is None else pods_each,
                as_number=speaker.ROUTERS if driver is Driver.BGP else None,
            )
        )
        wanted = Wanted(called, made, between, driver)
    spec = wanted.spec
    if store:
        spec = structs.replace(spec, store=_store(store))
    if plane:
        spec = structs.replace(spec, plane=plane.value)
    _make(wanted._replace(spec=spec, encrypt=encrypt))


def _make(wanted: Wanted) -> None:
    began = time.monotonic()
    with _advised(wanted.name):
        made = Lab.up(wanted, fault.note)
    nodes, count = made.record.spec.nodes, sum(len(pods.wanted(made.record.spec, one)) for one in made.record.spec.nodes)
    which = "" if wanted.name == DEFAULT else f" --name {wanted.name}"
    took = time.monotonic() - began
    write(f"Lab {wanted.name} is ready: {len(nodes)} nodes, {count} pods, in {took:.1f} s. See it: fairlead lab status{which}")


@labs.command(epilog="Example: fairlead lab add --label zone=east")
def add(
    node: Annotated[str, typer.Argument(metavar="[NODE]", help="Its name. Default: the next.", show_default=False)] = "",
    *,
    name: _Name = "",
    address: _Addresses = None,
    subnet: Annotated[str, options.text("--subnet", metavar="NAME", help="Where it is. Default: as the others.")] = "",
    label: options.Labels = None,
    pods_on_it: Annotated[
        int | None, options.text("--pods", metavar="N", help="Containers on it. Default: as the others.")
    ] = None,
) -> None:
    """Add a node to a lab, with an agent and pods."""
    with _advised(name):
        found = Lab.find(name, fault.note)
        called = parse.value(Label, node, "node") if node else _next(found)
        new = parse.made(
            Node,
            name=called,
            subnets=(parse.value(Label, subnet, "subnet"),) if subnet else (),
            addresses=parse.values(Address, address or (), "address"),
            labels=parse.labels(label or ()),
            pods=pods_on_it,
        )
        found.add(new)
    write(called)


@labs.command(epilog="Example: fairlead lab stop node2")
def stop(node: _Machine, *, name: _Name = "") -> None:
    """Have a node crash: every process on it is killed, and its interfaces are gone."""
    with _advised(name), working(f"Stopping {node} ..."):
        Lab.find(name, fault.note).stop(node)
    write(node)


@labs.command(epilog="Example: fairlead lab start node2 --address 172.16.0.22")
def start(node: _Machine, *, name: _Name = "", address: _Addresses = None) -> None:
    """Start a node that was stopped, with its agent and pods, where it was or at another address."""
    with _advised(name):
        Lab.find(name, fault.note).start(node, parse.values(Address, address or (), "address"))
    write(node)


@labs.command(epilog="Example: fairlead lab partition node1 node2")
def partition(node: _Machine, other: _Machine, *, name: _Name = "") -> None:
    """Let no packet pass between two nodes."""
    with _advised(name):
        Lab.find(name, fault.note).partition(node, other)
    write(f"{node} and {other} are cut off from each other")


@labs.command(epilog="Example: fairlead lab heal node1 node2")
def heal(
    node: Annotated[str, typer.Argument(help="A node.", show_default=False, autocompletion=complete.machines)] = "",
    other: Annotated[str, typer.Argument(help="Another.", show_default=False, autocompletion=complete.machines)] = "",
    *,
    name: _Name = "",
) -> None:
    """Undo a partition, or all of them."""
    if node and not other:
        raise Missing("say from whom it is cut off, or nothing to heal all", field="other")
    with _advised(name):
        healed = Lab.find(name, fault.note).heal(node, other)
    for pair in healed:
        write(f"{' and '.join(pair)} reach each other again")
    if not healed:
        fault.note("Nothing was cut off.")


@labs.command(
    "exec",
    no_args_is_help=True,
    context_settings={"allow_interspersed_args": False},
    epilog="Example: fairlead lab exec node1 -- fairlead ps",
)
def execute(
    node: _Machine,
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="What to run.")],
    *,
    name: _Name = "",
    interactive: options.Interactive = False,  # noqa: ARG001  # for hands that type -it; it is always so
    tty: options.Tty = False,  # noqa: ARG001
) -> None:
    """Run a command on a node, or in a pod: `fairlead`, `ip`, `nft` and `tcpdump` see that node and nothing else.

    The exit status is that of the command.
    """
    words = command[1:] if command[0] == "--" else command
    if not words:
        raise fault.remedy(Missing("there is no command to run", field="command"), f"fairlead lab exec {node} -- COMMAND")
    _run(name, node, words)


@labs.command(epilog="Example: fairlead lab shell node1")
def shell(node: _Machine, *, name: _Name = "") -> None:
    """Open a shell on a node, or in a pod."""
    _run(name, node, [os.environ.get("SHELL") or "/bin/sh"])


@labs.command()
def status(
    *,
    name: _Name = "",
    no_reach: Annotated[bool, options.flag("--no-reach", help="Do not measure who reaches whom.")] = False,
    output: options.Output = Format.TABLE,
) -> None:
    """Show a lab: a picture, its nodes and pods, and who reaches whom; exit 1 if an agent is not ready."""
    with _advised(name), working("Asking everybody ..."):
        found = report(Lab.find(name, fault.note), measure=not no_reach)
    labview.show(found, output)
    raise typer.Exit(0 if found.ready else 1)


@labs.command("ls")
def ls(*, output: options.Output = Format.TABLE) -> None:
    """List the labs on this machine."""
    labview.LABS.show([labview.summary(one) for one in record.names()], output)


@labs.command(epilog="Example: fairlead lab down --all")
def down(
    *,
    name: _Name = "",
    everything: Annotated[bool, options.flag("--all", help="Every lab there is.")] = False,
) -> None:
    """Take a lab down. Nothing of it is left."""
    if name and everything:
        raise Invalid("give --name or --all, not both", field="name")
    with _advised(name):
        for one in record.names() if everything else [record.pick(name)]:
            with working(f"Taking {one} down ..."):
                lab.down(one)
            write(one)


# ---- what the commands are made of ----


def _written(called: Name, filename: str, driver: Network | None) -> Wanted:
    """The lab of a file. It gets a network of ours if it has none, or if one was asked for."""
    try:
        document, objects = topology.read(read_text(filename))
    except Problem as problem:
        raise problem.under(filename) from None
    if document.metadata.name and called == DEFAULT:
        called = parse.value(Name, document.metadata.name, f"{filename}.metadata.name")
    networks = any(isinstance(one, NetworkObject) for one in objects)
    chosen = Driver(driver or Driver.VXLAN) if driver or not networks else None
    return Wanted(called, document.spec, None, chosen, tuple(objects))


def _store(text: str) -> Store:
    found = _STORE.fullmatch(text)
    if found is None:
        raise Invalid(f"{text[:40]!r} is not a store; write own, sqlite, etcd or etcd:3", field="store")
    driver = StoreDriver(found["driver"])
    return parse.made(Store, field="store", driver=driver, members=int(found["members"] or 1))


def _next(of: Lab) -> Label:
    taken = {one.name for one in of.record.spec.nodes}
    return next(called for at in range(1, len(taken) + 2) if (called := shape.name(at)) not in taken)


def _run(name: str, where: str, words: Sequence[str]) -> NoReturn:
    """Run a command on a machine, in the foreground, and exit with its status."""
    with _advised(name):
        found = Lab.find(name, fault.note)
        node = _home(found, where)
        if node:
            words = [sys.executable, "-m", "fairlead.cli", "exec", where, "--", *words]
        machine = found.machine(node or where)
    _enter(machine)
    raise typer.Exit(foreground.follow(lambda terminal, mask: _start(machine, words, mask, terminal=terminal)))


def _home(of: Lab, word: str) -> str:
    """The node of a pod; empty if ``word`` is a machine."""
    homes = {str(pod.name): one.name for one in of.record.spec.nodes for pod in pods.wanted(of.record.spec, one)}
    return "" if word in machines(of.record.spec) else homes.get(word, "")


def _enter(machine: Machine) -> None:
    """Enter all namespaces of a machine; that of processes is for children alone."""
    here = Path.cwd()
    try:
        with os.fdopen(os.pidfd_open(machine.process.pid), "rb") as fd:
            machine.check()
            process.setns(fd.fileno(), SPACES)
    except (Refused, PermissionError):
        raise fault.remedy(Forbidden("namespaces are entered by root"), "sudo fairlead lab exec ...") from None
    os.chdir(here if here.is_dir() else "/")


def _start(machine: Machine, words: Sequence[str], mask: Iterable[int], *, terminal: bool) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = spawn.NOT_FOUND
    try:
        if terminal:
            spawn.take_terminal()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        spawn.execute(words, machine.environment())
    except spawn.Unrunnable as problem:
        fault.tell(str(problem))
        status = problem.status
    finally:
        os._exit(status)


@contextmanager
def _advised(name: str) -> Iterator[None]:
    """Say what to do about what is wrong with a lab."""
    which = f" --name {name}" if name and name != DEFAULT else ""
    try:
        yield
    except Problem as problem:
        if isinstance(problem, Conflict) and problem.field == "name":
            fault.remedy(problem, f"fairlead lab down --name {name}, or another --name")
        elif isinstance(problem, Forbidden):
            fault.remedy(problem, "sudo fairlead lab ...")
        elif isinstance(problem, Missing | Invalid) and problem.field == "name":
            fault.remedy(problem, "fairlead lab ls" if record.names() else "fairlead lab up")
        elif problem.field == "node" and "start it with" not in problem.message:
            fault.remedy(problem, f"fairlead lab status{which}")
        raise
