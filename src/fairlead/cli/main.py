"""``fairlead``: the one table of commands, and the one place where problems become an exit status.

A command's module is imported when the command is used, so that each starts fast; ``--help`` imports them all.

Exit status: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted; ``run`` and ``exec`` pass on that of their
command, and use 125, 126 and 127 as container runtimes do.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from fairlead import __version__
from fairlead.kernel.errors import KernelError
from fairlead.model import errors

from . import fault, options

COMMANDS: dict[str, str] = {
    "up": "node",
    "down": "node",
    "status": "node",
    "doctor": "node",
    "flows": "flows",
    "run": "run",
    "ps": "containers",
    "exec": "containers",
    "logs": "containers",
    "port": "containers",
    "inspect": "containers",
    "stop": "containers",
    "rm": "containers",
    "attach": "attach",
    "detach": "attach",
    "network": "network",
    "apply": "objects",
    "get": "objects",
    "delete": "objects",
    "label": "labels",
    "create": "labels",
    "policy": "policy",
    "wireguard": "wireguard",
    "bgp": "bgp",
    "cni": "cni",
    "lab": "lab",
    "version": "node",
}
"""Every command and the module that holds it, in the order of ``--help``."""


_AWAY = ("--kubeconfig", "--context", "--node")
"""Options before a command that are about a cluster, which ``away`` takes."""

_GROUPS = {"network", "create", "policy", "wireguard", "bgp", "cni", "lab"}

_LINES = re.compile(r"(?<!\n)\n(?!\n)")
"""Where a docstring's line ends for the editor's sake alone; the terminal has a width of its own."""


class Commands(TyperGroup):
    """The commands of ``COMMANDS``, each loaded when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # the base's signature
        """All names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One command, or None."""
        if cmd_name not in COMMANDS:
            close = get_close_matches(cmd_name, COMMANDS, n=1)
            if close and not ctx.resilient_parsing:
                ctx.fail(f"There is no command {cmd_name!r}. Did you mean {close[0]!r}?")
            return None
        return _loaded(COMMANDS[cmd_name])[cmd_name]


@cache
def _loaded(module: str) -> dict[str, Any]:
    """The commands of one module, by name."""
    commands: dict[str, Any] = dict(get_group(import_module(f"fairlead.cli.{module}").app).commands)
    for command in commands.values():
        for one in (command, *getattr(command, "commands", {}).values()):
            one.help = _LINES.sub(" ", one.help or "")
    return commands


app = typer.Typer(
    name="fairlead",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"fairlead {__version__}")
        raise typer.Exit


@app.callback(help="A container network for Linux: addresses, links, NAT, published ports, isolation.")
def _options(
    *,
    _: Annotated[bool, options.flag("--version", help="Print the version.", callback=_version, is_eager=True)] = False,
    kubeconfig: Annotated[
        str,
        options.text(
            "--kubeconfig",
            metavar="FILE",
            help="Ask the agents of a Kubernetes cluster, from afar, as kubectl would reach it by this file.",
        ),
    ] = "",
    context: Annotated[str, options.text("--context", metavar="NAME", help="The same, by a context of the kubeconfig.")] = "",
    node: Annotated[str, options.text("--node", metavar="NAME", help="From afar: the node whose agent is asked.")] = "",
) -> None:
    """Take the options that come before a command. Those of a cluster were taken before (``away``)."""
    del kubeconfig, context, node


def main() -> None:
    """Run the command line and exit with its status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(run(sys.argv[1:]))


def kubectl() -> None:
    """The same as ``kubectl fairlead``: the cluster is the one that kubectl would ask."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(run(sys.argv[1:], away=True))


def run(arguments: list[str], *, away: bool = False) -> int:
    """Run one command; return its exit status. ``away``: it is for a cluster, whether it says so or not."""
    if not away and not any(word.partition("=")[0] in _AWAY for word in arguments[:1]):
        return _here(arguments)
    from . import away as cluster  # noqa: PLC0415  # it takes long to import, and few need it

    try:
        asked = cluster.asked(arguments, always=away)
        return cluster.run(asked, _here) if asked else _here(arguments)
    except errors.Problem as problem:
        fault.tell(*fault.explain(problem, "fairlead"))
        return 1


def _here(arguments: list[str]) -> int:
    """Run one command against the agent that is found here. Whatever happens is said in one line."""
    name = next((word for word in arguments if word in COMMANDS), "")
    command = _path(arguments, name)
    own = 125 if name in {"run", "exec"} else 1
    try:
        return int(app(arguments, prog_name="fairlead", standalone_mode=False) or 0)
    except errors.Problem as problem:
        fault.tell(*fault.explain(problem, command))
        return own
    except typer.TyperException as problem:
        return _usage(problem, command)
    except KernelError as problem:
        fault.tell(str(problem))
        return own
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as problem:
        fault.tell(problem.strerror or str(problem) if problem.filename is None else f"{problem.filename}: {problem.strerror}")
        return own
    except Exception as problem:
        if os.environ.get("FAIRLEAD_DEBUG"):
            raise
        fault.tell(
            f"a fault of Fairlead itself: {type(problem).__name__}: {problem}", f"FAIRLEAD_DEBUG=1 {command} ..., and report it"
        )
        return own


def _path(arguments: list[str], name: str) -> str:
    """The command as it is asked for help: ``fairlead network create``."""
    words = ["fairlead", *([name] if name else [])]
    if name in _GROUPS:
        words += [word for word in arguments[arguments.index(name) + 1 :][:1] if not word.startswith("-")]
    return " ".join(words)


def _usage(problem: typer.TyperException, command: str) -> int:
    context = getattr(problem, "ctx", None)
    where = context.command_path if context else command
    message = problem.format_message()
    if message:
        fault.tell(message[0].lower() + message[1:], f"{where} --help")
    return problem.exit_code
