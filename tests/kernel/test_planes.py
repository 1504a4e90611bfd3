"""One contract for both planes: the same calls, the same answers, seen by real datagrams between containers on one bridge."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from fairlead.datapath.base import UNALLOWED, Answer, Hits, Plane, Question
from fairlead.datapath.ebpf import programs
from fairlead.datapath.ebpf.plane import Ebpf
from fairlead.datapath.ebpf.programs import Programs
from fairlead.datapath.nftables.plane import Nftables
from fairlead.desired.state import Guard, Judgement, Link, NodeState, Peer, Row, Ruling, Span, Subject
from fairlead.kernel import netns, nft, route, sysctl
from fairlead.kernel.netlink import NETFILTER, Netlink
from fairlead.model.address import Address, Interface, InterfaceName, Mac, Prefix
from tests.wait import eventually

INGRESS, EGRESS, FRIEND, OTHERS = 0xA1, 0xA2, 0xC1, 0xC2
NOTHING, WEB, ALL, EGRESS_NOTHING, EGRESS_WEB = 0xD0, 0xD1, 0xD2, 0xD3, 0xD4
RULE, DENIES = 0xE1, 0xE2
DENY = Span(protocol=0, first=0, last=65535, allow=False, rule=0)
DOORS = (80, 81, 1000, 2999, 3000)
LATE = 0.05
"""Seconds for what will not come; what comes is there when the sender's call returns."""
FAMILIES = pytest.mark.parametrize("family", [4, 6])
BRIDGE = InterfaceName("bridge")


def ruling(number: int, *spans: tuple[int, int, int]) -> Ruling:
    """What it lets pass: (protocol, first, last); protocol 0 is all."""
    made = [Span(protocol=one, first=first, last=last, allow=True, rule=RULE) for one, first, last in spans]
    return Ruling(number=number, spans=(*made, *(() if any(not one.protocol for one in made) else (DENY,))))


RULINGS = (
    ruling(NOTHING),
    ruling(WEB, (17, 80, 80), (17, 1000, 2999)),
    ruling(ALL, (0, 0, 65535)),
    ruling(EGRESS_NOTHING),
    ruling(EGRESS_WEB, (17, 80, 80)),
)


def judgement(policy: int, peer: int, of: int) -> Judgement:
    return Judgement(policy=policy, peer=peer, ruling=of)


def only_friends(policy: int = INGRESS) -> tuple[Row, ...]:
    """Friends as ``WEB`` says, nobody else."""
    nothing, web = (NOTHING, WEB) if policy == INGRESS else (EGRESS_NOTHING, EGRESS_WEB)
    return (*RULINGS, judgement(policy, 0, nothing), judgement(policy, FRIEND, web))


class Container:
    """A namespace at a port of the bridge, with a socket at each door."""

    def __init__(self, stack: ExitStack, at: int) -> None:
        self.host = InterfaceName(f"flv{at}")
        self.addresses = {4: Address(f"10.0.0.{at}"), 6: Address(f"fd00::{at}")}
        self.mac = Mac(f"02:00:00:00:00:0{at}")
        self.fd = netns.new()
        stack.callback(os.close, self.fd)
        self._doors: dict[int, socket.socket] = {}
        self._stack = stack

    @property
    def link(self) -> Link:
        own = tuple(Interface(f"{one}/{24 if one.family == 4 else 64}") for one in self.addresses.values())
        return Link(
            key=f"{self.host}:eth0", host=self.host, bridge=BRIDGE, path="", cookie=0, name=InterfaceName("eth0"),
            mac=self.mac, mtu=1500, addresses=own,
        )  # fmt: skip

    @property
    def guard(self) -> Guard:
        return Guard(host=self.host, mac=self.mac, addresses=(*self.addresses.values(), self.mac.link_local))

    def subject(self, ingress: int = 0, egress: int = 0) -> Subject:
        own = (*self.addresses.values(), self.mac.link_local)
        return Subject(host=self.host, ingress=ingress, egress=egress, via=BRIDGE, addresses=own)

    def peer(self, of: int) -> tuple[Peer, ...]:
        return tuple(Peer(prefix=one.host(), peer=of) for one in self.addresses.values())

    def furnish(self, master: int) -> None:
        with Netlink() as nl:
            nl.do(*route.new_veth(self.host, "eth0", self.fd, master=master, mac=self.mac))
        with netns.inside(self.fd):
            sysctl.write("net.ipv6.conf.eth0.accept_dad", 0)
            with Netlink() as nl:
                nl.do(route.set_link("lo", up=True), route.set_link("eth0", up=True))
                index = socket.if_nametoindex("eth0")
                nl.do(*(route.new_address(index, one, nodad=True) for one in self.link.addresses))
            for port in DOORS:
                door = self._stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
                door.bind(("::", port))
                door.setblocking(False)
                self._doors[port] = door

    def opens(self, address: Address) -> socket.socket:
        """A new conversation."""
        with netns.inside(self.fd):
            sock = socket.socket(socket.AF_INET6 if address.family == 6 else socket.AF_INET, socket.SOCK_DGRAM)
        self._stack.callback(sock.close)
        sock.setblocking(False)
        return sock

    def hears(self, port: int, patience: float = LATE) -> tuple[object, ...] | None:
        """Who said something at a door."""
        door = self._doors[port]
        return door.recvfrom(64)[1] if select.select([door], [], [], patience)[0] else None

    def forgets(self, port: int) -> None:
        """What was said at a door before counts no more."""
        while self.hears(port, 0):
            pass

    def answers(self, port: int, to: tuple[object, ...]) -> None:
        self._doors[port].sendto(b"yes", to)


