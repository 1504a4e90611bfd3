"""The short way between nodes is the long one without the way; and what it must leave to the stack."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.datapath.ebpf.entries import entries
from fairlead.datapath.ebpf.layout import INDEX
from fairlead.datapath.seen import Direction, Reason
from fairlead.desired.state import Guard, Realm, Subject
from fairlead.desired.ways import Path
from fairlead.kernel import route, sysctl
from fairlead.kernel.netlink import Netlink
from fairlead.model.address import Address, Mac, Prefix
from tests.bpf.conftest import LINKS, NEXT, REDIRECT, SHOT, Kernel
from tests.bpf.packets import ACK, SYN, Side, frame, tcp, udp
from tests.bpf.test_policies import EGRESS, INGRESS, each_family, friend, only_friends
from tests.bpf.test_policies import A as HERE
from tests.bpf.test_policies import B as THERE
from tests.bpf.test_short_way import CONVERSATION, GATEWAYS, MACS, PACKETS, Step, local

pytestmark = pytest.mark.kernel("ebpf")

UPLINK, ROUTER = Mac("02:00:00:00:00:aa"), Mac("02:00:00:00:00:bb")
HOPS = {4: "192.0.2.2", 6: "fd02::2"}
MTU = 1400
SIDES = (HERE, THERE)


def realm(network: str = "blue", **more: bool) -> Realm:
    prefixes = (Prefix("10.0.0.0/24"), Prefix("fd00::/64"))
    given = {"internal": False, "isolated": True, "inter_container": True, "masquerade": True, **more}
    return Realm(network=network, prefixes=prefixes, **given)


class Between:
    """A container of this node, one of another, the device between them, and what passes."""

    def __init__(self, kernel: Kernel, *, short: bool) -> None:
        self.kernel, self.short = kernel, short
        self.shorts = 0
        kernel.put(guard() if short else guard(""), *((local(0, routed=True), realm()) if short else ()))
        kernel.loaded.maps["uplinks"].update(INDEX.pack(kernel.other), INDEX.pack(1))
        kernel.change(
            (*only_friends(INGRESS), *only_friends(EGRESS), *(friend(one) for side in SIDES for one in side.values())), ()
        )

    def out(self, frame: bytes, **more: int) -> int:
        """What the program says to what the container sends."""
        packet = GATEWAYS[0].packed + MACS[0].packed + frame[12:]
        return self.kernel.loaded.programs["from_pod"].run(packet, ifindex=self.kernel.one, ingress=self.kernel.one, **more)

    def came(self, frame: bytes, to: Mac = UPLINK) -> int:
        """What the program says to what comes in at the uplink.

        What it leaves to others it sees twice, as where it stands there both ways for a moment (``hooks``): it must not matter.
        """
        packet, program, at = to.packed + ROUTER.packed + frame[12:], self.kernel.loaded.programs["from_net"], self.kernel.other
        said = program.run(packet, ifindex=at, ingress=at)
        return program.run(packet, ifindex=at, ingress=at) if said == NEXT else said

    def forwarded(self, frame: bytes) -> int:
        """What the link's program says to what the stack has forwarded there."""
        packet = MACS[0].packed + GATEWAYS[0].packed + frame[12:]
        return self.kernel.loaded.programs["to_pod"].run(packet, ifindex=self.kernel.one, ingress=self.kernel.other)

    def send(self, frame: bytes, sender: int) -> bool:
        """Whether what one of the two sends passes this node."""
        said = self.out(frame) if sender == 0 else self.came(frame) if self.short else NEXT
        if said == REDIRECT:
            self.shorts += 1
            return True
        return said == NEXT and (sender == 0 or self.forwarded(frame) == NEXT)

    def state(self) -> tuple[object, ...]:
        """Everything that is remembered, told and counted, without times."""
        plain = [tuple(one._replace(first=0, last=0, ifindex=one.ifindex == self.kernel.one)) for one in self.kernel.table()]
        told = [tuple(one._replace(first=0, last=0, ifindex=one.ifindex == self.kernel.one)) for one in self.kernel.events()]
        counters = {which: count for which, count in self.kernel.observer.counters().items() if count}
        dropped = {why: count for why, count in self.kernel.observer.dropped().items() if count}
        return sorted(plain), told, counters, dropped, self.kernel.hits()

    def happen(self, step: Step) -> bool:
        """Whether a packet passed; of a change nothing."""
        sets = {
            "isolate ingress": (INGRESS, 0),
            "isolate egress": (0, EGRESS),
            "isolate both": (INGRESS, EGRESS),
            "open": (0, 0),
        }
        if step.what in sets:
            ingress, egress = sets[step.what]
            self.kernel.put(Subject(host=LINKS[0], ingress=ingress, egress=egress))
        elif step.what in {"befriend", "part"}:
            row = (friend(SIDES[step.who][step.family]),)
            self.kernel.change(row if step.what == "befriend" else (), () if step.what == "befriend" else row)
        elif step.what == "bump":
            self.kernel.tables.bump()
        else:
            sides = (Side(HERE[step.family].address, step.port), THERE[step.family])
            return self.send(PACKETS[step.what](sides[step.who], sides[not step.who]), step.who)
        return False


