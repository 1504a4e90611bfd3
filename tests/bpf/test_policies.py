"""The programs decide: what policies do not allow is dropped and told, answers pass, a change counts for what goes on."""

from __future__ import annotations

import errno
import struct
import time
from collections.abc import Iterator
from functools import partial

import pytest

from fairlead.datapath.base import UNALLOWED, Hits
from fairlead.datapath.ebpf.layout import HITS, NUMBER, Counter
from fairlead.datapath.ebpf.plane import Ebpf
from fairlead.datapath.ebpf.tables import Tables
from fairlead.datapath.seen import Direction, Kind, Reason, State
from fairlead.desired.state import Guard, Judgement, Link, NodeState, Peer, Row, Ruling, Span, Subject
from fairlead.kernel.bpf.map import Map, possible_cpus
from fairlead.kernel.errors import KernelError
from fairlead.model.address import InterfaceName, Mac, Prefix
from tests.bpf.conftest import LINKS, Kernel
from tests.bpf.packets import ACK, FIN, PSH, RST, SYN, Side, echo, fragments, sctp, tcp, udp, unreachable
from tests.wait import eventually

pytestmark = pytest.mark.kernel("ebpf")

A = {4: Side("10.0.0.2", 40000), 6: Side("fd00::2", 40000)}
B = {4: Side("10.0.0.9", 80), 6: Side("fd00::9", 80)}
INGRESS, EGRESS = 0xA1, 0xA2
FRIEND = 0xC1
NOTHING, WEB, ALL = 0xD0, 0xD1, 0xD2
RULE, DENIES = 0xE1, 0xE2
DENY = Span(protocol=0, first=0, last=65535, allow=False, rule=0)
RULINGS = (
    Ruling(number=NOTHING, spans=(DENY,)),
    Ruling(
        number=WEB,
        spans=(
            DENY,
            Span(protocol=6, first=80, last=80, allow=True, rule=RULE),
            Span(protocol=6, first=1000, last=2999, allow=True, rule=RULE),
            Span(protocol=17, first=0, last=65535, allow=True, rule=RULE),
        ),
    ),
    Ruling(number=ALL, spans=(Span(protocol=0, first=0, last=65535, allow=True, rule=RULE),)),
)


def judgement(policy: int, peer: int, ruling: int) -> Judgement:
    return Judgement(policy=policy, peer=peer, ruling=ruling)


def only_friends(policy: int, ruling: int = WEB) -> tuple[Row, ...]:
    """Peers of class FRIEND as ``ruling`` says, nobody else."""
    return (*RULINGS, judgement(policy, 0, NOTHING), judgement(policy, FRIEND, ruling))


def friend(side: Side) -> Peer:
    return Peer(prefix=Prefix(f"{side.address}/{32 if side.family == 4 else 128}"), peer=FRIEND)


def isolate(kernel: Kernel, *, ingress: int = 0, egress: int = 0, at: int = 0) -> None:
    host = next(name for name, index in kernel.links.items() if index == (at or kernel.one))
    kernel.put(Subject(host=host, ingress=ingress, egress=egress))


each_family = pytest.mark.parametrize("family", [4, 6])


@each_family
def test_ingress_isolation(kernel: Kernel, family: int) -> None:
    client, server = A[family], B[family]
    kernel.change(only_friends(INGRESS), ())
    isolate(kernel, ingress=INGRESS)
    assert not kernel.passes(tcp(client, server, SYN), hook="to_pod"), "nobody is a friend yet"
    assert kernel.table() == []
    assert kernel.passes(tcp(server, client, SYN)), "egress is open"
    kernel.change((friend(client),), ())
    client = Side(client.address, 40001)
    assert kernel.passes(tcp(client, server, SYN), hook="to_pod")
    assert kernel.passes(tcp(server, client, SYN | ACK)), "an answer"
    assert kernel.passes(tcp(client, server, PSH | ACK), hook="to_pod")
    assert {(one.egress_rule, one.ingress_rule) for one in kernel.table()} == {(0, 0), (0, RULE)}


