"""Anti-spoofing: no container speaks for another. Each attack is a real frame, blocked here and shown to work without."""

from __future__ import annotations

import os
import re
import select
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether

from fairlead.datapath.ebpf.layout import INDEX
from fairlead.datapath.seen import Reason
from fairlead.kernel import netns
from fairlead.kernel.bpf import Map
from fairlead.kernel.netlink import NETFILTER, Netlink
from fairlead.kernel.nft import structure
from tests.kernel.agents import Agent, address
from tests.kernel.attacks import ATTACKS, BROADCAST, DATA, NOBODY4, Cast, Party
from tests.net import Containers, Namespace, Node, Outside, settled
from tests.tree import ROOT
from tests.wait import eventually
from tests.wire import Wire

GUARDED = pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "open"])
RESERVED = "01:80:c2:00:00:0e"
"""An address that bridges never forward to; it is where LLDP is spoken."""
V4, V6 = "10.50.0.0/24", "fd50::/64"
PLANES = [pytest.param("ebpf", marks=pytest.mark.kernel("ebpf")), "nftables"]
"""Who looks: programs on the links, with the bridge's table behind them, or that table alone."""
WAYS = pytest.mark.parametrize(
    ("plane", "bridged"),
    [
        pytest.param("ebpf", "0", id="ebpf", marks=pytest.mark.kernel("ebpf")),
        pytest.param("nftables", "0", id="nftables-frames-by-bridge"),
        pytest.param("nftables", "1", id="nftables-frames-through-netfilter"),
    ],
    indirect=["plane"],
)
"""Programs look before netfilter does, whatever the host has it look at."""
WORDS = {kind: Reason["UNREADABLE" if kind == "malformed" else kind.upper()] for kind in ATTACKS}
"""The programs' reason for each kind of drop."""


def _netfilter(node: Node) -> Netlink:
    """A way to ask a node's netfilter again and again."""
    fd = netns.open_path(str(node.path))
    try:
        with netns.inside(fd):
            return Netlink(NETFILTER)
    finally:
        os.close(fd)


class Scene:
    """Three containers on one network. ``attacks``: the first one's wire; ``sees``: that of the second, its victim."""

    def __init__(self, agent: Agent, containers: Containers, cleanup: ExitStack) -> None:
        self.agent, self.node = agent, agent.node
        self.me, self.victim, self.other = (containers.new(role) for role in ("me", "victim", "other"))
        made = {one: agent.attach(one, "blue") for one in (self.me, self.victim, self.other)}
        self.ports = {one: attached.host_interface for one, attached in made.items()}
        parties = [Party(str(one.endpoint.spec.mac), address(one), address(one, 6)) for one in made.values()]
        self.cast = Cast(*parties, gate=Party(str(made[self.me].bridge_mac), "10.50.0.1", "fd50::1"))
        self._netfilter = cleanup.enter_context(_netfilter(self.node))
        self.attacks, self.sees = (cleanup.enter_context(Wire(one)) for one in (self.me, self.victim))

    def frame(self, name: str) -> bytes:
        """An attack by its name."""
        return bytes(next(attacks[name] for attacks in ATTACKS.values() if name in attacks)(self.cast))

    def dropped(self) -> Counter[str]:
        """Frames by the kind of drop, whoever looked."""
        return Counter({kind: self.by_table()[kind] + count for kind, count in self.by_programs().items()})

    def by_table(self) -> Counter[str]:
        """What the bridge's table dropped."""
        return Counter({name: one.packets for name, one in structure.counters(self._netfilter, "bridge", "fairlead").items()})

    def by_programs(self) -> Counter[str]:
        """What programs on the links dropped, whether an agent runs or not."""
        pin = self.node.run_dir / "bpf" / "maps" / "drop_counters"
        if not pin.exists():
            return Counter(dict.fromkeys(WORDS, 0))
        found = Map.pinned(str(pin))
        try:
            values = {kind: found.lookup(INDEX.pack(reason)) or b"" for kind, reason in WORDS.items()}
        finally:
            found.close()
        return Counter({kind: sum(one for (one,) in struct.iter_unpack("=Q", value)) for kind, value in values.items()})

    def strip(self) -> None:
        """Take the programs off all links, as somebody might."""
        for port in self.ports.values():
            self.node.attempt("tc", "qdisc", "delete", "dev", port, "clsact")

    def blocks(self, name: str, times: int = 1) -> None:
        """Send an attack and see each of its frames counted as dropped."""
        kind = next(kind for kind, attacks in ATTACKS.items() if name in attacks)
        before = self.dropped()
        for _ in range(times):
            self.attacks.send(self.frame(name))
        eventually(lambda: self.dropped()[kind] >= before[kind] + times, what=f"{name} is dropped as {kind}")

    def port_of(self, mac: str) -> str:
        """Behind which port the bridge believes a MAC to be."""
        rows = self.node.json("bridge", "-j", "fdb", "show", "br", "fl-blue")
        return next((row["ifname"] for row in rows if row["mac"] == mac and "permanent" not in row.get("flags", ())), "")


