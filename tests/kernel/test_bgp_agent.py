"""BGP as people meet it: agents that share a store, networks with driver bgp, objects, the command line, doctor."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from fairlead.kernel.process import started
from fairlead.model import codec, errors
from fairlead.model.secret import Secret
from tests.kernel.agents import Agent, address
from tests.kernel.speakers import Frr, lay
from tests.kernel.test_cluster import Station, Town, known
from tests.net import Containers, Namespace, Node, kept
from tests.wait import eventually

pytestmark = pytest.mark.needs("bird")

Make = Callable[[int], Town]


@pytest.fixture
def town(cleanup: ExitStack, tmp_path: Path) -> Make:
    return lambda count: Town(cleanup, tmp_path, count)


def apply(agent: Agent, text: str) -> list[str]:
    """Apply objects; the warnings."""
    return [warning for one in codec.from_yaml(text) for warning in agent.client.apply(one).warnings]


def farm(town: Make, count: int = 2, **spec: object) -> Town:
    made = town(count)
    made.agents[0].network("farm", "10.60.0.0/16", "fd60::/64", driver="bgp", **spec)
    for agent in made.agents:
        eventually(lambda agent=agent: known(agent, "farm"), what="every node knows the network")
    return made


def apply_refused(agent: Agent) -> None:
    """An agent that removed everything takes no orders."""
    with pytest.raises(errors.Unavailable):
        apply(agent, TOR)


def established(agent: Agent, count: int) -> bool:
    status = agent.client.bgp_status()
    return status.running and len(status.neighbours) == count and all(one.up for one in status.neighbours)


def bird(node: Node) -> int:
    """The speaker's process; 0 if there is none."""
    path = node.run_dir / "bgp/var/bird.pid"
    pid = int(path.read_text()) if path.exists() else 0
    return pid if pid and started(pid) else 0


def fairlead(node: Node, *words: str, ok: bool = True) -> str:
    done = node.attempt(Path(sys.executable).with_name("fairlead"), *words)
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_containers_of_two_nodes_reach_each_other(town: Make, containers: Containers) -> None:
    made = farm(town)
    one, two = made.agents
    here, there = containers.new("here"), containers.new("there")
    one.attach(here, "farm")
    at = two.attach(there, "farm")
    there.serve("tcp", 80)
    for agent in made.agents:
        eventually(lambda agent=agent: established(agent, 1), deadline=15, what="the session")
    for family in (4, 6):
        eventually(lambda family=family: here.pings(address(at, family)), what=f"the way to the other node, IPv{family}")
        assert here.connects(address(at, family), 80)
        assert made.nodes[0].pings(address(at, family)), "the node itself reaches it"
    assert not one.drift()
    assert not two.drift()
    (route,) = [one for one in one.client.bgp_routes(peer="node2") if one.prefix.startswith("10.")]
    assert (route.best, route.via) == (True, ("192.0.2.2 on eth0",))
    assert "1 session, all established" in str(one.client.doctor())
    # The network can still be changed, though its own routes are in the kernel.
    one.network("farm", "10.60.0.0/16", "fd60::/64", driver="bgp", masquerade=False)
    assert here.connects(address(at), 80)


def test_an_agent_ends_and_the_speaker_goes_on(town: Make, containers: Containers) -> None:
    made = farm(town)
    one, two = made.agents
    here, there = containers.new("here"), containers.new("there")
    one.attach(here, "farm")
    at = address(two.attach(there, "farm"))
    eventually(lambda: established(one, 1), deadline=15)
    eventually(lambda: here.pings(at))
    pid, since = bird(made.nodes[0]), one.client.bgp_status().neighbours[0].since
    one.stop()
    assert bird(made.nodes[0]) == pid
    assert here.pings(at)
    one.start()
    eventually(lambda: established(one, 1))
    assert (bird(made.nodes[0]), one.client.bgp_status().neighbours[0].since) == (pid, since)
    one.kill()
    os.kill(pid, 9)
    assert here.pings(at), "the kernel keeps what was learned"
    one.start()
    eventually(lambda: bird(made.nodes[0]) not in {0, pid}, what="an agent that finds it dead starts it")
    eventually(lambda: established(one, 1), deadline=15)
    assert here.pings(at)
    os.kill(bird(made.nodes[0]), 9)
    eventually(lambda: one.client.bgp_status().restarts == 1, what="and one that sees it die, too")
    eventually(lambda: established(one, 1), deadline=15)


