"""Egress to services, whose ports are others than those of whom they lead to: judged by whom is reached, on each plane.

What kube-proxy does is done here as it does it: with nftables a map from the service's address and port to a backend's, with
iptables chains ``KUBE-SVC-`` and ``KUBE-SEP-``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from fairlead.api.schema import Explained, Flow
from fairlead.model import codec
from tests.kernel.agents import Agent, address
from tests.kernel.test_policy import hold  # noqa: F401  # a fixture
from tests.net import Containers, Namespace, Node, Outside
from tests.wait import eventually

VIP = {4: "10.96.0.10", 6: "fd00:96::a"}
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10, "fd00:96::a"]
  ports: [{name: http, port: 80, targetPort: 8080}]
"""
PATIENCE = 0.4
Hold = Callable[[Namespace, str, int], Callable[[], str]]


def slices(family: int, *addresses: str) -> str:
    ends = ", ".join(f'{{addresses: ["{one}"]}}' for one in addresses)
    return f"""
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-{family}, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv{family}
ports: [{{name: http, port: 8080}}]
endpoints: [{ends}]
"""


class KubeProxy:
    """Whom connections to the service are led to."""

    def __init__(self, node: Node, mode: str) -> None:
        self.node, self.mode = node, mode

    def lead(self, to: dict[int, str]) -> None:
        """New connections go to these, in place of those before."""
        {"nftables": self._nftables, "iptables": self._iptables}[self.mode](to)

    def _nftables(self, to: dict[int, str]) -> None:
        rules = "".join(
            f"table {l3} kube-proxy\ndelete table {l3} kube-proxy\ntable {l3} kube-proxy {{\n"
            f" map service-ips {{ type {kind} . inet_proto . inet_service : verdict;\n"
            f"  elements = {{ {VIP[n]} . tcp . 80 : goto service-web }} }}\n"
            " chain service-web {\n  goto endpoint-web\n }\n"
            f" chain endpoint-web {{\n  meta l4proto tcp dnat to {f'[{to[n]}]' if n == 6 else to[n]}:8080\n }}\n"
            " chain nat-prerouting { type nat hook prerouting priority dstnat; policy accept;\n"
            f"  {l3} daddr . meta l4proto . th dport vmap @service-ips\n }}\n}}\n"
            for n, l3, kind in ((4, "ip", "ipv4_addr"), (6, "ip6", "ipv6_addr"))
        )
        self.node.run("nft", "-f", "-", stdin=rules)

    def _iptables(self, to: dict[int, str]) -> None:
        for n, program in ((4, "iptables-restore"), (6, "ip6tables-restore")):
            at = f"[{to[n]}]" if n == 6 else to[n]
            rules = (
                "*nat\n:PREROUTING ACCEPT\n:KUBE-SERVICES -\n:KUBE-SVC-WEB -\n:KUBE-SEP-WEB -\n"
                "-A PREROUTING -j KUBE-SERVICES\n"
                f"-A KUBE-SERVICES -d {VIP[n]} -p tcp -m tcp --dport 80 -j KUBE-SVC-WEB\n"
                "-A KUBE-SVC-WEB -m statistic --mode random --probability 1.0 -j KUBE-SEP-WEB\n"
                f"-A KUBE-SEP-WEB -p tcp -m tcp -j DNAT --to-destination {at}:8080\nCOMMIT\n"
            )
            self.node.run(program, stdin=rules)

    def end(self) -> None:
        for l3 in ("ip", "ip6") if self.mode == "nftables" else ():
            self.node.run("nft", "delete", "table", l3, "kube-proxy")