@pytest.fixture(params=PLANES)
def plane(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def agent(cleanup: ExitStack, node: Node, plane: str) -> Agent:
    """A real agent on one of the planes; it looks after everything once a second."""
    made = Agent(node, "--plane", plane, "--interval", "1")
    cleanup.callback(made.remove)
    made.start()
    return made


@pytest.fixture
def guarded() -> bool:
    return True


@pytest.fixture
def scene(agent: Agent, containers: Containers, cleanup: ExitStack, guarded: bool) -> Scene:
    agent.network("blue", V4, V6, antiSpoofing=guarded)
    return Scene(agent, containers, cleanup)


def through_netfilter(node: Node, bridged: str) -> None:
    node.run("sysctl", "-qw", f"net.bridge.bridge-nf-call-iptables={bridged}", f"net.bridge.bridge-nf-call-ip6tables={bridged}")


@WAYS
def test_no_attack_reaches_its_victim(scene: Scene, bridged: str) -> None:
    through_netfilter(scene.node, bridged)
    wrong, before = {}, scene.dropped()
    for kind, attacks in ATTACKS.items():
        for name in attacks:
            scene.attacks.send(scene.frame(name))
            now = eventually(lambda: (now := scene.dropped()) != before and now, what=f"{name} is counted")  # noqa: B023  # called at once
            counted, before = now - before, now
            if counted.keys() - {"membership"} != {kind} - {"membership"}:
                wrong[name] = counted
    assert not wrong
    arrived = scene.sees.received()
    assert [name for attacks in ATTACKS.values() for name in attacks if scene.frame(name) in arrived] == []


@pytest.mark.parametrize("plane", PLANES[:1], indirect=True)  # the other has frames tracked, and so some dropped as invalid
@pytest.mark.parametrize("guarded", [False])
def test_without_it_every_attack_reaches_its_victim(scene: Scene) -> None:
    through_netfilter(scene.node, "0")
    for attacks in ATTACKS.values():
        for name in attacks:
            scene.attacks.send(scene.frame(name))
            assert scene.sees.gets(scene.frame(name)), name
    assert not scene.dropped().total()


@dataclass(frozen=True)
class Effect:
    """What an attack is for: it ``worked`` if the victim believes it. ``prepare`` makes the victim somebody to be attacked."""

    attack: str
    worked: Callable[[Scene], bool]
    prepare: Callable[[Scene], object] = lambda _: None


def _believed(scene: Scene, who: str) -> str:
    """The MAC that the victim takes for an address's."""
    rows = scene.victim.json("ip", "-j", "neigh", "show", who)
    return rows[0].get("lladdr", "") if rows else ""


EFFECTS = {
    "the gateway's IPv4 address is taken": Effect(
        "an ARP reply for the gateway",
        lambda s: _believed(s, s.cast.gate.v4) == s.cast.me.mac,
        lambda s: s.victim.run("ping", "-nc1", s.cast.gate.v4),
    ),
    "the gateway's IPv6 address is taken": Effect(
        "an advertisement for the gateway",
        lambda s: _believed(s, s.cast.gate.v6) == s.cast.me.mac,
        lambda s: s.victim.run("ping", "-nc1", s.cast.gate.v6),
    ),
    "a neighbour's frames are drawn here": Effect(
        "IPv4 with a neighbour's MAC",
        lambda s: s.port_of(s.cast.other.mac) == s.ports[s.me],
        lambda s: s.other.run("ping", "-nc1", s.cast.victim.v4),
    ),
    "the victim routes through a stranger": Effect(
        "a router advertisement to everybody",
        lambda s: s.cast.me.local in s.victim.run("ip", "-6", "route", "show", "default"),
        lambda s: s.victim.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_ra=1"),
    ),
}


@GUARDED
@pytest.mark.parametrize("what", EFFECTS)
def test_what_attacks_are_for(scene: Scene, guarded: bool, what: str) -> None:
    effect = EFFECTS[what]
    effect.prepare(scene)
    assert not effect.worked(scene)
    if guarded:
        scene.blocks(effect.attack, times=20)
        assert not effect.worked(scene)
    else:
        frame = scene.frame(effect.attack)
        eventually(lambda: scene.attacks.send(frame) or effect.worked(scene), what=what)


@GUARDED
def test_an_address_cannot_be_denied(scene: Scene, guarded: bool) -> None:
    """Whoever answers every duplicate address detection keeps others from having addresses."""
    scene.victim.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=1")
    wanted = scene.cast.victim.v6
    scene.victim.run("ip", "address", "delete", f"{wanted}/64", "dev", "eth0")
    scene.victim.run("ip", "address", "add", f"{wanted}/64", "dev", "eth0")
    answer = bytes(
        ATTACKS["foreign_neighbour"]["an advertisement to everybody for the gateway"](
            replace(scene.cast, gate=scene.cast.victim)
        )
    )

    def state() -> str:
        scene.attacks.send(answer)
        return scene.victim.run("ip", "-6", "address", "show", "to", wanted)

    said = eventually(lambda: (said := state()) and ("dadfailed" in said or "tentative" not in said) and said)
    assert ("dadfailed" in said) is not guarded


def test_frames_reserved_for_bridges_do_not_draw_traffic(scene: Scene) -> None:
    """They pass no packet filter, and a bridge learns from them unless it is told otherwise."""
    lure = bytes(Ether(src=scene.cast.victim.mac, dst=RESERVED, type=0x88CC) / DATA)
    scene.victim.run("ping", "-nc1", scene.cast.other.v4)

    def drawn() -> bool:
        scene.attacks.send(lure)
        return scene.port_of(scene.cast.victim.mac) == scene.ports[scene.me]

    assert not any(drawn() for _ in range(20))
    scene.agent.stop()
    scene.strip()
    assert not any(drawn() for _ in range(20))
    scene.node.run("ip", "link", "set", "fl-blue", "type", "bridge", "no_linklocal_learn", "0")
    eventually(drawn, what="the bridge learns: the attack works")


def test_frames_reserved_for_bridges_do_not_reach_the_host(scene: Scene, cleanup: ExitStack) -> None:
    """They come up at the port itself, where nobody checks them: nobody may listen there either."""
    gate, port = scene.cast.gate, scene.ports[scene.me]
    forged = Ether(src=scene.cast.me.mac, dst=RESERVED) / IP(src="198.51.100.7", dst=gate.v4) / UDP(dport=7777) / DATA
    asked = Ether(src=scene.cast.me.mac, dst=RESERVED) / ARP(op=1, hwsrc=scene.cast.me.mac, psrc="10.50.0.77", pdst=gate.v4)
    ear = cleanup.enter_context(closing(_socket(scene.node)))
    ear.bind(("", 7777))

    def heard() -> bool:
        for one in (forged, asked):
            scene.attacks.send(bytes(one))
        try:
            return ear.recv(99, socket.MSG_DONTWAIT) == bytes(DATA)
        except BlockingIOError:
            return False

    def told() -> bool:
        heard()
        return "10.50.0.77" in scene.node.run("ip", "neigh", "show", "dev", port)

    assert not any(heard() or told() for _ in range(20))
    scene.agent.stop()
    scene.strip()
    scene.node.run("nft", "flush", "chain", "inet", "fairlead", "guard")
    eventually(heard, what="the host listens: the attack works")
    scene.node.run("ip", "link", "set", port, "arp", "on")
    eventually(told, what="the port speaks ARP: the attack works")


def _socket(where: Namespace, family: int = socket.AF_INET) -> socket.socket:
    fd = netns.open_path(str(where.path))
    try:
        with netns.inside(fd):
            return socket.socket(family, socket.SOCK_DGRAM)
    finally:
        os.close(fd)


@WAYS
def test_a_containers_own_traffic_goes_on(
    scene: Scene, outside: Outside, containers: Containers, cleanup: ExitStack, bridged: str
) -> None:
    through_netfilter(scene.node, bridged)
    published = containers.new("published")
    scene.agent.attach(published, "blue", ports=[{"hostPort": 8080, "containerPort": 80}])
    published.serve("tcp", 80)
    scene.victim.serve("udp", 53)
    outside.serve("tcp", 81)
    me, cast = scene.me, scene.cast
    local = f"{cast.victim.local}%eth0"
    for target in (cast.victim.v4, cast.victim.v6, local, cast.gate.v4, cast.gate.v6, outside.v4, outside.v6):
        assert me.pings(target), target
    for target in (cast.victim.v4, cast.victim.v6, cast.gate.v4):
        assert me.attempt("ping", "-n", "-c", 1, "-W", 1, "-s", 5000, target).returncode == 0, f"fragments to {target}"
    for target in (cast.victim.v4, cast.victim.v6):
        assert me.connects(target, 53, "udp"), target
    for target in (scene.node.v4, scene.node.v6, cast.gate.v4):
        assert me.connects(target, 8080), target
        assert published.connects(target, 8080), target
    for target in (outside.v4, outside.v6):
        assert me.connects(target, 81), target
    assert outside.connects(scene.node.v4, 8080)
    _multicasts(scene, cleanup)
    _announces(scene)
    assert {kind for kind, count in scene.dropped().items() if count} <= {"membership"}


def _multicasts(scene: Scene, cleanup: ExitStack) -> None:
    """A group is heard by its members, in both families."""
    there = scene.victim.json("ip", "-j", "link", "show", "eth0")[0]["ifindex"]
    here = scene.me.json("ip", "-j", "link", "show", "eth0")[0]["ifindex"]
    for family, group in ((socket.AF_INET, "239.1.2.3"), (socket.AF_INET6, "ff15::1234")):
        member, speaker = (cleanup.enter_context(closing(_socket(one, family))) for one in (scene.victim, scene.me))
        packed = socket.inet_pton(family, group)
        member.bind((group, 5000))
        if family == socket.AF_INET:
            request = packed + socket.inet_aton(scene.cast.victim.v4)
            member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
            speaker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(scene.cast.me.v4))
        else:
            member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, packed + there.to_bytes(4, "little"))
            speaker.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, here)
        member.settimeout(2)
        speaker.sendto(b"hello", (group, 5000))
        assert member.recv(99) == b"hello", group