class Town:
    """A bridge, three containers, and a plane whose links and subjects nobody has told of yet."""

    def __init__(self, stack: ExitStack, directory: Path, kind: str) -> None:
        self._stack, self._directory, self._kind = stack, directory, kind
        self._forgotten: set[str] = set()
        with Netlink() as nl:
            nl.do(route.new_bridge(BRIDGE, up=True, snooping=False))
        self.one, self.two, self.three = (Container(stack, at) for at in (1, 2, 3))
        self.plane = self.new_plane()

    def new_plane(self, *, node_access: bool = True) -> Plane:
        """As another start of the agent has it."""
        if self._kind == "nftables":
            plane: Plane = Nftables(self._forgotten, node_access=node_access)
        else:
            loaded = Programs(self._directory)
            self._stack.callback(programs.remove, self._directory)
            self._stack.callback(loaded.close)
            plane = Ebpf(loaded, node_access=node_access)
        self._stack.callback(plane.close)
        return plane

    def connect(self, *containers: Container) -> None:
        for one in containers:
            one.furnish(socket.if_nametoindex(BRIDGE))

    def state(self, rows: Iterable[Row], *containers: Container) -> NodeState:
        return NodeState().replace("rows", (*rows, *(row for one in containers for row in (one.link, one.guard))))

    def settled(self, *containers: Container) -> None:
        """Neighbours know each other: the first packet is not held back."""
        for family in (4, 6):
            for one in containers:
                for other in containers:
                    if one is not other:
                        eventually(lambda a=one, b=other, f=family: reaches(a, b, f, patience=0.2))  # type: ignore[misc]


def reaches(one: Container, other: Container, family: int = 4, port: int = 80, patience: float = LATE) -> bool:
    address = other.addresses[family]
    sock = one.opens(address)
    other.forgets(port)
    sock.sendto(b"hello", (str(address), port))
    heard = other.hears(port, patience)
    sock.close()
    return heard is not None


@pytest.fixture
def town(tmp_path: Path, plane: str) -> Iterator[Town]:
    here = netns.new()
    with ExitStack() as stack:
        stack.callback(os.close, here)
        stack.enter_context(netns.inside(here))
        for key in ("iptables", "ip6tables"):
            sysctl.write(f"net.bridge.bridge-nf-call-{key}", 0)
        yield Town(stack, tmp_path, plane)


@pytest.fixture
def open_town(town: Town) -> Town:
    """Everybody is under no policy and reaches everybody."""
    town.connect(town.one, town.two, town.three)
    for one in (town.one, town.two, town.three):
        town.plane.ensure([one.link, one.subject(), one.guard])
    town.settled(town.one, town.two, town.three)
    return town


@FAMILIES
def test_a_link_carries_nothing_before_its_subject(town: Town, family: int) -> None:
    town.connect(town.one, town.two)
    town.plane.ensure([town.one.link, town.one.subject(), town.one.guard])
    town.plane.ensure([town.two.link, town.two.guard])
    assert not reaches(town.one, town.two, family, patience=0.3)
    assert not reaches(town.two, town.one, family, patience=0.3)
    town.plane.ensure([town.two.subject()])
    eventually(lambda: reaches(town.one, town.two, family))