def test_without_a_network_nobody_speaks(town: Make, containers: Containers) -> None:
    made = town(2)
    one, two = made.agents
    assert not one.client.bgp_status().wanted
    assert not (made.nodes[0].run_dir / "bgp").exists()
    assert "BGP" not in str(one.client.doctor())
    one.network("farm", "10.60.0.0/16", driver="bgp")
    eventually(lambda: known(two, "farm"))
    there = containers.new("there")
    two.attach(there, "farm")
    eventually(lambda: made.nodes[0].run("ip", "route", "show", "proto", "bird"), deadline=15, what="the other node's block")
    two.detach(there)
    one.client.delete("networks", "farm")
    for node in made.nodes:
        eventually(lambda node=node: not bird(node), what="the speaker ends")
        eventually(lambda node=node: not node.run("ip", "route", "show", "proto", "bird"), what="and its routes go")
    assert not one.client.bgp_status().wanted


TOR = """
apiVersion: v1
kind: Secret
metadata: {name: tor}
stringData: {password: "s3cret # really"}
---
apiVersion: fairlead.dev/v1
kind: BGPPeer
metadata: {name: tor}
spec:
  peerIP: 192.0.2.254
  asNumber: 65001
  password: {secretKeyRef: {name: tor, key: password}}
"""


ROUTER = """
router bgp 65001
 bgp router-id 192.0.2.254
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor nodes peer-group
 neighbor nodes remote-as 64512
 neighbor nodes password s3cret
 bgp listen range 192.0.2.0/24 peer-group nodes
 address-family ipv4 unicast
  network 198.51.100.0/24
 exit-address-family
 address-family ipv6 unicast
  network 2001:db8:51::/64
  neighbor nodes activate
 exit-address-family
"""


def test_a_secret_is_shown_to_nobody_who_does_not_ask(town: Make) -> None:
    made = farm(town)
    one, two = made.agents
    assert apply(one, TOR) == []
    node = made.nodes[0]
    for told in (
        fairlead(node, "get", "secrets"),
        fairlead(node, "get", "secret", "tor", "-o", "yaml"),
        fairlead(node, "get", "secrets", "-o", "json"),
        fairlead(node, "get", "bgppeers", "-o", "yaml"),
        fairlead(node, "bgp", "status", "-o", "json", ok=False),
        one.log,
    ):
        assert "s3cret" not in told
        assert codec.encode("s3cret # really").decode()[1:5] not in told
        assert "czNjcmV0" not in told, "the same in base64"
    assert "password (15 bytes)" in fairlead(node, "get", "secrets")
    assert "czNjcmV0ICMgcmVhbGx5" in fairlead(node, "get", "secret", "tor", "-o", "yaml", "--reveal")
    hidden = one.client.object("secrets", "tor")
    assert isinstance(hidden, Secret)
    with pytest.raises(errors.Invalid, match=r"^data.password: was hidden when this was read"):
        one.client.apply(hidden)
    eventually(lambda: isinstance(two.client.object("secrets", "tor"), Secret), what="the other node knows it")
    for agent in made.agents:
        eventually(lambda agent=agent: "s3cret # really" in (agent.node.run_dir / "bgp/bird.conf").read_text())
    deleted = one.client.delete("secrets", "default/tor")
    assert "czNjcmV0" not in str(codec.to_tree(deleted))
    eventually(lambda: "there is no Secret default/tor:password" in str(one.client.doctor()))
    assert "write it: a Secret with that key" in str(one.client.doctor())


