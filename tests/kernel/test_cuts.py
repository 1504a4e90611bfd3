"""A connection that policies cut, as flows tell of it: that it is over, by which rule, at which end; on both planes alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fairlead.api.schema import Flow
from fairlead.model import codec
from tests.kernel.agents import Agent
from tests.kernel.knocking import Door, Knocker, knock
from tests.kernel.test_policy import PATIENCE, Town, agent, hold, knockers, policy, town  # noqa: F401  # fixtures
from tests.net import Containers, Namespace, Node, Outside
from tests.wait import eventually

Hold = Callable[[Namespace, str, int], Callable[[], str]]


def over(agent: Agent, source: str, target: str, **asked: str) -> list[Flow]:  # noqa: F811
    return [one for one in agent.client.flows(**{"from": source, "to": target, **asked}) if one.event == "close"]


def cut(agent: Agent, source: str, target: str, **asked: str) -> Flow:  # noqa: F811
    """The one connection of its kind that was cut, once it is told."""
    (found,) = eventually(lambda: over(agent, source, target, **asked), what=f"{source} to {target} is over")
    return found


def test_it_is_told_once_by_whom_and_at_which_end(town: Town, hold: Hold, knockers: dict[str, Knocker]) -> None:  # noqa: F811
    """Whoever sends what is dropped, and however often. Of who passes, and who was never let in, nothing is told."""
    kept = hold(town.rooms["web"], town.addresses["api", 4], 80)
    asking = hold(town.rooms["api"], town.addresses["db", 4], 80)
    asked = hold(town.rooms["db"], town.addresses["web", 6], 80)
    door = Door("udp", town.addresses["db", 4], 53)
    assert [one() for one in (kept, asking, asked)] == ["answered"] * 3
    assert all(knock({knockers["api"]: [door]}, PATIENCE).values())
    town.apply(
        policy("out", "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 81}]}]}", "data")
        + policy("in", "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}", "data")
        + policy("any", "{podSelector: {}, policyTypes: [Egress], egress: [{}]}")
    )
    assert [one() for one in (kept, asking, asked)] == ["answered", "silence", "silence"]
    assert not any(knock({knockers["api"]: [door]}, PATIENCE).values())
    assert not town.rooms["rogue"].connects(town.addresses["db", 4], 80, deadline=PATIENCE)
    assert [one() for one in (kept, asking, asked)] == ["answered", "silence", "silence"]

    entered = cut(town.agent, "shop/api", "data/db", port="80")
    assert (entered.verdict, entered.reason, entered.policy) == ("forwarded", "denied by policy", "default deny")
    assert (entered.direction, entered.egress_policy, entered.ingress_policy) == ("ingress", "shop/any egress[0]", "")
    assert entered.sent.packets >= 3
    assert entered.received.packets >= 2
    opened = cut(town.agent, "data/db", "shop/web", port="80")
    assert (opened.reason, opened.policy, opened.direction) == ("denied by policy", "default deny", "egress")
    assert not over(town.agent, "shop/web", "shop/api", port="80")
    assert not over(town.agent, "default/rogue", "data/db")


def test_by_a_rule_that_has_a_name(town: Town, hold: Hold) -> None:  # noqa: F811
    say = hold(town.rooms["rogue"], town.addresses["web", 4], 80)
    assert say() == "answered"
    nobody = "{name: nobody else, action: Deny, from: [{namespaces: {}}]}"
    town.apply(
        "{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {name: tenants},"
        " spec: {tier: Admin, priority: 1, subject: {namespaces: {matchLabels: {kubernetes.io/metadata.name: shop}}},"
        f" ingress: [{nobody}]}}}}"
    )
    assert say() == "silence"
    found = cut(town.agent, "default/rogue", "shop/web")
    rule = 'Admin/tenants ingress[0] "nobody else"'
    assert (found.reason, found.policy, found.direction) == ("denied by policy", rule, "ingress")


def test_of_a_published_port(agent: Agent, containers: Containers, node: Node, outside: Outside, hold: Hold) -> None:  # noqa: F811
    """What was translated on its way is found as well."""
    agent.network("town", "10.60.0.0/24")
    web = containers.new("web")
    agent.attach(web, "town", namespace="shop", ports=[{"hostPort": 8080, "containerPort": 80}])
    web.serve("tcp", 80)
    say = hold(outside, node.v4, 8080)
    assert say() == "answered"
    agent.client.apply(codec.from_yaml(policy("a", "{podSelector: {}}"))[0])
    assert say() == "silence"
    found = cut(agent, outside.v4, "shop/web")
    assert (found.reason, found.direction, found.destination.port) == ("denied by policy", "ingress", 80)


@pytest.mark.parametrize("plane", ["nftables"], indirect=True)
def test_what_is_allowed_again_goes_on_and_is_told_of(town: Town, hold: Hold) -> None:  # noqa: F811
    """Where the kernel's tracker has it yet; with eBPF what was cut is over."""
    say = hold(town.rooms["api"], town.addresses["db", 4], 80)
    assert say() == "answered"
    applied = town.apply(policy("a", "{podSelector: {}}", "data"))
    assert say() == "silence"
    cut(town.agent, "shop/api", "data/db", port="80")
    town.forget(applied)

    def goes_on() -> list[Flow]:
        assert say() == "answered"
        return [one for one in town.agent.client.flows(**{"from": "shop/api", "to": "data/db"}) if one.event == "active"]

    eventually(goes_on, deadline=30, what="a connection that goes on is told of")


def test_what_ends_by_itself_was_not_cut(town: Town) -> None:  # noqa: F811
    """Not even where it is denied by then: nothing of it was dropped."""
    assert town.rooms["api"].connects(town.addresses["db", 4], 80)
    assert cut(town.agent, "shop/api", "data/db", port="80").reason == ""