@FAMILIES
def test_ingress(open_town: Town, family: int) -> None:
    one, two, three = open_town.one, open_town.two, open_town.three
    open_town.plane.change(only_friends(), ())
    open_town.plane.ensure([two.subject(INGRESS)])
    assert not reaches(one, two, family), "nobody is a friend yet"
    assert reaches(two, one, family), "egress is open"
    open_town.plane.change(one.peer(FRIEND), ())
    assert [reaches(one, two, family, port) for port in DOORS] == [True, False, True, True, False]
    assert not reaches(three, two, family)
    open_town.plane.change((), one.peer(FRIEND))
    assert not reaches(one, two, family)
    open_town.plane.ensure([two.subject()])
    open_town.plane.change((), only_friends())
    assert reaches(three, two, family)


@FAMILIES
def test_egress(open_town: Town, family: int) -> None:
    one, two, three = open_town.one, open_town.two, open_town.three
    open_town.plane.change((*only_friends(EGRESS), *two.peer(FRIEND)), ())
    open_town.plane.ensure([one.subject(0, EGRESS)])
    assert [reaches(one, two, family, port) for port in DOORS] == [True, False, False, False, False]
    assert not reaches(one, three, family)
    assert reaches(three, one, family)


@FAMILIES
def test_answers_pass_and_a_change_cuts(open_town: Town, family: int) -> None:
    one, two = open_town.one, open_town.two
    open_town.plane.change((*only_friends(), *only_friends(EGRESS), *one.peer(FRIEND)), ())
    open_town.plane.ensure([two.subject(INGRESS, EGRESS)])
    address = two.addresses[family]
    sock = one.opens(address)

    def says() -> bool:
        sock.sendto(b"hello", (str(address), 80))
        return two.hears(80) is not None

    def answered() -> bool:
        two.answers(80, peer)
        return bool(select.select([sock], [], [], LATE)[0] and sock.recv(64))

    sock.sendto(b"hello", (str(address), 80))
    peer = two.hears(80)
    assert peer
    assert answered()
    open_town.plane.change(open_town.three.peer(FRIEND), ())
    assert (says(), answered()) == (True, True), "what is allowed as before goes on"
    open_town.plane.change((), one.peer(FRIEND))
    assert (says(), answered()) == (False, False), "neither way"
    open_town.plane.change(one.peer(FRIEND), ())
    assert (says(), answered()) == (True, True)


@FAMILIES
def test_what_nobody_says_anything_of_is_dropped(open_town: Town, family: int) -> None:
    one, two = open_town.one, open_town.two
    open_town.plane.ensure([two.subject(INGRESS)])
    assert not reaches(one, two, family)
    open_town.plane.change([judgement(INGRESS, 0, ALL)], ())
    assert not reaches(one, two, family)
    open_town.plane.change(RULINGS, ())
    assert reaches(one, two, family)
    open_town.plane.change((), [judgement(INGRESS, 0, ALL)])
    assert not reaches(one, two, family)


@FAMILIES
def test_the_longest_prefix_counts(open_town: Town, family: int) -> None:
    one, two, three = open_town.one, open_town.two, open_town.three
    wide, narrow, every = {4: ("10.0.0.0/24", "10.0.0.2/31", "0.0.0.0/0"), 6: ("fd00::/64", "fd00::2/127", "::/0")}[family]
    rows = [Peer(prefix=Prefix(wide), peer=FRIEND), Peer(prefix=Prefix(narrow), peer=OTHERS)]
    open_town.plane.change((*only_friends(), *rows, Peer(prefix=Prefix(every), peer=9)), ())
    open_town.plane.ensure([one.subject(INGRESS)])
    assert (reaches(two, one, family), reaches(three, one, family)) == (False, False)
    open_town.plane.change(three.peer(FRIEND), ())
    assert (reaches(two, one, family), reaches(three, one, family)) == (False, True)
    open_town.plane.change((), rows[1:])
    assert reaches(two, one, family)
    open_town.plane.change(two.peer(OTHERS), ())
    assert not reaches(two, one, family), "a friend's network, but somebody of his own"
    open_town.plane.change((), [*two.peer(OTHERS), rows[0]])
    assert not reaches(two, one, family)


