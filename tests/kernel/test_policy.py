"""NetworkPolicy in the kernel: a real agent, containers that really knock, tables of who reaches whom."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from fairlead.api.schema import Asked
from fairlead.datapath.ebpf import programs
from fairlead.desired import names
from fairlead.model import codec, errors
from tests.kernel.agents import Agent, address
from tests.kernel.knocking import HOLD, KNOCKS, Door, Knocker, knock
from tests.net import PYTHON, Containers, Namespace, Node, Outside
from tests.wait import eventually

PROGRAMS = pytest.mark.parametrize("plane", ["ebpf"], indirect=True)

WHO = {
    "web": ("shop", {"app": "web", "tier": "front"}),
    "api": ("shop", {"app": "api"}),
    "db": ("data", {"app": "db"}),
    "rogue": ("default", {}),
}
"""Containers with their namespace and labels."""

DOORS = ((80, "tcp"), (81, "tcp"), (53, "udp"))
"""Where each of them listens."""

PATIENCE = 0.5
"""Seconds that a client waits for an answer; those that come do so in a millisecond."""


class Case(NamedTuple):
    """Policies, and the knocks that they leave unanswered: ``source>target`` or ``source>target:port``; ``*`` is everybody."""

    policies: str
    denied: tuple[str, ...]


def policy(name: str, spec: str, namespace: str = "shop") -> str:
    return (
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )


CASES = {
    "one label, one port": Case(
        policy(
            "a",
            "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: sales}},"
            " podSelector: {matchExpressions: [{key: tier, operator: In, values: [front, back]}]}}],"
            " ports: [{port: 80}]}]}",
            "data",
        ),
        ("api>db", "rogue>db", "web>db:81", "web>db:53"),
    ),
    "each end has a say": Case(
        policy("a", "{podSelector: {matchLabels: {app: web}}, egress: [{ports: [{port: 80}]}], policyTypes: [Egress]}")
        + policy("b", "{podSelector: {}, ingress: [{ports: [{port: 81}]}]}", "data"),
        ("web>*:81", "web>*:53", "*>db:80", "*>db:53"),
    ),
}


def knocks() -> list[tuple[str, str, int, str]]:
    return [(one, two, port, protocol) for one in WHO for two in WHO if one != two for port, protocol in DOORS]


def shut(denied: Iterable[str]) -> set[tuple[str, str, int, str]]:
    """The knocks that patterns mean."""

    def meant(knock: tuple[str, str, int, str], pattern: str) -> bool:
        source, _, rest = pattern.partition(">")
        target, _, port = rest.partition(":")
        return source in {"*", knock[0]} and target in {"*", knock[1]} and port in {"", str(knock[2])}

    return {knock for knock in knocks() for pattern in denied if meant(knock, pattern)}


class Town:
    """An agent, and containers that all listen and all knock."""

    def __init__(self, agent: Agent, containers: Containers) -> None:
        self.agent = agent
        self.rooms: dict[str, Namespace] = {}
        self.addresses: dict[tuple[str, int], str] = {}
        agent.network("town", "10.60.0.0/24", "fd60::/64")
        for name, (namespace, labels) in WHO.items():
            room = self.rooms[name] = containers.new(name)
            attached = agent.attach(room, "town", namespace=namespace, labels=labels)
            for family in (4, 6):
                self.addresses[name, family] = address(attached, family)
            for port, protocol in DOORS:
                room.serve(protocol, port)

    def unanswered(self, knockers: Mapping[str, Knocker], family: int) -> set[tuple[str, str, int, str]]:
        """Who knocks in vain, everybody at everybody's doors."""
        where = {one: (knockers[one[0]], Door(one[3], self.addresses[one[1], family], one[2])) for one in knocks()}
        answered = knock({who: [door for at, door in where.values() if at is who] for who in knockers.values()}, PATIENCE)
        return {one for one, at in where.items() if not answered[at]}

    def apply(self, text: str) -> list[str]:
        """Apply objects; the names of the policies among them."""
        things = codec.from_yaml(text)
        for thing in things:
            self.agent.client.apply(thing)
        return [f"{one.metadata.namespace}/{one.name}" for one in things if one.plural == "networkpolicies"]

    def forget(self, names: Iterable[str]) -> None:
        for name in names:
            self.agent.client.delete("networkpolicies", name)


