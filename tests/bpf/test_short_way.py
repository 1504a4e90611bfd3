"""The short way is the long one without the way: the same packets pass, and the same is remembered, told and counted."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.datapath.seen import Kind, Reason, Seen
from fairlead.desired.state import Guard, Local, Subject
from fairlead.model.address import Address, Mac
from tests.bpf.conftest import LINKS, NEXT, REDIRECT, SHOT, Kernel
from tests.bpf.packets import ACK, FIN, PSH, RST, SYN, Side, echo, fragments, sctp, tcp, udp, unreachable
from tests.bpf.test_policies import EGRESS, INGRESS, RULE, each_family, friend, only_friends
from tests.bpf.test_policies import A as ONE
from tests.bpf.test_policies import B as OTHER

pytestmark = pytest.mark.kernel("ebpf")

MACS = (Mac("02:00:00:00:00:02"), Mac("02:00:00:00:00:01"))
GATEWAYS = (Mac("fe:00:00:00:00:01"), Mac("fe:00:00:00:00:02"))
SIDES = (ONE, OTHER)
MTU = 1500


def local(at: int, *, network: str = "blue", routed: bool = False, mtu: int = MTU) -> Local:
    addresses = tuple(Address(side.address) for side in SIDES[at].values())
    gateway = GATEWAYS[at] if routed else None
    return Local(host=LINKS[at], network=network, mac=MACS[at], mtu=mtu, addresses=addresses, gateway=gateway)


def guard(at: int, *, network: str = "blue") -> Guard:
    addresses = tuple(Address(one.address) for one in SIDES[at].values())
    return Guard(host=LINKS[at], mac=MACS[at], addresses=addresses, network=network)


class Street:
    """Two containers that are neighbours, and what passes between them."""

    def __init__(self, kernel: Kernel, *, short: bool) -> None:
        self.kernel = kernel
        self.links = (kernel.one, kernel.other)
        self.shorts = 0
        for at in (0, 1):
            kernel.put(guard(at, network="blue" if short else ""))
            if short:
                kernel.put(local(at))
        kernel.change(
            (*only_friends(INGRESS), *only_friends(EGRESS), *(friend(one) for side in SIDES for one in side.values())), ()
        )

    def hook(self, name: str, frame: bytes, at: int, **more: int) -> int:
        index = self.links[at]
        return self.kernel.loaded.programs[name].run(frame, ifindex=index, ingress=index, **more)

    def send(self, frame: bytes, sender: int) -> bool:
        """Whether what one of the two sends arrives at the other."""
        frame = MACS[not sender].packed + MACS[sender].packed + frame[12:]
        said = self.hook("from_pod", frame, sender)
        if said == REDIRECT:
            self.shorts += 1
            return True
        return said == NEXT and self.hook("to_pod", frame, 1 - sender) == NEXT

    def isolate(self, at: int, ingress: int, egress: int) -> None:
        addresses = tuple(Address(one.address) for one in SIDES[at].values())
        self.kernel.put(Subject(host=LINKS[at], ingress=ingress, egress=egress, addresses=addresses))

    def befriend(self, at: int, family: int, *, friends: bool) -> None:
        row = (friend(SIDES[at][family]),)
        self.kernel.change(row if friends else (), () if friends else row)

    def remembers(self) -> list[tuple[object, ...]]:
        """Connections, without times and with their links as numbers of ours."""
        return sorted(self._plain(one) for one in self.kernel.table())

    def tells(self) -> list[tuple[object, ...]]:
        return [self._plain(one) for one in self.kernel.events()]

    def counts(self) -> tuple[object, ...]:
        hits = self.kernel.hits()
        counters = {which: count for which, count in self.kernel.observer.counters().items() if count}
        return (counters, {why: count for why, count in self.kernel.observer.dropped().items() if count}, hits)

    def _plain(self, one: Seen) -> tuple[object, ...]:
        return tuple(one._replace(first=0, last=0, ifindex=self.links.index(one.ifindex)))


class Step(NamedTuple):
    """One thing that happens, by name, with whose it is and of which family."""

    what: str
    who: int
    family: int
    port: int


PACKETS: dict[str, Callable[[Side, Side], bytes]] = {
    "syn": lambda a, b: tcp(a, b, SYN),
    "syn and ack": lambda a, b: tcp(a, b, SYN | ACK),
    "ack": lambda a, b: tcp(a, b, ACK),
    "data": lambda a, b: tcp(a, b, PSH | ACK, b"hello"),
    "fin": lambda a, b: tcp(a, b, FIN | ACK),
    "reset": lambda a, b: tcp(a, b, RST),
    "udp": udp,
    "sctp": sctp,
    "echo": lambda a, b: echo(a, b, 5),
    "reply": lambda a, b: echo(a, b, 5, reply=True),
    "error about tcp": lambda a, b: unreachable(a, b, tcp(b, a, SYN)),
    "error about udp": lambda a, b: unreachable(a, b, udp(b, a)),
    "error about others": lambda a, b: unreachable(a, b, udp(Side(b.address, 7), a)),
    "first fragment": lambda a, b: fragments(a, b, 7)[0],
    "later fragment": lambda a, b: fragments(a, b, 7)[1],
}
CHANGES = ("isolate ingress", "isolate egress", "isolate both", "open", "befriend", "part", "bump")


@pytest.fixture
def streets(make: Callable[..., Kernel]) -> tuple[Street, Street]:
    return Street(make(apart="long"), short=False), Street(make(apart="short"), short=True)


def happen(street: Street, step: Step) -> bool:
    """Whether a packet arrived; of a change nothing."""
    match step.what:
        case "isolate ingress":
            street.isolate(step.who, INGRESS, 0)
        case "isolate egress":
            street.isolate(step.who, 0, EGRESS)
        case "isolate both":
            street.isolate(step.who, INGRESS, EGRESS)
        case "open":
            street.isolate(step.who, 0, 0)
        case "befriend":
            street.befriend(step.who, step.family, friends=True)
        case "part":
            street.befriend(step.who, step.family, friends=False)
        case "bump":
            street.kernel.tables.bump()
        case packet:
            client = Side(ONE[step.family].address, step.port)
            sides = (client, OTHER[step.family])
            return street.send(PACKETS[packet](sides[step.who], sides[not step.who]), step.who)
    return False


def same(streets: tuple[Street, Street], steps: list[Step]) -> None:
    """Both go through it all, and never differ."""
    for at, step in enumerate(steps):
        one, other = ((happen(each, step), each.tells(), each.remembers(), each.counts()) for each in streets)
        assert one == other, steps[: at + 1]


def _steps() -> st.SearchStrategy[list[Step]]:
    what = st.one_of(st.sampled_from([*PACKETS]), st.sampled_from([*PACKETS]), st.sampled_from(CHANGES))
    return st.lists(
        st.builds(Step, what, st.sampled_from([0, 1]), st.just(4), st.sampled_from([40000, 40000, 80])), max_size=25
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=150, deadline=None)
@given(steps=_steps(), family=st.sampled_from([4, 6]))
def test_whatever_happens(streets: tuple[Street, Street], steps: list[Step], family: int) -> None:
    for street in streets:
        street.kernel.forget_all()
        for at in (0, 1):
            street.isolate(at, 0, 0)
            street.befriend(at, 4, friends=True)
            street.befriend(at, 6, friends=True)
    same(streets, [one._replace(family=family) for one in steps])


CONVERSATION = [
    ("syn", 0),
    ("syn and ack", 1),
    ("ack", 0),
    ("data", 0),
    ("ack", 1),
    ("data", 1),
    ("error about tcp", 1),
    ("fin", 0),
    ("ack", 1),
    ("fin", 1),
    ("ack", 0),
    ("ack", 0),
    ("syn", 0),
    ("reset", 1),
]


@each_family
@pytest.mark.parametrize("isolated", [(), (0,), (1,), (0, 1)])
def test_a_conversation(streets: tuple[Street, Street], family: int, isolated: tuple[int, ...]) -> None:
    before = [Step("isolate both", who, family, 0) for who in isolated]
    same(streets, before + [Step(what, who, family, 40000) for what, who in CONVERSATION])
    assert streets[0].shorts == 0
    assert streets[1].shorts == len(CONVERSATION), "every packet of it"


@each_family
@pytest.mark.parametrize("packet", ["syn", "udp"])
def test_a_connection_that_begins_is_told_of_with_the_rules_of_both_ends(
    streets: tuple[Street, Street], family: int, packet: str
) -> None:
    same(streets, [Step("isolate both", who, family, 0) for who in (0, 1)])
    for street in streets:
        assert happen(street, Step(packet, 0, family, 40000))
        (new,) = street.kernel.events()
        assert (new.kind, new.egress_rule, new.ingress_rule) == (Kind.NEW, RULE, RULE)
    assert [street.shorts for street in streets] == [0, int(packet == "syn")]


@each_family
def test_who_is_not_let_in_is_told_of_as_on_the_long_way(streets: tuple[Street, Street], family: int) -> None:
    same(streets, [Step("isolate ingress", 1, family, 0), Step("part", 0, family, 0)])
    for street in streets:
        assert not happen(street, Step("syn", 0, family, 40000))
        new, close, drop = street.kernel.events()
        assert [Kind(one.kind).name for one in (new, close, drop)] == ["NEW", "CLOSE", "DROP"]
        assert (new.ifindex, drop.ifindex, drop.direction, drop.reason) == (*street.links, 1, Reason.POLICY)


@each_family
def test_the_answer_to_a_translated_packet_goes_the_long_way(streets: tuple[Street, Street], family: int) -> None:
    """Where the bridge translates, the answering container's connection began at its link alone."""
    short = streets[1]
    client, server = ONE[family], OTHER[family]
    for make in (lambda a, b: tcp(a, b, SYN if a is client else SYN | ACK), udp):
        frame = MACS[1].packed + MACS[0].packed + make(client, server)[12:]
        assert short.hook("to_pod", frame, 1) == NEXT
        assert short.hook("from_pod", MACS[0].packed + MACS[1].packed + make(server, client)[12:], 1) == NEXT