def test_an_agents_containers_and_a_router(town: Make, containers: Containers, cleanup: ExitStack) -> None:
    """The whole way: objects by the command line, FRR with a password, a host behind it, what doctor and status say."""
    made = farm(town, masquerade=False)
    one, two = made.agents
    here, there = containers.new("here"), containers.new("there")
    at = [one.attach(here, "farm"), two.attach(there, "farm")]
    frr = kept(cleanup, Frr())
    lay(frr, made.switch, "switch", "port254", "192.0.2.254/24", "2001:db8:2::254/64")
    behind = kept(cleanup, frr.host("host", "198.51.100.7/24", "2001:db8:51::7/64", device="office"))
    node = made.nodes[0]
    file = node.run_dir / "tor.yaml"
    file.write_text(TOR.replace("  password: {secret", "  # {secret"))
    assert "bgppeer/tor created" in fairlead(node, "apply", "-f", str(file))
    eventually(lambda: "Connection refused" in str(one.client.bgp_status()), deadline=15)
    assert "nothing listens there" in str(one.client.doctor())
    file.write_text(TOR)
    assert "bgppeer/tor configured" in fairlead(node, "apply", "-f", str(file))
    frr.boot(ROUTER)
    eventually(lambda: "both have the same password" in str(one.client.doctor()), deadline=15)
    apply(one, TOR.replace("s3cret # really", "s3cret"))
    for agent in made.agents:
        eventually(lambda agent=agent: established(agent, 2), deadline=20, what="the mesh and the router")
    eventually(lambda: len(frr.routes()) == len(frr.routes(6)) == 2, what="two blocks of each family")
    there.serve("tcp", 80)
    for family in (4, 6):
        eventually(lambda family=family: behind.pings(address(at[0], family)), what=f"from the host, IPv{family}")
        answer = eventually(lambda family=family: behind.ask(address(at[1], family), 80))
        assert answer.peer.removeprefix("::ffff:") in {"198.51.100.7", "2001:db8:51::7"}
    behind.serve("tcp", 80)
    answer = here.ask("198.51.100.7", 80)
    assert answer
    assert answer.peer.removeprefix("::ffff:") == address(at[0]), "the router's side sees the container's own address"
    table = fairlead(node, "bgp", "status")
    assert [line.split()[:5] for line in table.splitlines()[-2:]] == [
        ["node2", "mesh", "192.0.2.2", "64512", "Established"],
        ["tor", "external", "192.0.2.254", "65001", "Established"],
    ]
    told = json.loads(fairlead(node, "bgp", "routes", "--peer", "tor", "-o", "json"))
    assert {one["prefix"]: one["asPath"] for one in told} == {"198.51.100.0/24": "65001", "2001:db8:51::/64": "65001"}
    out = json.loads(fairlead(node, "bgp", "routes", "--peer", "tor", "--exported", "-o", "json"))
    assert len(out) == 4, "both blocks of both families, of which the other node's are second-hand"
    assert "there is no BGP peer 'nobody'; there are: node2, tor" in fairlead(
        node, "bgp", "routes", "--peer", "nobody", ok=False
    )
    # A network may be made where a router tells of a larger one.
    frr.vtysh("configure terminal", "router bgp 65001", "address-family ipv4 unicast", "network 10.0.0.0/8")
    eventually(lambda: "10.0.0.0/8" in node.run("ip", "route"))
    one.network("barn", "10.61.0.0/16", driver="bgp")
    made.agents[0].client.delete("bgppeers", "tor")
    for each in made.nodes:
        eventually(lambda each=each: "198.51.100.0/24" not in each.run("ip", "route"))
    assert established(one, 1)


def test_labels_make_reflectors(town: Make, containers: Containers) -> None:
    made = farm(town, 3)
    one, two, three = made.agents
    pods = [containers.new(f"pod{number}") for number in range(3)]
    at = [address(agent.attach(pod, "farm")) for agent, pod in zip(made.agents, pods, strict=True)]
    for agent in made.agents:
        eventually(lambda agent=agent: established(agent, 2), deadline=20)
    warnings = apply(
        one,
        """
apiVersion: fairlead.dev/v1
kind: BGPPeer
metadata: {name: reflectors}
spec: {nodeSelector: {}, peerSelector: {matchLabels: {reflector: "yes"}}}
---
apiVersion: fairlead.dev/v1
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMesh: false}
""",
    )
    assert warnings == ["spec.peerSelector: it selects no node"]
    for agent in made.agents:
        eventually(lambda agent=agent: not agent.client.bgp_status().neighbours, what="no mesh, and nobody reflects yet")
    machine = next(thing for thing in one.client.objects("nodes") if thing.name == "node3")
    tree = codec.to_tree(machine)
    tree["metadata"]["labels"] = {"reflector": "yes"}
    tree["metadata"].setdefault("annotations", {})["fairlead.dev/route-reflector-cluster-id"] = "10.0.0.1"
    one.client.apply(codec.from_item(tree))
    eventually(lambda: established(one, 1) and established(two, 1) and established(three, 2), deadline=20)
    assert {one.peer: one.type for one in three.client.bgp_status().neighbours} == {"node1": "client", "node2": "client"}
    assert [one.type for one in one.client.bgp_status().neighbours] == ["reflector"]
    eventually(lambda: pods[0].pings(at[1]), what="by what node3 told")
    assert "via 192.0.2.2 " in made.nodes[0].run("ip", "route", "get", at[1])