class Town:
    """A client whose egress is isolated, and two that stand behind the service."""

    def __init__(self, agent: Agent, node: Node, containers: Containers) -> None:
        self.agent, self.node = agent, node
        agent.network("front", "10.50.0.0/24", "fd50::/64")
        self.rooms = {name: containers.new(name) for name in ("client", "web", "db")}
        self.client = self.rooms["client"]
        attached = {
            name: agent.attach(room, "front", labels={"app": name}, namedPorts={"http": "8080/tcp"})
            for name, room in self.rooms.items()
        }
        self.at = {name: {n: address(one, n) for n in (4, 6)} for name, one in attached.items()}
        for name in ("web", "db"):
            self.rooms[name].serve("tcp", 8080)
        self.apply(SERVICE)
        self.behind("web", "db")

    def apply(self, text: str) -> None:
        for one in codec.from_yaml(text):
            self.agent.client.apply(one)

    def behind(self, *names: str) -> None:
        for n in (4, 6):
            self.apply(slices(n, *(self.at[name][n] for name in names)))

    def egress(self, *rules: str) -> None:
        self.apply(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: out}\n"
            "spec: {podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [" + ", ".join(rules) + "]}"
        )

    def connects(self, family: int = 4) -> bool:
        return self.client.connects(VIP[family], 80, deadline=PATIENCE)

    def explained(self) -> Explained:
        return self.agent.client.explain(**{"from": "client", "to": "svc:web", "port": "http"})

    def agrees(self) -> list[bool]:
        """Whether each behind the service is allowed, if the kernel says the same."""
        told = self.explained()
        assert all(one.agrees for each in told.backends for one in each.told.kernel), told
        assert all(each.told.kernel for each in told.backends)
        return [one.told.allowed for one in told.backends]

    def drops(self, to: str) -> list[Flow]:
        return [one for one in self.agent.client.flows(verdict="dropped") if one.destination.address == self.at[to][4]]


TO_WEB = "{to: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: %s}]}"


@pytest.fixture
def agent(cleanup: ExitStack, node: Node, plane: str) -> Agent:
    made = Agent(node, "--interval", "1", "--plane", plane)
    cleanup.callback(made.remove)
    made.start()
    return made


@pytest.fixture
def town(agent: Agent, node: Node, containers: Containers) -> Town:
    return Town(agent, node, containers)


@pytest.fixture(params=["nftables", "iptables"])
def proxy(request: pytest.FixtureRequest, node: Node) -> Iterator[KubeProxy]:
    made = KubeProxy(node, request.param)
    yield made
    made.end()


@pytest.mark.deadline(120)
def test_egress_is_judged_by_whom_a_service_leads_to(town: Town, proxy: KubeProxy) -> None:
    for to, wanted in (("web", True), ("db", False)):
        proxy.lead(town.at[to])
        assert town.connects(), "nobody is isolated"
        town.egress(TO_WEB % 8080)
        for family in (4, 6):
            assert town.connects(family) is wanted, f"to {to}, IPv{family}"
        town.agent.client.delete("networkpolicies", "default/out")
    town.egress(TO_WEB % 8080)
    (dropped,) = eventually(lambda: town.drops("db"), what="the drop is told of")[:1]
    assert (dropped.source.endpoint, dropped.destination.endpoint, dropped.reason) == ("client", "db", "denied by policy")
    assert dropped.destination.port == 8080
    assert dropped.direction == "egress"
    proxy.lead(town.at["web"])
    for port, wanted in (("80", False), ("http", True), ("8000, endPort: 8100", True), ("8081", False)):
        town.egress(TO_WEB % port)
        assert town.connects() is wanted, f"port {port} is that of whom is reached"
        assert town.agrees() == [wanted, False]
    town.egress()
    assert not town.connects()
    assert town.agrees() == [False, False]
    town.egress(TO_WEB % 8080, "{to: [{ipBlock: {cidr: 10.96.0.0/16}}], ports: [{port: 80}]}")
    proxy.lead(town.at["db"])
    assert town.connects(), "an ipBlock that holds the service's address lets it through"
    assert not town.connects(6)
    assert town.agrees() == [True, True]
    assert not town.client.connects(town.at["db"][4], 8080, deadline=PATIENCE), "not by his own address"
    assert not town.agent.drift()


