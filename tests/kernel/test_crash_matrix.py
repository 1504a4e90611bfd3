"""Killed at every step: each thing that the agent can be asked for, ended at each fault point on its way, then started again.

A scenario is run once with the points traced. Each point on its way, each time it is passed, is a cell: everything is made
ready, the agent is armed and asked, it kills itself there, it is started again, and what happens next happens (the runtime
repeats the call, undoes it, forgets it, or the container is gone). Then kernel, store, pools and agent must tell of the same
containers, exactly those that should be there; two containers that have nothing to do with it have lost no packet and no
byte meanwhile. A point that no scenario passes fails: a new one is tested or there is a scenario too few.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.kernel import crash_containers, crash_networks
from tests.kernel.crash import World, points
from tests.kernel.crash_keys import Keyed
from tests.kernel.traffic import Traffic
from tests.net import Containers, Namespace, Node, Outside

SCENARIOS: dict[str, Callable[[World, Namespace], Any]] = {
    "ADD, asked again": crash_containers.Add,
    "ADD, then DEL": crash_containers.AddUndone,
    "ADD, container gone": crash_containers.AddVanished,
    "ADD refused by the kernel": crash_containers.Refused,
    "ADD of a restarted container": crash_containers.Again,
    "ADD with an inline network": crash_containers.Inline,
    "ADD in a chain": crash_containers.Chained,
    "DEL in a chain": crash_containers.ChainedDel,
    "DEL, asked again": crash_containers.Del,
    "DEL, never again": crash_containers.DelOnce,
    "DEL, container gone": crash_containers.DelVanished,
    "detach by the API": crash_containers.Detach,
    "GC": crash_containers.Collect,
    "container vanishes": crash_containers.Vanished,
    "ADD of a single address": crash_containers.Single,
    "ADD of a single address, container gone": crash_containers.SingleVanished,
    "DEL of a single address": crash_containers.SingleDel,
    "start, remembered DEL": crash_containers.Remembered,
    "start": crash_containers.Start,
    "start onto ruins": crash_containers.StartBroken,
    "network created": crash_networks.Create,
    "network changed": crash_networks.Change,
    "network refused": crash_networks.CreateRefused,
    "network deleted": crash_networks.Remove,
    "network of many nodes created": crash_networks.CreateWide,
    "network of many nodes deleted": crash_networks.RemoveWide,
    "purge": crash_networks.Purge,
    "policy applied": crash_networks.Ruled,
    "policy deleted": crash_networks.Freed,
    "ADD under a policy": crash_networks.RuledAdd,
    "ipam ADD": crash_networks.Lease,
    "ipam DEL": crash_networks.LeaseDel,
}

KEYS = "keys replaced"
PASSED: dict[str, list[str]] = {}
"""The points that each scenario passed."""


@pytest.fixture
def world(cleanup: ExitStack, node: Node, outside: Outside, containers: Containers) -> Iterator[World]:
    made = World(node, outside, containers)
    cleanup.callback(made.agent.remove)
    made.begin()
    return made


@pytest.mark.parametrize("what", SCENARIOS)
def test_killed_at_every_step(world: World, what: str, record_matrix: dict[str, tuple[int, str]]) -> None:
    make = SCENARIOS[what]
    traffic = Traffic(world.bystanders[1], world.bystanders[0], "10.50.0.2") if getattr(make, "harmless", True) else None
    PASSED[what] = _traced(world, make)
    seen: Counter[str] = Counter()
    for point in PASSED[what]:
        seen[point] += 1
        try:
            _cell(world, make(world, world.container()), f"{point}:{seen[point]}")
        except BaseException as problem:
            problem.add_note(f"killed at {point}:{seen[point]}; on the way: {PASSED[what]}")
            problem.add_note(world.agent.log[-3000:])
            raise
    world.exactly()
    record_matrix[what] = len(PASSED[what]), ""
    if traffic:
        lost = traffic.stop()
        record_matrix[what] = (
            len(PASSED[what]),
            f"{lost.sent} pings and {lost.bytes_taken >> 10} KiB beside it, {lost.lost} lost",
        )
        assert lost.nothing, lost


@pytest.mark.needs("wireguard-go", "tcpdump")
def test_killed_while_keys_are_replaced(
    cleanup: ExitStack, tmp_path: Path, containers: Containers, record_matrix: dict[str, tuple[int, str]]
) -> None:
    """Packets to another node stay encrypted, and pass, whatever half of a new key is there."""
    keyed = Keyed(cleanup, tmp_path, containers)
    PASSED[KEYS] = list(dict.fromkeys(keyed.traced(2)))  # how often one is passed depends on when others are heard
    seen: Counter[str] = Counter()
    for generation, point in enumerate(PASSED[KEYS], 3):
        seen[point] += 1
        try:
            keyed.killed(f"{point}:{seen[point]}", generation)
        except BaseException as problem:
            problem.add_note(f"killed at {point}:{seen[point]}; on the way: {PASSED[KEYS]}")
            problem.add_note(keyed.agent.log[-3000:])
            raise
    record_matrix[KEYS] = len(PASSED[KEYS]), ""


def test_every_point_is_passed() -> None:
    """Those above have run all of them, or this says nothing."""
    if set(PASSED) != {*SCENARIOS, KEYS}:
        pytest.skip("not every scenario ran")
    there = points()
    assert not [name for name, times in Counter(there).items() if times > 1], "a name stands for one place"
    passed = {point for each in PASSED.values() for point in each}
    assert set(there) - passed == set()


def _traced(world: World, make: Callable[[World, Namespace], Any]) -> list[str]:
    """Everything once, without a fault."""
    case = make(world, world.container())
    case.ready()
    world.settled()
    before = len(world.passed)
    world.arm("trace")
    case.verb()
    returned = len(world.passed)
    world.settled()  # by requests of its own, which are not on the way
    world.disarm()
    passed = world.passed[before:returned] + [one for one in world.passed[returned:] if not one.startswith("request.")]
    passed = [one for one in passed if not one.startswith(getattr(case, "incidental", ()))]
    if getattr(case, "once", False):
        passed = list(dict.fromkeys(passed))
    getattr(case, "away", case.nothing)()
    case.then()
    world.exactly()
    case.clear()
    world.exactly()
    assert passed
    return passed


def _cell(world: World, case: Any, fault: str) -> None:
    case.ready()
    world.settled()
    world.arm(fault)
    case.verb()
    world.died()
    world.disarm()
    getattr(case, "away", case.nothing)()
    world.agent.start()
    getattr(case, "recovered", world.consistent)()
    case.then()
    world.exactly()
    case.clear()