def _route(street: Street, **more: int | str) -> None:
    for at, side in enumerate(SIDES):
        addresses = tuple(Address(one.address) for one in side.values())
        street.kernel.put(
            Guard(host=LINKS[at], mac=MACS[at], addresses=addresses, routed=True, network="blue", gateway=GATEWAYS[at])
        )
        street.kernel.put(local(at, routed=True, **more))  # type: ignore[arg-type]  # the fields of a row


@each_family
def test_a_routed_packet_is_one_hop_older(streets: tuple[Street, Street], family: int) -> None:
    short = streets[1]
    _route(short)
    frame = GATEWAYS[0].packed + MACS[0].packed + tcp(ONE[family], OTHER[family], SYN)[12:]
    assert short.hook("from_pod", frame, 0) == REDIRECT
    _, after = short.kernel.loaded.programs["from_pod"].ask(frame, ifindex=kernel_index(short), mark=0)
    assert after[:12] == MACS[1].packed + GATEWAYS[1].packed
    at = 22 if family == 4 else 21
    assert after[at] == frame[at] - 1 == 63
    if family == 4:
        assert after[26:] == frame[26:]
        before = struct.unpack_from("!10H", frame, 14)
        words = struct.unpack_from("!10H", after, 14)
        assert (sum(before) - sum(words)) % 0xFFFF == 0, "the checksum follows"
    else:
        assert after[22:] == frame[22:]


