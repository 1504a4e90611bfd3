"""Between containers of two nodes packets skip both hosts' stacks: what that changes, and what it must not."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from fairlead.model import codec
from tests.kernel.agents import address
from tests.kernel.test_cluster import FRIENDS, Town, Watch, known
from tests.kernel.traffic import Traffic
from tests.net import Containers, Node
from tests.wait import eventually

pytestmark = pytest.mark.kernel("ebpf")

each_driver = pytest.mark.parametrize("driver", ["vxlan", "host-gw"])
Make = Callable[..., "Pair"]


class Pair:
    """Two containers on two nodes."""

    def __init__(self, town: Town, containers: Containers, *, ports: object = (), **spec: object) -> None:
        self.town = town
        self.one, self.two = town.agents
        self.one.network("farm", "10.60.0.0/16", "fd60::/64", **spec)
        eventually(lambda: known(self.two, "farm"), what="the other node knows the network")
        self.here, self.there = containers.new("here"), containers.new("there")
        self.made = self.one.attach(self.here, "farm"), self.two.attach(self.there, "farm", labels={"app": "db"}, ports=ports)
        self.at = {family: address(self.made[1], family) for family in (4, 6)}
        for at in self.at.values():
            eventually(lambda at=at: self.here.pings(at), what=f"the way to {at}")
        self.device = "flx-farm" if spec["driver"] == "vxlan" else "eth0"
        for node in town.nodes:
            eventually(lambda node=node: hooked(node, self.device), what="the program sees what comes in")

    def forwarded(self) -> tuple[int, ...]:
        """How many packets each node's stack has forwarded."""
        return tuple(forwarded(node) for node in self.town.nodes)

    def pings(self, family: int) -> list[int]:
        """How many packets of twenty and their answers each node's stack forwards."""
        before = self.forwarded()
        done = self.here.attempt("ping", "-n", "-q", "-i", "0.01", "-c", 20, "-W", 1, self.at[family])
        assert ", 0% packet loss" in done.stdout, done.stdout
        return [after - one for after, one in zip(self.forwarded(), before, strict=True)]

    def told(self, at: str, taker: str, sender: str) -> list[str]:
        """What a script in the one container says of what a script in the other sent to it."""
        taken = self.there.start("python3", "-c", taker)
        assert taken.stdout
        assert taken.stdout.readline() == "ready\n"
        self.here.run("python3", "-c", sender, at)
        return taken.communicate(timeout=10)[0].split()


def forwarded(node: Node) -> int:
    """By its counters, of both families."""
    four = [line.split() for line in node.run("cat", "/proc/net/snmp").splitlines() if line.startswith("Ip:")]
    six = re.search(r"Ip6OutForwDatagrams\s+(\d+)", node.run("cat", "/proc/net/snmp6"))
    assert six
    return int(dict(zip(*four, strict=True))["ForwDatagrams"]) + int(six[1])


def compared(node: Node) -> int:
    """How often the agent has compared the kernel."""
    ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9345/metrics').read().decode())"
    said = re.search(r"^fairlead_reconcile_duration_seconds_count (\d+)", node.run("python3", "-c", ask), re.MULTILINE)
    assert said
    return int(said[1])


def hooked(node: Node, device: str) -> str:
    """What tc shows of our program on a device."""
    said = node.attempt("tc", "filter", "show", "dev", device, "ingress").stdout
    return "".join(line for line in said.splitlines() if "from_net" in line)


@pytest.fixture
def pair(cleanup: ExitStack, tmp_path: Path, containers: Containers) -> Make:
    def make(*options: str, interval: float = 1, mtus: tuple[int, ...] = (), **more: object) -> Pair:
        town = Town(cleanup, tmp_path, 2, *options, plane="ebpf", interval=interval, mtus=mtus)
        return Pair(town, containers, **more)

    return make


