"""Encryption between nodes, with real agents: nothing is in the clear on the wire, in whatever situation.

What can be is tried on one pair of nodes after the other (``scene``); a test leaves it working.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests import machine
from tests.kernel.agents import Agent, address
from tests.kernel.tap import Tap
from tests.kernel.test_cluster import Town, attached, known
from tests.net import Containers, Namespace, Node, kept
from tests.net import machine as command
from tests.wait import eventually

pytestmark = pytest.mark.needs("wireguard-go", "tcpdump", "bird")
PROCESS = pytest.mark.skipif(machine.FEATURES["wireguard"](), reason="the kernel has WireGuard: there is no process to lose")
V4, V6 = "10.60.0.0/16", "fd60::/64"
BESIDE = ("10.62.0.0/16", "fd62::/64")


class Pair:
    """A container on each of two nodes, on one network."""

    def __init__(self, made: Town, containers: Containers, network: str) -> None:
        self.town, self.network = made, network
        self.here, self.there = containers.new("here"), containers.new("there")
        self.at: dict[int, str] = {}
        self.from_: dict[int, str] = {}

    def attach(self) -> None:
        one, two = self.town.agents
        mine, theirs = one.attach(self.here, self.network), two.attach(self.there, self.network)
        self.from_ = {family: address(mine, family) for family in (4, 6)}
        self.at = {family: address(theirs, family) for family in (4, 6)}
        self.there.serve("tcp", 80)
        self.there.serve("udp", 53)

    def detach(self) -> None:
        for agent, one in zip(self.town.agents, (self.here, self.there), strict=True):
            agent.detach(one)

    def works(self, deadline: float = 8) -> None:
        for family in (4, 6):
            eventually(lambda family=family: self.here.pings(self.at[family]), deadline, what=f"the way, IPv{family}")

    def speak(self, *, nodes: bool = True) -> list[bool]:
        """Everybody tries to speak with everybody at once, in both directions; whether each was answered.

        ``nodes``: containers with the other node too.
        """
        mine, theirs = self.town.nodes
        tries: list[Callable[[], bool]] = []
        for family in (4, 6):
            at, back = self.at[family], self.from_[family]
            tries += [
                partial(self.here.pings, at),
                partial(self.there.pings, back),
                partial(self.here.connects, at, 80, deadline=0.5),
                partial(self.here.connects, at, 53, "udp", deadline=0.5),
            ]
            if self.town.family in {0, family}:
                tries += [partial(mine.pings, at), partial(theirs.pings, back)]
            if nodes and self.town.family in {0, family}:
                homes = {4: (mine.v4, theirs.v4), 6: (mine.v6, theirs.v6)}[family]
                tries += [partial(self.here.pings, homes[1]), partial(self.there.pings, homes[0])]
        with ThreadPoolExecutor(len(tries)) as pool:
            return list(pool.map(lambda each: each(), tries))


class Scene(Pair):
    """Two nodes, a container on each, a third machine that is everybody's default route, and a tap on all of it."""

    def __init__(self, cleanup: ExitStack, folder: Path, family: int = 0) -> None:
        self.containers = Containers(cleanup)
        super().__init__(Town(cleanup, folder, 2, family=family), self.containers, "farm")
        self.one, self.two = self.town.agents
        self.here_node, self.there_node = self.town.nodes
        self.switch = self.town.switch
        self._lead_out()
        self.tap = Tap(self.switch)
        cleanup.callback(self.tap.stop)

    def _lead_out(self) -> None:
        """Whatever has no better route is sent over the wire, to be seen."""
        for node in self.town.nodes:
            node.run("ip", "-4", "route", "add", "default", "via", "192.0.2.250")
            node.run("ip", "-6", "route", "add", "default", "via", "2001:db8:2::fa")
            for beyond in ("192.0.2.250", "2001:db8:2::fa"):
                node.run("ip", "neighbour", "add", beyond, "lladdr", "02:00:00:00:00:fa", "dev", "eth0", "nud", "permanent")

    def create(self, name: str = "farm", *subnets: str, **spec: object) -> None:
        self.one.network(name, *(subnets or (V4, V6)), **{"driver": "vxlan", "encrypt": True, **spec})
        eventually(lambda: known(self.two, name), what="the other node knows the network")

    def remove(self, name: str) -> None:
        self.one.client.delete("networks", name)
        eventually(lambda: not known(self.two, name), what="the other node has forgotten the network")

    @property
    def whole(self) -> bool:
        """Whether it is as a test has to leave it."""
        return self.one.running and self.two.running and all(self.speak()) and not self.one.drift() and not self.two.drift()