def _announces(scene: Scene) -> None:
    """ARP probes and announcements of its own address, and duplicate address detection with and without a nonce."""
    me = scene.cast.me
    ask = Ether(src=me.mac, dst=BROADCAST)
    for said in (
        ask / ARP(op=1, hwsrc=me.mac, psrc=NOBODY4, pdst=me.v4),
        ask / ARP(op=1, hwsrc=me.mac, psrc=me.v4, pdst=me.v4),
        ask / ARP(op=2, hwsrc=me.mac, psrc=me.v4, hwdst=BROADCAST, pdst=me.v4),
    ):
        scene.attacks.send(bytes(said))
        assert scene.sees.gets(bytes(said)), said.summary()
    for nonce in ("0", "1"):
        switches = [f"net.ipv6.conf.{where}.enhanced_dad={nonce}" for where in ("all", "eth0")]
        scene.me.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=1", *switches)
        scene.me.run("ip", "address", "delete", f"{me.v6}/64", "dev", "eth0")
        scene.me.run("ip", "address", "add", f"{me.v6}/64", "dev", "eth0")
        settled(scene.me)
        eventually(lambda: scene.victim.pings(me.v6))
    target = socket.inet_pton(socket.AF_INET6, me.v6)
    detections = [one for one in scene.sees.received() if one[22:38] == bytes(16) and one[62:78] == target]
    assert {len(one) for one in detections} >= {78, 86}, "without and with a nonce"