def guard(network: str = "blue") -> Guard:
    addresses = tuple(Address(one.address) for one in HERE.values())
    return Guard(host=LINKS[0], mac=MACS[0], addresses=addresses, routed=True, network=network, gateway=GATEWAYS[0])


@pytest.fixture
def ways(make: Callable[..., Kernel]) -> tuple[Between, Between]:
    """The same twice, on the long way and on the short one; the kernel's routes lead to the other container."""
    found = Between(make(apart="long"), short=False), Between(make(apart="short"), short=True)
    with Netlink() as nl:
        for name in ("away", "far", *LINKS):
            nl.do(route.set_link(name, up=True))
        at = socket.if_nametoindex(LINKS[1])
        nl.do(route.set_link(LINKS[1], mac=UPLINK, mtu=MTU))
        for family, hop in HOPS.items():
            nl.do(route.new_address(at, f"{hop.removesuffix('2')}1/{24 if family == 4 else 64}"))
            nl.do(route.new_neighbour(at, hop, ROUTER))
            nl.do(route.new_route(f"{THERE[family].address}/{32 if family == 4 else 128}", hop, at))
    sysctl.write("net.ipv4.ip_forward", 1)
    sysctl.write("net.ipv6.conf.all.forwarding", 1)
    return found


@pytest.fixture
def short(ways: tuple[Between, Between]) -> Between:
    return ways[1]


def same(ways: tuple[Between, Between], steps: list[Step]) -> None:
    """Both go through it all, and never differ."""
    for at, step in enumerate(steps):
        one, other = ((each.happen(step), each.state()) for each in ways)
        assert one == other, steps[: at + 1]


CHANGES = ("isolate ingress", "isolate egress", "isolate both", "open", "befriend", "part", "bump")
STEPS = st.lists(
    st.builds(
        Step,
        st.one_of(st.sampled_from([*PACKETS]), st.sampled_from([*PACKETS]), st.sampled_from(CHANGES)),
        st.sampled_from([0, 1]),
        st.just(4),
        st.sampled_from([40000, 40000, 80]),
    ),
    max_size=25,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=100, deadline=None)
@given(steps=STEPS, family=st.sampled_from([4, 6]))
def test_whatever_happens(ways: tuple[Between, Between], steps: list[Step], family: int) -> None:
    for way in ways:
        way.kernel.forget_all()
        for what in ("open", *(("befriend",) * 2)):
            for who in (0, 1):
                for each in (4, 6):
                    way.happen(Step(what, who, each, 0))
    same(ways, [one._replace(family=family) for one in steps])


@each_family
@pytest.mark.parametrize("opener", [0, 1])
@pytest.mark.parametrize("isolated", [False, True])
def test_a_conversation_goes_the_short_way_whole(
    ways: tuple[Between, Between], family: int, opener: int, isolated: bool
) -> None:
    before = [Step("isolate both", 0, family, 0)] if isolated else []
    same(ways, before + [Step(what, who ^ opener, family, 2000 if opener else 40000) for what, who in CONVERSATION])
    assert (ways[0].shorts, ways[1].shorts) == (0, len(CONVERSATION))