MakeScene = Callable[..., Scene]


@pytest.fixture
def fresh(cleanup: ExitStack, tmp_path: Path) -> MakeScene:
    """A scene of a test's own, before there is a network."""
    return partial(Scene, cleanup, tmp_path)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeScene]:
    """Scenes that work already, one for each family by which nodes reach each other; anew if a test left one in ruins."""
    made: dict[int, Scene] = {}
    with ExitStack() as cleanup:

        def get(family: int = 0) -> Scene:
            if family not in made or not made[family].whole:
                made[family] = scene = Scene(cleanup, tmp_path_factory.mktemp("scene"), family)
                scene.create()
                scene.attach()
                scene.works()
            made[family].tap.forget()
            return made[family]

        yield get


@pytest.fixture
def scene(scenes: MakeScene) -> Scene:
    """The one where nodes have addresses of both families, and reach each other by IPv4."""
    return scenes()


@pytest.mark.parametrize("underlay", [0, 6])
@pytest.mark.parametrize("driver", ["vxlan", "host-gw", "bgp"])
def test_everybody_reaches_everybody_and_nothing_is_in_the_clear(scenes: MakeScene, driver: str, underlay: int) -> None:
    made = scenes(underlay)
    pair: Pair = made
    if driver != "vxlan":
        pair = Pair(made.town, made.containers, driver)
        made.create(driver, *BESIDE, driver=driver)
        pair.attach()
        pair.works()
    assert all(pair.speak())
    assert not made.tap.leaks()
    if driver == "bgp":
        eventually(lambda: "bird" in made.here_node.run("ip", "route"), 15, what="the speaker has written routes")
        assert all(pair.speak()), "and they are not taken"
        assert not made.tap.leaks()
    assert not made.one.drift()
    assert not made.two.drift()
    assert "flx-" not in made.here_node.run("ip", "link"), "no tunnel in a tunnel"
    if driver != "vxlan":
        pair.detach()
        made.remove(driver)


@PROCESS
def test_before_the_other_has_a_key(fresh: MakeScene) -> None:
    """A node without WireGuard is not reached, by nobody and not in the clear, and doctor says what to do."""
    made = fresh()
    made.two.stop()
    path = made.there_node.environ.get("PATH", os.environ["PATH"])
    made.there_node.environ["PATH"] = without("wireguard-go", made.two)
    made.two.start()
    made.create()
    made.attach()
    asked = made.here.attempt("ping", "-n", "-c", 1, "-W", 1, made.at[4])
    assert "nreachable" in asked.stdout, "an answer, not silence"
    assert not any(made.speak())
    assert not made.tap.leaks()
    assert "no WireGuard key" in str(made.one.client.doctor())
    assert "wireguard-go is not installed" in str(made.two.client.doctor())
    made.two.stop()
    made.there_node.environ["PATH"] = path
    made.two.start()
    made.works()
    assert all(made.speak())
    assert not made.tap.leaks()
    assert "WireGuard key" not in str(made.one.client.doctor())


def test_while_the_agents_are_down(scene: Scene) -> None:
    scene.one.kill()
    scene.two.kill()
    assert all(scene.speak()), "encryption outlives the agent"
    assert not scene.tap.leaks()
    before = indexes(scene.here_node)
    scene.one.start()
    scene.two.start()
    scene.works()
    assert all(scene.speak())
    assert indexes(scene.here_node) == before, "it is adopted, not made anew"
    assert not scene.tap.leaks()


@pytest.mark.parametrize("way", ["device", pytest.param("KILL", marks=PROCESS), "down"])
def test_when_the_device_is_lost(scene: Scene, way: str) -> None:
    """The device is deleted or set down, or its process is killed: unreachable, until the agent has made it anew."""
    scene.one.stop()
    lose(scene.here_node, way)
    assert not any(scene.speak())
    assert not scene.tap.leaks()
    scene.one.start()
    scene.works(20)
    lose(scene.here_node, way)
    scene.works(20)
    assert all(scene.speak())
    assert not scene.tap.leaks()
    assert not scene.one.drift()