@each_family
def test_egress_isolation(kernel: Kernel, family: int) -> None:
    client, server = A[family], B[family]
    kernel.change(only_friends(EGRESS), ())
    isolate(kernel, egress=EGRESS)
    assert not kernel.passes(tcp(client, server, SYN))
    assert kernel.passes(tcp(server, client, SYN), hook="to_pod"), "ingress is open"
    assert kernel.passes(tcp(client, server, SYN | ACK)), "an answer passes though it could not begin"
    kernel.change((friend(server),), ())
    client = Side(client.address, 40001)
    assert kernel.passes(tcp(client, server, SYN))
    assert kernel.passes(tcp(server, client, SYN | ACK), hook="to_pod")


@each_family
def test_ports_and_protocols(kernel: Kernel, family: int) -> None:
    client, server = A[family], B[family]
    kernel.change((*only_friends(INGRESS), friend(client)), ())
    isolate(kernel, ingress=INGRESS)

    def reaches(port: int) -> bool:
        return kernel.passes(tcp(client, Side(server.address, port), SYN), hook="to_pod")

    assert {port for port in (1, 79, 80, 81, 999, 1000, 1023, 1024, 2048, 2999, 3000, 65535) if reaches(port)} == {
        80,
        1000,
        1023,
        1024,
        2048,
        2999,
    }
    assert kernel.passes(udp(client, Side(server.address, 7)), hook="to_pod")
    assert not kernel.passes(sctp(client, server), hook="to_pod")
    assert not kernel.passes(echo(client, server, 5), hook="to_pod")


@each_family
def test_everything_of_a_peer(kernel: Kernel, family: int) -> None:
    client, server = A[family], B[family]
    kernel.change((*only_friends(INGRESS, ALL), friend(client)), ())
    isolate(kernel, ingress=INGRESS)
    for packet in (sctp(client, server), echo(client, server, 5), tcp(client, server, SYN), udp(client, server)):
        assert kernel.passes(packet, hook="to_pod")


@each_family
def test_the_longest_prefix_says_who_it_is(kernel: Kernel, family: int) -> None:
    client, server = A[family], B[family]
    net, every = ("10.0.0.0/24", "0.0.0.0/0") if family == 4 else ("fd00::/64", "::/0")
    isolate(kernel, ingress=INGRESS)
    rows = only_friends(INGRESS)
    kernel.change((*rows, Peer(prefix=Prefix(net), peer=FRIEND), Peer(prefix=Prefix(every), peer=9)), ())
    assert kernel.passes(tcp(client, server, SYN), hook="to_pod")
    own = Peer(prefix=friend(client).prefix, peer=5)
    kernel.change((own,), ())
    assert not kernel.passes(tcp(Side(client.address, 3), server, SYN), hook="to_pod")
    kernel.change((), (own,))
    assert kernel.passes(tcp(Side(client.address, 4), server, SYN), hook="to_pod")


def test_a_prefix_of_every_ipv6_address_holds_no_ipv4(kernel: Kernel) -> None:
    kernel.change((*only_friends(INGRESS), Peer(prefix=Prefix("::/0"), peer=FRIEND)), ())
    isolate(kernel, ingress=INGRESS)
    assert kernel.passes(tcp(A[6], B[6], SYN), hook="to_pod")
    assert not kernel.passes(tcp(A[4], B[4], SYN), hook="to_pod")
    four = Peer(prefix=Prefix("0.0.0.0/0"), peer=FRIEND)
    kernel.change((four,), ())
    assert kernel.passes(tcp(A[4], B[4], SYN), hook="to_pod")
    kernel.change((), (four,))
    assert not kernel.passes(tcp(Side("10.0.0.3", 1), B[4], SYN), hook="to_pod")


def test_a_link_without_an_endpoint_carries_nothing(kernel: Kernel) -> None:
    assert kernel.passes(tcp(A[4], B[4], SYN))
    kernel.change((), (Subject(host=LINKS[0]),))
    arp = bytes(12) + b"\x08\x06" + bytes(28)
    for packet in (tcp(A[4], B[4], ACK), udp(A[6], B[6]), arp):
        assert not kernel.passes(packet)
        assert not kernel.passes(packet, hook="to_pod")
    assert kernel.observer.dropped()[Reason.NO_ENDPOINT] == 6


