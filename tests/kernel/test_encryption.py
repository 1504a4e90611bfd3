"""Encryption between nodes, with real agents: nothing is in the clear on the wire, in whatever situation."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests import machine
from tests.kernel.agents import Agent, address
from tests.kernel.tap import Tap
from tests.kernel.test_cluster import Town, attached, farm, known, town  # noqa: F401
from tests.net import Containers, Namespace, Node, kept
from tests.net import machine as command
from tests.wait import eventually

pytestmark = pytest.mark.needs("wireguard-go", "tcpdump")
PROCESS = pytest.mark.skipif(machine.FEATURES["wireguard"](), reason="the kernel has WireGuard: there is no process to lose")
V4, V6 = "10.60.0.0/16", "fd60::/64"
MakeTown = Callable[[int], Town]


class Scene:
    """Two nodes, a container on each, a third machine that is everybody's default route, and a tap on all of it."""

    def __init__(self, cleanup: ExitStack, made: Town, containers: Containers, **spec: object) -> None:
        self.town = made
        self.one, self.two = made.agents
        self.here_node, self.there_node = made.nodes
        self.switch = made.switch
        self._lead_out()
        self.tap = Tap(self.switch)
        cleanup.callback(self.tap.stop)
        self.spec = {"driver": "vxlan", "encrypt": True, **spec}
        self.here, self.there = containers.new("here"), containers.new("there")
        self.at: dict[int, str] = {}
        self.from_: dict[int, str] = {}

    def _lead_out(self) -> None:
        """Whatever has no better route is sent over the wire, to be seen."""
        for node in self.town.nodes:
            node.run("ip", "-4", "route", "add", "default", "via", "192.0.2.250")
            node.run("ip", "-6", "route", "add", "default", "via", "2001:db8:2::fa")
            for beyond in ("192.0.2.250", "2001:db8:2::fa"):
                node.run("ip", "neighbour", "add", beyond, "lladdr", "02:00:00:00:00:fa", "dev", "eth0", "nud", "permanent")

    def network(self) -> None:
        self.one.network("farm", V4, V6, **self.spec)
        eventually(lambda: known(self.two, "farm"), what="the other node knows the network")

    def attach(self) -> None:
        mine, theirs = self.one.attach(self.here, "farm"), self.two.attach(self.there, "farm")
        self.from_ = {family: address(mine, family) for family in (4, 6)}
        self.at = {family: address(theirs, family) for family in (4, 6)}
        self.there.serve("tcp", 80)
        self.there.serve("udp", 53)

    def works(self, deadline: float = 8) -> None:
        for family in (4, 6):
            eventually(lambda family=family: self.here.pings(self.at[family]), deadline, what=f"the way, IPv{family}")

    def speak(self) -> list[bool]:
        """Everybody tries to speak with everybody, in both directions; whether each was answered."""
        answered = []
        for family in (4, 6):
            nodes = {4: (self.here_node.v4, self.there_node.v4), 6: (self.here_node.v6, self.there_node.v6)}[family]
            answered += [
                self.here.pings(self.at[family]),
                self.there.pings(self.from_[family]),
                self.here.connects(self.at[family], 80, deadline=0.5),
                self.here.connects(self.at[family], 53, "udp", deadline=0.5),
                self.here_node.pings(self.at[family]),
                self.there_node.pings(self.from_[family]),
                self.here.pings(nodes[1]),
                self.there.pings(nodes[0]),
            ]
        return answered


@pytest.fixture
def scene(cleanup: ExitStack, town: MakeTown, containers: Containers) -> Callable[..., Scene]:  # noqa: F811
    """A scene that works already, or, with ``begun=False``, before there is a network."""

    def make(*, begun: bool = True, **spec: object) -> Scene:
        made = Scene(cleanup, town(2), containers, **spec)
        if begun:
            made.network()
            made.attach()
            made.works()
        return made

    return make


MakeScene = Callable[..., Scene]