def test_a_prefix_of_one_family_holds_nobody_of_the_other(open_town: Town) -> None:
    one, two = open_town.one, open_town.two
    open_town.plane.change((*only_friends(), Peer(prefix=Prefix("::/0"), peer=FRIEND)), ())
    open_town.plane.ensure([two.subject(INGRESS)])
    assert (reaches(one, two, 6), reaches(one, two, 4)) == (True, False)
    open_town.plane.change([Peer(prefix=Prefix("0.0.0.0/0"), peer=FRIEND)], [Peer(prefix=Prefix("::/0"), peer=FRIEND)])
    assert (reaches(one, two, 6), reaches(one, two, 4)) == (False, True)


def test_link_local_addresses_are_judged_too(open_town: Town) -> None:
    one, two = open_town.one, open_town.two
    with netns.inside(one.fd):
        scope = socket.if_nametoindex("eth0")

    def arrives() -> bool:
        sock = one.opens(two.mac.link_local)
        sock.sendto(b"hello", (str(two.mac.link_local), 80, 0, scope))
        return two.hears(80) is not None

    eventually(arrives)
    open_town.plane.change(only_friends(), ())
    open_town.plane.ensure([two.subject(INGRESS)])
    assert not arrives()
    open_town.plane.ensure([two.subject()])
    assert arrives()


@FAMILIES
def test_forgotten_links_carry_nothing(open_town: Town, family: int) -> None:
    one, two = open_town.one, open_town.two
    broom = open_town.new_plane()  # another thread's
    broom.forget([two.link, two.guard])
    broom.forget([two.link, two.guard])
    assert not reaches(one, two, family)
    assert not reaches(two, one, family)
    open_town.plane.ensure([two.link, two.subject(), two.guard])
    assert reaches(one, two, family)


def test_what_is_not_there_is_no_error(open_town: Town) -> None:
    open_town.plane.change((), (*only_friends(), *open_town.one.peer(FRIEND), open_town.two.subject(INGRESS)))
    stranger = Subject(host=InterfaceName("flv9"), addresses=(Address("10.0.0.9"),), via=BRIDGE)
    open_town.plane.change((), [stranger])


def test_the_state_is_compared_and_put_right(open_town: Town) -> None:
    one, two, three = open_town.one, open_town.two, open_town.three
    rows = [*only_friends(), *one.peer(FRIEND), one.subject(), two.subject(INGRESS), three.subject()]
    state = open_town.state(rows, one, two, three)
    assert {drift.table.split()[0] for drift in open_town.plane.check(state)} == {"policy"}
    open_town.plane.apply(state)
    assert open_town.plane.check(state) == []
    assert (reaches(one, two), reaches(three, two)) == (True, False)
    fewer = open_town.state([*only_friends(), one.subject(), two.subject(INGRESS), three.subject()], one, two, three)
    assert {drift.kind for drift in open_town.plane.check(fewer)} == {"unexpected"}
    open_town.plane.apply(fewer)
    assert open_town.plane.check(fewer) == []
    assert not reaches(one, two)
    filled = open_town.plane.fill()
    assert (filled["endpoints"][0], filled["judgements"][0]) == (3, 2)
    assert all(used <= most for used, most in filled.values())


def test_another_start_finds_everything_and_touches_nothing(open_town: Town) -> None:
    one, two, three = open_town.one, open_town.two, open_town.three
    state = open_town.state(
        [*only_friends(), *one.peer(FRIEND), one.subject(), two.subject(INGRESS), three.subject()], one, two, three
    )
    open_town.plane.apply(state)
    with Netlink(NETFILTER) as nl:
        before = nft.generation(nl)
        again = open_town.new_plane()
        again.apply(state)
        assert again.check(state) == []
        assert nft.generation(nl) == before
    assert (reaches(one, two), reaches(three, two)) == (True, False)
    again.change((), one.peer(FRIEND))
    assert not reaches(one, two)