@each_family
@pytest.mark.parametrize("opener", [0, 1])
def test_what_has_no_handshake_does_once_both_were_seen(short: Between, family: int, opener: int) -> None:
    taken = []
    for who in (opener, 1 - opener) * 3:
        before = short.shorts
        assert short.happen(Step("udp", who, family, 40000))
        taken.append(short.shorts > before)
    # What the container sent first was seen at once; what came in first, the program at the link alone has seen.
    assert taken == [False, opener == 0, True, True, True, True]


@each_family
def test_answers_to_what_the_stack_translated_go_back_through_it(short: Between, family: int) -> None:
    """A published port: the container was never sent to by the address that it answers, but by what the stack made of it."""
    client, server = THERE[family], HERE[family]
    for make in (lambda a, b: tcp(a, b, SYN if a is client else SYN | ACK), udp):
        for _ in range(3):
            assert short.forwarded(make(client, server)) == NEXT
            assert short.out(make(server, client)) == NEXT


@each_family
def test_answers_from_whom_the_stack_chose_go_through_it(short: Between, family: int) -> None:
    """A service: the container sent to another address than the one that answers."""
    client, server = HERE[family], THERE[family]
    service = Side("10.0.7.7" if family == 4 else "fd07::7", server.port)
    for make in (lambda a, b: tcp(a, b, SYN if a is client else SYN | ACK), udp):
        for _ in range(3):
            assert short.out(make(client, service)) == NEXT
            assert short.came(make(server, client)) == NEXT
            assert short.forwarded(make(server, client)) == NEXT


@each_family
def test_a_packet_is_one_hop_older_on_each_node(short: Between, family: int) -> None:
    sent = tcp(HERE[family], THERE[family], SYN)
    packet = GATEWAYS[0].packed + MACS[0].packed + sent[12:]
    said, after = short.kernel.loaded.programs["from_pod"].ask(packet, ifindex=short.kernel.one, mark=0)
    assert said == REDIRECT
    came = UPLINK.packed + ROUTER.packed + tcp(THERE[family], HERE[family], SYN)[12:]
    said, arrived = short.kernel.loaded.programs["from_net"].ask(came, ifindex=short.kernel.other, mark=0)
    assert said == REDIRECT
    assert arrived[:12] == MACS[0].packed + GATEWAYS[0].packed
    at = 22 if family == 4 else 21
    for one, other in ((packet, after), (came, arrived)):
        assert other[at] == one[at] - 1 == 63
        if family == 4:
            assert (sum(struct.unpack_from("!10H", one, 14)) - sum(struct.unpack_from("!10H", other, 14))) % 0xFFFF == 0


@each_family
def test_packets_fit_to_the_byte(short: Between, family: int) -> None:
    """By what the device carries, after large sends were cut; and by what the container's link takes."""
    heads = 40 if family == 4 else 60

    def sent(size: int, **more: int) -> int:
        return short.out(tcp(HERE[family], THERE[family], SYN, bytes(size - heads)), **more)

    assert [sent(size) for size in (MTU, MTU + 1)] == [REDIRECT, NEXT]
    assert [sent(3000, segments=3, segment=each - heads) for each in (MTU, MTU + 1)] == [REDIRECT, NEXT]
    assert [short.came(tcp(THERE[family], HERE[family], SYN, bytes(size - heads))) for size in (1500, 1501)] == [REDIRECT, NEXT]


def _aged(packet: bytes) -> bytes:
    return packet[:22] + b"\x01" + packet[23:] if packet[12:14] == b"\x08\0" else packet[:21] + b"\x01" + packet[22:]


def _with_options(a: Side, b: Side) -> bytes:
    if a.family == 6:
        return frame(a, b, 6, tcp(a, b, SYN)[54:], extra=bytes([6, 0, 1, 4, 0, 0, 0, 0]), first=0)
    plain = tcp(a, b, SYN)
    return plain[:14] + b"\x46" + plain[15:34] + bytes([1, 1, 1, 0]) + plain[34:]


