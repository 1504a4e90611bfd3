"""Every scenario of tests/scenarios with real knocks at real doors, on each plane and each kind of link, by one agent a plane.

A container that a scenario names is one of a few that are always there: it is attached with the labels, addresses and ports
that the scenario gives it, and detached when the scenario is told. Who asks in vain is waited for once a table, all at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from fairlead.api.schema import Change, Detach
from fairlead.model.address import Address, ContainerID, InterfaceName
from fairlead.model.meta import kind
from fairlead.model.namespace import Namespace as Namespaced
from tests.kernel.agents import Agent
from tests.kernel.knocking import Door, Knocker, knock
from tests.net import Namespace, Node, Outside, kept
from tests.scenarios import scenario
from tests.scenarios.scenario import NODE, NODE_ADDRESSES, OUTSIDE, OUTSIDE_ADDRESSES, SUBNETS, Pod, Probe, Reach, Scenario

EVERY = scenario.every()
PATIENCE, AGAIN = 0.3, 3.0
"""Seconds for an answer; and for one that should have come, which a busy machine may delay."""

Knock = tuple[str, str, Probe, Address, Address]


def doors() -> dict[str, set[int]]:
    """Every port of every scenario, by protocol."""
    found: dict[str, set[int]] = {}
    for probe in (one for told in EVERY for step in told.steps if isinstance(step, Reach) for one in step.truth):
        if probe.port:
            found.setdefault(probe.protocol, set()).add(probe.port)
    return found


class Machine(Node):
    """The node of the scenarios."""

    v4, v6 = map(str, NODE_ADDRESSES)


class Elsewhere(Outside):
    """Another machine, on a network of its own, that knows the way to the node and to its containers."""

    v4, v6 = map(str, OUTSIDE_ADDRESSES)

    def learn(self, node: Node) -> None:
        for family, via, subnet in ((4, node.v4, SUBNETS[0]), (6, node.v6, SUBNETS[1])):
            self.run("ip", f"-{family}", "route", "add", via, "dev", "eth0")
            self.run("ip", f"-{family}", "route", "add", subnet, "via", via)


class Town:
    """One agent, and as many containers as the largest scenario needs."""

    def __init__(self, cleanup: ExitStack, directory: Path, plane: str) -> None:
        self.node, self.outside = kept(cleanup, Machine(directory)), kept(cleanup, Elsewhere("outside"))
        self.node.plug(self.outside)
        self.outside.learn(self.node)
        self.agent = Agent(self.node, "--plane", plane, "--node", NODE, "--interval", "5")
        cleanup.callback(self.agent.remove)
        self.agent.start()
        most = max(
            len({pod.name for step in told.steps if isinstance(step, scenario.Run) for pod in step.pods}) for told in EVERY
        )
        self._rooms = [kept(cleanup, Namespace(f"pod{at}")) for at in range(most)]
        self._knockers: dict[str, Knocker] = {}
        everywhere = doors()
        for namespace in (self.node, self.outside, *self._rooms):
            self._knockers[namespace.name] = Knocker(cleanup, namespace, everywhere)
        self._numbers = count()

    def tell(self, told: Scenario) -> None:
        """A scenario from its beginning to its end; then nothing of it is left."""
        story = Story(self, told)
        try:
            for step in told.steps:
                story.tell(step)
            assert self.agent.drift() == []
        finally:
            story.end()

    def room(self, at: int) -> Namespace:
        return self._rooms[at]

    def answered(self, knocks: list[tuple[Namespace, Knock]], patience: float) -> dict[Knock, bool]:
        """Knock everywhere at once."""
        where = {one: (self._knockers[namespace.name], door(one)) for namespace, one in knocks}
        by: dict[Knocker, list[Door]] = {}
        for who, at in where.values():
            by.setdefault(who, []).append(at)
        heard = knock(by, patience)
        return {one: heard[at] for one, at in where.items()}

    def name(self) -> str:
        return f"told-{next(self._numbers)}"


def door(one: Knock) -> Door:
    """Where somebody knocks."""
    _, _, probe, _, to = one
    return Door(probe.protocol, str(to), probe.port)


class Story:
    """One scenario on its way."""

    def __init__(self, town: Town, told: Scenario) -> None:
        self._town, self._agent, self._name = town, town.agent, town.name()
        self._told = told
        self._pods: dict[str, Pod] = {}
        self._objects: dict[tuple[str, str, str], str] = {}

    def tell(self, step: scenario.Step) -> None:
        match step:
            case scenario.Run():
                for pod in step.pods:
                    self._run(pod)
            case scenario.Apply():
                thing = step.thing
                namespace = thing.metadata.namespace or ("default" if thing.plural == "networkpolicies" else "")
                self._agent.client.apply(thing)
                self._objects[kind(thing), namespace, thing.name] = thing.plural
            case scenario.Delete():
                self._delete((step.kind, step.namespace, step.name))
            case Reach():
                self._reach(step)

    def end(self) -> None:
        namespaces = [key for key, plural in self._objects.items() if plural == Namespaced.plural]
        for key in self._objects.keys() - namespaces:
            self._delete(key)
        for pod in self._pods.values():
            self._agent.client.detach(Detach(container=ContainerID(self._container(pod)), wait=True))
        for key in namespaces:
            self._delete(key)

    def _run(self, pod: Pod) -> None:
        container = self._container(pod)
        before = self._pods.get(pod.name)
        if before and before.ports != pod.ports:
            self._agent.client.detach(Detach(container=ContainerID(container), wait=True))
        elif before:
            gone = {label: None for label in before.labels if label not in pod.labels}
            labels: dict[str, str | None] = {**pod.labels, **gone}
            self._agent.client.change(Change(container=ContainerID(container), interface=InterfaceName("eth0"), labels=labels))
            self._pods[pod.name] = pod
            return
        self._pods[pod.name] = pod
        self._agent.attach(
            self._where(pod.name),
            "host" if pod.host else "pods",
            container=container,
            display=pod.name,
            namespace=pod.namespace,
            labels=pod.labels,
            namedPorts=pod.ports,
            **({} if pod.host else {"addresses": list(pod.addresses)}),
        )

    def _container(self, pod: Pod) -> str:
        return f"{self._name}-{pod.name}"

    def _delete(self, key: tuple[str, str, str]) -> None:
        plural = self._objects.pop(key)
        self._agent.client.delete(plural, "/".join(part for part in key[1:] if part))

    def _reach(self, step: Reach) -> None:
        knocks = [(self._where(one[0]), one) for one in self._knocks(step)]
        answered = self._town.answered(knocks, PATIENCE)
        late = [(room, one) for room, one in knocks if not answered[one] and step.truth[one[2]][one[0], one[1]]]
        if late:
            answered |= self._town.answered(late, AGAIN)
        for probe, truth in step.truth.items():
            found = {pair: self._agreed(answered, pair, probe) for pair in truth}
            assert found == truth, f"{probe}:\n{scenario.shown(found)}\nnot\n{scenario.shown(truth)}"

    def _agreed(self, answered: dict[Knock, bool], pair: tuple[str, str], probe: Probe) -> bool:
        told = {(at, to): yes for (who, whom, of, at, to), yes in answered.items() if (who, whom) == pair and of == probe}
        assert len(set(told.values())) == 1, f"{pair[0]} to {pair[1]}, {probe}: {told}"
        return next(iter(told.values()))

    def _knocks(self, step: Reach) -> Iterator[Knock]:
        for probe, truth in step.truth.items():
            families = [probe.family] if probe.family else [4, 6]
            for who, whom in truth:
                for at in self._at(who):
                    for to in self._at(whom):
                        if at.family == to.family and at.family in families:
                            yield who, whom, probe, at, to

    def _at(self, who: str) -> tuple[Address, ...]:
        return {NODE: NODE_ADDRESSES, OUTSIDE: OUTSIDE_ADDRESSES}.get(who) or self._pods[who].addresses

    def _where(self, who: str) -> Namespace:
        if who == OUTSIDE:
            return self._town.outside
        if who == NODE or self._pods[who].host:
            return self._town.node
        return self._town.room(list(self._pods).index(who))


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, plane: str) -> Iterator[Town]:
    """One for all scenarios of a plane."""
    with ExitStack() as cleanup:
        yield Town(cleanup, tmp_path_factory.mktemp(plane), plane)


@pytest.fixture(scope="module", params=["bridge", "routed"])
def network(town: Town, request: pytest.FixtureRequest) -> Iterator[None]:
    """What the containers are on: one bridge, or a routed link each."""
    town.agent.network("pods", *map(str, SUBNETS), driver=request.param, masquerade=False)
    yield
    town.agent.client.delete("networks", "pods")


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize("told", EVERY, ids=lambda one: one.name)
def test_who_reaches_whom(town: Town, told: Scenario) -> None:
    town.tell(told)