@GUARDED
def test_membership_reports_do_not_reach_neighbours(scene: Scene, guarded: bool, containers: Containers) -> None:
    """Each container joins groups when it starts; nobody asked, and every neighbour would hear of it."""
    late = containers.new("late")
    mac = scene.agent.attach(late, "blue").endpoint.spec.mac
    assert mac
    report = bytes.fromhex("333300000016") + mac.packed  # to all MLDv2 routers, from the late one
    if guarded:
        eventually(lambda: scene.dropped()["membership"])
        assert late.pings(scene.cast.victim.v6)
        assert not any(frame.startswith(report) for frame in scene.sees.received())
    else:
        eventually(lambda: any(frame.startswith(report) for frame in scene.sees.received()))


def test_it_is_switched_while_containers_run(scene: Scene) -> None:
    attack = "an ARP reply for the gateway"
    scene.blocks(attack)
    scene.agent.network("blue", V4, V6, antiSpoofing=False)
    scene.attacks.send(scene.frame(attack))
    assert scene.sees.gets(scene.frame(attack))
    assert not scene.agent.drift()
    scene.agent.network("blue", V4, V6, antiSpoofing=True)
    scene.blocks(attack)
    assert scene.me.pings(scene.cast.victim.v4)
    assert not scene.agent.drift()


