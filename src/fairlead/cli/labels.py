"""``fairlead label`` and ``create``: labels of what runs and of what is stored, as kubectl changes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer
from msgspec.structs import replace

from fairlead.api.client import Client
from fairlead.api.schema import Change
from fairlead.model.address import Name
from fairlead.model.endpoint import Endpoint
from fairlead.model.errors import Conflict, Invalid, Missing
from fairlead.model.meta import Meta, Object
from fairlead.model.namespace import DEFAULT, Namespace
from fairlead.model.node import Node
from fairlead.model.reservation import Reservation

from . import complete, fault, kinds, options, parse

app = typer.Typer(rich_markup_mode="rich")
creations = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)
app.add_typer(creations, name="create", help="Create small objects without a file.", rich_help_panel="Objects")

_WHAT = "A container, or KIND NAME of an object: namespace shop."


_OVERWRITE = "add --overwrite to change it"


@app.command(rich_help_panel="Objects", no_args_is_help=True, epilog="Example: fairlead label web tier=front canary-")
def label(
    what: Annotated[str, typer.Argument(metavar="TARGET", help=_WHAT, autocompletion=complete.containers)],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Labels to set, or KEY- to take one away.", show_default=False),
    ] = None,
    *,
    overwrite: Annotated[bool, options.flag("--overwrite", help="Change labels that are there and otherwise.")] = False,
    listed: Annotated[bool, options.flag("--list", help="Show the labels that there are then.")] = False,
) -> None:
    """Change the labels of a running container, or of an object. Policies follow before this returns."""
    client, given = Client(), list(words or ())
    if given and not _is_change(given[0]):
        changes = parse.label_changes(given[1:])
        thing = _object(client, what, given[0], changes, overwrite=overwrite, listed=listed)
    else:
        changes = parse.label_changes(given)
        thing = _container(client, what, changes, overwrite=overwrite, listed=listed)
    if listed:
        for key, value in sorted(thing.items()):
            typer.echo(f"{key}={value}")


@creations.command("namespace", no_args_is_help=True, epilog="Example: fairlead create namespace shop --label team=sales")
def namespace(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    given: options.Labels = None,
) -> None:
    """Create a namespace."""
    client = Client()
    if any(one.name == name for one in client.objects(Namespace.plural)):
        raise fault.remedy(Conflict(f"namespace {name!r} exists", field="name"), f"fairlead label namespace {name} KEY=VALUE")
    meta = Meta(name=parse.value(Name, name, "name"), labels=parse.labels(given or ()))
    client.apply(Namespace(metadata=meta))
    typer.echo(f"namespace/{name} created")


def _is_change(word: str) -> bool:
    """Whether a word says how labels are to change, and is no name."""
    return "=" in word or word.endswith("-")


def _container(
    client: Client, word: str, changes: Mapping[str, str | None], *, overwrite: bool, listed: bool
) -> Mapping[str, str]:
    """Change the labels of every attachment of a container; those it has then."""
    found = _endpoints(client, word)
    _refuse_nothing(changes, listed=listed)
    labels: Mapping[str, str] = found[0].metadata.labels
    _note_absent(labels, changes)
    differs = False
    for one in found if changes else ():
        spec = one.spec
        wanted = Change(container=spec.container, interface=spec.interface, labels=dict(changes), overwrite=overwrite)
        try:
            done = client.change(wanted)
        except Conflict as problem:
            raise fault.remedy(problem, _OVERWRITE) from None
        labels = done.endpoint.metadata.labels
        differs = differs or labels != one.metadata.labels
    if changes:
        typer.echo(f"container/{found[0].display} {'labeled' if differs else 'not labeled'}")
    return labels


def _endpoints(client: Client, word: str) -> list[Endpoint]:
    """The endpoints of the one container that a word means: its name, ``namespace/name``, or the beginning of its id."""
    everybody = [one for one in client.objects(Endpoint.plural) if isinstance(one, Endpoint)]
    space, _, name = word.rpartition("/")
    found = [
        one
        for one in everybody
        if (name in {one.display, one.container} or (len(name) > 2 and one.container.startswith(name)))
        and space in {"", one.metadata.namespace or DEFAULT}
    ]
    several = sorted({f"{one.metadata.namespace or DEFAULT}/{one.display}" for one in found})
    if len({one.container for one in found}) > 1:
        raise Conflict(f"{word!r} means several containers: {', '.join(several)}; say which", field="target")
    if not found:
        raise fault.remedy(Missing(f"there is no container {word!r} that has a network", field="target"), "fairlead ps")
    return found


def _object(
    client: Client, what: str, name: str, changes: Mapping[str, str | None], *, overwrite: bool, listed: bool
) -> Mapping[str, str]:
    """Change the labels of an object; those it has then. A namespace need not have been made."""
    of = kinds.parse(what)
    if of in {Endpoint, Reservation}:
        raise Invalid("an endpoint has its container's labels: fairlead label CONTAINER KEY=VALUE", field="kind")
    _refuse_nothing(changes, listed=listed)
    thing = _found(client, of, f"{DEFAULT}/{name}" if of.namespaced and "/" not in name else name)
    labels = thing.metadata.labels
    _note_absent(labels, changes)
    for key, value in changes.items():
        if not overwrite and value is not None and labels.get(key, value) != value:
            raise fault.remedy(Conflict(f"{name} has {key}={labels[key]} already", field="label"), _OVERWRITE)
    wanted = {key: value for key, value in {**labels, **changes}.items() if value is not None}
    if changes and wanted != labels:
        client.apply(replace(thing, metadata=replace(thing.metadata, labels=wanted)))
    if changes:
        typer.echo(f"{kinds.label(thing)} {'labeled' if wanted != labels else 'not labeled'}")
    return wanted


def _found(client: Client, of: type[Object], name: str) -> Object:
    try:
        thing = client.object(of.plural, name)
    except Missing:
        if of is not Namespace:
            raise
        return Namespace(metadata=Meta(name=parse.value(Name, name, "name")))
    # Of a node only its labels: where it is this one, its addresses are not for anybody to write.
    return (
        Node(metadata=Meta(name=name, labels=thing.metadata.labels))
        if isinstance(thing, Node) and _is_here(client, name)
        else thing
    )


def _is_here(client: Client, name: str) -> bool:
    return client.status().node == name


def _refuse_nothing(changes: Mapping[str, str | None], *, listed: bool) -> None:
    if not changes and not listed:
        raise Invalid("say which labels: KEY=VALUE, or KEY- to take one away", field="label")


def _note_absent(labels: Mapping[str, str], changes: Mapping[str, str | None]) -> None:
    absent: Sequence[str] = [key for key, value in changes.items() if value is None and key not in labels]
    for key in absent:
        fault.note(f"label {key!r} not found.")