@pytest.fixture
def agent(cleanup: ExitStack, node: Node, plane: str) -> Agent:
    """A real agent, on each plane."""
    made = Agent(node, "--interval", "1", "--plane", plane)
    cleanup.callback(made.remove)
    made.start()
    return made


@pytest.fixture
def town(agent: Agent, containers: Containers) -> Town:
    made = Town(agent, containers)
    made.apply("{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: sales}}}")
    return made


@pytest.fixture
def hold(cleanup: ExitStack) -> Callable[[Namespace, str, int], Callable[[], str]]:
    """Opens a connection that stays; what comes back says how one more message on it went."""

    def begin(room: Namespace, target: str, port: int) -> Callable[[], str]:
        process = subprocess.Popen(
            ["ip", "netns", "exec", room.name, sys.executable, "-c", HOLD, target, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        cleanup.callback(lambda: (process.kill(), process.communicate()))

        def say() -> str:
            assert process.stdin
            assert process.stdout
            process.stdin.write("\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        return say

    return begin


@pytest.fixture
def knockers(cleanup: ExitStack, town: Town) -> dict[str, Knocker]:
    """One in every room."""
    return {name: Knocker(cleanup, room, {}) for name, room in town.rooms.items()}


def test_a_block_of_addresses(town: Town, outside: Outside) -> None:
    """ipBlock with an exception, for the world and for containers."""
    outside.serve("tcp", 80)
    web, api = town.rooms["web"], town.rooms["api"]
    everywhere = "{cidr: 0.0.0.0/0, except: [203.0.113.0/24]}"
    town.apply(policy("a", f"{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {everywhere}}}]}}]}}"))
    assert not web.connects(outside.v4, 80, deadline=PATIENCE)
    assert web.connects(town.addresses["db", 4], 80)
    assert not web.connects(town.addresses["db", 6], 80, deadline=PATIENCE)
    only = f"{town.addresses['api', 4]}/32"
    town.apply(policy("a", f"{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {{cidr: {only}}}}}]}}]}}"))
    assert web.connects(town.addresses["api", 4], 80)
    assert not web.connects(town.addresses["db", 4], 80, deadline=PATIENCE)
    town.agent.detach(api)
    assert town.agent.drift() == []


def test_the_node_reaches_its_own(town: Town, node: Node) -> None:
    """Probes pass, whatever the policies; what a container sends to the node by itself does not."""
    town.apply(policy("a", "{podSelector: {}, policyTypes: [Ingress, Egress]}"))
    assert node.connects(town.addresses["web", 4], 80)
    assert node.connects(town.addresses["web", 6], 80)
    assert node.pings(town.addresses["web", 4])
    assert not town.rooms["web"].pings("10.60.0.1")


def test_a_published_port_is_no_way_round(agent: Agent, containers: Containers, node: Node, outside: Outside) -> None:
    """Who may not reach a container directly does not reach it through the host's port either."""
    agent.network("town", "10.60.0.0/24")
    web, rogue = containers.new("web"), containers.new("rogue")
    agent.attach(web, "town", namespace="shop", ports=[{"hostPort": 8080, "containerPort": 80}])
    agent.attach(rogue, "town")
    web.serve("tcp", 80)
    assert rogue.connects(node.v4, 8080)
    assert outside.connects(node.v4, 8080)
    block = f"{{ipBlock: {{cidr: {outside.v4}/32}}}}"
    agent.client.apply(codec.from_yaml(policy("a", f"{{podSelector: {{}}, ingress: [{{from: [{block}]}}]}}"))[0])
    assert not rogue.connects(node.v4, 8080, deadline=PATIENCE)
    assert outside.connects(node.v4, 8080)


def test_a_connection_is_cut(town: Town, hold: Callable[[Namespace, str, int], Callable[[], str]]) -> None:
    """A first policy disturbs no connection that it allows; what is newly denied ends, what is allowed again may begin anew."""
    say = hold(town.rooms["web"], town.addresses["db", 4], 80)
    say6 = hold(town.rooms["web"], town.addresses["db", 6], 80)
    assert (say(), say6()) == ("answered", "answered")
    open_door = policy("a", "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: sales}}}]}]}", "data")
    applied = town.apply(open_door)
    later = hold(town.rooms["api"], town.addresses["db", 4], 80)
    assert (later(), later()) == ("answered", "answered")
    town.apply("{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: other}}}")
    assert (later(), say6()) == ("silence", "silence")
    assert not town.rooms["web"].connects(town.addresses["db", 4], 80, deadline=PATIENCE)
    town.forget(applied)
    assert town.rooms["web"].connects(town.addresses["db", 4], 80)


def test_in_any_order(agent: Agent, containers: Containers) -> None:
    """Policy before namespace before container."""
    agent.client.apply(
        codec.from_yaml(policy("a", "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: x}}}]}]}"))[0]
    )
    agent.network("town", "10.60.0.0/24")
    web, friend, stranger = containers.new("web"), containers.new("friend"), containers.new("stranger")
    target = address(agent.attach(web, "town", namespace="shop"))
    agent.attach(friend, "town", namespace="friends")
    agent.attach(stranger, "town", namespace="strangers")
    web.serve("tcp", 80)
    assert not friend.connects(target, 80, deadline=PATIENCE)
    agent.client.apply(codec.from_yaml("{apiVersion: v1, kind: Namespace, metadata: {name: friends, labels: {team: x}}}")[0])
    assert friend.connects(target, 80)
    assert not stranger.connects(target, 80, deadline=PATIENCE)
    assert agent.drift() == []


def test_an_address_is_not_judged_by_who_had_it(agent: Agent, containers: Containers) -> None:
    """The address of a container that was let in, given to another that is not."""
    agent.network("town", "10.60.0.0/24")
    web, friend, next_one = containers.new("web"), containers.new("friend"), containers.new("next")
    target = address(agent.attach(web, "town", namespace="shop"))
    web.serve("tcp", 80)
    spec = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {friend: yes1}}}]}]}"
    agent.client.apply(codec.from_yaml(policy("a", spec))[0])
    agent.attach(friend, "town", labels={"friend": "yes1"}, addresses=["10.60.0.77"])
    assert friend.connects(target, 80)
    agent.detach(friend)
    agent.attach(next_one, "town", addresses=["10.60.0.77"])
    assert not next_one.connects(target, 80, deadline=PATIENCE)