def test_it_outlives_the_agent_and_is_not_put_anew(scene: Scene) -> None:
    """Neither the table nor the programs."""
    attack = "an ARP reply for the gateway"
    scene.blocks(attack, times=7)
    rules = scene.node.run("nft", "-a", "-s", "list", "table", "bridge", "fairlead")
    scene.agent.kill()
    scene.blocks(attack, times=3)
    scene.agent.start()
    scene.agent.stop()
    scene.agent.start()
    assert scene.dropped()["foreign_arp"] == 10, "the table was not replaced: its counters go on"
    assert scene.node.run("nft", "-a", "-s", "list", "table", "bridge", "fairlead") == rules
    assert scene.agent.client.status().repairs == 0


def test_it_comes_to_containers_of_an_agent_without_it(scene: Scene) -> None:
    scene.agent.stop()
    scene.strip()
    scene.node.run("nft", "delete", "table", "bridge", "fairlead")
    scene.node.run("ip", "link", "set", "fl-blue", "type", "bridge", "mcast_snooping", "1", "no_linklocal_learn", "0")
    for port in scene.ports.values():
        scene.node.run("ip", "link", "set", port, "arp", "on")
    scene.agent.start()
    for attacks in ATTACKS.values():
        scene.blocks(next(iter(attacks)))
    bridge = scene.node.json("ip", "-d", "-j", "link", "show", "fl-blue")[0]["linkinfo"]["info_data"]
    assert (bridge["mcast_snooping"], bridge["no_linklocal_learn"]) == (0, 1)
    assert "NOARP" in scene.node.run("ip", "link", "show", scene.ports[scene.me])
    assert not scene.agent.drift()