@pytest.mark.parametrize("driver", ["vxlan", "host-gw"])
def test_everybody_reaches_everybody_and_nothing_is_in_the_clear(scene: MakeScene, driver: str) -> None:
    made = scene(driver=driver)
    assert all(made.speak())
    assert not made.tap.leaks()
    assert not made.one.drift()
    assert not made.two.drift()
    assert "flx-farm" not in made.here_node.run("ip", "link"), "no tunnel in a tunnel"


def test_without_encryption_the_tap_hears_it(scene: MakeScene) -> None:
    """That the tap is not deaf."""
    made = scene(encrypt=False)
    assert made.tap.leaks()


@PROCESS
def test_before_the_other_has_a_key(scene: MakeScene) -> None:
    """A node without WireGuard is not reached, by nobody and not in the clear, and doctor says what to do."""
    made = scene(begun=False)
    made.two.stop()
    path = made.there_node.environ.get("PATH", os.environ["PATH"])
    made.there_node.environ["PATH"] = without("wireguard-go", made.two)
    made.two.start()
    made.network()
    made.attach()
    assert not any(made.speak())
    assert not made.tap.leaks()
    assert "no WireGuard key" in str(made.one.client.doctor())
    assert "wireguard-go is not installed" in str(made.two.client.doctor())
    asked = made.here.attempt("ping", "-n", "-c", 1, "-W", 1, made.at[4])
    assert "nreachable" in asked.stdout, "an answer, not silence"
    made.two.stop()
    made.there_node.environ["PATH"] = path
    made.two.start()
    made.works()
    assert all(made.speak())
    assert not made.tap.leaks()
    assert "WireGuard key" not in str(made.one.client.doctor())


def test_while_the_agents_are_down(scene: MakeScene) -> None:
    made = scene()
    made.one.kill()
    made.two.kill()
    assert all(made.speak()), "encryption outlives the agent"
    assert not made.tap.leaks()
    before = indexes(made.here_node)
    made.one.start()
    made.two.start()
    made.works()
    assert all(made.speak())
    assert indexes(made.here_node) == before, "it is adopted, not made anew"
    assert not made.tap.leaks()


@pytest.mark.parametrize("way", ["device", pytest.param("TERM", marks=PROCESS), pytest.param("KILL", marks=PROCESS), "down"])
def test_when_the_device_is_lost(scene: MakeScene, way: str) -> None:
    """The device is deleted or set down, or its process ends: unreachable, until the agent has made it anew."""
    made = scene()
    made.one.stop()
    lose(made.here_node, way)
    assert not any(made.speak())
    assert not made.tap.leaks()
    made.one.start()
    made.works(20)
    lose(made.here_node, way)
    made.works(20)
    assert all(made.speak())
    assert not made.tap.leaks()
    assert not made.one.drift()


@PROCESS
def test_a_process_that_hangs_is_replaced(scene: MakeScene) -> None:
    made = scene()
    os.kill(process(made.here_node), signal.SIGSTOP)
    assert not made.here.pings(made.at[4])
    made.works(25)
    assert not made.tap.leaks()


@pytest.mark.parametrize("agents", ["up", "down"])
def test_when_routes_say_otherwise(scene: MakeScene, agents: str) -> None:
    """A longer route that somebody else writes, as a routing daemon does, or ours gone: the packet filter keeps it in."""
    made = scene()
    if agents == "down":
        made.one.stop()
        for family in ("-4", "-6"):
            made.here_node.run("ip", family, "route", "flush", "proto", "102", "metric", "1064")
            made.here_node.run("ip", family, "route", "flush", "proto", "102", "dev", devices(made.here_node)[0])
            made.here_node.run("ip", family, "rule", "del", "pref", "26220")
    for family, via in ((4, made.there_node.v4), (6, made.there_node.v6)):
        made.here_node.run("ip", f"-{family}", "route", "add", made.at[family], "via", via, "proto", "12")
    assert not made.here.pings(made.at[4])
    assert not made.here_node.pings(made.at[6])
    made.speak()
    assert not made.tap.leaks()
    if agents == "up":
        for family in (4, 6):
            made.here_node.run("ip", f"-{family}", "route", "del", made.at[family], "proto", "12")
        made.works()