def _leaves(short: Between) -> Iterator[tuple[str, Callable[[], object]]]:
    """What must be left to the stack, but for the first two: by name, and what makes it so."""

    def nothing() -> None:
        pass

    def netlink(*messages: object) -> Callable[[], None]:
        def act() -> None:
            with Netlink() as nl:
                nl.do(*messages)  # type: ignore[arg-type]  # messages

        return act

    kernel, at = short.kernel, short.kernel.other
    yield "nothing else", nothing
    yield "but no neighbour, whom the kernel asks for", netlink(*(route.del_neighbour(at, hop) for hop in HOPS.values()))
    yield "another network's addresses", lambda: kernel.put(realm("red"))
    yield "encrypted", lambda: kernel.change([realm(encrypted=True)], [realm()])
    yield "kept apart", lambda: kernel.change([realm(inter_container=False)], [realm()])
    yield "a limit, or another's addresses", lambda: kernel.change([guard("")], [local(0, routed=True)])
    yield "a device that leads nowhere", lambda: kernel.loaded.maps["uplinks"].delete(INDEX.pack(at))
    yield "no way", netlink(*(route.del_route(f"{one.address}/{32 if n == 4 else 128}") for n, one in THERE.items()))
    narrow = [Path(dst=Prefix(one), mtu=1300) for one in ("10.0.0.8/29", "fd00::8/125")]
    yield "less gets there", lambda: kernel.change(narrow, ())


@each_family
@pytest.mark.parametrize("what", range(9))
def test_what_is_left_to_the_stack_on_the_way_out(short: Between, family: int, what: int) -> None:
    name, change = list(_leaves(short))[what]
    change()
    assert short.out(tcp(HERE[family], THERE[family], SYN)) == (REDIRECT if what < 2 else NEXT), name


@each_family
@pytest.mark.parametrize("packet", [lambda a, b: _aged(tcp(a, b, SYN)), _with_options], ids=["too old", "options"])
def test_what_a_host_has_to_say_something_to(short: Between, family: int, packet: Callable[[Side, Side], bytes]) -> None:
    assert short.out(packet(HERE[family], THERE[family])) == NEXT
    assert short.came(packet(THERE[family], HERE[family])) == NEXT


@each_family
def test_what_comes_in_for_others(short: Between, family: int) -> None:
    world = Side("198.51.100.7" if family == 4 else "2001:db8::7", 5)
    syn = tcp(THERE[family], HERE[family], SYN)
    assert short.came(syn, to=Mac("02:00:00:00:00:cc")) == NEXT, "heard by chance"
    assert short.came(tcp(world, HERE[family], SYN)) == NEXT
    assert short.came(tcp(THERE[family], world, SYN)) == NEXT
    assert not short.kernel.table(), "nothing was decided"
    short.kernel.change([], [realm()])
    assert short.came(syn) == NEXT


@each_family
def test_who_is_not_let_in_is_told_of_as_at_the_link(ways: tuple[Between, Between], family: int) -> None:
    same(ways, [Step("isolate ingress", 0, family, 0), Step("part", 1, family, 0), Step("syn", 1, family, 40000)])
    for way in ways:
        way.kernel.forget_all()
        assert not way.happen(Step("syn", 1, family, 40000))
        (drop,) = way.kernel.events()
        assert (drop.ifindex, drop.direction, drop.reason) == (way.kernel.one, Direction.TO_POD, Reason.POLICY)
    assert ways[1].came(tcp(THERE[family], HERE[family], SYN)) == SHOT


def test_narrow_ways_win_over_the_network_s() -> None:
    (block,) = (one for one in realm().prefixes if one.family == 4)
    rows = [Path(dst=block, mtu=1300), realm()]
    assert entries(rows, {})["realms"] == entries(rows[::-1], {})["realms"]
    assert bytes(8) in entries(rows, {})["realms"].values()