@pytest.mark.parametrize(
    "lost", ["set bridge fairlead mac", "set bridge fairlead own4", "ruleset", "guards", "owned", "programs"]
)
def test_what_is_lost_comes_back(scene: Scene, lost: str, plane: str) -> None:
    if lost in {"guards", "owned", "programs"}:
        if plane == "nftables":
            pytest.skip("there are no programs on this plane")
        scene.strip() if lost == "programs" else _empty(scene.node, lost)
    else:
        scene.node.run("nft", "flush", *lost.split())
    eventually(lambda: scene.me.pings(scene.cast.victim.v4) and not scene.agent.drift())
    scene.blocks("an ARP reply for the gateway")
    scene.blocks("IPv4 from a neighbour")


def _empty(node: Node, name: str) -> None:
    """Remove every entry of a map of the programs."""
    found = Map.pinned(str(node.run_dir / "bpf" / "maps" / name))
    for key in found.entries():
        found.delete(key)
    found.close()


def test_a_limit_on_what_it_sends_opens_no_way_round(scene: Scene) -> None:
    """What a limited container sends is led through an interface of its own before it comes to the bridge."""
    scene.agent.detach(scene.me)
    made = scene.agent.attach(scene.me, "blue", bandwidth={"egressRate": 10**9, "ingressRate": 10**9})
    assert made.endpoint.spec.bandwidth
    me = Party(str(made.endpoint.spec.mac), address(made), address(made, 6))
    scene.cast = replace(scene.cast, me=me)
    with Wire(scene.me) as scene.attacks:
        for attacks in ATTACKS.values():
            scene.blocks(next(iter(attacks)))
        scene.blocks("a gratuitous ARP under a priority tag")
    assert scene.me.pings(scene.cast.victim.v6)


def test_a_port_of_which_nothing_is_known_sends_nothing(scene: Scene, plane: str) -> None:
    scene.agent.stop()
    if plane == "ebpf":
        _empty(scene.node, "guards")
        assert not scene.me.pings(scene.cast.victim.v4)
        assert not scene.dropped()["foreign_mac"]
        scene.strip()
        eventually(lambda: scene.me.pings(scene.cast.victim.v4), what="the table knows")
    scene.node.run("nft", "flush", "set", "bridge", "fairlead", "mac")
    assert not scene.me.pings(scene.cast.victim.v4)
    assert scene.by_table()["foreign_mac"]
    scene.agent.start()
    eventually(lambda: scene.me.pings(scene.cast.victim.v4))


def test_a_container_has_its_addresses_on_all_its_interfaces(
    agent: Agent, node: Node, outside: Outside, containers: Containers
) -> None:
    """An answer leaves by the routes, here by another interface than the one that was asked."""
    agent.network("blue", V4, V6)
    agent.network("red", "10.51.0.0/24", "fd51::/64")
    one = containers.new("one")
    agent.attach(one, "blue")
    agent.attach(one, "red", interface="eth1", gateway=False, ports=[{"hostPort": 8080, "containerPort": 80}])
    one.serve("tcp", 80)
    assert outside.connects(node.v4, 8080)
    assert outside.connects(node.v6, 8080)
    agent.stop()
    agent.start()
    assert agent.client.status().repairs == 0
    agent.detach(one, "eth1")
    own = node.run("nft", "list", "set", "bridge", "fairlead", "own4") + node.run(
        "nft", "list", "set", "bridge", "fairlead", "own6"
    )
    assert "10.50.0.2" in own
    assert "10.51.0.2" not in own
    assert "fd51::2" not in own
    assert not agent.drift()