def test_everything_goes_with_a_purge(town: Make, containers: Containers) -> None:
    made = farm(town)
    one, two = made.agents
    two.attach(containers.new(), "farm")
    eventually(lambda: made.nodes[0].run("ip", "route", "show", "proto", "bird"), deadline=15)
    made.nodes[0].run("ip", "route", "add", "203.0.113.0/24", "via", "192.0.2.9", "proto", "bird", "metric", 32)
    pid = bird(made.nodes[0])
    one.client.purge()
    assert not started(pid)
    apply_refused(one)
    assert not bird(made.nodes[0]), "and nobody starts it again"
    left = made.nodes[0].run("ip", "route", "show", "proto", "bird")
    assert left.split()[:3] == ["203.0.113.0/24", "via", "192.0.2.9"], "another BIRD's are not ours"
    assert not made.nodes[0].run("ip", "-6", "route", "show", "proto", "bird")


def test_without_bird(town: Make, tmp_path: Path) -> None:
    """The error says what is to be installed; everything else works, and BGP begins by itself once it is there."""
    made = town(1)
    (agent,) = made.agents
    agent.stop()
    path = tmp_path / "bin"
    path.mkdir()
    (path / "nsenter").symlink_to(shutil.which("nsenter") or "")
    made.nodes[0].environ["PATH"] = str(path)
    agent.start()
    agent.network("farm", "10.60.0.0/16", driver="bgp")
    eventually(lambda: "install bird2" in agent.client.bgp_status().reason)
    assert "need BIRD 2, and there is no program bird" in str(agent.client.doctor())
    (path / "bird").symlink_to(shutil.which("bird") or "")
    eventually(lambda: agent.client.bgp_status().running, deadline=15)


def test_a_node_alone_and_a_router(cleanup: ExitStack, tmp_path: Path, containers: Containers) -> None:
    switch = kept(cleanup, Namespace("switch"))
    switch.run("ip", "link", "add", "switch", "up", "type", "bridge")
    node = kept(cleanup, Station(tmp_path / "alone", 1, switch))
    agent = Agent(node, "--interval", "2")
    cleanup.callback(agent.remove)
    agent.start()
    frr = kept(cleanup, Frr())
    lay(frr, switch, "switch", "router", "192.0.2.254/24", "2001:db8:2::254/64")
    frr.boot(ROUTER.replace(" neighbor nodes password s3cret\n", ""))
    agent.network("farm", "10.60.0.0/16", "fd60::/64", driver="bgp", masquerade=False)
    apply(agent, TOR.replace("  password: {secret", "  # {secret"))
    eventually(lambda: established(agent, 1), deadline=20)
    one = containers.new("one")
    at = agent.attach(one, "farm")
    eventually(frr.routes, what="the block that it has just taken")
    for family in (4, 6):
        eventually(lambda family=family: frr.pings(address(at, family)), what=f"from the router, IPv{family}")
    assert not agent.drift()
    assert not established(agent, 2)


def test_a_node_gets_another_address(town: Make, containers: Containers) -> None:
    made = farm(town)
    one, two = made.agents
    here, there = containers.new("here"), containers.new("there")
    one.attach(here, "farm")
    at = address(two.attach(there, "farm"))
    eventually(lambda: here.pings(at), deadline=15)
    made.nodes[1].run("ip", "address", "del", "192.0.2.2/24", "dev", "eth0")
    made.nodes[1].run("ip", "address", "add", "192.0.2.77/24", "dev", "eth0")
    eventually(lambda: one.client.bgp_status().neighbours[0].address == "192.0.2.77", deadline=10)
    eventually(lambda: here.pings(at), deadline=20, what="the way to its new address")
    assert "src 192.0.2.77" in made.nodes[1].run("ip", "route", "show", "proto", "bird")


_ASK = """
import socket
asking = socket.socket(socket.AF_UNIX)
asking.connect("agent.sock")
asking.sendall(b"GET /v1/objects/secrets/tor%s HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
print(asking.makefile("rb").read().decode())
"""


def test_the_group_that_may_use_the_socket_may_not_read_secrets(cleanup: ExitStack, node: Node) -> None:
    agent = Agent(node, "--group", "nogroup")
    cleanup.callback(agent.remove)
    agent.start()
    apply(agent, TOR)

    def asked(words: str) -> str:
        command = ["/usr/bin/python3", "-I", "-c", _ASK.replace("%s", words)]
        run = subprocess.run(
            command,
            cwd=node.run_dir,
            user="nobody",
            group="nogroup",
            extra_groups=[],
            capture_output=True,
            text=True,
            check=True,
        )
        return run.stdout

    assert "<15 bytes>" in asked("")
    refused = asked("?reveal=true")
    assert "HTTP/1.1 403" in refused
    assert "what Secrets hold is told to root alone" in refused
    assert "czNj" not in refused
