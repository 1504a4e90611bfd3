"""Every kind of policy on both planes, and what people ask about them: a real agent, containers that really knock."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fairlead.api.schema import Change, Difference, Proposal, RuleHits
from fairlead.model import codec, errors
from fairlead.model.address import ContainerID, InterfaceName
from tests.kernel.agents import Agent, address
from tests.kernel.test_policy import PATIENCE, WHO, Town, policy
from tests.net import Containers, Node, Outside
from tests.wait import eventually

ALL = "{namespaces: {}}"


def cluster(name: str, spec: str, kind: str = "ClusterNetworkPolicy") -> str:
    return f"---\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"


def admin(name: str, rules: str, priority: int = 10, tier: str = "Admin", subject: str = ALL) -> str:
    return cluster(name, f"{{tier: {tier}, priority: {priority}, subject: {subject}, {rules}}}")


@pytest.fixture
def agent(cleanup: ExitStack, node: Node, plane: str) -> Agent:
    made = Agent(node, "--plane", plane, "--interval", "1", "--node", "harbour", "--metrics", "127.0.0.1:9345")
    cleanup.callback(made.remove)
    made.start()
    return made


@pytest.fixture
def town(agent: Agent, containers: Containers) -> Town:
    return Town(agent, containers)


def reaches(town: Town, source: str, target: str, port: int = 80, protocol: str = "tcp", family: int = 4) -> bool:
    """Whether a knock is answered; the explanation and the kernel's own answer must say the same."""
    told = town.agent.client.explain(
        **{"from": source, "to": f"{WHO[target][0]}/{target}", "port": str(port), "protocol": protocol}
    )
    assert all(one.agrees for one in told.kernel), told
    answered = town.rooms[source].connects(town.addresses[target, family], port, protocol, PATIENCE)
    assert answered == told.allowed, told.steps
    return answered


def test_tiers_stand_around_network_policies(town: Town) -> None:
    from_shop = "{namespaces: {matchLabels: {kubernetes.io/metadata.name: shop}}}"
    town.apply(
        policy("db", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}", "data")
        + admin("guard", f"ingress: [{{action: Pass, from: [{from_shop}]}}, {{name: no others, action: Deny, from: [{ALL}]}}]")
        + admin("base", f"ingress: [{{action: Deny, from: [{ALL}]}}]", tier="Baseline")
    )
    for family in (4, 6):
        assert reaches(town, "web", "db", 80, family=family)
        assert not reaches(town, "web", "db", 81, family=family)  # what passes on to a policy that isolates
        assert not reaches(town, "rogue", "db", 80, family=family)
        assert not reaches(town, "web", "api", 80, family=family)  # what passes on and no policy isolates
        assert not reaches(town, "rogue", "web", 53, "udp", family=family)
    town.agent.client.delete("clusternetworkpolicies", "base")
    assert reaches(town, "web", "api")
    town.apply(admin("first", f"ingress: [{{action: Accept, from: [{ALL}]}}]", priority=1))
    assert reaches(town, "rogue", "db", 81)
    assert town.agent.drift() == []