def test_what_comes_in_the_clear_is_not_taken(scene: MakeScene) -> None:
    """A node that is not itself any more sends in the clear, as a container and as itself: nobody hears it."""
    made = scene()
    made.two.kill()
    node = made.there_node
    for family in ("-4", "-6"):
        node.run("ip", family, "rule", "del", "pref", "26220")
        node.run("ip", family, "route", "flush", "proto", "102", "dev", devices(node)[0])
    node.run("nft", "delete", "table", "inet", "fairlead")
    for family, via in ((4, made.here_node.v4), (6, made.here_node.v6)):
        node.run("ip", f"-{family}", "route", "replace", made.from_[family], "via", via)
    with heard(made.here) as hears:
        for family in (4, 6):
            assert not made.there.pings(made.from_[family])
            assert not node.pings(made.from_[family])
            made.there.run("bash", "-c", f"echo -n hello >/dev/udp/{made.from_[family]}/99")
        assert len(made.tap.leaks()) >= 6, "it was sent"
        assert not hears()


def test_a_node_that_dies_and_one_that_is_forgotten(scene: MakeScene) -> None:
    made = scene()
    made.two.kill()
    made.there_node.run("ip", "link", "set", "eth0", "down")
    eventually(lambda: "nothing is sent to it" in str(made.one.client.doctor()), 20)
    assert not made.here.pings(made.at[4])
    made.speak()
    assert not made.tap.leaks()
    made.one.client.delete("nodes", "node2")
    eventually(lambda: "node2" not in str(made.one.client.objects("nodes")))
    for family in (4, 6):
        assert not made.here.pings(made.at[family])
        assert not made.here_node.pings(made.at[family])
    assert not made.tap.leaks()


def test_a_network_in_the_clear_beside_an_encrypted_one(scene: MakeScene, containers: Containers) -> None:
    """What is between the two is encrypted, in both directions; what is within the one in the clear is not."""
    made = scene(isolated=False)
    made.one.network("open", "10.61.0.0/16", driver="vxlan", isolated=False)
    eventually(lambda: known(made.two, "open"))
    mine, theirs = containers.new("mine"), containers.new("theirs")
    attached(made.one, mine, "open")
    at = attached(made.two, theirs, "open")
    theirs.serve("tcp", 80)
    eventually(lambda: made.here.connects(at, 80), what="from the encrypted network to the other")
    eventually(lambda: mine.connects(made.at[4], 80), what="and back")
    assert not made.tap.leaks()
    assert mine.connects(at, 80)
    assert made.tap.leaks()


def test_published_ports_and_the_outside(scene: MakeScene, cleanup: ExitStack) -> None:
    """Who is no node is met in the clear, as ever; a port that a node publishes is reached from another through encryption."""
    made = scene()
    outside = kept(cleanup, Namespace("outside"))
    command(
        *("ip", "link", "add", "eth0", "netns", outside.name, "type", "veth"),
        *("peer", "name", "port9", "netns", made.switch.name),
    )
    made.switch.run("ip", "link", "set", "port9", "master", "switch", "up")
    outside.run("ip", "address", "add", "192.0.2.9/24", "dev", "eth0")
    outside.run("ip", "link", "set", "eth0", "up")
    outside.serve("tcp", 80)
    answer = made.here.ask("192.0.2.9", 80)
    assert answer
    assert answer.peer.removeprefix("::ffff:") == made.here_node.v4, "source NAT gives the node's address"
    web = Namespace("web")
    kept(cleanup, web)
    made.two.attach(web, "farm", ports=[{"hostPort": 8080, "containerPort": 80}])
    web.serve("tcp", 80)
    assert outside.connects(made.there_node.v4, 8080)
    assert made.tap.leaks()
    again = Tap(made.switch)
    cleanup.callback(again.stop)
    assert made.here.connects(made.there_node.v4, 8080)
    assert not again.leaks()


