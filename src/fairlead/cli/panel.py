"""The agent's numbers as a picture: a panel with how full each pool is. Lines of ``key: value`` in a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fairlead.api.schema import FlowStatus, Pool, Status

from .kinds import used
from .out import clean, duration, plain, size, terminal, write

if TYPE_CHECKING:
    from rich.table import Table

_BAR = 20
_NEARLY_FULL, _FILLING = 0.9, 0.7


def show(now: Status, containers: int) -> None:
    """Print the status; ``containers`` is how many of this runtime run."""
    if terminal():
        _rich(now, containers)
        return
    lines = "\n".join(f"{key}: {value}" for key, value in facts(now, containers))
    pools = [[one.network, one.cidr, str(one.used), str(one.size), str(one.elsewhere)] for one in now.pools]
    write(lines + ("\n\n" + plain([["NETWORK", "POOL", "USED", "SIZE", "ELSEWHERE"], *pools]) if pools else ""))


def facts(now: Status, containers: int) -> list[tuple[str, str]]:
    """What is worth knowing, in the order in which people ask."""
    ready = "ready" if now.ready else f"not ready: {now.reason or 'starting'}"
    waiting = f", {now.pending} being removed" if now.pending else ""
    return [
        ("state", clean(ready)),
        ("node", clean(now.node)),
        ("version", now.version),
        ("pid", str(now.pid)),
        ("uptime", duration(now.uptime)),
        ("memory", size(now.memory)),
        ("plane", now.plane),
        ("networks", str(now.networks)),
        ("endpoints", f"{now.endpoints}{waiting}"),
        ("containers", f"{containers} by fairlead run"),
        ("policies", str(now.policies)),
        ("repairs", f"{now.repairs}, last compared {duration(now.last_check)} ago"),
        ("flows", _flows(now.flows) if now.flows else "off"),
        *((f"{name} in the kernel", f"{used} of {most}: fairlead doctor") for name, (used, most) in now.maps.items()),
        *(("narrow way", clean(one.told)) for one in now.narrow),
        *(("unreadable", clean(f"{one.plural} {one.name}: {one.reason}")) for one in now.unreadable),
    ]


def _flows(of: FlowStatus) -> str:
    drops = f", {of.drops} packet{'s' if of.drops > 1 else ''} dropped" if of.drops else ""
    return f"{of.seen} seen, {of.lost + of.missed} lost{drops}"


def _rich(now: Status, containers: int) -> None:
    from rich import box  # noqa: PLC0415  # 40 ms that a pipe need not pay
    from rich.console import Console, Group  # noqa: PLC0415
    from rich.panel import Panel  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    grid = Table.grid(padding=(0, 3))
    known = facts(now, containers)[1:]
    half = (len(known) + 1) // 2
    for left, right in zip(known[:half], [*known[half:], ("", "")], strict=False):
        grid.add_row(*(Text(word, style="bright_black" if at % 2 == 0 else "") for at, word in enumerate((*left, *right))))
    colour = "green" if now.ready else "red"
    title = Text.assemble((" fairlead ", "bold"), ("\N{BLACK CIRCLE} ", colour), (f"{facts(now, containers)[0][1]} ", colour))
    inside = Group(grid, Text(), _pools(now.pools)) if now.pools else grid
    Console(highlight=False).print(
        Panel(
            inside, title=title, title_align="left", box=box.ROUNDED, border_style="bright_black", padding=(1, 2), expand=False
        )
    )


def _pools(pools: Sequence[Pool]) -> Table:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table.grid(padding=(0, 2))
    for pool in pools:
        part = 1.0 - pool.left / pool.size if pool.size else 1.0
        colour = "red" if part >= _NEARLY_FULL else "yellow" if part >= _FILLING else "green"
        full = min(_BAR, max(round(part * _BAR), 1 if pool.left < pool.size else 0))
        bar = Text.assemble(
            ("\N{BOX DRAWINGS HEAVY HORIZONTAL}" * full, colour),
            ("\N{BOX DRAWINGS HEAVY HORIZONTAL}" * (_BAR - full), "bright_black"),
        )
        table.add_row(
            Text(clean(pool.network), style="bold"),
            Text(pool.cidr, style="cyan"),
            bar,
            Text(used(pool, " of "), justify="right"),
        )
    return table