@FAMILIES
@pytest.mark.parametrize("sends", [True, False], ids=["egress", "ingress"])
def test_a_question_is_answered_as_a_packet_would_be(open_town: Town, family: int, sends: bool) -> None:
    one, two, three = open_town.one, open_town.two, open_town.three
    open_town.plane.change((*only_friends(EGRESS if sends else INGRESS), *(two if sends else one).peer(FRIEND)), ())
    asked = one if sends else two
    open_town.plane.ensure([asked.subject(*((0, EGRESS) if sends else (INGRESS, 0)))])

    def ask(source: Container, destination: Container, port: int) -> Answer:
        ends = source.addresses[family], destination.addresses[family]
        answer = open_town.plane.ask(Question(asked.host, sends, *ends, 17, port))
        assert answer
        return answer

    pairs = [(one, two), (one, three) if sends else (three, two)]
    for source, destination in pairs:
        for port in DOORS:
            answer = ask(source, destination, port)
            assert answer.allowed == reaches(source, destination, family, port)
            assert answer.rule == (RULE if answer.allowed else 0)
            assert answer.reason == ("" if answer.allowed else "denied by policy")
    assert ask(one, one, 81).allowed, "to itself"
    open_town.plane.forget([asked.link, asked.guard])
    assert ask(one, two, 80) == Answer(allowed=False, reason="the link has no endpoint", rule=0)


def test_a_rule_that_denies_says_so(open_town: Town) -> None:
    one, two = open_town.one, open_town.two
    spans = (Span(protocol=17, first=80, last=80, allow=False, rule=DENIES), *ruling(1, (0, 0, 65535)).spans)
    open_town.plane.change([Ruling(number=1, spans=spans), judgement(INGRESS, 0, 1)], ())
    open_town.plane.ensure([two.subject(INGRESS)])
    assert (reaches(one, two, port=80), reaches(one, two, port=81)) == (False, True)
    answer = open_town.plane.ask(Question(two.host, False, one.addresses[4], two.addresses[4], 17, 80))
    assert answer == Answer(allowed=False, reason="denied by policy", rule=DENIES)


def test_some_links_are_looked_up_alone(open_town: Town) -> None:
    one, two = open_town.one, open_town.two
    open_town.plane.change(only_friends(), ())
    open_town.plane.change([two.subject(INGRESS)], ())
    known = [two.link, two.guard, two.subject(INGRESS)]
    assert open_town.plane.check_links(known) == []
    assert open_town.plane.check_links([one.link, one.guard, one.subject()]) == []
    assert {drift.kind for drift in open_town.plane.check_links([two.link, two.guard, two.subject(EGRESS)])} == {"different"}
    stranger = Container(ExitStack(), 9)
    assert open_town.plane.check_links([stranger.link, stranger.guard, stranger.subject()]) != []


@FAMILIES
def test_rules_are_counted(open_town: Town, family: int) -> None:
    """Connections that they let through, packets that they dropped; and when. What no rule allows is counted apart."""
    one, two, three = open_town.one, open_town.two, open_town.three
    denied = Span(protocol=17, first=81, last=81, allow=False, rule=DENIES)
    allowed = Span(protocol=17, first=80, last=80, allow=True, rule=RULE)
    plane = open_town.plane
    plane.change([*RULINGS, Ruling(number=1, spans=(allowed, denied, DENY)), judgement(INGRESS, 0, 1)], ())
    plane.ensure([two.subject(INGRESS)])
    before, begun = plane.hits().get(UNALLOWED["ingress"], Hits(0, 0, 0)), time.time()
    assert plane.hits().keys() <= {*UNALLOWED.values()}
    for container in (one, three, three):
        assert reaches(container, two, family)
    for port in (81, 1000, 1000):
        assert not reaches(one, two, family, port)
    told, nobody = plane.hits(), UNALLOWED["ingress"]
    assert {rule: hits[:2] for rule, hits in told.items()} == {RULE: (3, 0), DENIES: (0, 1), nobody: (0, before.drops + 2)}
    assert all(begun - 1 < hits.last <= time.time() for hits in told.values())
    again = plane.hits()
    assert {rule: hits[:2] for rule, hits in again.items()} == {rule: hits[:2] for rule, hits in told.items()}
    assert all(again[rule].last == pytest.approx(hits.last, abs=0.01) for rule, hits in told.items())
    later = open_town.new_plane().hits()
    assert {rule: hits[:2] for rule, hits in later.items()} == {rule: hits[:2] for rule, hits in told.items()}
    assert all(hits.last == 0 or hits.last == pytest.approx(told[rule].last, abs=0.01) for rule, hits in later.items())
    plane.ensure([two.subject()])
    plane.change((), [judgement(INGRESS, 0, 1), Ruling(number=1, spans=(allowed, denied, DENY))])
    plane.forget_hits([RULE, DENIES])
    assert plane.hits().keys() == {UNALLOWED["ingress"]}