def test_what_is_not_in_the_maps_is_dropped(kernel: Kernel) -> None:
    isolate(kernel, ingress=INGRESS)
    assert not kernel.passes(tcp(A[4], B[4], SYN), hook="to_pod")
    kernel.change((judgement(INGRESS, 0, ALL),), ())
    assert not kernel.passes(tcp(A[4], B[4], SYN), hook="to_pod")
    assert kernel.observer.dropped()[Reason.NO_RULING] == 2
    kernel.change(RULINGS, ())
    assert kernel.passes(tcp(A[4], B[4], SYN), hook="to_pod")


@each_family
def test_a_change_cuts_what_goes_on(kernel: Kernel, family: int) -> None:
    client, server = A[family], B[family]
    kernel.change((*only_friends(INGRESS), friend(client)), ())
    isolate(kernel, ingress=INGRESS)
    for make in (lambda a, b: tcp(a, b, SYN if a is client else SYN | ACK), udp):
        assert kernel.passes(make(client, server), hook="to_pod")
        assert kernel.passes(make(server, client))
    kernel.events()
    kernel.change((), (friend(client),))
    assert not kernel.passes(tcp(client, server, ACK), hook="to_pod")
    assert not kernel.passes(tcp(server, client, ACK)), "its answers too"
    assert not kernel.passes(udp(server, client))
    assert not kernel.passes(udp(client, server), hook="to_pod")
    assert {one.state for one in kernel.table()} == {State.CLOSED}
    closed = [one for one in kernel.events() if one.kind == Kind.CLOSE]
    told = {(one.reason, one.direction, one.ingress_rule) for one in closed}
    assert (len(closed), told) == (2, {(Reason.POLICY, Direction.TO_POD, 0)}), "by whom, and that no rule allows it"
    kernel.change((friend(client),), ())
    assert kernel.passes(udp(client, server), hook="to_pod")
    assert kernel.passes(tcp(client, server, SYN), hook="to_pod")
    assert State.CLOSED not in {one.state for one in kernel.table()}


@each_family
def test_an_answer_holds_for_its_link_its_peer_and_its_revision(kernel: Kernel, family: int) -> None:
    """Connections alike but for one thing: the second of each kind finds the answer that the first was given."""
    client, server = A[family], B[family]
    stranger = Side("10.0.0.7" if family == 4 else "fd00::7", 0)
    kernel.change((*only_friends(INGRESS), judgement(EGRESS, 0, NOTHING), friend(client)), ())
    isolate(kernel, ingress=INGRESS)
    isolate(kernel, ingress=EGRESS, at=kernel.other)

    def begins(port: int, *, to: int = 80, sender: Side = client, at: int = 0) -> bool:
        return kernel.passes(tcp(Side(sender.address, port), Side(server.address, to), SYN), hook="to_pod", at=at)

    for turn in (0, 10):
        assert begins(turn + 1)
        assert not begins(turn + 2, to=81)
        assert begins(turn + 3, to=1000)
        assert not begins(turn + 4, sender=stranger)
        assert not begins(turn + 5, at=kernel.other), "which is under other policies"
        assert kernel.passes(tcp(server, Side(client.address, turn + 6), SYN)), "its egress is not isolated"
    kernel.change((), (friend(client),))
    assert not begins(21)
    kernel.change((friend(client),), ())
    assert begins(22)


def test_a_change_of_egress_cuts_too(kernel: Kernel) -> None:
    kernel.change((*only_friends(EGRESS), friend(B[4])), ())
    isolate(kernel, egress=EGRESS)
    assert kernel.passes(tcp(A[4], B[4], SYN))
    assert kernel.passes(tcp(B[4], A[4], SYN | ACK), hook="to_pod")
    kernel.change((), (friend(B[4]),))
    kernel.change((Ruling(number=NOTHING, spans=(Span(protocol=0, first=0, last=0, allow=False, rule=DENIES),)),))
    kernel.events()
    assert not kernel.passes(tcp(B[4], A[4], ACK), hook="to_pod")
    assert not kernel.passes(tcp(A[4], B[4], ACK))
    (closed,) = [one for one in kernel.events() if one.kind == Kind.CLOSE]
    assert (closed.reason, closed.direction, closed.egress_rule) == (Reason.POLICY, Direction.FROM_POD, DENIES)