def test_nothing_passes_before_its_policy(agent: Agent, containers: Containers) -> None:
    """A container that is isolated from its first moment gets nothing while its link is being made."""
    agent.network("town", "10.60.0.0/24")
    agent.client.apply(codec.from_yaml(policy("a", "{podSelector: {}}"))[0])
    sender = containers.new("sender")
    agent.attach(sender, "town")
    for last in range(100, 110):
        target = f"10.60.0.{last}"
        sender.run("ip", "neigh", "replace", target, "lladdr", f"0a:58:0a:3c:00:{last:02x}", "dev", "eth0", "nud", "permanent")
        storm = sender.start("ping", "-n", "-q", "-f", "-w", 20, target)
        born = containers.new("born")
        agent.attach(born, "town", namespace="shop", addresses=[target])
        storm.kill()
        storm.wait()
        assert "IcmpInEchos 0" in " ".join(born.run("nstat", "-asz", "IcmpInEchos").split()), target


def test_policies_outlive_the_agent(town: Town, hold: Callable[[Namespace, str, int], Callable[[], str]]) -> None:
    """Killed and started again: what is denied stays so, what is open goes on, nothing is written anew."""
    spec = "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}"
    town.apply(policy("a", spec))
    say = hold(town.rooms["web"], town.addresses["api", 4], 80)
    rogue, target = town.rooms["rogue"], town.addresses["web", 4]
    assert say() == "answered"
    for _ in range(3):
        town.agent.kill()
        assert not rogue.connects(target, 80, deadline=0.3)
        assert say() == "answered"
        town.agent.start()
        assert not rogue.connects(target, 80, deadline=0.3)
        assert say() == "answered"
    assert town.agent.drift() == []
    assert town.agent.client.status().repairs == 0