def test_flows_and_hits_name_the_rule(town: Town) -> None:
    town.apply(
        admin(
            "guard",
            f"egress: [{{name: no db, action: Deny, to: [{ALL}], protocols: [{{tcp: {{destinationPort: {{number: 81}}}}}}]}}]",
        )
    )
    town.apply(policy("db", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}", "data"))
    client = town.agent.client
    assert not reaches(town, "web", "db", 81)
    assert reaches(town, "web", "db", 80)
    assert not reaches(town, "web", "db", 53, "udp")
    told = eventually(lambda: client.flows(verdict="dropped", port="81"), what="a drop is told")
    assert {one.policy for one in told} == {'Admin/guard egress[0] "no db"'}

    def hits() -> dict[str, tuple[int, int]]:
        return {f"{one.policy} {one.name}".strip(): (one.connections, one.drops) for one in client.hits() if one.last}

    eventually(lambda: len(hits()) == 3, what="every rule was hit")
    assert {one.direction for one in client.hits() if not one.policy} == {"egress", "ingress"}
    assert hits()["Admin/guard no db"][1] >= 1
    assert hits()["data/db"] == (1, 0)
    assert hits()[""][1] >= 1
    assert [one for one in client.hits() if not one.last] == [RuleHits(direction="egress", action="Deny")]


def test_a_port_by_its_name(agent: Agent, containers: Containers) -> None:
    agent.network("town", "10.60.0.0/24")
    old, new, asker = (containers.new(one) for one in ("old", "new", "asker"))
    addresses = [
        address(agent.attach(room, "town", namespace="shop", labels={"app": "web"}, namedPorts={"http": port}))
        for room, port in ((old, "80"), (new, "8080"))
    ]
    agent.attach(asker, "town", namespace="shop")
    for room in (old, new):
        room.serve("tcp", 80)
        room.serve("tcp", 8080)
    spec = "{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: http}]}]}"
    agent.client.apply(codec.from_yaml(policy("a", spec))[0])
    told = {(at, port): asker.connects(at, port, deadline=PATIENCE) for at in addresses for port in (80, 8080)}
    assert [at for at, answered in told.items() if answered] == [(addresses[0], 80), (addresses[1], 8080)]
    agent.client.delete("networkpolicies", "shop/a")
    deny = "egress: [{action: Deny, to: [{namespaces: {}}], protocols: [{destinationNamedPort: http}]}]"
    agent.client.apply(codec.from_yaml(admin("b", deny))[0])
    told = {(at, port): asker.connects(at, port, deadline=PATIENCE) for at in addresses for port in (80, 8080)}
    assert [at for at, answered in told.items() if not answered] == [(addresses[0], 80), (addresses[1], 8080)]
    explained = agent.client.explain(**{"from": "asker", "to": "new", "port": "http"})
    assert (explained.allowed, explained.steps[-1].text) == (False, "shop/asker to shop/new, tcp port 8080: denied by egress")
    assert all(one.agrees for one in explained.kernel)


def test_labels_of_what_runs_change(town: Town) -> None:
    town.apply(
        policy(
            "db",
            "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {friend: 'y'}}}]}]}",
            "data",
        )
    )
    rogue, client = town.rooms["rogue"], town.agent.client
    where = {"container": ContainerID(rogue.name), "interface": InterfaceName("eth0")}
    assert not reaches(town, "rogue", "db")
    client.change(Change(**where, labels={"friend": "y"}))
    assert reaches(town, "rogue", "db")
    town.agent.kill()
    town.agent.start()
    assert reaches(town, "rogue", "db")
    client.change(Change(**where, labels={"friend": None}))
    assert not reaches(town, "rogue", "db")
    with pytest.raises(errors.Conflict, match="app=web already"):
        client.change(
            Change(
                container=ContainerID(town.rooms["web"].name),
                interface=InterfaceName("eth0"),
                labels={"app": "x"},
                overwrite=False,
            )
        )
    with pytest.raises(errors.Invalid, match="Fairlead's own"):
        client.change(Change(**where, labels={"fairlead.dev/pod-uid": "x"}))
    assert town.agent.drift() == []


def test_nodes_are_meant_by_their_labels(town: Town, node: Node, outside: Outside) -> None:
    """This node by all its addresses, also those of bridges that come later; another one as people wrote it."""
    node.serve("tcp", 8000)
    outside.serve("tcp", 8000)
    web = town.rooms["web"]
    gateway = "10.60.0.1"
    assert web.connects(node.v4, 8000)
    town.apply(admin("off-the-nodes", "egress: [{action: Deny, to: [{nodes: {}}]}]"))
    assert not web.connects(node.v4, 8000, deadline=PATIENCE)
    assert not web.connects(gateway, 8000, deadline=PATIENCE)
    assert web.connects(outside.v4, 8000)
    town.agent.network("later", "10.61.0.0/24")
    assert not web.connects("10.61.0.1", 8000, deadline=PATIENCE)
    status = f"{{addresses: [{{type: InternalIP, address: {outside.v4}}}]}}"
    town.apply(f"{{kind: Node, metadata: {{name: other, labels: {{zone: a}}}}, status: {status}}}")
    assert not web.connects(outside.v4, 8000, deadline=PATIENCE)
    town.apply(admin("off-the-nodes", "egress: [{action: Deny, to: [{nodes: {matchLabels: {zone: a}}}]}]"))
    assert web.connects(node.v4, 8000)
    town.apply("{kind: Node, metadata: {name: harbour, labels: {zone: a}}}")
    assert not web.connects(node.v4, 8000, deadline=PATIENCE)
    assert {one.name for one in town.agent.client.objects("nodes")} == {"harbour", "other"}
    node.run("ip", "address", "add", "10.99.0.1/32", "dev", "lo", "scope", "global")
    eventually(lambda: not web.connects("10.99.0.1", 8000, deadline=PATIENCE), what="the new address is the node's")
    with pytest.raises(errors.Invalid, match="a Node is in no namespace"):
        town.apply("{kind: Node, metadata: {name: x, namespace: y}}")


def test_the_node_is_a_party_too(town: Town, containers: Containers) -> None:
    town.apply(policy("closed", "{podSelector: {}, policyTypes: [Ingress, Egress]}"))
    client = town.agent.client
    told = client.explain(**{"from": "host", "to": "web", "port": "80"})
    assert told.allowed
    assert "is the node of shop/web, which always reaches it" in told.steps[-2].text
    agentish = containers.new("agentish")
    town.agent.attach(agentish, "host", path=f"/proc/{town.agent.pid}/ns/net")
    told = client.explain(**{"from": "web", "to": "agentish", "port": "80"})
    assert not told.allowed
    assert client.explain(**{"from": "agentish", "to": "web", "port": "80"}).allowed


BROKEN = (
    b'{"kind":"NetworkPolicy","metadata":{"name":"new","namespace":"shop"},'
    b'"spec":{"podSelector":{"matchLabels":{"app":"web"}},"moon":1}}'
)


@pytest.fixture
def spoilt(town: Town, node: Node) -> Any:
    """Writes rows into the store as another version might, while the agent is away."""

    def spoil(*rows: tuple[str, str, str, bytes]) -> None:
        town.agent.stop()
        with closing(sqlite3.connect(node.state_dir / "store.db")) as db:
            db.executemany("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", rows)
            db.commit()
        town.agent.start()

    return spoil


def test_what_cannot_be_read_closes_what_it_may_be_about_and_disables_nothing(town: Town, spoilt: Any) -> None:
    client = town.agent.client
    town.apply(policy("db", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}", "data"))
    spoilt(("networkpolicies", "shop", "new", BROKEN), ("reservations", "", "r", b"\xff"))
    assert not reaches(town, "rogue", "web")
    assert not reaches(town, "web", "rogue")
    assert reaches(town, "rogue", "api")
    assert reaches(town, "rogue", "db")
    assert not reaches(town, "rogue", "db", 81)
    assert {(one.plural, one.name) for one in client.status().unreadable} == {
        ("networkpolicies", "shop/new"),
        ("reservations", "r"),
    }
    found = [one for one in client.doctor().findings if one.check == "objects"]
    assert {one.level for one in found} == {"error"}
    assert any("networkpolicies shop/new cannot be read (spec.moon: there is no such field" in one.message for one in found)
    with pytest.raises(errors.Invalid, match="is stored and cannot be read"):
        client.object("networkpolicies", "shop/new")
    assert "cannot be read" in client.explain(**{"from": "rogue", "to": "web", "port": "80"}).steps[1].text
    client.delete("reservations", "r")
    town.apply(policy("new", "{podSelector: {matchLabels: {app: web}}, ingress: [{}]}"))
    assert reaches(town, "rogue", "web")
    assert client.status().unreadable == ()
    spoilt(("clusternetworkpolicies", "", "all", b"{}"))
    assert not reaches(town, "rogue", "api")
    client.delete("clusternetworkpolicies", "all")
    assert reaches(town, "rogue", "api")
    assert town.agent.drift() == []


def test_a_network_that_cannot_be_read_loses_no_container(town: Town, spoilt: Any) -> None:
    """What its containers were given stays written down, and is theirs again when the network is put right."""
    client = town.agent.client
    before = {one.name for one in client.objects("endpoints")}
    network = client.network("town")
    spoilt(("networks", "", "town", b'{"kind":"Network","metadata":{"name":"town"},"spec":{"warp":9}}'))
    assert client.objects("endpoints") == []
    client.apply(network)
    town.agent.stop()
    town.agent.start()
    assert {one.name for one in client.objects("endpoints")} == before
    assert reaches(town, "rogue", "web")


def test_a_preview_touches_nothing_and_names_the_connections_it_would_cut(town: Town) -> None:
    client = town.agent.client
    assert reaches(town, "rogue", "db")
    assert reaches(town, "web", "db")
    spec = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}}]}]}"
    (thing,) = codec.from_yaml(policy("db", spec, "data"))
    eventually(lambda: len(client.flows(to="data/db", port="80")) >= 2, what="the flows were seen")
    found = client.preview(Proposal(apply=(codec.to_tree(thing),)))
    assert found.differences == (
        Difference(allowed=False, sources=("default/rogue", "world"), destinations=("data/db",), ports="everything", pairs=2),
    )
    assert {(one.source.endpoint, one.destination.endpoint) for one in found.flows} == {("rogue", "db")}
    assert client.objects("networkpolicies") == []
    assert reaches(town, "rogue", "db")
    client.apply(thing)
    back = client.preview(Proposal(delete=(codec.to_tree(thing),)))
    assert [(one.allowed, one.sources, one.ports) for one in back.differences] == [
        (True, ("default/rogue", "world"), "everything")
    ]
    with pytest.raises(errors.Invalid, match="changes nothing of who may talk"):
        client.preview(Proposal(apply=({"kind": "Network", "metadata": {"name": "x"}},)))
    with pytest.raises(errors.Invalid, match=r"apply\[0\].spec.moon"):
        client.preview(Proposal(apply=({"kind": "NetworkPolicy", "metadata": {"name": "x"}, "spec": {"moon": 1}},)))