def kernel_index(street: Street) -> int:
    return street.links[0]


@each_family
def test_what_is_too_old_goes_to_the_host(streets: tuple[Street, Street], family: int) -> None:
    short = streets[1]
    _route(short)
    frame = bytearray(GATEWAYS[0].packed + MACS[0].packed + tcp(ONE[family], OTHER[family], SYN)[12:])
    frame[22 if family == 4 else 21] = 1
    assert short.hook("from_pod", bytes(frame), 0) == NEXT


def _long_ways() -> Iterator[tuple[str, Callable[[Street], None], bytes, int]]:
    """What must not take the short way, by name: a change to the street, the MAC sent to, the length."""

    def nothing(_: Street) -> None:
        pass

    yield "to the gateway of the bridge", nothing, b"\x02\0\0\0\0\x99", 0
    yield "to everybody", nothing, b"\xff" * 6, 0
    yield "larger than the other takes", lambda street: street.kernel.put(local(1, mtu=100)), MACS[1].packed, 200
    yield "another network", lambda street: street.kernel.put(local(1, network="red")), MACS[1].packed, 0
    yield "no network of its own", lambda street: street.kernel.put(guard(0, network="")), MACS[1].packed, 0
    yield "to itself", lambda street: street.kernel.put(local(0)), MACS[0].packed, 0


