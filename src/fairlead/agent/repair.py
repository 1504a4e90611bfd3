"""From differences to the steps that put them right. Runs in the kernel thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from fairlead.api.schema import Drift
from fairlead.datapath.base import PLANE
from fairlead.desired.state import Bridge, Chain, Limit, Link, NodeState, Row, Sub
from fairlead.desired.ways import Crypt, CryptPeer, Detour, Path, Tunnel, Vtep
from fairlead.kit import fault
from fairlead.links import bridges, chains, crypts, inside, limits, paths, tunnels

from .hands import Hands, attempt


def put_right(hands: Hands, guard: Callable[[Link], None], state: NodeState, drift: Iterable[Drift]) -> list[Exception]:
    """Each row by itself: what cannot be put right keeps nothing else wrong. ``guard``: what a link needs before it carries."""
    drift = list(drift)
    links = hands.links
    steps: list[Callable[[], object]] = []
    if any(one.table.startswith("nftables") for one in drift):
        steps.append(lambda: hands.filter.apply(state))
    if any(one.kind == "unexpected" and not one.table.startswith(("nftables", PLANE)) for one in drift):
        steps.append(lambda: links.prune(state))
    wrong = {(one.table, one.key) for one in drift}
    rows: list[tuple[str, Row]] = [(bridges.TABLE, row) for row in state.table(Bridge).values()]
    rows += [(tunnels.TABLE, row) for row in state.table(Tunnel).values()]
    rows += [(tunnels.ENDS, row) for row in state.table(Vtep).values()]
    rows += [(paths.TABLE, row) for row in state.table(Path).values()]
    rows += [(paths.DETOURS, row) for row in state.table(Detour).values()]
    rows += [(inside.TABLE, row) for row in state.table(Link).values()]
    rows += [(inside.TABLE, row) for row in state.table(Sub).values()]
    rows += [(limits.TABLE, row) for row in state.table(Limit).values()]
    rows += [(chains.TABLE, row) for row in state.table(Chain).values()]
    devices = [row for row in state.table(Crypt).values() if (crypts.TABLE, row.key) in wrong]
    steps += [partial(links.ensure, (row,), guard) for row in devices]
    if peers := [row for row in state.table(CryptPeer).values() if (crypts.PEERS, row.key) in wrong]:
        steps.append(partial(links.ensure, peers, guard))
    steps += [partial(links.ensure, (row,), guard) for table, row in rows if (table, row.key) in wrong]
    if any(one.table.startswith(PLANE) for one in drift):
        steps.append(lambda: hands.plane.apply(state))
    unguarded = [row for row in state.table(Link).values() if (f"{PLANE} links", row.key) in wrong]
    steps += [partial(guard, row) for row in unguarded]
    failures = []
    for step in steps:
        if failure := attempt(step):
            failures.append(failure)
        fault.point("repair.step")
    return failures