def test_a_change_that_allows_as_before_cuts_nothing(kernel: Kernel) -> None:
    kernel.change((*only_friends(INGRESS), friend(A[4])), ())
    isolate(kernel, ingress=INGRESS)
    assert kernel.passes(tcp(A[4], B[4], SYN), hook="to_pod")
    kernel.tables.bump()
    assert kernel.passes(tcp(B[4], A[4], SYN | ACK)), "the port of the responder counts, whoever sends"
    assert kernel.only().state == State.ESTABLISHED


def test_who_was_asked_in_vain_may_ask(kernel: Kernel) -> None:
    """Both use the same port: what one may not begin the other may."""
    one, other = Side("10.0.0.2", 500), Side("10.0.0.9", 500)
    kernel.change(only_friends(INGRESS), ())
    isolate(kernel, ingress=INGRESS, at=kernel.other)
    assert kernel.passes(udp(one, other), at=kernel.one)
    assert not kernel.passes(udp(one, other), hook="to_pod", at=kernel.other)
    assert kernel.passes(udp(other, one), at=kernel.other)
    assert kernel.passes(udp(other, one), hook="to_pod", at=kernel.one)
    assert kernel.passes(udp(one, other), at=kernel.one)
    assert kernel.passes(udp(one, other), hook="to_pod", at=kernel.other), "now an answer"


def test_an_answering_port_opens_nothing(kernel: Kernel) -> None:
    """A SYN through the ports of a connection that goes on is a connection of its own."""
    kernel.change(only_friends(INGRESS), ())
    isolate(kernel, ingress=INGRESS)
    assert kernel.passes(tcp(A[4], B[4], SYN))
    assert kernel.passes(tcp(B[4], A[4], SYN | ACK), hook="to_pod")
    assert not kernel.passes(tcp(B[4], A[4], SYN), hook="to_pod")
    assert kernel.passes(tcp(B[4], A[4], ACK), hook="to_pod")


@each_family
def test_errors_about_what_is_known(kernel: Kernel, family: int) -> None:
    client, server = A[family], B[family]
    router = Side("10.9.9.9" if family == 4 else "fd09::9")
    kernel.change((*only_friends(EGRESS), *only_friends(INGRESS), friend(server)), ())
    isolate(kernel, ingress=INGRESS, egress=EGRESS)
    assert kernel.passes(udp(client, server))
    assert kernel.passes(unreachable(router, client, udp(client, server)), hook="to_pod")
    unknown = udp(client, Side(server.address, 81))
    assert not kernel.passes(unreachable(router, client, unknown), hook="to_pod")
    assert kernel.observer.dropped()[Reason.RELATED_UNKNOWN] == 1
    kernel.change((), (friend(server),))
    assert not kernel.passes(unreachable(router, client, udp(client, server)), hook="to_pod"), "denied by now"
    assert kernel.passes(unreachable(router, client, unknown), hook="to_pod", at=kernel.other), "not isolated"


@each_family
def test_fragments(kernel: Kernel, family: int) -> None:
    client, server = A[family], B[family]
    kernel.change((*only_friends(INGRESS), friend(client)), ())
    isolate(kernel, ingress=INGRESS)
    first, later = fragments(client, server, 5)
    assert not kernel.passes(later, hook="to_pod")
    assert kernel.passes(first, hook="to_pod")
    assert kernel.passes(later, hook="to_pod")
    denied = fragments(Side(server.address, 1), client, 6)
    assert [kernel.passes(one, hook="to_pod") for one in denied] == [False, False]
    assert kernel.observer.dropped()[Reason.FRAGMENT_UNMATCHED] == 1


@each_family
def test_what_this_node_sends_passes(kernel: Kernel, family: int) -> None:
    node, pod = A[family], B[family]
    kernel.change((*only_friends(INGRESS), *only_friends(EGRESS)), ())
    isolate(kernel, ingress=INGRESS, egress=EGRESS)
    assert kernel.passes(tcp(node, pod, SYN), hook="to_pod", ours=True)
    assert kernel.passes(tcp(pod, node, SYN | ACK)), "and its answer"
    kernel.tables.bump()
    assert kernel.passes(tcp(node, pod, ACK), hook="to_pod", ours=True)
    assert not kernel.passes(tcp(Side(node.address, 3), pod, SYN), hook="to_pod"), "the same from elsewhere"
    late = Side(node.address, 4)
    assert kernel.passes(tcp(late, pod, ACK), hook="to_pod", ours=True)
    assert not kernel.passes(tcp(pod, late, ACK)), "in the midst of a connection the container is asked about"


