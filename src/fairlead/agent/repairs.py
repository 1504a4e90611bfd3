"""Repairs: the steps that put right what a comparison has found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fairlead.api.schema import Drift
from fairlead.datapath.base import PLANE
from fairlead.desired.state import Bridge, Chain, Limit, Link, NodeState, Sub
from fairlead.desired.ways import Crypt, CryptPeer, Detour, Path, Tunnel, Vtep
from fairlead.links import bridges, chains, crypts, inside, limits, paths, tunnels

from .hands import Hands

Step = Callable[[], object]

_TABLES: dict[str, tuple[type[Any], ...]] = {
    bridges.TABLE: (Bridge,),
    tunnels.TABLE: (Tunnel,),
    tunnels.ENDS: (Vtep,),
    paths.TABLE: (Path,),
    paths.DETOURS: (Detour,),
    inside.TABLE: (Link, Sub),
    limits.TABLE: (Limit,),
    chains.TABLE: (Chain,),
}
"""In the order in which one stands on another."""


def steps(state: NodeState, drift: Sequence[Drift], hands: Hands, guard: Callable[[Link], None]) -> list[Step]:
    """What to do, one after another, each by itself; ``guard`` is what a link is given before it carries anything."""
    links, found = hands.links, list[Step]()
    if any(one.table.startswith("nftables") for one in drift):
        found.append(lambda: hands.filter.apply(state))
    if any(one.kind == "unexpected" and not one.table.startswith(("nftables", PLANE)) for one in drift):
        found.append(lambda: links.prune(state))
    wrong = {(one.table, one.key) for one in drift}
    devices = [row for row in state.table(Crypt).values() if (crypts.TABLE, row.key) in wrong]
    found += [partial(links.ensure, (row,), guard) for row in devices]
    if peers := [row for row in state.table(CryptPeer).values() if (crypts.PEERS, row.key) in wrong]:
        found.append(partial(links.ensure, peers, guard))
    for table, kinds in _TABLES.items():
        rows = [row for of in kinds for row in state.table(of).values() if (table, row.key) in wrong]
        found += [partial(links.ensure, (row,), guard) for row in rows]
    if any(one.table.startswith(PLANE) for one in drift):
        found.append(lambda: hands.plane.apply(state))
    unguarded = [row for row in state.table(Link).values() if (f"{PLANE} links", row.key) in wrong]
    return [*found, *(partial(guard, row) for row in unguarded)]