@PROGRAMS
@pytest.mark.parametrize(
    "sizes", [("connections=1024",), ("endpoints=100", "guards=100", "owned=500", "locals=100", "peers=999")]
)
def test_an_upgrade_with_other_maps_disturbs_nobody(
    town: Town, hold: Callable[[Namespace, str, int], Callable[[], str]], sizes: tuple[str, ...]
) -> None:
    """Programs are exchanged one by one, with maps of another shape: who talks goes on, who may not may not at any time."""
    town.apply(policy("a", "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {}}]}]}"))
    town.apply(
        policy("b", "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]}")
    )
    say = [hold(town.rooms["web"], town.addresses["api", family], 80) for family in (4, 6)]
    rogue, target = town.rooms["rogue"], town.addresses["api", 4]
    refused = rogue.start(*PYTHON, "-c", KNOCKS, target)
    assert [one() for one in say] == ["answered", "answered"]
    before = town.agent.options
    for more in ([word for size in sizes for word in ("--map-size", size)], []):
        town.agent.stop()
        town.agent.options = (*before, *more)
        town.agent.start()
        assert town.agent.client.status().repairs == 0, "nothing was broken"
        assert "updating policy links" in town.agent.log
        assert [one() for one in say] == ["answered", "answered"]
        assert not town.rooms["api"].connects(town.addresses["web", 4], 80, deadline=PATIENCE), "which may not open"
        assert not town.agent.drift()
    assert refused.poll() is None, "it knocked to the end"
    refused.kill()
    assert refused.stdout
    assert refused.stdout.read() == "", "not once"


HARM = {
    "ebpf": ("tc qdisc del dev {port} clsact",),
    "nftables": (
        "nft delete table inet fairlead-policy",
        "nft flush table inet fairlead-policy",
        "nft flush ruleset",
        "nft delete table bridge fairlead-policy",
        "nft delete element inet fairlead-policy responder4 {{ {address} }}",
        "nft flush map inet fairlead-policy responder4",
        "nft insert rule inet fairlead-policy forward accept",
        "nft flush chain inet fairlead-policy first",
        "nft add element inet fairlead-policy opener4 {{ 10.9.9.9 : drop }}",
        "ip link set {bridge} type bridge nf_call_iptables 0",
    ),
}


def test_repairs(town: Town, node: Node, plane: str) -> None:
    """What somebody took away or changed is as it was within a second or so."""
    town.apply(policy("a", "{podSelector: {}}"))
    target = town.addresses["web", 4]
    words = {"port": _port(town, "web"), "address": target, "bridge": "fl-town"}
    node.run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0")
    for harm in HARM[plane]:
        before = town.agent.client.status().repairs
        node.run(*harm.format(**words).split())
        eventually(lambda before=before: town.agent.client.status().repairs > before, what=f"after {harm}: it is repaired")  # type: ignore[misc]
        assert not town.agent.drift(), harm
        assert not town.rooms["rogue"].connects(target, 80, deadline=0.3), harm
        assert node.connects(target, 80), harm


def test_what_is_let_through_is_told_with_the_rules_of_both_ends(town: Town, knockers: dict[str, Knocker]) -> None:
    """When it begins and when it ends, whichever way it takes: connections the short one, datagrams the bridge."""
    town.apply(policy("a", "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {}}]}]}"))
    town.apply(policy("b", "{podSelector: {matchLabels: {app: api}}, egress: [{}], policyTypes: [Egress]}"))
    web, client = town.addresses["web", 4], town.agent.client
    assert town.rooms["api"].connects(web, 80)
    assert all(knock({knockers["api"]: [Door("udp", web, 53)]}, PATIENCE).values())

    def told(**asked: str) -> set[tuple[str, str, str]]:
        found = client.flows(**{"from": "shop/api", "to": "shop/web", **asked})
        return {(one.event, one.egress_policy, one.ingress_policy) for one in found}

    both = ("shop/b egress[0]", "shop/a ingress[0]")
    eventually(lambda: told(port="80") == {("new", *both), ("close", *both)}, what="both ends' rules of a connection")
    eventually(lambda: told(port="53") == {("new", *both)}, what="both ends' rules of a datagram")