@each_family
def test_begun_before_it_was_seen(kernel: Kernel, family: int) -> None:
    client, server = A[family], B[family]
    kernel.change((*only_friends(INGRESS), friend(client)), ())
    isolate(kernel, ingress=INGRESS)
    assert kernel.passes(tcp(client, server, ACK), hook="to_pod")
    assert kernel.only().midway
    assert kernel.passes(tcp(server, client, ACK))
    stranger = Side(client.address, 40001)
    kernel.change((), (friend(client),))
    assert not kernel.passes(tcp(stranger, server, ACK), hook="to_pod"), "whatever the port numbers say"
    assert not kernel.passes(tcp(client, server, ACK), hook="to_pod")


@pytest.mark.parametrize("flags", [RST, FIN | ACK])
def test_an_end_without_a_connection(kernel: Kernel, flags: int) -> None:
    kernel.change((*only_friends(INGRESS), friend(A[4])), ())
    isolate(kernel, ingress=INGRESS)
    assert kernel.passes(tcp(A[4], B[4], flags), hook="to_pod")
    assert not kernel.passes(tcp(Side("10.0.0.3", 1), B[4], flags), hook="to_pod")
    assert kernel.table() == []


def test_what_policies_cannot_speak_of(kernel: Kernel) -> None:
    kernel.change(only_friends(INGRESS), ())
    isolate(kernel, ingress=INGRESS)
    arp = bytes(12) + b"\x08\x06" + bytes(28)
    neighbour = bytes(12) + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, 24, 58, 255) + bytes(32) + bytes([135]) + bytes(23)
    vlan = bytes(12) + b"\x81\x00\x00\x05\x08\x00" + tcp(A[4], B[4], SYN)[14:]
    mapped = udp(Side("::ffff:a00:2", 1), B[6])
    own = udp(B[4], Side(B[4].address, 7))
    assert [kernel.passes(one, hook="to_pod") for one in (arp, neighbour, own)] == [True, True, True]
    assert [kernel.passes(one, hook="to_pod") for one in (vlan, mapped)] == [False, False]
    dropped = kernel.observer.dropped()
    assert (dropped[Reason.NOT_TRACKED], dropped[Reason.MALFORMED]) == (1, 1)


@each_family
def test_drops_are_told_once_a_second_and_counted_always(kernel: Kernel, family: int) -> None:
    client, server = A[family], B[family]
    span = Span(protocol=17, first=80, last=80, allow=False, rule=DENIES)
    kernel.change((Ruling(number=1, spans=(DENY, span)), judgement(INGRESS, 0, 1)), ())
    isolate(kernel, ingress=INGRESS)
    for _ in range(5):
        assert not kernel.passes(udp(client, server), hook="to_pod")
    assert not kernel.passes(tcp(client, server, SYN), hook="to_pod")
    first, *_, other = found = kernel.events()
    assert len(found) <= 3, "five within a second, or two where the machine was slow"
    assert (first.kind, first.reason, first.direction) == (Kind.DROP, Reason.POLICY, Direction.TO_POD)
    assert (first.egress_rule, first.ingress_rule) == (0, DENIES)
    assert (first.source, first.destination, first.destination_port) == (client.mapped, server.mapped, 80)
    assert (first.ifindex, first.outgoing, first.forth_packets) == (kernel.one, 0, 1)
    assert (other.protocol, other.egress_rule, other.ingress_rule) == (6, 0, 0), "nothing allows it"
    assert kernel.observer.dropped()[Reason.POLICY] == 6


@pytest.fixture
def plane(kernel: Kernel) -> Iterator[Ebpf]:
    found = Ebpf(kernel.loaded)
    yield found
    found.close()