@FAMILIES
@pytest.mark.parametrize("node_access", [True, False], ids=["the-node-passes", "the-node-is-judged"])
def test_what_the_node_sends_itself(open_town: Town, family: int, node_access: bool) -> None:
    one, two = open_town.one, open_town.two
    own = {4: "10.0.0.254/24", 6: "fd00::fe/64"}[family]
    with Netlink() as nl:
        nl.do(route.new_address(socket.if_nametoindex(BRIDGE), own, nodad=True))
    address = str(two.addresses[family])
    begun: list[socket.socket] = []

    def sends() -> bool:
        sock = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        begun.append(sock)
        return says(sock)

    def says(sock: socket.socket) -> bool:
        two.forgets(80)
        with suppress(PermissionError):
            sock.sendto(b"hello", (address, 80))
        return two.hears(80, 0.2) is not None

    eventually(sends)
    plane = open_town.new_plane(node_access=node_access)
    state = open_town.state([*only_friends(), one.subject(), two.subject(INGRESS), open_town.three.subject()], one, two)
    plane.apply(state)
    assert sends() is node_access
    assert says(begun[0]) is node_access, "what goes on is judged like what begins"
    assert not reaches(one, two, family)
    plane.change([Peer(prefix=Address(own.partition("/")[0]).host(), peer=FRIEND)], ())
    assert sends()
    for sock in begun:
        sock.close()


def test_purge_leaves_nothing(open_town: Town, tmp_path: Path) -> None:
    open_town.plane.change(only_friends(), ())
    with Netlink() as nl:
        for one in (open_town.one, open_town.two, open_town.three):
            nl.do(route.del_link(one.host))
    open_town.plane.purge()
    open_town.plane.change((), only_friends())
    assert open_town.plane.check(NodeState()) == []
    open_town.plane.apply(NodeState())
    assert nft.run("list tables") == ""
    assert not programs.present(tmp_path)


MANY = {"ebpf": 10_000, "nftables": 2_000}
"""Rules; of nftables it takes seconds to make so many sets."""


@pytest.mark.needs("ping", "nsenter")
def test_thousands_of_rules_cost_a_packet_no_more_than_ten(open_town: Town, record_figures: list[str], plane: str) -> None:
    """A figure, not a limit: round trips of a flood of pings under more and more rules, the last of which allows it."""
    one, two = open_town.one, open_town.two
    told = [f"no policy {flood(one, two)}"]
    open_town.plane.ensure([two.subject(INGRESS)])
    there: list[Row] = []
    for count in (10, MANY[plane]):
        rows = rules(count, friend=one)
        begin = time.perf_counter()
        open_town.plane.change(rows, there)
        took = time.perf_counter() - begin
        there = rows
        told.append(f"{count} rules {flood(one, two)} (programmed in {took:.2f} s)")
        assert not reaches(open_town.three, two)
    record_figures.append(f"{plane}: round trip under " + ", ".join(told))


def rules(count: int, friend: Container) -> list[Row]:
    """So many rules, each of a peer and ports of its own; the last one is about ``friend`` and allows everything."""
    rows: list[Row] = [ruling(NOTHING), ruling(ALL, (0, 0, 65535)), judgement(INGRESS, 0, NOTHING)]
    rows += (judgement(INGRESS, 1, ALL), *friend.peer(1))
    for at in range(2, count + 1):
        prefix = Prefix(f"10.{at >> 16 | 64}.{at >> 8 & 255}.{at & 255}/32")
        own = Span(protocol=6, first=at, last=at, allow=True, rule=at)
        rows.append(Ruling(number=1000 + at, spans=(own, DENY)))
        rows += (Peer(prefix=prefix, peer=at), judgement(INGRESS, at, 1000 + at))
    return rows


def flood(one: Container, two: Container) -> str:
    """The round trip of a ping, the median of three floods."""
    found = []
    for _ in range(3):
        words = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{one.fd}", "ping", "-q", "-f", "-n", "-c", "5000", two.addresses[4]]
        said = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
        found.append(float(said.rpartition("= ")[2].split("/")[1]))
    return f"{sorted(found)[1] * 1000:.1f} us"
