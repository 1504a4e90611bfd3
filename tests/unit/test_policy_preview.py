"""What a preview tells is what the reference says before and after, for every pair; and it tells it shortly."""

from __future__ import annotations

import asyncio
from itertools import product
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fairlead.agent.preview import Scene, preview
from fairlead.api.schema import Proposal
from fairlead.model import codec
from fairlead.model.address import Address
from fairlead.policy.book import Book
from fairlead.policy.preview import Preview, Row, Workloads, _key
from tests.unit.policy_oracle import NUMBERS, allowed, owner
from tests.unit.policy_world import ANY_POLICY, ANYTHING, ASKED, endpoint, latest, world
from tests.unit.test_policy_reach import allows

WEB = endpoint("web", "shop", {"app": "web"}, ("10.0.0.1",))
TWIN = endpoint("twin", "shop", {"app": "web"}, ("10.0.0.4",))
DB = endpoint("db", "shop", {"app": "db"}, ("10.0.0.2", "fd00::2"))
API = endpoint("api", "shop", {"app": "api"}, ("10.0.0.5",))
SPY = endpoint("spy", "red", {}, ("10.0.0.3", "fd00::3"))
ENDS = (WEB, TWIN, DB, API, SPY)


def books(before: list[Any], after: list[Any]) -> Preview:
    found = []
    for things in (before, after):
        book = Book()
        book.put(*things)
        found.append(book)
    return Preview(*found)


def policy(spec: dict[str, Any], kind: str = "NetworkPolicy", name: str = "p") -> Any:
    meta = {"name": name, **({"namespace": "shop"} if kind == "NetworkPolicy" else {})}
    return codec.from_item({"kind": kind, "metadata": meta, "spec": spec})


def test_what_is_isolated_is_told_by_workload_and_namespace() -> None:
    change = policy({"podSelector": {"matchLabels": {"app": "db"}}})
    assert books([*ENDS], [*ENDS, change]).rows() == [
        Row(allowed=False, sources=("*", "world"), destinations=("shop/db",), ports="everything", pairs=5),
    ]


def test_ports_and_families_are_told_apart() -> None:
    before = policy({"podSelector": {"matchLabels": {"app": "db"}}})
    block = {"ipBlock": {"cidr": "10.0.0.0/24", "except": ["10.0.0.1/32", "10.0.0.4/32"]}}
    after = policy({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": [block], "ports": [{"port": 5432}]}]})
    rows = books([*ENDS, before], [*ENDS, after]).rows()
    assert rows == [
        Row(allowed=True, sources=("shop/api", "10.0.0.0/24"), destinations=("shop/db",), ports="tcp 5432", pairs=2),
        Row(allowed=True, sources=("red/spy",), destinations=("shop/db",), ports="tcp 5432 (IPv4)", pairs=1),
    ]


def test_containers_of_other_nodes_are_under_policies_too() -> None:
    far = replace(WEB, metadata=replace(WEB.metadata, name="web:eth0@n2"), spec=replace(WEB.spec, node="n2"))
    change = policy({"podSelector": {"matchLabels": {"app": "web"}}})
    asked = asyncio.run(preview(Scene("n1", [DB, far], []), Proposal(apply=(codec.to_tree(change),)), lambda thing: thing))
    assert [(one.allowed, one.destinations) for one in asked.differences] == [(False, ("shop/web",))]


def test_a_rule_that_changes_nothing_for_anybody_is_no_change() -> None:
    spec = {
        "tier": "Baseline",
        "priority": 1,
        "subject": {"namespaces": {}},
        "ingress": [{"action": "Accept", "from": [{"namespaces": {}}]}],
    }
    assert books([*ENDS], [*ENDS, policy(spec, "ClusterNetworkPolicy")]).rows() == []


def test_long_lists_are_said_shortly() -> None:
    names = Workloads(["shop/a", "shop/b", "shop/c", "red/a", "blue/a", "blue/b"])
    assert names.shorten(["shop/a", "shop/b", "shop/c", "red/a"]) == ("red/a", "shop/*")
    assert names.shorten(["shop/a", "shop/b"], but="shop/c") == ("shop/*",)
    assert names.shorten(["shop/a", "shop/b", "shop/c", "red/a", "blue/a"], but="blue/b") == ("*",)
    assert names.shorten(["world", "red/a"]) == ("red/a", "world")
    assert names.shorten([]) == ()


THINGS = st.lists(ANYTHING, max_size=8)


@settings(max_examples=settings().max_examples // 2, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(THINGS, st.lists(ANY_POLICY, min_size=1, max_size=2), st.booleans())
def test_it_tells_what_the_reference_says(things: list[Any], change: list[Any], forth: bool) -> None:
    before, after = (latest(things), latest([*things, *change]))
    if not forth:
        before, after = after, before
    worlds = (world(before), world(after))
    told = books(before, after)
    for one, other in product(worlds[1].endpoints, repeat=2):
        for source, to in addresses(worlds[1], one, other):
            family = (4, 6).index(source.family)
            numbers = _key(*(told._unit(told._likeness(end), 1) for end in (one, other)))[family]
            assert numbers
            for at in (0, 1):
                reach = told._reaches[numbers[2 * at]] & told._reaches[numbers[2 * at + 1]]
                for protocol, port in ASKED:
                    assert allows(reach, NUMBERS[protocol], port) == allowed(worlds[at], source, to, protocol, port)
    assert bool(told.rows()) or before == after or not differs(told)


def differs(told: Preview) -> bool:
    """Whether any pair that it did not look at is otherwise: none may be."""
    return any(told._changes(_key(one, other)) for one in told.units for other in told.units if one is not other)


def addresses(of: Any, one: Any, other: Any) -> list[tuple[Address, Address]]:
    """Pairs of addresses of two endpoints, of one family, each address its endpoint's own."""
    ends = [[at.address for at in end.spec.addresses if owner(of, at.address) is end] for end in (one, other)]
    return [(a, b) for a, b in product(*ends) if one is not other and a.family == b.family]