def test_maps_follow_the_state(kernel: Kernel, plane: Ebpf) -> None:
    subject = Subject(host=LINKS[0], ingress=INGRESS)
    guards = [Guard(host=one, mac=Mac("02:00:00:00:00:01"), addresses=(), checked=False) for one in LINKS]
    rows = (*only_friends(INGRESS), friend(A[4]), friend(A[6]), subject, *guards, Subject(host=LINKS[1]))
    state = NodeState().replace("all", rows)
    assert {one.kind for one in plane.check(state)} == {"missing", "different"}
    plane.apply(state)
    assert plane.check(state) == []
    before = kernel.tables.revision
    plane.apply(state)
    assert kernel.tables.revision == before, "nothing was different"
    assert kernel.passes(tcp(A[4], B[4], SYN), hook="to_pod")
    fewer = NodeState().replace("all", rows[:-1])
    assert [(one.kind, one.key) for one in plane.check(fewer)] == [("unexpected", f"endpoints interface {kernel.other}")]
    kernel.loaded.maps["rulings"].delete(next(iter(kernel.loaded.maps["rulings"].entries())))
    plane.apply(fewer)
    assert plane.check(fewer) == []
    link = Link(
        key="one",
        host=LINKS[0],
        bridge=InterfaceName("br0"),
        path="",
        cookie=0,
        name=InterfaceName("eth0"),
        mac=Mac("02:00:00:00:00:01"),
        mtu=1500,
        addresses=(),
    )
    plane.forget((link, *guards[:1]))
    plane.forget((link, *guards[:1]))
    assert not kernel.passes(tcp(A[4], B[4], ACK), hook="to_pod")
    plane.apply(NodeState())
    plane.check(NodeState())
    assert {name: used for name, (used, _) in plane.fill().items() if used} == {"blocks": 1}, "but for what is always there"


def test_many_rows(kernel: Kernel, plane: Ebpf) -> None:
    peers = tuple(Peer(prefix=Prefix(f"10.{at >> 8}.{at & 255}.0/24"), peer=FRIEND) for at in range(5000))
    judged = tuple(judgement(INGRESS, at, WEB) for at in range(1, 3000))
    state = NodeState().replace("all", (*RULINGS, *peers, *judged))
    plane.apply(state)
    assert plane.check(state) == []
    assert plane.fill()["blocks"][0] == 5001
    plane.change((), peers[1:])
    assert len(kernel.loaded.maps["blocks"].entries()) == 2


def test_the_node_may_be_a_stranger(kernel: Kernel) -> None:
    kernel.change(only_friends(INGRESS), ())
    isolate(kernel, ingress=INGRESS)
    Tables(kernel.loaded.maps, node_reaches_pods=False)
    assert not kernel.passes(tcp(A[4], B[4], SYN), hook="to_pod", ours=True)


def test_an_error_in_the_name_of_others(kernel: Kernel) -> None:
    """A container knows of a connection between others: quoting it, it reaches neither."""
    kernel.change(only_friends(EGRESS), ())
    kernel.change(RULINGS, ())
    isolate(kernel, egress=EGRESS)
    known, evil = udp(A[4], B[4]), Side("10.0.0.66")
    assert kernel.passes(known, at=kernel.other)
    assert kernel.passes(known, hook="to_pod")
    assert not kernel.passes(unreachable(evil, A[4], known))
    assert not kernel.passes(unreachable(B[4], evil, known))
    assert kernel.passes(unreachable(B[4], A[4], known)), "who was asked may say that it cannot"


@each_family
def test_what_one_link_lets_in_another_may_not(kernel: Kernel, family: int) -> None:
    """A packet for an isolated container, first sent to the MAC of one that is open to everybody."""
    kernel.change(only_friends(INGRESS))
    isolate(kernel, ingress=INGRESS, at=kernel.other)
    for make in (lambda a, b: tcp(a, b, SYN), udp):
        packet = make(A[family], B[family])
        assert kernel.passes(packet, hook="to_pod", at=kernel.one)
        assert not kernel.passes(packet, hook="to_pod", at=kernel.other)
        assert kernel.passes(packet, hook="to_pod", at=kernel.one)