@pytest.mark.deadline(120)
@pytest.mark.parametrize("proxy", ["nftables"], indirect=True)
def test_backends_change_under_a_live_connection(town: Town, proxy: KubeProxy, hold: Hold) -> None:  # noqa: F811  # the fixture
    town.behind("web")
    proxy.lead(town.at["web"])
    town.egress(TO_WEB % 8080)
    say, say6 = hold(town.client, VIP[4], 80), hold(town.client, VIP[6], 80)
    assert (say(), say6()) == ("answered", "answered")
    town.behind("web", "db")  # some are allowed and some are not
    assert (say(), say6()) == ("answered", "answered")
    proxy.lead(town.at["db"])
    assert not town.connects()
    assert say() == "answered", "whoever is reached already is allowed"
    town.behind("db")
    assert say() == "answered", "also when he takes no new connections"
    town.agent.kill()
    assert say() == "answered"
    assert not town.connects(), "without an agent, too"
    town.agent.start()
    assert not town.agent.drift()
    assert (say(), say6()) == ("answered", "answered")
    town.egress("{to: [{podSelector: {matchLabels: {app: db}}}]}")
    assert (say(), say6()) == ("silence", "silence"), "what is newly denied is cut"
    eventually(town.connects, what="who is behind it now is allowed")
    rule = next(one for one in town.agent.client.hits() if one.policy == "default/out")
    assert rule.connections >= 1, "the rule is told to have decided"


@pytest.mark.deadline(120)
def test_what_nobody_leads_on_is_judged_by_the_address_of_the_service(town: Town, outside: Outside, plane: str) -> None:
    """No kube-proxy, or one that works otherwise: the service's ports are no way past policies."""
    town.egress(TO_WEB % 8080, "{ports: [{port: 80}]}")
    town.node.run("ip", "address", "add", f"{VIP[4]}/32", "dev", "lo")
    server = town.node.serve("tcp", 80)
    assert not town.connects(), "to the node itself"
    town.node.run("ip", "address", "del", f"{VIP[4]}/32", "dev", "lo")
    server.stop()
    outside.run("ip", "address", "add", f"{VIP[4]}/32", "dev", "lo")
    town.node.run("ip", "route", "add", f"{VIP[4]}/32", "via", outside.v4)
    server = outside.serve("tcp", 80)
    assert not town.connects(), "to another"
    town.egress("{to: [{ipBlock: {cidr: 10.96.0.10/32}}]}")
    assert town.connects()
    town.egress("{}")
    assert town.connects()
    server.stop()
    town.agent.client.delete("services", "default/web")
    tables = town.node.run("nft", "list", "tables")
    assert "fairlead-services" not in tables, "nobody needs it any more"
    assert ("fairlead-policy" in tables) == (plane == "nftables")
    assert not town.agent.drift()


@pytest.mark.deadline(120)
@pytest.mark.parametrize("plane", ["ebpf"], indirect=True)
@pytest.mark.kernel("ebpf")
def test_the_table_beside_the_programs_is_there_when_it_is_needed_and_mended(town: Town, node: Node) -> None:
    proxy = KubeProxy(node, "nftables")
    proxy.lead(town.at["db"])
    assert "fairlead-services" not in node.run("nft", "list", "tables"), "nobody is isolated"
    town.egress(TO_WEB % 8080)
    ruleset = node.run("nft", "list", "table", "inet", "fairlead-services")
    assert "10.96.0.10 . tcp . 80" in ruleset, "nft can read it"
    assert not town.connects()
    node.run("nft", "flush", "table", "inet", "fairlead-services")
    eventually(lambda: not town.connects(), what="it is mended")
    node.run("nft", "delete", "table", "inet", "fairlead-services")
    eventually(lambda: not town.connects(), what="it is made anew")
    assert not town.agent.drift()
    town.agent.stop()
    other = Agent(node, "--plane", "nftables")
    other.start()
    assert "fairlead-services" not in node.run("nft", "list", "tables"), "the other plane judges all"
    assert not town.connects()
    other.stop()
    town.agent.start()
    assert not town.connects()
    proxy.lead(town.at["web"])
    assert town.connects()
    node.run(sys.executable, "-m", "fairlead.cli", "down", "--purge", "--yes", deadline=60)
    assert "fairlead" not in node.run("nft", "list", "tables")
