"""Every scenario told to the pure model: rows looked up as the kernel does, and explanations, both say what the tables say."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.desired.state import NodeState
from fairlead.model import codec
from fairlead.model.address import Address, ContainerID, Interface, InterfaceName, Name
from fairlead.model.endpoint import Endpoint, EndpointSpec, Sandbox
from fairlead.model.meta import Meta, Object, kind
from fairlead.model.policy import NetworkPolicy
from fairlead.policy.book import Book
from tests.scenarios import scenario
from tests.scenarios.scenario import NODE, NODE_ADDRESSES, OUTSIDE, OUTSIDE_ADDRESSES, Pod, Probe, Reach, Scenario
from tests.unit.policy_oracle import lookup
from tests.unit.policy_world import done

EVERY = scenario.every()


def endpoint(pod: Pod) -> Endpoint:
    return Endpoint(
        metadata=Meta(name=f"{pod.name}:eth0", namespace=pod.namespace, labels=pod.labels),
        spec=EndpointSpec(
            container=ContainerID(pod.name),
            interface=InterfaceName("eth0"),
            network=Name("host" if pod.host else "pods"),
            sandbox=Sandbox(path=f"/run/netns/{pod.name}"),
            display=pod.name,
            addresses=() if pod.host else tuple(Interface(f"{one}/{64 if one.family == 6 else 24}") for one in pod.addresses),
            named_ports=pod.ports,
        ),
    )


class Model:
    """A book that is told a scenario, and the rows that follow from it."""

    def __init__(self) -> None:
        self.book, self.state = Book(NODE), NodeState()
        self.pods: dict[str, Pod] = {}
        self.objects: dict[tuple[str, str, str], Object] = {}
        addresses = [{"type": "InternalIP", "address": one} for one in NODE_ADDRESSES]
        self.take(codec.from_item({"kind": "Node", "metadata": {"name": NODE}, "status": {"addresses": addresses}}))

    def take(self, thing: Any) -> None:
        namespace = thing.metadata.namespace or "default" if isinstance(thing, NetworkPolicy) else ""
        self.objects[kind(thing), namespace, thing.name] = thing
        self.state = done(self.state, self.book.put(thing))

    def tell(self, step: scenario.Step) -> None:
        match step:
            case scenario.Run():
                for pod in step.pods:
                    self.pods[pod.name] = pod
                    self.state = done(self.state, self.book.put(endpoint(pod)))
            case scenario.Apply():
                self.take(step.thing)
            case scenario.Delete():
                gone: Any = self.objects.pop((step.kind, step.namespace, step.name))
                self.state = done(self.state, self.book.drop(gone))
            case Reach():
                for probe, truth in step.truth.items():
                    for of in (self.rows, self.words):
                        found = {pair: of(*pair, probe) for pair in truth}
                        assert found == truth, f"{of.__name__}, {probe}:\n{scenario.shown(found)}\nnot\n{scenario.shown(truth)}"

    def rows(self, who: str, whom: str, probe: Probe) -> bool:
        """What the kernel would find, in every family that is asked; the answers must agree."""
        return self._agreed(self._rows(who, whom, *pair, probe) for pair in self.pairs(who, whom, probe))

    def words(self, who: str, whom: str, probe: Probe) -> bool:
        """What the explanation ends with."""
        pairs = self.pairs(who, whom, probe)
        return self._agreed(self.book.explain(*pair, probe.protocol, probe.port).allowed for pair in pairs)

    @staticmethod
    def _agreed(answers: Any) -> bool:
        (answer,) = set(answers)
        return bool(answer)

    def pairs(self, who: str, whom: str, probe: Probe) -> list[tuple[Address, Address]]:
        families = [probe.family] if probe.family else [4, 6]
        return [(one, other) for one in self.at(who) for other in self.at(whom) if one.family == other.family in families]

    def at(self, who: str) -> tuple[Address, ...]:
        return {NODE: NODE_ADDRESSES, OUTSIDE: OUTSIDE_ADDRESSES}.get(who) or self.pods[who].addresses

    def _rows(self, who: str, whom: str, source: Address, to: Address, probe: Probe) -> bool:
        if source == to:
            return True
        asker, asked = self.pods.get(who), self.pods.get(whom)
        if asker and not asker.host and not self._passes(asker, "egress", to, probe):
            return False
        own = source in NODE_ADDRESSES  # what the node sends to its own containers is not asked about
        return not asked or asked.host or own or self._passes(asked, "ingress", source, probe)

    def _passes(self, subject: Pod, way: str, peer: Address, probe: Probe) -> bool:
        ingress, egress = self.book.subject(endpoint(subject))
        span = lookup(self.state, ingress if way == "ingress" else egress, peer, probe.protocol, probe.port)
        return span is None or span.allow


@pytest.mark.parametrize("told", EVERY, ids=lambda one: one.name)
def test_the_model_agrees(told: Scenario) -> None:
    model = Model()
    for step in told.steps:
        model.tell(step)


@pytest.mark.parametrize("told", EVERY, ids=lambda one: one.name)
def test_a_scenario_says_what_it_is_about_and_ends_with_what_must_hold(told: Scenario) -> None:
    assert told.about.endswith(".")
    assert isinstance(told.steps[-1], Reach)
    asked = [pair for step in told.steps if isinstance(step, Reach) for truth in step.truth.values() for pair in truth.values()]
    assert len(set(asked)) == 2 or told.name == "open", "a table of one answer alone proves little"


def test_there_are_scenarios() -> None:
    assert len(EVERY) >= 25