def test_a_frame_that_the_bridge_sent_to_all(kernel: Kernel) -> None:
    """It is for another container: nothing is decided by it, and a connection that another may have is not cut."""
    kernel.change((*only_friends(INGRESS), friend(A[4])))
    isolate(kernel, ingress=INGRESS, at=kernel.other)
    own, others = Mac("02:00:00:00:00:01"), Mac("02:00:00:00:00:09")
    kernel.put(Guard(host=LINKS[0], mac=own, addresses=()), Guard(host=LINKS[1], mac=others, addresses=()))
    isolate(kernel, ingress=INGRESS + 1)
    packet = tcp(A[4], B[4], SYN)
    assert kernel.passes(others.packed + packet[6:], hook="to_pod", at=kernel.other)
    before = kernel.table()
    kernel.events()
    assert not kernel.passes(others.packed + packet[6:], hook="to_pod", at=kernel.one)
    assert (kernel.table(), kernel.events()) == (before, [])
    assert kernel.observer.dropped()[Reason.NOT_ADDRESSED] == 1
    arp = b"\xff" * 6 + bytes(6) + b"\x08\x06" + bytes(28)
    assert kernel.passes(arp, hook="to_pod", at=kernel.one), "to everybody"


@each_family
def test_hits(kernel: Kernel, family: int) -> None:
    """Connections that a rule let through, and packets that it dropped, whatever policies do meanwhile."""
    client, server = A[family], B[family]
    span = Span(protocol=17, first=80, last=80, allow=False, rule=DENIES)
    kernel.change((*only_friends(INGRESS), Ruling(number=1, spans=(DENY, span)), judgement(INGRESS, 7, 1), friend(client)))
    isolate(kernel, ingress=INGRESS)
    for port in (40001, 40002):
        for _ in range(3):
            assert kernel.passes(tcp(Side(client.address, port), server, SYN), hook="to_pod")
            assert kernel.passes(tcp(server, Side(client.address, port), SYN | ACK))
    kernel.tables.bump()
    assert kernel.passes(tcp(client, server, ACK), hook="to_pod")
    assert kernel.passes(tcp(Side(client.address, 40001), server, ACK), hook="to_pod")
    assert kernel.hits() == {RULE: (3, 0)}
    kernel.change((Peer(prefix=friend(client).prefix, peer=7),))
    for _ in range(4):
        assert not kernel.passes(udp(client, server), hook="to_pod")
    assert not kernel.passes(sctp(client, server), hook="to_pod"), "which no rule says"
    assert kernel.hits() == {RULE: (3, 0), DENIES: (0, 4), UNALLOWED["ingress"]: (0, 1)}
    isolate(kernel, egress=EGRESS)
    kernel.change((judgement(EGRESS, 0, 1),))
    assert not kernel.passes(sctp(server, client))
    assert kernel.hits()[UNALLOWED["egress"]] == (0, 1), "of either direction apart"


def test_the_plane_tells_and_forgets_hits(kernel: Kernel, plane: Ebpf) -> None:
    kernel.change((*only_friends(INGRESS), friend(A[4])))
    isolate(kernel, ingress=INGRESS)
    assert kernel.passes(tcp(A[4], B[4], SYN), hook="to_pod")
    assert {rule: one._replace(last=0) for rule, one in plane.hits().items()} == {RULE: Hits(1, 0, 0)}
    assert abs(plane.hits()[RULE].last - time.time()) < 5
    plane.forget_hits([RULE, DENIES])
    assert plane.hits() == {}


def written(into: Map, entries: dict[bytes, bytes]) -> bool:
    """Whether there was memory of each CPU for them: more is made ready in the background."""
    try:
        into.write(entries)
    except KernelError as problem:
        if problem.errno != errno.ENOMEM:
            raise
        return False
    return True


def test_hits_that_have_no_room_are_counted_as_lost(kernel: Kernel) -> None:
    kernel.change((*only_friends(INGRESS), friend(A[4])))
    isolate(kernel, ingress=INGRESS)
    hits = kernel.loaded.maps["hits"]
    room = bytes(HITS.size * possible_cpus())
    for at in range(1, hits.info.max_entries + 1, 64):
        some = {NUMBER.pack(one << 32): room for one in range(at, min(at + 64, hits.info.max_entries + 1))}
        eventually(partial(written, hits, some), what="the kernel has made room for more of each CPU's memory")
    assert kernel.passes(tcp(A[4], B[4], SYN), hook="to_pod"), "nobody is kept out for it"
    assert kernel.counted(Counter.HITS_LOST) == 1