@PROCESS
def test_a_process_that_hangs_is_replaced(scene: Scene) -> None:
    os.kill(process(scene.here_node), signal.SIGSTOP)
    assert not scene.here.pings(scene.at[4])
    scene.works(25)
    assert not scene.tap.leaks()


@pytest.mark.parametrize("agents", ["up", "down"])
def test_when_routes_say_otherwise(scene: Scene, agents: str) -> None:
    """A longer route that somebody else writes, as a routing daemon does, or ours gone: the packet filter keeps it in."""
    node = scene.here_node
    if agents == "down":
        scene.one.stop()
        for family in ("-4", "-6"):
            node.run("ip", family, "route", "flush", "proto", "102", "metric", "1064")
            node.run("ip", family, "route", "flush", "proto", "102", "dev", devices(node)[0])
            node.run("ip", family, "rule", "del", "pref", "26220")
    for family, via in ((4, scene.there_node.v4), (6, scene.there_node.v6)):
        node.run("ip", f"-{family}", "route", "add", scene.at[family], "via", via, "proto", "12")
    answered = scene.speak()
    assert not any(answered[at] for at in (0, 2, 3, 4, 8, 10, 11, 12)), "what goes to the other node"
    assert not scene.tap.leaks()
    for family in (4, 6):
        node.run("ip", f"-{family}", "route", "del", scene.at[family], "proto", "12")
    if agents == "down":
        scene.one.start()
    scene.works()


def test_what_comes_in_the_clear_is_not_taken(scene: Scene) -> None:
    """A node that is not itself any more sends in the clear, as a container and as itself: nobody hears it."""
    scene.two.kill()
    node = scene.there_node
    for family in ("-4", "-6"):
        node.run("ip", family, "rule", "del", "pref", "26220")
        node.run("ip", family, "route", "flush", "proto", "102", "dev", devices(node)[0])
    node.run("nft", "delete table inet fairlead; delete table inet fairlead-sealing")
    for family, via in ((4, scene.here_node.v4), (6, scene.here_node.v6)):
        node.run("ip", f"-{family}", "route", "replace", scene.from_[family], "via", via)
    with heard(scene.here) as hears:
        for family in (4, 6):
            assert not scene.there.pings(scene.from_[family])
            assert not node.pings(scene.from_[family])
            scene.there.run("bash", "-c", f"echo -n hello >/dev/udp/{scene.from_[family]}/99")
        assert len(scene.tap.leaks()) >= 6, "it was sent"
        assert not hears()
    for family in (4, 6):
        node.run("ip", f"-{family}", "route", "del", scene.from_[family])
    scene.two.start()
    scene.works()


def test_a_node_that_dies_and_one_that_is_forgotten(scene: Scene) -> None:
    scene.two.kill()
    scene.there_node.run("ip", "link", "set", "eth0", "down")
    eventually(lambda: "nothing is sent to it" in str(scene.one.client.doctor()), 20)
    assert not any(scene.speak())
    assert not scene.tap.leaks()
    scene.one.client.delete("nodes", "node2")
    eventually(lambda: "node2" not in str(scene.one.client.objects("nodes")))
    assert not any(scene.speak(nodes=False)), "its own address is now one of the outside"
    assert not scene.tap.leaks()


def test_a_network_in_the_clear_beside_an_encrypted_one(scene: Scene) -> None:
    """What is between the two is encrypted, in both directions; what is within the one in the clear is not, and is heard."""
    scene.create("sealed", *BESIDE, isolated=False)
    scene.create("open", "10.61.0.0/16", encrypt=False, isolated=False)
    pair = Pair(scene.town, scene.containers, "sealed")
    pair.attach()
    mine, theirs = scene.containers.new("mine"), scene.containers.new("theirs")
    attached(scene.one, mine, "open")
    at = attached(scene.two, theirs, "open")
    theirs.serve("tcp", 80)
    eventually(lambda: pair.here.connects(at, 80), what="from the encrypted network to the other")
    eventually(lambda: mine.connects(pair.at[4], 80), what="and back")
    assert not scene.tap.leaks()
    assert mine.connects(at, 80)
    assert scene.tap.leaks(), "the tap is not deaf"
    pair.detach()
    scene.one.detach(mine)
    scene.two.detach(theirs)
    scene.remove("open")
    scene.remove("sealed")