def test_a_strict_reverse_path_filter(scene: MakeScene) -> None:
    """As some distributions have it: what comes out of the device may be answered another way all the same."""
    made = scene(begun=False)
    for node in made.town.nodes:
        node.run("sysctl", "-q", "-w", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.default.rp_filter=1")
    made.network()
    made.attach()
    made.works()
    assert all(made.speak())
    assert not made.tap.leaks()


def test_purge_leaves_nothing(scene: MakeScene) -> None:
    made = scene()
    assert devices(made.here_node)
    made.one.client.purge()
    assert not devices(made.here_node)
    assert "26220" not in made.here_node.run("ip", "rule")
    assert "proto 102" not in made.here_node.run("ip", "route", "show", "table", "all")
    eventually(lambda: not processes(made.here_node))


def test_encryption_ends_with_the_last_network(scene: MakeScene) -> None:
    made = scene()
    made.one.detach(made.here)
    made.two.detach(made.there)
    made.one.client.delete("networks", "farm")
    eventually(lambda: not devices(made.here_node) and not devices(made.there_node))
    assert "26220" not in made.here_node.run("ip", "rule")
    assert not made.one.drift()


def test_the_private_key_is_seen_nowhere(scene: MakeScene) -> None:
    made = scene()
    (path,) = (made.here_node.state_dir / "wireguard").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    key = path.read_text().strip()
    assert len(key) == 44
    lose(made.here_node, "device")
    made.works(20)
    said = made.one.log + str(made.one.client.doctor()) + str(made.one.client.objects("nodes")) + str(made.one.client.status())
    assert key not in said
    shared = made.here_node.run_dir.parent.parent
    for one in [*shared.glob("shared.db"), *shared.glob("shared.db-wal"), *made.here_node.state_dir.glob("store.db*")]:
        assert key.encode() not in one.read_bytes()


def without(program: str, agent: Agent) -> str:
    """A PATH on which everything is but one program."""
    folder = agent.node.run_dir.parent / "bin"
    folder.mkdir()
    for place in ("/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        for one in Path(place).iterdir():
            if one.name != program and not (folder / one.name).is_symlink():
                (folder / one.name).symlink_to(one)
    return str(folder)


def devices(node: Node) -> list[str]:
    """The names of the WireGuard devices."""
    return [link["ifname"] for link in node.json("ip", "-json", "link") if link["ifname"].startswith("flw")]


def indexes(node: Node) -> dict[str, int]:
    """The numbers of all interfaces, of which one that is made anew has another."""
    return {link["ifname"]: link["ifindex"] for link in node.json("ip", "-json", "link")}


def processes(node: Node) -> list[int]:
    """Those of wireguard-go in a node."""
    pids = command("ip", "netns", "pids", node.name).split()
    return [int(pid) for pid in pids if Path(f"/proc/{pid}/comm").read_text() == "wireguard-go\n"]


def process(node: Node) -> int:
    (only,) = processes(node)
    return only


def lose(node: Node, way: str) -> None:
    """Lose the device one way or another."""
    (device,) = devices(node)
    if way == "device":
        node.run("ip", "link", "delete", device)
    elif way == "down":
        node.run("ip", "link", "set", device, "down")
    else:
        pid = process(node)
        os.kill(pid, signal.Signals[f"SIG{way}"])
        eventually(lambda: pid not in processes(node) and (not devices(node) or processes(node)))


@contextmanager
def heard(container: Namespace) -> Iterator[Callable[[], list[str]]]:
    """What a container receives that is meant for it."""
    listening = container.start("tcpdump", "-l", "-n", "-t", "-Q", "in", "-i", "eth0", "--immediate-mode", "ip or ip6")
    assert listening.stdout
    lines: list[str] = []
    while "listening on" not in listening.stdout.readline():
        pass

    def hears() -> list[str]:
        listening.terminate()
        listening.wait(5)
        lines.extend(line for line in listening.stdout or () if " IP" in f" {line}" and "icmp6, " not in line.lower())
        return lines

    yield hears