@each_driver
def test_packets_skip_the_stacks(pair: Make, driver: str) -> None:
    """All but the first; of TCP all. With ``--no-short-way`` they do not, and what was begun goes on."""
    both = pair(driver=driver)
    both.there.serve("tcp", 80)
    for family in (4, 6):
        assert max(both.pings(family)) <= 4, "the first echo request and its answer, perhaps what agents ask"
        before = sum(both.forwarded())
        assert both.here.connects(both.at[family], 80)
        assert sum(both.forwarded()) - before <= 2
    assert not both.one.drift()
    traffic = Traffic(both.here, both.there, both.at[4])
    both.one.kill()
    both.one.options = (*both.one.options, "--no-short-way")
    both.one.start()
    assert not hooked(both.town.nodes[0], both.device)
    assert min(both.pings(4)[:1]) >= 20
    both.one.stop()
    both.one.options = both.one.options[:-1]
    both.one.start()
    assert eventually(lambda: max(both.pings(4)) <= 4), "and back again"
    lost = traffic.stop()
    assert lost.nothing, lost
    assert not both.one.drift()


def carried(node: Node, device: str) -> int:
    """How many packets a device has sent and received."""
    return sum(int(node.run("cat", f"/sys/class/net/{device}/statistics/{way}_packets")) for way in ("rx", "tx"))


def test_tunnels_are_made_without_their_device(pair: Make) -> None:
    """On the wire is VXLAN as ever, with large sends in one piece; datagrams that are cut at the end come out of the device."""
    both = pair(driver="vxlan")
    both.there.serve("tcp", 80)
    for at in both.at.values():
        assert both.here.pings(at)
    before = [carried(node, "flx-farm") for node in both.town.nodes]
    capture = both.town.nodes[1].start("tcpdump", "-l", "-nn", "-c", "3", "-i", "eth0", "--immediate-mode", "udp port 4789")
    assert capture.stdout
    while "listening on" not in capture.stdout.readline():
        pass
    assert both.here.connects(both.at[4], 80)
    seen = capture.communicate(timeout=10)[0]
    ends = [str(node.v4) for node in both.town.nodes]
    assert re.search(rf"IP {ends[0]}\.\d+ > {ends[1]}\.4789: VXLAN, flags \[I\] \(0x08\), vni \d+", seen), seen
    assert f"{both.at[4]}.80: Flags [S]" in seen
    for at in both.at.values():
        assert both.told(at, BULK_TAKEN, BULK_SENT) == ["8000000"]
    assert [carried(node, "flx-farm") for node in both.town.nodes] == before
    for at in both.at.values():
        assert both.told(at, PIECES_TAKEN, PIECES_SENT) == ["1000"] * 20


BULK_TAKEN = """
import socket
server = socket.create_server(("::", 9000), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
client, _ = server.accept()
total = 0
while some := client.recv(1 << 20):
    total += len(some)
print(total)
"""
BULK_SENT = """
import socket, sys
with socket.create_connection((sys.argv[1], 9000), timeout=5) as s:
    s.sendall(bytes(8_000_000))
"""
PIECES_TAKEN = """
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.settimeout(5)
s.bind(("::", 9000))
print("ready", flush=True)
first, peer = s.recvfrom(65536)
s.sendto(first, peer)
for _ in range(20):
    print(len(s.recv(65536)))
"""
PIECES_SENT = """
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
s.connect((sys.argv[1], 9000))
s.send(b"first")
s.recv(100)
s.setsockopt(socket.SOL_UDP, 103, 1000)  # UDP_SEGMENT
for _ in range(2):
    s.send(bytes(10000))
"""


def test_published_ports_are_answered_by_who_was_asked(pair: Make) -> None:
    """Its node translates, so its answers go back through the stack, though a short way leads to who asked."""
    ports = [{"hostPort": 8080, "containerPort": 80}, {"hostPort": 8053, "containerPort": 53, "protocol": "udp"}]
    both = pair(driver="host-gw", ports=ports, masquerade=False)
    both.there.serve("tcp", 80)
    both.there.serve("udp", 53)
    node = both.town.nodes[1]
    for published, port, protocol in ((8080, 80, "tcp"), (8053, 53, "udp")):
        for _ in range(3):
            assert both.here.connects(node.v4, published, protocol), (protocol, "by the node")
            assert both.here.connects(both.at[4], port, protocol), (protocol, "itself")