@pytest.mark.parametrize(("change", "mac", "size"), [pytest.param(*more, id=name) for name, *more in _long_ways()])
def test_the_long_way(streets: tuple[Street, Street], change: Callable[[Street], None], mac: bytes, size: int) -> None:
    short = streets[1]
    change(short)
    for family in (4, 6):
        target = OTHER if mac != MACS[0].packed else ONE
        frame = mac + MACS[0].packed + tcp(ONE[family], Side(target[family].address, 80), SYN, bytes(size))[12:]
        assert short.hook("from_pod", frame, 0) == NEXT


def _unlike_others() -> Iterator[tuple[str, Callable[[Street], None], tuple[bytes, bytes], int, int]]:
    """What is not like the packets before it, by name: a change to the street, the MACs, more bytes, what becomes of it."""

    def nothing(_: Street) -> None:
        pass

    def deny(street: Street) -> None:
        street.isolate(1, INGRESS, 0)
        for family in (4, 6):
            street.befriend(0, family, friends=False)

    nobody = Guard(host=LINKS[0], mac=MACS[0], addresses=(), network="blue")
    usual = (MACS[1].packed, MACS[0].packed)
    yield "from another MAC", nothing, (usual[0], usual[0]), 0, SHOT
    yield "to another MAC", nothing, (b"\x02\0\0\0\0\x99", usual[1]), 0, NEXT
    yield "larger than the other takes", nothing, usual, MTU, NEXT
    yield "whose address it is no more", lambda street: street.kernel.change((nobody,), (guard(0),)), usual, 0, SHOT
    yield "of another network by now", lambda street: street.kernel.put(guard(0, network="red")), usual, 0, NEXT
    yield "to who is there no more", lambda street: street.kernel.change((), (local(1),)), usual, 0, NEXT
    yield "to who takes less by now", lambda street: street.kernel.put(local(1, mtu=30)), usual, 0, NEXT
    yield "to who has no subject", lambda street: street.kernel.change((), (Subject(host=LINKS[1]),)), usual, 0, SHOT
    yield "to who denies it by now", deny, usual, 0, SHOT


@each_family
@pytest.mark.parametrize(("change", "macs", "size", "fate"), [pytest.param(*more, id=name) for name, *more in _unlike_others()])
def test_a_packet_unlike_those_before_it_is_asked_about(
    streets: tuple[Street, Street],
    change: Callable[[Street], None],
    macs: tuple[bytes, bytes],
    size: int,
    fate: int,
    family: int,
) -> None:
    short = streets[1]
    for what, who in CONVERSATION[:6]:
        assert happen(short, Step(what, who, family, 40000))
    assert short.shorts == len(CONVERSATION[:6])
    packet = tcp(Side(ONE[family].address, 40000), OTHER[family], ACK | PSH, bytes(size))[12:]
    assert short.hook("from_pod", b"".join((MACS[1].packed, MACS[0].packed)) + packet[: len(packet) - size], 0) == REDIRECT
    change(short)
    assert short.hook("from_pod", b"".join(macs) + packet, 0) == fate


@each_family
def test_a_packet_at_another_link_than_those_before_it_is_asked_about(streets: tuple[Street, Street], family: int) -> None:
    short = streets[1]
    for what, who in CONVERSATION[:6]:
        assert happen(short, Step(what, who, family, 40000))
    frame = MACS[1].packed + MACS[0].packed + tcp(Side(ONE[family].address, 40000), OTHER[family], ACK)[12:]
    assert short.hook("from_pod", frame, 0) == REDIRECT
    assert short.hook("from_pod", frame, 1) == SHOT


def test_who_has_no_subject_gets_nothing(streets: tuple[Street, Street]) -> None:
    short = streets[1]
    short.kernel.change((), (Subject(host=LINKS[1]),))
    frame = MACS[1].packed + MACS[0].packed + tcp(ONE[4], OTHER[4], SYN)[12:]
    assert short.hook("from_pod", frame, 0) == SHOT
    assert short.kernel.observer.dropped()[Reason.NO_ENDPOINT] == 1


def test_large_sends_count_as_what_is_on_the_wire(streets: tuple[Street, Street]) -> None:
    for street in streets:
        frame = MACS[1].packed + MACS[0].packed + tcp(ONE[4], OTHER[4], SYN, bytes(3000))[12:]
        said = street.hook("from_pod", frame, 0, segments=3, segment=1000)
        assert said == (REDIRECT if street is streets[1] else NEXT)
        one = street.kernel.only()
        assert (one.forth_packets, one.forth_bytes) == (3, len(frame) + 2 * 54)