@pytest.mark.parametrize("plane", PLANES[:1], indirect=True)
def test_without_programs_the_table_looks(scene: Scene) -> None:
    """Who takes the programs off a link takes no check away."""
    scene.blocks("IPv4 from a neighbour")
    assert not scene.by_table()["foreign_address"]
    scene.agent.stop()
    scene.strip()
    before = scene.by_programs()
    for attacks in ATTACKS.values():
        scene.blocks(next(iter(attacks)))
    assert scene.by_programs() == before
    assert scene.me.pings(scene.cast.victim.v4)


@pytest.mark.parametrize("plane", PLANES[:1], indirect=True)
def test_planes_are_exchanged_under_attack(scene: Scene) -> None:
    """While the agent goes from one plane to the other and back, somebody speaks for others all the time."""
    frames = [scene.frame(next(iter(attacks))) for attacks in ATTACKS.values()]
    over = threading.Event()

    def storm() -> None:
        while not over.wait(0.001):  # the agent starts while it goes on
            for frame in frames:
                scene.attacks.send(frame)

    attacking = threading.Thread(target=storm)
    attacking.start()
    try:
        for plane in ("nftables", "ebpf", "nftables", "ebpf"):
            scene.agent.stop()
            scene.agent.options = ("--plane", plane, "--interval", "1")
            scene.agent.start()
            assert scene.me.pings(scene.cast.victim.v4)
            assert not scene.agent.drift()
    finally:
        over.set()
        attacking.join()
    arrived = scene.sees.received()
    assert [frame for frame in frames if frame in arrived] == []
    assert scene.dropped().total() > 1000


@pytest.mark.parametrize("plane", PLANES[:1], indirect=True)
def test_drops_name_who_is_behind_the_link(scene: Scene) -> None:
    """Not whom the frame claims to be from."""
    scene.blocks("IPv4 from a neighbour")
    scene.blocks("an ARP reply for the gateway")
    client = scene.agent.client

    def told() -> dict[str, tuple[str, str, str]]:
        found = client.flows(verdict="dropped")
        return {one.reason: (one.source.endpoint, one.source.address, one.protocol) for one in found}

    wanted = {
        f"an IP address that is not its own: {scene.cast.other.v4}": ("me", scene.cast.other.v4, "udp"),
        f"ARP for another: {scene.cast.gate.v4}": ("me", scene.cast.gate.v4, "arp"),
    }
    eventually(lambda: told().items() >= wanted.items(), what="the drops are told")
    assert "multicast membership, which nobody here asks for" not in told(), "which every container causes"


@pytest.mark.parametrize("plane", PLANES[1:], indirect=True)
def test_the_page_shows_which_rule_drops_a_frame(scene: Scene) -> None:
    page = (ROOT / "docs" / "spoofing.md").read_text()
    (table,) = re.findall(r"```nft\n(.*?)```", page, re.DOTALL)
    (line,) = re.findall(r"^trace id \w+ (bridge fairlead .*)$", page, re.MULTILINE)
    scene.node.run("nft", "-f", "-", stdin=re.sub("flv[0-9a-f]+", scene.ports[scene.me], table))
    watch = scene.node.start("stdbuf", "-oL", "nft", "monitor", "trace")
    assert watch.stdout

    def shown() -> bool:
        scene.attacks.send(scene.frame("an ARP reply for the gateway"))
        return bool(select.select([watch.stdout], [], [], 0)[0])

    eventually(shown, what="nft watches")
    assert any(line in said for said in watch.stdout), line


@pytest.mark.usefixtures("scene")
def test_nft_can_read_back_what_it_lists(node: Node) -> None:
    """People keep their firewall with ``nft list ruleset``: what is ours must not make that file unreadable."""
    node.run("nft", "--check", "--file", "-", stdin="flush ruleset\n" + node.run("nft", "list", "ruleset"))
