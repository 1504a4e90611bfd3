"""A lab on its way out: a picture, tables of its nodes and pods, and who reaches whom."""

from __future__ import annotations

import sys
from shutil import get_terminal_size

from fairlead.lab import picture, record
from fairlead.lab.parts import Role
from fairlead.lab.report import READY, STOPPED, LabReport, MachineReport, PodReport
from fairlead.lab.topology import SWITCH
from fairlead.model import codec
from fairlead.model.meta import Value

from .out import Column, Format, Listing, age, clean, terminal, write

YES, NO, SELF = "\N{CHECK MARK}", "\N{BALLOT X}", "\N{MIDDLE DOT}"
_COLOURS = {READY: "green", STOPPED: "yellow", "running": "green"}
_HUES = {
    "● ready": "green",
    "○ stopped": "yellow",
    r"! [^│]*": "red",
    r"[═╤┌┐└┘│┴─╰]+": "bright_black",
    f".* {picture.CUT} .*": "red",
}
_WIDTH = 100
"""Of a picture that is on no terminal, unless COLUMNS says otherwise."""
_WIDEST = 14
"""Columns of a matrix that people can still read; beyond, what fails is listed."""


class Summary(Value, frozen=True, kw_only=True):
    """One lab in a list."""

    name: str
    state: str
    nodes: int = 0
    pods: int = 0
    store: str = ""
    network: str = ""
    created: str = ""


def summary(name: str) -> Summary:
    """What is known of a lab without asking anybody in it."""
    from fairlead.lab import pods  # noqa: PLC0415  # labs are listed without what runs on them

    found = record.load(name)
    if found is None or not found.ready or found.machine(SWITCH) is None:
        return Summary(name=name, state="not whole")
    nodes = found.spec.nodes
    up = [one for one in nodes if found.machine(one.name)]
    return Summary(
        name=name,
        state="running" if len(up) == len(nodes) else f"{len(nodes) - len(up)} nodes stopped",
        nodes=len(nodes),
        pods=sum(len(pods.wanted(found.spec, one)) for one in nodes),
        store=found.spec.store.driver or "",
        network=found.driver or found.network or "",
        created=found.created,
    )


LABS: Listing[Summary] = Listing(
    columns=(
        Column("NAME", lambda one: one.name, style="bold"),
        Column("STATE", lambda one: one.state, style=lambda one: _COLOURS.get(one.state, "yellow")),
        Column("NODES", lambda one: str(one.nodes), right=True),
        Column("PODS", lambda one: str(one.pods), right=True),
        Column("NETWORK", lambda one: one.network, style="cyan"),
        Column("STORE", lambda one: one.store),
        Column("AGE", lambda one: age(one.created), right=True),
    ),
    name=lambda one: one.name,
    tree=codec.to_tree,
    empty="No labs. Make one: fairlead lab up",
)

_MACHINES: Listing[MachineReport] = Listing(
    columns=(
        Column("NAME", lambda one: one.name, style="bold"),
        Column("ROLE", lambda one: one.role),
        Column("STATE", lambda one: one.state, style=lambda one: _COLOURS.get(one.state, "red")),
        Column("SUBNETS", lambda one: one.subnets, style="cyan", spare=2),
        Column("ADDRESSES", lambda one: one.addresses),
        Column("LABELS", lambda one: [f"{key}={value}" for key, value in one.labels.items()], spare=3),
        Column("PLANE", lambda one: one.plane, spare=1),
        Column("PID", lambda one: str(one.pid or ""), right=True, wide=True),
    ),
    name=lambda one: one.name,
    tree=codec.to_tree,
    empty="",
)

_PODS: Listing[tuple[str, PodReport]] = Listing(
    columns=(
        Column("POD", lambda row: row[1].name, style="bold"),
        Column("NODE", lambda row: row[0]),
        Column("NETWORK", lambda row: row[1].network, style="cyan"),
        Column("ADDRESSES", lambda row: row[1].addresses),
        Column("NAMESPACE", lambda row: row[1].namespace, wide=True),
    ),
    name=lambda row: row[1].name,
    tree=lambda row: codec.to_tree(row[1]),
    empty="",
)

_WHOLE: Listing[LabReport] = Listing(columns=(), name=lambda one: one.name, tree=codec.to_tree, empty="")


def show(of: LabReport, form: Format) -> None:
    """Print a lab."""
    if form not in {Format.TABLE, Format.WIDE}:
        _WHOLE.show([of], form, single=True)
        return
    _title(of)
    _gap()
    _picture(of)
    _gap()
    _MACHINES.show(of.machines, form)
    rows = [(machine.name, pod) for machine in of.machines for pod in machine.pods]
    if rows:
        _gap()
        _PODS.show(rows, form)
    if of.reach:
        _gap()
        _reach(of, form)


def _gap() -> None:
    sys.stdout.write("\n")


def _title(of: LabReport) -> None:
    nodes = [one for one in of.machines if one.role is Role.NODE]
    ready = sum(one.state == READY for one in nodes)
    network = f"network {of.network}" + (f" ({of.driver})" if of.driver else "") if of.network else "no network"
    write(clean(f"lab {of.name}: {ready} of {len(nodes)} nodes ready, {network}, store {of.store}, age {age(of.created)}"))


def _picture(of: LabReport) -> None:
    if not terminal():
        write("\n".join(map(clean, picture.draw(of, get_terminal_size((_WIDTH, 24)).columns))))
        return
    from rich.console import Console  # noqa: PLC0415  # only a terminal pays for it
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False)
    for line in picture.draw(of, console.width):
        text = Text(clean(line))
        for pattern, style in _HUES.items():
            text.highlight_regex(pattern, style)
        console.print(text, crop=False, soft_wrap=True)


def _reach(of: LabReport, form: Format) -> None:
    """A matrix, or, of a large lab, how many answers there were and which were missing."""
    asked = {target for row in of.reach.values() for target in row}
    targets = [source for source in of.reach if source in asked]
    if len(targets) > _WIDEST and form is not Format.WIDE:
        answers = [(one, other, ok) for one, row in of.reach.items() for other, each in row.items() for ok in each.values()]
        write(f"who reaches whom: {sum(ok for *_, ok in answers)} of {len(answers)} answered; -o wide shows all")
        for one, other in dict.fromkeys((one, other) for one, other, ok in answers if not ok):
            write(f"  {one} {NO} {other}")
        return
    columns = [Column[str]("FROM \\ TO", lambda source: source, style="bold"), *(_toward(of, target) for target in targets)]
    Listing(columns=columns, name=str, tree=str, empty="").show(list(of.reach), Format.TABLE)


def _toward(of: LabReport, target: str) -> Column[str]:
    """One column of the matrix."""
    return Column(target, lambda source: _mark(of, source, target), style=lambda source: _hue(of, source, target))


def _mark(of: LabReport, source: str, target: str) -> str:
    found = of.reach[source].get(target)
    if source == target or not found:
        return SELF
    if len(set(found.values())) == 1:
        return YES if all(found.values()) else NO
    return " ".join(f"{YES if ok else NO}{family}" for family, ok in found.items())


def _hue(of: LabReport, source: str, target: str) -> str:
    return {YES: "green", NO: "red", SELF: "bright_black"}.get(_mark(of, source, target), "yellow")
