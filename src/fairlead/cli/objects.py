"""``fairlead apply``, ``get`` and ``delete``: objects as YAML, in Kubernetes's shapes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from fairlead.api.client import Client
from fairlead.model import codec
from fairlead.model.broken import Broken
from fairlead.model.errors import Invalid, Missing, Problem, Unavailable
from fairlead.model.meta import Object, kind
from fairlead.model.namespace import DEFAULT

from . import fault, kinds, options, parse
from .out import Format

app = typer.Typer(rich_markup_mode="rich")

T = TypeVar("T")

_PANEL = "Objects"
_SUFFIXES = {".yaml", ".yml", ".json"}
Files = Annotated[
    list[str] | None, options.text("--filename", "-f", metavar="FILE", help="A file, a directory of them, or - for stdin.")
]
_KIND = (
    "networks (net), endpoints (ep), networkpolicies (netpol), clusternetworkpolicies (cnp), adminnetworkpolicies (anp), "
    "baselineadminnetworkpolicies (banp), services (svc), endpointslices, namespaces (ns), nodes (no), reservations (res), "
    "bgpconfigurations (bgpconfig), bgppeers, bgpfilters or secrets; also KIND/NAME."
)
_Namespace = Annotated[
    str, options.text("--namespace", "-n", metavar="NAME", help="Of what lives in namespaces: only in this one.")
]


@app.command(rich_help_panel=_PANEL, no_args_is_help=True, epilog="Example: fairlead apply -f networks.yaml")
def apply(filename: Files = None) -> None:
    """Create objects, or change them to what files say.

    Everything is read and checked before anything is changed.
    """
    client = Client()
    each(read(filename or ()), lambda thing: _applied(client, thing), "fairlead apply")


@app.command(rich_help_panel=_PANEL, no_args_is_help=True, epilog="Example: fairlead get network front -o yaml")
def get(
    what: Annotated[str, typer.Argument(metavar="KIND", help=_KIND)],
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Only these.", show_default=False)] = None,
    *,
    namespace: _Namespace = "",
    output: options.Output = Format.TABLE,
    selector: options.Selector = None,
    reveal: Annotated[bool, options.flag("--reveal", help="Show what secrets hold; for root alone.")] = False,
) -> None:
    """List objects of a kind, or show some by name."""
    of, wanted = _wanted(what, names or ())
    wanted = [_full(of, name, namespace) for name in wanted]
    labels = parse.labels(selector or (), "selector")
    show(Client(), of, wanted, output, lambda thing: matches(thing, labels, namespace), reveal=reveal)


@app.command(rich_help_panel=_PANEL, no_args_is_help=True, epilog="Example: fairlead delete network front")
def delete(
    what: Annotated[str, typer.Argument(metavar="KIND", help=_KIND, show_default=False)] = "",
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Which.", show_default=False)] = None,
    filename: Files = None,
    namespace: _Namespace = "",
) -> None:
    """Remove objects, by name or as files name them."""
    client = Client()
    if filename:
        if what:
            raise Invalid("give a kind and names, or files with -f, not both", field="filename")
        things: list[tuple[type[Object], str]] = [
            (type(thing), _full(type(thing), thing.name, thing.metadata.namespace)) for thing in reversed(read(filename))
        ]
    else:
        of, wanted = _wanted(what, names or ())
        if not wanted:
            raise Missing("say which", field="name")
        things = [(of, _full(of, name, namespace)) for name in wanted]
    each(things, lambda thing: f"{_deleted(client.delete(thing[0].plural, thing[1]))} deleted", "fairlead delete")


def _deleted(thing: Object | Broken) -> str:
    """How what was removed is called, whether it could be read or not."""
    if isinstance(thing, Broken):
        return f"{kind(kinds.parse(thing.plural)).lower()}/{'/'.join(filter(None, thing.key))}"
    return kinds.label(thing)


def matches(thing: Object, labels: dict[str, str], namespace: str = "") -> bool:
    """Whether it has the labels and, if one is named, is in the namespace."""
    return labels.items() <= thing.metadata.labels.items() and namespace in {"", thing.metadata.namespace}


def _full(of: type[Object], name: str, namespace: str) -> str:
    """How the agent is asked for an object: of a kind that lives in namespaces with the namespace."""
    if not of.namespaced or "/" in name:
        return name
    return f"{namespace or DEFAULT}/{name}"


def show(
    client: Client,
    of: type[Object],
    names: Sequence[str],
    form: Format,
    wanted: Callable[[Object], bool],
    *,
    reveal: bool = False,
) -> None:
    """Print objects of a kind that are wanted: all, or those named."""
    if names:
        found = [client.object(of.plural, name, reveal=reveal) for name in names]
    else:
        found = client.objects(of.plural, everywhere=True, reveal=reveal)
    chosen = [thing for thing in found if wanted(thing)]
    status = client.status()
    table = form in {Format.TABLE, Format.WIDE}
    kinds.listing(of, status.pools if table else ()).show(chosen, form, single=len(names) == 1)
    for one in status.unreadable if not names else ():
        if one.plural == of.plural:
            fault.warn(f"{kind(of).lower()}/{one.name} is stored and cannot be read: {one.reason}")


def _applied(client: Client, thing: Object) -> str:
    try:
        done = client.apply(thing)
    except Unavailable:
        raise
    except Problem as problem:
        raise type(problem)(str(problem), field=kinds.label(thing)) from None
    for warning in done.warnings:
        fault.warn(f"{done.kind.lower()}/{done.name}: {warning}")
    return f"{done.kind.lower()}/{done.name} {done.result}"


def each(things: Iterable[T], act: Callable[[T], str], command: str) -> None:
    """Do all of them, tell what was done, and fail in the end if one failed."""
    failed = False
    for thing in things:
        try:
            typer.echo(act(thing))
        except Unavailable:
            raise
        except Problem as problem:
            fault.tell(*fault.explain(problem, command))
            failed = True
    if failed:
        raise typer.Exit(1)


def _wanted(what: str, names: Sequence[str]) -> tuple[type[Object], list[str]]:
    """A kind and names; ``network/front`` is both."""
    word, slash, name = what.partition("/")
    return kinds.parse(word), [*([name] if slash else []), *names]


def read(filenames: Sequence[str]) -> list[Object]:
    """Every object in the files, in the order in which ``apply`` takes kinds; problems name the file."""
    if not filenames:
        raise Invalid("say which file: -f FILE, -f DIRECTORY or -f -", field="filename")
    found = [thing for path, text in _texts(filenames) for thing in _parse(path, text)]
    if not found:
        raise Invalid(f"there is no object in {', '.join(filenames)}", field="filename")
    return sorted(found, key=lambda thing: codec.KINDS.index(type(thing)))


def _parse(path: str, text: str) -> list[Object]:
    try:
        return codec.from_yaml(text)
    except Problem as problem:
        raise type(problem)(str(problem), field=path) from None


def _texts(filenames: Iterable[str]) -> Iterable[tuple[str, str]]:
    for name in filenames:
        if name == "-":
            yield "stdin", read_text(name)
            continue
        path = Path(name)
        inside = sorted(one for one in path.iterdir() if one.suffix in _SUFFIXES) if path.is_dir() else [path]
        for one in inside:
            yield str(one), read_text(str(one))


def read_text(name: str) -> str:
    """A file, or stdin if it is called ``-``."""
    if name == "-":
        return sys.stdin.read()
    path = Path(name)
    try:
        return path.read_text()
    except FileNotFoundError:
        raise Missing(f"there is no file {path}", field="filename") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise Invalid(f"{path} cannot be read: {problem}", field="filename") from None