def test_published_ports_and_the_outside(scene: Scene, cleanup: ExitStack) -> None:
    """Who is no node is met in the clear, as ever; a port that a node publishes is reached from another through encryption."""
    outside = kept(cleanup, Namespace("outside"))
    command(
        *("ip", "link", "add", "eth0", "netns", outside.name, "type", "veth"),
        *("peer", "name", "port9", "netns", scene.switch.name),
    )
    scene.switch.run("ip", "link", "set", "port9", "master", "switch", "up")
    outside.run("ip", "address", "add", "192.0.2.9/24", "dev", "eth0")
    outside.run("ip", "link", "set", "eth0", "up")
    outside.serve("tcp", 80)
    answer = scene.here.ask("192.0.2.9", 80)
    assert answer
    assert answer.peer.removeprefix("::ffff:") == scene.here_node.v4, "source NAT gives the node's address"
    web = kept(cleanup, Namespace("web"))
    scene.two.attach(web, "farm", ports=[{"hostPort": 8080, "containerPort": 80}])
    web.serve("tcp", 80)
    assert outside.connects(scene.there_node.v4, 8080)
    assert scene.tap.leaks()
    scene.tap.forget()
    assert scene.here.connects(scene.there_node.v4, 8080)
    assert not scene.tap.leaks()
    scene.two.detach(web)


def test_a_strict_reverse_path_filter(scene: Scene) -> None:
    """As some distributions have it: what comes out of the device may be answered another way all the same."""
    switches = ("net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter")
    for node in scene.town.nodes:
        node.run("sysctl", "-q", "-w", *(f"{one}=1" for one in switches))
        lose(node, "device")
    scene.works(20)
    assert all(scene.speak())
    assert not scene.tap.leaks()
    for node in scene.town.nodes:
        node.run("sysctl", "-q", "-w", *(f"{one}=0" for one in switches))


def test_only_encrypted_networks_are_watched_over(fresh: MakeScene) -> None:
    """The table that keeps them so is dormant without any; somebody who puts it to sleep is not obeyed."""
    made, table = fresh(), ("nft", "list", "table", "inet", "fairlead-sealing")

    def dormant() -> bool:
        return "flags dormant" in made.here_node.run(*table)

    made.create("open", encrypt=False)
    assert dormant()
    made.remove("open")
    made.create()
    assert not dormant(), "before any container is there"
    made.attach()
    made.works()
    made.here_node.run("nft", "add", "table", "inet", "fairlead-sealing", "{ flags dormant; }")
    eventually(lambda: not dormant(), what="it is woken")
    assert not made.one.drift()
    made.one.stop()
    made.here_node.run("nft", "add", "table", "inet", "fairlead-sealing", "{ flags dormant; }")
    made.one.start()
    assert not dormant()
    made.detach()
    made.create("beside", *BESIDE)
    made.remove("farm")
    eventually(lambda: V4 not in made.here_node.run(*table), what="the one is gone")
    assert not dormant(), "there is another"
    made.remove("beside")
    eventually(dormant, 1, what="it sleeps as soon as the last is gone: no comparison would put it to sleep")
    assert not made.one.drift()


def test_nothing_is_left(fresh: MakeScene) -> None:
    """Encryption ends with the last network that asks for it, and with everything else."""
    made = fresh()
    made.create()
    made.attach()
    made.works()
    made.detach()
    made.one.client.delete("networks", "farm")
    eventually(lambda: not devices(made.here_node) and not devices(made.there_node))
    assert "26220" not in made.here_node.run("ip", "rule")
    assert not made.one.drift()
    made.create()
    eventually(lambda: devices(made.here_node))
    made.one.client.purge()
    assert not devices(made.here_node)
    assert "26220" not in made.here_node.run("ip", "rule")
    assert "proto 102" not in made.here_node.run("ip", "route", "show", "table", "all")
    eventually(lambda: not processes(made.here_node))


def test_the_private_key_is_seen_nowhere(scene: Scene) -> None:
    (path,) = (scene.here_node.state_dir / "wireguard").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    key = path.read_text().strip()
    assert len(key) == 44
    lose(scene.here_node, "device")
    scene.works(20)
    client = scene.one.client
    said = scene.one.log + str(client.doctor()) + str(client.objects("nodes")) + str(client.status())
    assert key not in said
    shared = scene.here_node.run_dir.parent.parent
    for one in [*shared.glob("shared.db"), *shared.glob("shared.db-wal"), *scene.here_node.state_dir.glob("store.db*")]:
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