@pytest.mark.needs("iptables", "ip6tables")
def test_an_answer_does_not_wait_for_a_neighbour_on_the_long_way(pair: Make) -> None:
    """Its beginning never passed the stack, where connection tracking takes it for invalid: kube-proxy's rule drops that."""
    both = pair(driver="host-gw")
    both.there.serve("tcp", 80)
    for node in both.town.nodes:
        for program in ("iptables", "ip6tables"):
            node.run(program, "-A", "FORWARD", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP")
    for family, at in both.at.items():
        for node in both.town.nodes:
            node.run("ip", f"-{family}", "neighbour", "flush", "dev", "eth0")
        assert both.here.connects(at, 80, deadline=2.0), f"IPv{family}"


def test_policies_decide_and_are_told_of(pair: Make) -> None:
    """Flows name who was not let in."""
    both = pair(driver="vxlan")
    both.there.serve("tcp", 80)
    assert both.here.connects(both.at[4], 80)
    both.one.client.apply(codec.from_yaml(FRIENDS)[0])
    eventually(lambda: not both.here.connects(both.at[4], 80, deadline=0.3), what="nobody's friend")
    assert not both.here.pings(both.at[6], deadline=0.3)
    eventually(lambda: "here" in str(both.two.client.flows(verdict="dropped")), what="the drop is shown")
    both.one.client.delete("networkpolicies", "default/db")
    eventually(lambda: both.here.connects(both.at[4], 80, deadline=0.3), what="there is no policy any more")


def test_what_hosts_say_they_say(pair: Make) -> None:
    """Too far, too large for the other node, and nobody there."""
    both = pair(driver="host-gw", mtus=(1500, 1400))
    for family, at in both.at.items():
        ping = ("ping", f"-{family}", "-n", "-W", 1, "-c", 1)
        assert "exceeded" in both.here.attempt(*ping, "-t", 1, at).stdout
        assert "exceeded" in both.here.attempt(*ping, "-t", 2, at).stdout, "by the other node"
        assert "ttl=62" in both.here.attempt(*ping, at).stdout
        heads = 28 if family == 4 else 48
        assert both.here.attempt(*ping, "-M", "do", "-s", 1400 - heads, at).returncode == 0
        said = both.here.attempt(*ping, "-M", "do", "-s", 1401 - heads, at).stdout
        assert "mtu = 1400" in said or "mtu=1400" in said, said
    both.two.detach(both.there)
    said = eventually(lambda: "nreachable" in both.here.attempt("ping", "-n", "-W", 1, "-c", 1, both.at[4]).stdout)
    assert said


def test_nobody_comes_in_as_a_container_of_the_node(pair: Make, containers: Containers) -> None:
    """The stack decides, as its rp_filter says."""
    both = pair(driver="host-gw")
    node, switch, third = both.town.nodes[1], both.town.switch, containers.new("third")
    posed, at = address(both.two.attach(third, "farm"), 4), both.at[4]
    switch.run("ip", "address", "add", f"{posed}/32", "dev", "switch")
    switch.run("ip", "route", "add", at, "via", node.v4)
    ask = f"import socket as s; c = s.socket(); c.settimeout(0.3); c.bind(('{posed}', 0)); c.connect_ex(('{at}', 80))"

    def heard() -> bool:
        words = ("timeout", "1", "tcpdump", "-l", "-n", "-c", "1", "-i", "eth0", "--immediate-mode", f"src {posed} and tcp")
        seen = both.there.start(*words)
        assert seen.stdout
        while "listening on" not in seen.stdout.readline():
            pass
        switch.run("python3", "-c", ask)
        return posed in seen.communicate(timeout=10)[0]

    for strict in (0, 1):
        for name in ("all", "eth0"):
            node.run("sysctl", "-q", "-w", f"net.ipv4.conf.{name}.rp_filter={strict}")
        assert heard() is not bool(strict)


def test_a_node_is_cut_off_and_comes_back(pair: Make) -> None:
    both = pair(driver="host-gw")
    assert max(both.pings(4)) <= 4
    both.town.switch.run("ip", "link", "set", "port2", "down")
    eventually(lambda: not both.here.pings(both.at[4], deadline=0.3))
    both.town.switch.run("ip", "link", "set", "port2", "up")
    eventually(lambda: both.here.pings(both.at[4], deadline=0.3), deadline=15, what="the way is there again")
    eventually(lambda: max(both.pings(4)) <= 4, deadline=15, what="and is the short one")


def test_what_is_taken_off_is_put_back_at_once(pair: Make, record_figures: list[str]) -> None:
    """By what the kernel tells: the timer is a minute away. What the agent puts back leads to no other comparison."""
    both = pair("--metrics", "127.0.0.1:9345", driver="vxlan", direct=True, interval=60)
    node = both.town.nodes[0]
    eventually(lambda: hooked(node, "eth0") and not both.one.drift())
    (host,) = (name for name in node.run("ls", "/sys/class/net").split() if name.startswith("flv"))
    took = {}
    for words in (
        f"filter delete dev eth0 ingress pref {0x666D}",
        f"filter delete dev flx-farm ingress pref {0x666D}",
        f"filter delete dev {host} egress pref 1",
        "filter delete dev eth0 ingress",
        "qdisc delete dev eth0 clsact",
        f"qdisc delete dev {host} clsact",
    ):
        before = compared(node)
        node.run("tc", *words.split())
        took[words] = Watch().until(lambda: not both.one.drift(), f"repaired after {words}", deadline=8)
        assert compared(node) - before <= 2, "the repair leads to no other"
    assert statistics.median(took.values()) < 1, took
    record_figures.append(
        f"{len(took)} ways to take programs off: put back after {statistics.median(took.values()):.2f} s (median), "
        f"{max(took.values()):.2f} s (worst)"
    )


OTHERS = ["dev", "eth0", "ingress", "pref", "7", "protocol", "ip", "u32", "match", "ip", "dst", "198.51.100.9", "flowid", "1:7"]


def test_an_uplink_is_the_user_s(pair: Make) -> None:
    """What they have there stays, whatever becomes of ours; ours is put back, and goes with a purge."""
    both = pair(driver="host-gw", interval=1)
    node = both.town.nodes[0]
    node.run("tc", "filter", "add", *OTHERS)
    node.run("tc", "filter", "delete", "dev", "eth0", "ingress", "pref", str(0x666D))
    assert both.here.pings(both.at[4])
    eventually(lambda: hooked(node, "eth0"), what="ours is put back")
    eventually(lambda: max(both.pings(4)) <= 4)
    node.run("tc", "qdisc", "delete", "dev", "eth0", "clsact")
    eventually(lambda: hooked(node, "eth0"), what="and where nothing is left")
    node.run("tc", "filter", "add", *OTHERS)
    assert not both.one.drift()
    both.one.detach(both.here)
    both.two.detach(both.there)
    both.one.client.delete("networks", "farm")
    eventually(lambda: not hooked(node, "eth0"), what="it goes with the last network that needs it")
    both.one.network("farm", "10.60.0.0/16", "fd60::/64", driver="host-gw")
    both.one.attach(both.here, "farm")
    both.two.attach(both.there, "farm")
    eventually(lambda: hooked(node, "eth0"), what="and comes with the next")
    assert "uplinks eth0: unexpected" not in both.one.log
    both.one.client.purge()
    assert not hooked(node, "eth0")
    assert "pref 7" in node.run("tc", "filter", "show", "dev", "eth0", "ingress")


def test_a_purge_removes_the_place_of_our_program(pair: Make) -> None:
    """If we made it and nobody else has anything there; not before, since that stops the device for a moment."""
    both = pair(driver="host-gw", interval=60)
    (node, theirs), place = both.town.nodes, ("tc", "qdisc", "show", "dev", "eth0")
    assert "clsact" in node.run(*place)
    both.one.kill()
    both.one.start()
    both.one.detach(both.here)
    both.two.detach(both.there)
    both.one.client.delete("networks", "farm")
    for one in both.town.nodes:
        eventually(lambda one=one: not hooked(one, "eth0"), what="it goes with the network")
        assert "clsact" in one.run(*place)
    theirs.run("tc", "filter", "add", *OTHERS)
    assert not both.one.drift()
    both.one.network("farm", "10.60.0.0/16", "fd60::/64", driver="host-gw")
    both.one.attach(both.here, "farm")
    both.two.attach(both.there, "farm")
    eventually(lambda: hooked(node, "eth0"), what="it comes with the next")
    eventually(lambda: hooked(theirs, "eth0"), what="and beside another's")
    both.one.client.purge()
    both.two.client.purge()
    assert "clsact" not in node.run(*place)
    assert not hooked(theirs, "eth0")
    assert "clsact" in theirs.run(*place), "somebody else has something there"