def test_prometheus_is_answered(town: Town, node: Node, plane: str) -> None:
    town.apply(policy("closed", "{podSelector: {}}"))
    assert not reaches(town, "rogue", "web")
    fetch = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9345/metrics').read().decode())"

    def scrape() -> dict[str, list[Any]]:
        text = node.run("python3", "-c", fetch)
        return {one.name: one.samples for one in text_string_to_metric_families(text)}

    told = eventually(lambda: (found := scrape())["fairlead_dropped_packets"] and found, what="drops are told")
    assert told["fairlead_build_info"][0].labels["plane"] == plane
    assert told["fairlead_endpoints"][0].value == len(WHO)
    assert "denied by policy" in {one.labels["reason"] for one in told["fairlead_dropped_packets"]}
    assert {one.labels["map"] for one in told["fairlead_policy_map_entries"]} >= {"peers", "rulings", "judgements"}
    assert told["fairlead_policies"]
    assert {one.labels["policy"] for one in told["fairlead_rule_dropped_packets"]} == {"default deny"}
    attaches = [one for one in told["fairlead_api_request_duration_seconds"] if one.labels["route"] == "/v1/attach"]
    assert any(one.name.endswith("_count") and one.value >= len(WHO) for one in attaches), attaches
    eventually(lambda: any(one.value > 0 for one in scrape()["fairlead_reconcile_duration_seconds"]), what="a comparison")
    wrong = node.attempt("python3", "-c", fetch.replace("/metrics", "/v1/status"))
    assert "404" in wrong.stderr