def test_drops_are_told_with_who_and_why(town: Town) -> None:
    """Once a second for each connection, by names."""
    town.apply(policy("a", "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}"))
    assert not town.rooms["rogue"].connects(town.addresses["web", 4], 80, deadline=PATIENCE)
    assert town.rooms["api"].connects(town.addresses["web", 4], 80)
    client = town.agent.client
    told = eventually(lambda: client.flows(verdict="dropped"), what="a drop is told")
    assert {(one.source.endpoint, one.destination.endpoint, one.destination.port) for one in told} == {("rogue", "web", 80)}
    assert {(one.event, one.reason, one.policy, one.direction) for one in told} == {
        ("drop", "denied by policy", "default deny", "ingress")
    }
    flows = client.status().flows
    assert flows
    assert flows.dropped.keys() - {"multicast membership, which nobody here asks for"} == {"denied by policy"}
    (room,) = [one for one in client.doctor().findings if one.check == "policy"]
    assert (room.level, room.message.split(",")[0]) == ("ok", "4 endpoints")


def _port(town: Town, name: str) -> str:
    return str(names.veth(f"{town.rooms[name].name}:eth0"))


def test_an_explanation_agrees_with_the_kernel(town: Town, knockers: dict[str, Knocker]) -> None:
    """Every knock of some cases, asked and tried."""
    for name in ("one label, one port", "each end has a say"):
        applied = town.apply(CASES[name].policies)
        told = {
            (source, target, port, protocol): town.agent.client.explain(
                **{"from": source, "to": f"{WHO[target][0]}/{target}", "port": str(port), "protocol": protocol}
            )
            for source, target, port, protocol in knocks()
        }
        denied = {knock for knock, one in told.items() if not one.allowed}
        assert denied == shut(CASES[name].denied) == town.unanswered(knockers, 4)
        for one in told.values():
            assert [end.direction for end in one.kernel] == ["egress", "ingress"]
            assert all(end.agrees for end in one.kernel)
            assert one.allowed == all(end.allowed for end in one.kernel)
        town.forget(applied)


def test_a_kernel_that_says_otherwise(town: Town, node: Node, plane: str) -> None:
    """What the kernel would do is asked of it, and told even if it is not what the policies say."""
    applied = town.apply(CASES["one label, one port"].policies)
    query = {"from": "web", "to": "data/db", "port": "80", "protocol": "tcp"}
    assert all(one.agrees for one in town.agent.client.explain(**query).kernel)
    harm, reason = {"ebpf": _without_rulings, "nftables": _without_peers}[plane](node)

    def broken() -> list[Asked]:
        """The agent repairs it within a moment, or once a second."""
        harm()
        return [one for one in town.agent.client.explain(**query).kernel if not one.agrees]

    (wrong,) = eventually(broken)
    assert (wrong.direction, wrong.allowed) == ("ingress", False)
    assert wrong.reason == reason
    town.forget(applied)


def _without_rulings(node: Node) -> tuple[Callable[[], None], str]:
    def harm() -> None:
        loaded = programs.Programs(node.run_dir)
        for name in ("ports", "rulings"):
            loaded.maps[name].remove(loaded.maps[name].entries())
        loaded.close()

    return harm, "no ruling on this peer is in the kernel"


def _without_peers(node: Node) -> tuple[Callable[[], None], str]:
    listed = node.json("nft", "-j", "list", "maps", "inet")["nftables"]
    names = [one["map"]["name"] for one in listed if "map" in one and one["map"]["name"].endswith("-hosts4")]

    def harm() -> None:
        for name in names:
            node.run("nft", "flush", "map", "inet", "fairlead-policy", name)

    return harm, "denied by policy"


def test_a_question_that_cannot_be_answered(town: Town) -> None:
    for query, field in (
        ({"from": "web", "to": "nobody", "port": "80"}, "to"),
        ({"from": "web", "port": "80"}, "to"),
        ({"from": "web", "to": "db", "port": "0"}, "port"),
        ({"from": "web", "to": "db", "port": "80", "protocol": "quic"}, "protocol"),
        ({"from": "web", "to": "db", "port": "80", "colour": "red"}, "colour"),
    ):
        with pytest.raises(errors.Problem) as refused:
            town.agent.client.explain(**query)
        assert refused.value.field == field
