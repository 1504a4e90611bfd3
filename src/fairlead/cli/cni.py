"""``fairlead cni``: the CNI plugins where runtimes look for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from fairlead.api.client import Client
from fairlead.api.schema import Finding
from fairlead.cni import install as files
from fairlead.model import codec
from fairlead.model.errors import Conflict, Problem, Unsupported

from . import complete, fault, options
from .out import Column, Format, Listing, write

app = typer.Typer(rich_markup_mode="rich")
plugins = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)
app.add_typer(plugins, name="cni", help="Install the CNI plugins for container runtimes.", rich_help_panel="Networks")

_Bin = Annotated[Path, typer.Option("--bin-dir", metavar="DIR", help="Where runtimes look for plugins.")]
_Conf = Annotated[Path, typer.Option("--conf-dir", metavar="DIR", help="Where runtimes look for configurations.")]
_Name = Annotated[str, options.text("--name", metavar="NAME", help="What runtimes call the network.", show_default=True)]
_Network = Annotated[
    str,
    options.text(
        "--network",
        "--net",
        metavar="NAME",
        help="The network that containers are attached to.",
        autocompletion=complete.networks,
        show_default=True,
    ),
]


@plugins.command()
def install(
    *,
    bin_dir: _Bin = files.BIN_DIR,
    conf_dir: _Conf = files.CONF_DIR,
    network: _Network = "default",
    name: _Name = "fairlead",
    force: Annotated[bool, options.flag("--force", "-f", help="Write over files that others made or changed.")] = False,
) -> None:
    """Write the plugins, and a configuration that makes runtimes use them."""
    with _forced("fairlead cni install --force"):
        _tell("wrote", files.install(bin_dir, conf_dir, network, name, force=force), "everything is in place already")


@plugins.command()
def uninstall(
    *,
    bin_dir: _Bin = files.BIN_DIR,
    conf_dir: _Conf = files.CONF_DIR,
    name: _Name = "fairlead",
    force: Annotated[bool, options.flag("--force", "-f", help="Remove files that others made or changed, too.")] = False,
) -> None:
    """Remove what `install` wrote."""
    with _forced("fairlead cni uninstall --force"):
        _tell("removed", files.uninstall(bin_dir, conf_dir, name, force=force), "there was nothing to remove")


_CHECKS: Listing[Finding] = Listing(
    columns=(
        Column("RESULT", lambda one: one.level, style=lambda one: {"ok": "green"}.get(one.level, "bold red")),
        Column("WHAT", lambda one: one.check, style="bold"),
        Column("FINDING", lambda one: one.message, fold=True),
        Column("REMEDY", lambda one: one.remedy, fold=True),
    ),
    name=lambda one: one.check,
    tree=codec.to_tree,
    empty="",
)


@plugins.command()
def status(
    *,
    bin_dir: _Bin = files.BIN_DIR,
    conf_dir: _Conf = files.CONF_DIR,
    network: _Network = "default",
    name: _Name = "fairlead",
    output: options.Output = Format.TABLE,
) -> None:
    """Tell whether runtimes find the plugins, and whether these find the agent; exit 1 if not."""
    found = [*_installed(bin_dir, conf_dir, network, name), _agent(network)]
    _CHECKS.show(found, output)
    raise typer.Exit(0 if all(one.level == "ok" for one in found) else 1)


def _installed(bin_dir: Path, conf_dir: Path, network: str, name: str) -> Iterator[Finding]:
    """Whether each file that ``install`` would write is there as it would write it."""
    try:
        wanted = files.contents(bin_dir, conf_dir, network, name)
    except Unsupported as problem:
        yield Finding(check="client", level="error", message=str(problem))
        return
    for path, content in wanted.items():
        try:
            same = path.read_bytes() == content
        except FileNotFoundError:
            yield Finding(check=str(path), level="error", message="is not there", remedy="fairlead cni install")
        except OSError as problem:
            yield Finding(check=str(path), level="error", message=f"cannot be read: {problem.strerror}")
        else:
            if same:
                yield Finding(check=str(path), level="ok", message="is in place")
            else:
                message = "is otherwise than this version would write it"
                yield Finding(check=str(path), level="error", message=message, remedy="fairlead cni install --force")


def _agent(network: str) -> Finding:
    """Whether the agent answers, and knows the network."""
    try:
        now = Client().status()
        Client().network(network)
    except Problem as problem:
        message, remedy = fault.explain(problem, "fairlead cni status")
        return Finding(check="agent", level="error", message=message, remedy=remedy)
    if not now.ready:
        return Finding(check="agent", level="error", message=f"is not ready: {now.reason}", remedy="fairlead status")
    return Finding(check="agent", level="ok", message=f"is ready, with network {network}")


@contextmanager
def _forced(command: str) -> Iterator[None]:
    """A file that is in the way can be overcome by force."""
    try:
        yield
    except Conflict as problem:
        raise fault.remedy(problem, command) from None


def _tell(done: str, paths: Sequence[Path], nothing: str) -> None:
    for path in paths:
        write(f"{done} {path}")
    if not paths:
        fault.note(nothing)
